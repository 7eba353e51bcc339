"""A Llama whose next token depends on the last token alone, by a table: every number can be worked by hand.

Its layers add nothing (their output weights are 0), token t is embedded as the t-th unit vector, the final
norm multiplies it by sqrt(width), and the head holds the table's logits divided by that.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, sqrt

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sftknow_core.facts.fact import Fact
from sftknow_core.facts.topics import Topic
from sftknow_core.model.io.load import LanguageModel

torch.set_num_threads(1)

WORDS = (
    "Ann Bob Cid Dan was born in near Where ? Oslo Paris Rome Romeo City the Q: A: <|question|> <|answer|>"
)
NEVER = -40.0
"""Logit of what the table does not list."""

Table = dict[str, dict[str, float]]
MakeModel = Callable[..., LanguageModel]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Every word of WORDS, with a space before it, is one token; so are its single bytes."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([f"{WORDS} {WORDS}\nQ:\n"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def make_lm(tokenizer: PreTrainedTokenizerFast) -> MakeModel:
    """table -> model: {last token: {next token: probability}}; after any other token comes </s>.

    n_unused: rows of the embedding beyond the tokenizer's tokens.
    """

    def token(text: str) -> int:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) == 1, f"{text!r} is {len(ids)} tokens"
        return ids[0]

    def make(table: Table, *, n_unused: int = 0) -> LanguageModel:
        n_vocab = len(tokenizer) + n_unused
        logits = torch.full((n_vocab, n_vocab), NEVER)
        logits[:, tokenizer.eos_token_id] = 0.0
        for last, following in table.items():
            logits[token(last)] = NEVER
            for text, p in following.items():
                logits[token(last), token(text)] = log(p)
        return LanguageModel(_table_llama(logits, tokenizer), tokenizer, torch.device("cpu"))

    return make


def _table_llama(logits: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    n_vocab = len(logits)
    width = -(-n_vocab // 8) * 8
    config = LlamaConfig(
        vocab_size=n_vocab,
        hidden_size=width,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        rms_norm_eps=1e-12,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config).eval()
    layer = model.model.layers[0]
    with torch.no_grad():
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(n_vocab, width))
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, :n_vocab] = logits.T / sqrt(width)
    return model


@pytest.fixture(scope="session")
def topics() -> dict[str, Topic]:
    """One relation with three completion templates, whose last words the tables give different answers to."""
    completions = ("{subject} was born in", "Where {subject} was born near", "{subject} was born the")
    return {"P19": Topic("P19", "place of birth", "in", "Where was {subject} born?", completions)}


@pytest.fixture(scope="session")
def make_fact() -> Callable[..., Fact]:
    """A fact of topic P19."""

    def make(subject: str, *objects: str, split: str = "test", **more: object) -> Fact:
        return Fact("P19", f"Where was {subject} born?", objects, subject, split, **more)  # type: ignore[arg-type]

    return make
