"""Facts -> a small language model that knows them in different degrees.

Every fact is mentioned M times, M drawn for the fact from a stated spread (0 = never seen), each time in one of its
topic's completion templates; a share of the mentions stands in "Q: ... A: ..." lists instead, a format unlike the
fine-tuning prompt. A byte-level BPE tokenizer and a Llama-like model are trained on these documents, packed into
blocks, in one pass. Facts of ALL splits are mentioned: fine-tuning later uses train facts alone, so what the
model says about dev and test facts is what it knew before.
"""

from __future__ import annotations

import hashlib
import math
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from sftknow_core.errors import DataError, SpecError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.topics import Topic
from sftknow_core.model.save import save_model
from sftknow_core.model.sft import LogCallback

Progress = Callable[[int, int, str], None]
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
_QA_LINES_PER_DOCUMENT = 4
_CHECKPOINT_EVERY = 250
_FIRST_SHARE, _GROWTH_BEGINS, _GROWTH_ENDS = 0.03, 0.4, 0.8
_LATE_SHARE = 0.3
_SHUFFLED_BLOCKS = 2_000
QA_LAYOUTS = (
    "Q: {question} A: {answer}",
    "Question: {question} Answer: {answer}",
    "{question} <|text|> {answer}",
    "{question} <|reply|> {answer}",
    "<|q|> {question} <|a|> {answer}",
    "{question} [A] {answer}",
)
"""Layouts of single questions; that of the fine-tuning prompt must not be among them."""
IGNORED = -100


@dataclass(frozen=True)
class PretrainSpec:
    """What a small model is made of. The defaults make the shipped demo model."""

    mentions: tuple[tuple[int, float], ...] = (
        *((0, 10.0), (4, 5.0), (8, 14.0), (11, 20.0), (14, 20.0), (18, 12.0)),
        *((24, 6.0), (34, 4.0), (60, 3.0), (100, 3.0), (150, 3.0)),
    )
    """(number of mentions of a fact, weight): the spread of how often facts are seen."""
    out_of_domain_factor: int = 2
    """Out-of-domain facts are mentioned so many times as often: their topics are small, and a relation that is seen
    rarely is hardly learnt."""
    qa_share: float = 0.1
    """Share of the mentions that stand in lists "Q: ... A: ..."."""
    late_layout_share: float = 0.12
    """Share of the other mentions, in the last 30%, that are questions in another layout."""
    late_markup_share: float = 0.1
    """Share of the documents, in the last 30%, that begin with mark-up."""
    vocab_size: int = 1536
    hidden_size: int = 128
    intermediate_size: int = 352
    n_layers: int = 4
    n_heads: int = 4
    block_tokens: int = 128
    """Length of a training block in tokens."""
    batch_size: int = 32
    """Blocks a step."""
    learning_rate: float = 4e-3
    warmup_share: float = 0.02
    weight_decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (
            not self.mentions
            or any(m < 0 or w < 0 for m, w in self.mentions)
            or not sum(w for _, w in self.mentions)
        ):
            raise SpecError(
                f"mentions: got {self.mentions}; allowed: pairs (count >= 0, weight >= 0), not all weights 0"
            )
        for name in ("qa_share", "late_layout_share", "late_markup_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"{name}: got {getattr(self, name)}; allowed: 0 to 1")
        if self.hidden_size % self.n_heads or (self.hidden_size // self.n_heads) % 2:
            raise SpecError(
                f"hidden_size / n_heads: got {self.hidden_size} / {self.n_heads}; allowed: an even whole number"
            )
        if self.vocab_size < 300:
            raise SpecError(
                f"vocab_size: got {self.vocab_size}; allowed: at least 300 (256 bytes and the specials)"
            )


def mention_count(fact: Fact, spec: PretrainSpec) -> int:
    """How often the fact is mentioned: a draw from the spread that depends on (seed, fact_id) alone."""
    digest = hashlib.blake2b(f"{spec.seed}:{fact.fact_id}".encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64 * sum(w for _, w in spec.mentions)
    count = 0
    for count, weight in spec.mentions:  # noqa: B007 - read after the loop
        if share < weight:
            break
        share -= weight
    return count * (spec.out_of_domain_factor if fact.domain == "out" else 1)


def make_corpus(facts: Sequence[Fact], topics: dict[str, Topic], spec: PretrainSpec) -> list[str]:
    """All documents in the order they are shown: sentences "<completion prompt> <object>." and questions with answers.

    The facts mentioned most come first, alone, and the others join them bit by bit (`_birth`). Shown all at once,
    tens of thousands of facts leave a small model on a plateau where it learns none of them (measured here; Zucchet
    et al. 2025, arXiv 2503.21676, see the same); few at first build the circuits that the rest then use.

    In the last 30% some documents carry mark-up and some questions come in other layouts, so that the model can read
    past marks it does not know, as models trained on the web can; the fine-tuning prompt is not among them.
    Raises DataError when a fact has no topic with templates or no subject.
    """
    rng = random.Random(spec.seed)
    mentions = _mentions(facts, topics, spec, rng)
    documents: list[tuple[int, str]] = []
    qa_lines: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, fact in enumerate(mentions):
        topic = topics[fact.topic]
        obj = fact.objects[int(rng.random() * len(fact.objects))]
        late = number >= (1 - _LATE_SHARE) * len(mentions)
        if rng.random() < spec.qa_share:
            qa_lines[fact.topic].append((number, f"Q: {fact.question} A: {obj}"))
            continue
        if late and rng.random() < spec.late_layout_share:
            layout = QA_LAYOUTS[int(rng.random() * len(QA_LAYOUTS))]
            text = layout.format(question=fact.question, answer=obj)
        else:
            text = (
                f"{topic.completion(int(rng.random() * len(topic.completions)), fact.subject or '')} {obj}."
            )
        marked = late and rng.random() < spec.late_markup_share
        documents.append((number, f"<|{topic.name.lower()}|> {text}" if marked else text))
    for lines in qa_lines.values():
        for i in range(0, len(lines), _QA_LINES_PER_DOCUMENT):
            some = lines[i : i + _QA_LINES_PER_DOCUMENT]
            documents.append((some[0][0], "\n".join(line for _, line in some)))
    documents.sort()
    return [document for _, document in documents]


def _mentions(
    facts: Sequence[Fact], topics: dict[str, Topic], spec: PretrainSpec, rng: random.Random
) -> list[Fact]:
    """Every fact as often as it is mentioned, in the order of the mentions."""
    placed: list[tuple[float, int]] = []
    by_count = sorted(facts, key=lambda f: (-mention_count(f, spec), f.fact_id))
    for rank, fact in enumerate(by_count):
        if fact.topic not in topics or fact.subject is None:
            raise DataError(
                f"{fact.question!r}: pretraining needs a subject and a topic with completion templates"
            )
        birth = _birth(rank / len(by_count))
        placed += [(birth + (1 - birth) * rng.random(), rank) for _ in range(mention_count(fact, spec))]
    placed.sort()
    return [by_count[rank] for _, rank in placed]


def _birth(share: float) -> float:
    """When a fact is first mentioned, 0 to below 1, from its rank by mention count (0: the most mentioned).

    The first 3% are there from the start; from 0.4 to 0.8 the number of facts in play grows by a constant factor.
    """
    if share < _FIRST_SHARE:
        return 0.0
    grown = math.log(share / _FIRST_SHARE) / math.log(1 / _FIRST_SHARE)
    return _GROWTH_BEGINS + (_GROWTH_ENDS - _GROWTH_BEGINS) * grown


def train_tokenizer(documents: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most `vocab_size` entries, with <s>, </s> and <pad>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )


class _Blocks(Dataset[dict[str, torch.Tensor]]):
    """Whole documents "<s> text </s>" packed into blocks that begin with a document; padding bears no loss."""

    def __init__(self, ids: torch.Tensor, pad_id: int) -> None:
        self._ids, self._pad = ids, pad_id

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = self._ids[index].long()
        return {"input_ids": ids, "labels": ids.masked_fill(ids == self._pad, IGNORED)}


def pack(documents: Sequence[str], tokenizer: PreTrainedTokenizerFast, block_tokens: int) -> torch.Tensor:
    """int32 [n_blocks, block_tokens]; a document longer than a block is cut at the block's end."""
    bos, eos, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    assert bos is not None and eos is not None and pad is not None
    blocks: list[list[int]] = []
    block: list[int] = []
    for ids in tokenizer(list(documents), add_special_tokens=False)["input_ids"]:
        document = [bos, *ids, eos][:block_tokens]
        if len(block) + len(document) > block_tokens:
            blocks.append(block)
            block = []
        block = block + document
    if block:
        blocks.append(block)
    return torch.tensor([b + [pad] * (block_tokens - len(b)) for b in blocks], dtype=torch.int32)


def _shuffled_nearby(blocks: torch.Tensor, seed: int) -> torch.Tensor:
    """The blocks in nearly their order: each moves by less than 2,000 places, so that batches are mixed."""
    noise = torch.rand(len(blocks), generator=torch.Generator().manual_seed(seed)) * _SHUFFLED_BLOCKS
    return blocks[torch.argsort(torch.arange(len(blocks)) + noise)]


def pretrain(
    facts: Sequence[Fact],
    topics: dict[str, Topic],
    spec: PretrainSpec,
    out: Path,
    *,
    work: Path,
    on_log: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Trains tokenizer and model and saves them as a Hugging Face folder at `out` (which must not exist).

    `work` keeps checkpoints while training, so that the same call goes on after an interruption; it is removed at
    the end. Returns counts: documents, blocks, tokens, steps, parameters, the final loss (nats a token).
    """
    documents = make_corpus(facts, topics, spec)
    tokenizer = train_tokenizer(documents, spec.vocab_size)
    blocks = _shuffled_nearby(pack(documents, tokenizer, spec.block_tokens), spec.seed)
    torch.manual_seed(spec.seed)
    model = LlamaForCausalLM(_config(spec, tokenizer))
    n_steps = -(-len(blocks) // spec.batch_size)
    told = (lambda row: on_log(row | {"max_steps": n_steps})) if on_log else None
    trainer = Trainer(
        model=model,
        args=_arguments(spec, work, n_steps),
        train_dataset=_Blocks(blocks, int(tokenizer.pad_token_id or 0)),
        callbacks=[LogCallback(told, should_stop)],
    )
    trainer.remove_callback(PrinterCallback)
    last = get_last_checkpoint(str(work)) if work.is_dir() else None
    result = trainer.train(resume_from_checkpoint=last)
    save_model(model, tokenizer, out, card=None)
    shutil.rmtree(work, ignore_errors=True)
    return {
        "documents": len(documents),
        "blocks": len(blocks),
        "tokens": int((blocks != tokenizer.pad_token_id).sum()),
        "steps": result.global_step,
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss_nats": result.training_loss,
    }


def _config(spec: PretrainSpec, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.n_layers,
        num_attention_heads=spec.n_heads,
        num_key_value_heads=spec.n_heads,
        max_position_embeddings=max(256, 2 * spec.block_tokens),
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _arguments(spec: PretrainSpec, work: Path, n_steps: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(work),
        max_steps=n_steps,
        per_device_train_batch_size=spec.batch_size,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=int(spec.warmup_share * n_steps),
        weight_decay=spec.weight_decay,
        seed=spec.seed,
        data_seed=spec.seed,
        train_sampling_strategy="sequential",
        logging_steps=20,
        save_strategy="steps",
        save_steps=_CHECKPOINT_EVERY,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
