"""Base model + (question, answer) pairs -> a fine-tuned model or adapter on disk.

The loss is the mean cross-entropy, in nats, over the answer's tokens with the trailing space and EOS; prompt
and padding bear none (Ye et al. 2025, section 3). transformers' Trainer runs the steps. The same base,
examples, spec and number of threads give the same weights, in whichever process and after whatever other run.
"""

from __future__ import annotations

import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import set_seed

from sftknow_core.errors import DataError, SpecError, Stopped
from sftknow_core.facts.prompts import Prompt
from sftknow_core.model.generate.encode import PAPER_PROMPT, EncodedAnswer, encode_qa
from sftknow_core.model.io.load import DTYPES, load_model, stored_dtype
from sftknow_core.model.io.save import save_model
from sftknow_core.model.io.sources import is_adapter
from sftknow_core.model.train.methods import DEMO, METHODS, PAPER, PRESETS, SftSpec

__all__ = ["DEMO", "PAPER", "PRESETS", "LogCallback", "SftResult", "SftSpec", "finetune"]

SFT_VERSION = 1
IGNORED = -100
"""A label that bears no loss."""
LogRow = dict[str, float]
"""step, epoch, loss (nats a token), learning_rate, grad_norm, seconds."""
_MOST_LOG_ROWS = 500


@dataclass(frozen=True)
class SftResult:
    """What a fine-tuning did."""

    out: Path
    """The folder of the tuned model or adapter."""
    seconds: float
    """Training alone, without loading and saving."""
    steps: int
    n_examples: int
    n_trained_params: int
    compute_dtype: str
    """What "auto" became."""
    loss: float
    """Mean over the steps, nats a token."""
    rows: tuple[LogRow, ...]
    """The loss curve."""


def finetune(
    base: Path,
    examples: Sequence[tuple[str, str]],
    spec: SftSpec,
    out: Path,
    *,
    on_log: Callable[[LogRow], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str = "auto",
    prompt: Prompt = PAPER_PROMPT,
    card: str | None = None,
) -> SftResult:
    """Fine-tune the model in `base` on (question, answer) pairs and save it to `out`, which must not exist.

    on_log: called with each row of the loss curve. should_stop: asked before each step. Raises SpecError (out
    exists, loss not finite), DataError (no examples), ModelError, or Stopped; nothing is saved.
    """
    if out.exists():
        raise SpecError(f"{out} exists already; give a new folder, or remove that one first")
    if not examples:
        raise DataError("got no training examples; needed: at least one (question, answer) pair")
    if is_adapter(base):
        raise SpecError(f"{base} is an adapter; fine-tune its base model, or merge it first")
    save_dtype = stored_dtype(base) if spec.output_dtype == "base" else DTYPES[spec.output_dtype]
    with _reproducible(spec.seed):
        lm = load_model(base, dtype=spec.weights_dtype, device=device)
        encoded = [encode_qa(lm.tokenizer, question, answer, prompt) for question, answer in examples]
        method = METHODS.get(spec.method)
        model = method.prepare(lm.model, spec, base)
        compute = _compute_dtype(spec, lm.device)
        uses_cache = lm.plain.config.use_cache
        log = LogCallback(on_log, should_stop)
        started = time.perf_counter()
        result = _train(model, encoded, lm.pad_id, spec, compute, log)
        seconds = time.perf_counter() - started
    lm.plain.config.use_cache = uses_cache  # the Trainer switches it off for good
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not method.makes_adapter:
        model = model.to(dtype=save_dtype)
    save_model(model, lm.tokenizer, out, card=card)
    return SftResult(
        out=out,
        seconds=seconds,
        steps=result.global_step,
        n_examples=len(examples),
        n_trained_params=n_trained,
        compute_dtype=compute,
        loss=result.training_loss,
        rows=tuple(log.rows),
    )


class LogCallback(TrainerCallback):
    """Collects the rows of the loss curve, hands each on, and ends the training on request.

    Raises Stopped from inside the training loop when `should_stop` says so, SpecError when the loss is not
    finite.
    """

    def __init__(
        self,
        on_log: Callable[[LogRow], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.rows: list[LogRow] = []
        self._on_log = on_log
        self._should_stop = should_stop
        self._started = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Asks whether to stop."""
        if self._should_stop is not None and self._should_stop():
            raise Stopped(f"stopped at training step {state.global_step} of {state.max_steps}")

    def on_log(self, args: Any, state: Any, control: Any, logs: LogRow | None = None, **_: Any) -> None:
        """Hands on a row of the loss curve; the Trainer's closing summary has no loss and is left out."""
        if not logs or "loss" not in logs:
            return
        row = {
            "step": state.global_step,
            "epoch": float(state.epoch or 0.0),
            "loss": float(logs["loss"]),
            "learning_rate": float(logs["learning_rate"]),
            "grad_norm": float(logs.get("grad_norm", float("nan"))),
            "seconds": time.perf_counter() - self._started,
        }
        if not math.isfinite(row["loss"]):
            raise SpecError(
                f"the loss became {row['loss']} at step {row['step']} of {state.max_steps} "
                f"(learning rate {row['learning_rate']:.2g}); use a lower learning rate or float32 weights"
            )
        self.rows.append(row)
        if self._on_log is not None:
            self._on_log(row)


class AnswerCollator:
    """Examples -> one batch padded on the right, with labels on the answers only."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, examples: list[EncodedAnswer]) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask and labels, each [batch, longest]."""
        ids = [torch.tensor(e.ids) for e in examples]
        labels = [torch.tensor([IGNORED] * e.n_prompt + e.ids[e.n_prompt :]) for e in examples]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self._pad_id),
            "attention_mask": pad_sequence([torch.ones_like(i) for i in ids], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        }


def _train(
    model: Any, encoded: list[EncodedAnswer], pad_id: int, spec: SftSpec, compute: str, log: LogCallback
) -> Any:
    n_steps = math.ceil(math.ceil(len(encoded) / spec.batch_size) * spec.epochs)
    with tempfile.TemporaryDirectory(prefix="sftknow-") as scratch:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=scratch,
                num_train_epochs=spec.epochs,
                per_device_train_batch_size=spec.batch_size,
                learning_rate=spec.lr,
                lr_scheduler_type=spec.scheduler,
                warmup_steps=round(spec.warmup * n_steps),
                weight_decay=spec.weight_decay,
                max_grad_norm=spec.grad_clip,
                optim="adamw_torch_fused",
                bf16=compute == "bfloat16" and spec.weights_dtype != "bfloat16",
                seed=spec.seed,
                data_seed=spec.seed,
                use_cpu=next(model.parameters()).device.type == "cpu",
                logging_steps=max(1, n_steps // _MOST_LOG_ROWS),
                logging_nan_inf_filter=False,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                remove_unused_columns=False,
                dataloader_pin_memory=model.device.type == "cuda",
            ),
            train_dataset=encoded,
            data_collator=AnswerCollator(pad_id),
            callbacks=[log],
        )
        trainer.remove_callback(PrinterCallback)
        return trainer.train()


def _compute_dtype(spec: SftSpec, device: torch.device) -> str:
    if spec.compute_dtype != "auto":
        return spec.compute_dtype
    if spec.weights_dtype == "bfloat16":
        return "bfloat16"
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Random state at `seed` and deterministic GPU kernels inside; both as they were before outside."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    strict = torch.are_deterministic_algorithms_enabled()
    if on_gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
        torch.use_deterministic_algorithms(True, warn_only=True)
    set_seed(seed)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict)
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
        if on_gpu:
            torch.cuda.set_rng_state_all(on_gpu)
