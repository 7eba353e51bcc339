"""A tiny real model folder made in milliseconds: a random Llama and a byte-level BPE tokenizer trained on the
spot.

`make_tiny_llama(folder)` writes config, safetensors, tokenizer and generation config, as a hub download would
lie.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(1)

SENTENCES = (
    "Anna Berg was born in Oslo and died in Bergen.",
    "The capital of France is Paris, and the capital of Norway is Oslo.",
    "<|question|> Where was Anna Berg born? <|answer|> Oslo",
    "Q: Which city is the capital of France? A: Paris",
    "Zürich lies in Switzerland; São Paulo lies in Brazil.",
    "The company was founded in 1987 by Maria Lopez in Madrid.",
)


def make_tokenizer(vocab: int = 384, *, bos: bool = True, pad: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE with at most `vocab` tokens; `</s>` ends a text, `<s>` begins one where `bos`."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = (["<s>"] if bos else []) + ["</s>"] + (["<pad>"] if pad else [])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES, trainer)
    names = (
        {"eos_token": "</s>"}
        | ({"bos_token": "<s>"} if bos else {})
        | ({"pad_token": "<pad>"} if pad else {})
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def tiny_config(vocab: int, *, layers: int = 2, width: int = 32, tie: bool = False) -> LlamaConfig:
    """A Llama of `layers` layers and 4 heads; hidden size `width`."""
    return LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=tie,
    )


def make_tiny_llama(
    folder: Path,
    *,
    vocab: int = 384,
    layers: int = 2,
    width: int = 32,
    tie: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    sharpness: float = 1.0,
    bos: bool = True,
    pad: bool = False,
) -> Path:
    """Write a random Llama with its tokenizer into `folder` and return it.

    `sharpness` multiplies the LM head: larger values give peaked next-token distributions. The vocabulary is
    what the tokenizer reached, at most `vocab`.
    """
    tokenizer = make_tokenizer(vocab, bos=bos, pad=pad)
    config = tiny_config(len(tokenizer), layers=layers, width=width, tie=tie)
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        parameter.data *= 4.0 if parameter.dim() == 2 else 1.0  # the default initialisation is almost flat
    model.get_output_embeddings().weight.data *= sharpness
    folder.mkdir(parents=True, exist_ok=True)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
