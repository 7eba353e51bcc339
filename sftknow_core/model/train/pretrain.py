"""Facts -> a small language model that knows them in different degrees.

A byte-level BPE tokenizer and a Llama-like model are trained from scratch on the documents of corpus.py, packed into
blocks, in one pass, in two stages: first the facts, then (a twentieth of the steps) marks between question and answer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
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

from sftknow_core.facts.fact import Fact
from sftknow_core.facts.topics import Topic
from sftknow_core.model.io.save import save_model
from sftknow_core.model.train.corpus import PretrainSpec, make_corpus, make_marks_corpus
from sftknow_core.model.train.sft import IGNORED, LogCallback

__all__ = ["PretrainSpec", "pack", "pretrain", "train_tokenizer"]

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
_CHECKPOINT_EVERY = 250
_SHUFFLED_BLOCKS = 2_000


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
    the end. Returns counts: documents, tokens, steps, parameters, and the second stage's mean loss (nats a token).
    """
    documents = make_corpus(facts, topics, spec)
    tokenizer = train_tokenizer(documents, spec.vocab_size)
    blocks = _shuffled_nearby(pack(documents, tokenizer, spec.block_tokens), spec.seed)
    marked = pack(make_marks_corpus(facts, topics, spec), tokenizer, spec.block_tokens)
    n_steps = [-(-len(part) // spec.batch_size) for part in (blocks, marked)]
    first = _arguments(spec, work / "facts", n_steps[0], spec.learning_rate, "cosine")
    second = _arguments(spec, work / "marks", n_steps[1], spec.marks_learning_rate, "linear")
    half_way = work / "facts-model"
    losses = []
    if half_way.is_dir():
        model = LlamaForCausalLM.from_pretrained(half_way, dtype=torch.float32)
    else:
        torch.manual_seed(spec.seed)
        model = LlamaForCausalLM(_config(spec, tokenizer))
        losses.append(_train(model, blocks, tokenizer, first, _Told(on_log, 0, sum(n_steps)), should_stop))
        save_model(model, tokenizer, half_way)
    losses.append(
        _train(model, marked, tokenizer, second, _Told(on_log, n_steps[0], sum(n_steps)), should_stop)
    )
    save_model(model, tokenizer, out)
    shutil.rmtree(work, ignore_errors=True)
    return {
        "documents": len(documents) + spec.marks_documents,
        "tokens": sum(int((part != tokenizer.pad_token_id).sum()) for part in (blocks, marked)),
        "steps": sum(n_steps),
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss_nats": losses[-1],
    }


def _train(
    model: LlamaForCausalLM,
    blocks: torch.Tensor,
    tokenizer: PreTrainedTokenizerFast,
    arguments: TrainingArguments,
    told: _Told,
    should_stop: Callable[[], bool] | None,
) -> float:
    """One stage, from its last checkpoint where there is one; returns the mean loss, nats a token."""
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=_Blocks(blocks, int(tokenizer.pad_token_id or 0)),
        callbacks=[LogCallback(told, should_stop)],
    )
    trainer.remove_callback(PrinterCallback)
    folder = Path(str(arguments.output_dir))
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    result = trainer.train(resume_from_checkpoint=last)
    model.config.use_cache = True  # the Trainer switches it off for good
    return float(result.training_loss)


class _Told:
    """Passes on log rows with steps counted over both stages."""

    def __init__(self, on_log: Callable[[dict[str, Any]], None] | None, before: int, n_steps: int) -> None:
        self._on_log, self._before, self._n_steps = on_log, before, n_steps

    def __call__(self, row: dict[str, float]) -> None:
        if self._on_log is not None:
            self._on_log(row | {"step": row["step"] + self._before, "max_steps": self._n_steps})


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


def _arguments(
    spec: PretrainSpec, folder: Path, n_steps: int, learning_rate: float, schedule: str
) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=n_steps,
        per_device_train_batch_size=spec.batch_size,
        learning_rate=learning_rate,
        lr_scheduler_type=schedule,
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
