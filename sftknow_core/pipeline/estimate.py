"""How long work will take, how much memory and disk: from what earlier runs of the cache took, and the model's size.

An estimate, with its basis beside it; what nothing is known about has no number. Earlier runs may have had other
threads or a busier machine, so this is a size of order. No torch.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sftknow_core.errors import SpecError
from sftknow_core.pipeline.evaluate import UNITS_PER_QUESTION
from sftknow_core.pipeline.sft import UNITS_PER_EXAMPLE
from sftknow_core.results.training import Speed, speeds
from sftknow_core.specs import ChainSpec
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import EVERYTHING, percent

KEPT_AT_ONCE = {"none": 0, "best": 1}
"""Checkpoint policy -> fine-tuned models that stay; any other policy keeps all."""
FULL_BYTES = 16
"""A parameter: float32 weight and gradient, and AdamW's two float32 moments."""
LORA_BYTES = 4
"""A parameter of the frozen base, float32; the adapter is small beside it."""
CHAIN_COPIES = 3
"""Base, tuned and a working copy, in the base's dtype."""
_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}


@dataclass(frozen=True)
class Piece:
    """One part of the work."""

    work: str
    amount: float | None
    """How many of `unit`; None: not known before the job."""
    unit: str
    seconds: float | None
    """None: nothing to reckon from yet."""
    basis: str
    """Where the seconds come from, or what is missing."""


@dataclass(frozen=True)
class Estimate:
    """What some work will take, as far as it can be told."""

    pieces: tuple[Piece, ...]
    memory_bytes: int | None = None
    """At its peak, without activations, caches and libraries; None: not known."""
    memory_basis: str = ""
    disk_bytes: int | None = None
    """What will stay on the disk, without what is there already; None: unknown."""
    peak_bytes: int | None = None
    """The same with the fine-tuned weights of the cells under way at once."""
    why: str = ""
    """What a study's estimate rests on, or why it is unknown."""
    workers: int = 1
    """How many pieces are worked on at once."""

    @property
    def seconds(self) -> float | None:
        """All pieces together, by the clock; None where one of them is not known."""
        known = [piece.seconds for piece in self.pieces if piece.seconds is not None]
        return float(sum(known)) / self.workers if len(known) == len(self.pieces) else None


# -- a study


@dataclass(frozen=True)
class Load:
    """The work of one cell."""

    method: str
    examples: float
    """Train examples times epochs."""
    asked: int
    """Questions times states."""

    @property
    def units(self) -> float:
        """The work in the reporter's units (pipeline/reporter.py)."""
        return self.examples * UNITS_PER_EXAMPLE + self.asked * UNITS_PER_QUESTION


def estimate_study(
    cache: Cache, base_id: str, loads: Sequence[Load | None], workers: int, checkpoints: str
) -> Estimate:
    """What these cells will take, all that are not in the cache. loads: None where nobody knows the work."""
    known = [load for load in loads if load is not None]
    if len(known) < len(loads):
        return _unknown("the mastery of the facts is computed first")
    measured = {method: speeds(cache, base_id, method) for method in {load.method for load in known}}
    for method, found in measured.items():
        if not found.keys() >= {"sft", "evaluate", "delta"}:
            return _unknown(f"no {method} fine-tuning of this base model is in the cache")
    pieces: list[Piece] = []
    stays, weights = 0.0, []
    for load in known:
        found = measured[load.method]
        pieces += _cell(found, load.examples, load.asked)
        stays += load.asked * found["evaluate"].n_bytes + found["delta"].n_bytes
        weights.append(found["sft"].n_bytes)
    at_work = max(1, min(workers, len(known)))
    n_kept = KEPT_AT_ONCE.get(checkpoints, len(known))
    largest = sorted(weights, reverse=True)
    return Estimate(
        tuple(pieces),
        disk_bytes=round(stays + sum(largest[:n_kept])),
        peak_bytes=round(stays + sum(largest[: n_kept + at_work])),
        why=f"from {_n_runs(measured)} earlier runs of this base model in the cache"
        if known
        else "everything is in the cache",
        workers=at_work,
    )


def _unknown(why: str) -> Estimate:
    return Estimate((Piece("cells", None, "cells", None, why),), why=f"unknown: {why}")


def _n_runs(measured: Mapping[str, Mapping[str, Speed]]) -> int:
    """Runs behind the speeds of all methods, which share those that are no fine-tunings."""
    shared = next(iter(measured.values()))
    fine_tunings = sum(found["sft"].n_runs for found in measured.values())
    return fine_tunings + shared["evaluate"].n_runs + shared["delta"].n_runs


# -- a job


def estimate(
    speeds: Mapping[str, Speed],
    *,
    n_train: int | None,
    epochs: float,
    lora: bool,
    ks: Sequence[str] | None,
    n_questions: int | None,
    n_unscored: int,
    n_params: int | None,
    dtype: str | None,
) -> Estimate:
    """The pieces of a job in their order.

    Args:
        speeds: Of this base and method (results/training.py).
        n_train: None where only the job will know.
        epochs: Passes over the train set.
        lora: Whether an adapter is trained.
        ks: Percentages to restore; None where nothing is evaluated.
        n_questions: Of each state; None where only the job will know.
        n_unscored: Facts whose mastery comes first.
        n_params: Of the model; None where the cache does not know.
        dtype: Of the base's weights, likewise.
    """
    pieces = [_piece(speeds, "mastery", "scoring mastery", n_unscored, "facts")] if n_unscored else []
    trained = None if n_train is None else round(n_train * epochs)
    if ks is None:
        pieces.append(_piece(speeds, "sft", "fine-tuning", trained, "examples"))
    else:
        asked = None if n_questions is None or n_train is None else _answers(n_questions, n_train, ks)
        pieces += _cell(speeds, trained, asked)
    memory, basis = _memory(n_params, dtype, lora, chain=ks is not None)
    return Estimate(tuple(pieces), memory, basis)


def n_states(ks: Sequence[str]) -> int:
    """Base, tuned, one a k, and the hybrid (k = 100)."""
    try:
        distinct = {EVERYTHING, *map(percent, ks)}
    except SpecError:  # the job's own check says what is wrong
        return len(ks) + 3
    return 2 + sum(map(bool, distinct))


def _answers(n_questions: int, n_train: int, ks: Sequence[str]) -> int:
    """Every state answers the questions and some of the train set; base answers once more after five examples."""
    learnt = min(n_train, ChainSpec().train_questions or 0)
    return n_states(ks) * (n_questions + learnt) + n_questions


def _cell(speeds: Mapping[str, Speed], trained: float | None, asked: int | None) -> list[Piece]:
    """Fine-tuning, comparing, asking."""
    return [
        _piece(speeds, "sft", "fine-tuning", trained, "examples"),
        _piece(speeds, "delta", "comparing the weights", 1, "pair"),
        _piece(speeds, "evaluate", "asking questions", asked, "answers"),
    ]


def _piece(speeds: Mapping[str, Speed], kind: str, work: str, amount: float | None, unit: str) -> Piece:
    speed = speeds.get(kind)
    one = unit.removesuffix("s")
    if speed is None:
        return Piece(work, amount, unit, None, "not known yet: no such run of this base in this cache")
    runs = f"{speed.n_runs:,} run" if speed.n_runs == 1 else f"median of {speed.n_runs:,} runs"
    basis = f"{_small(speed.seconds)} per {one}, {runs} of this base in this cache"
    return Piece(work, amount, unit, None if amount is None else amount * speed.seconds, basis)


def _small(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.2g} ms"


def _memory(n_params: int | None, dtype: str | None, lora: bool, *, chain: bool) -> tuple[int | None, str]:
    if n_params is None:
        return None, "not known yet: the cache does not know this model's size"
    training = LORA_BYTES if lora else FULL_BYTES
    copies = CHAIN_COPIES * _DTYPE_BYTES.get(dtype or "float32", 4) if chain else 0
    method = "frozen float32 weights" if lora else "float32 weights, gradients and AdamW's two moments"
    basis = f"{n_params:,} parameters; training: {training} bytes each ({method})"
    if chain:
        basis += f"; asking: {copies} bytes each (base, tuned and a working copy in {dtype or 'float32'})"
        basis += ". The larger counts"
    return n_params * max(training, copies), f"{basis}; activations and libraries come on top."


def parameters_of(folder: Path) -> tuple[int, int] | None:
    """(number of parameters, bytes of the weights) by the headers of a folder's safetensors; None without any.

    A header is 8 bytes with its length (little-endian), then JSON: name -> dtype, shape, data_offsets.
    """
    n_params = n_bytes = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(length, path.stat().st_size)))
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            n_params += sum(math.prod(entry["shape"]) for entry in tensors)
            n_bytes += path.stat().st_size
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
            return None
    return (n_params, n_bytes) if n_params else None
