"""How long a job will take and how much memory: from what earlier runs of the cache took, and from the model's size.

An estimate, with its basis beside it; what nothing is known about has no number. No torch.
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
from sftknow_core.results.training import Speed
from sftknow_core.specs import ChainSpec
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import RunInfo, list_runs
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_state import RunState
from sftknow_core.update.spec import EVERYTHING, percent

# How long a study will take and how much disk it will fill, from what earlier runs of the same base model took.
#
# Without such runs nothing is guessed: the estimate says that it is unknown. Earlier runs may have had other threads
# or a busier machine, so this is a size of order; the time left shown while a study runs comes from the study itself.

KEPT_AT_ONCE = {"none": 0, "best": 1}
"""Checkpoint policy -> fine-tuned models that stay; any other policy keeps all."""


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


@dataclass(frozen=True)
class StudyEstimate:
    """What is left to do."""

    seconds: float | None
    """Time by the clock with the study's workers; None: unknown."""
    disk_bytes: int | None
    """What will stay on the disk, without what is there already; None: unknown."""
    peak_bytes: int | None
    """The same with the fine-tuned weights of the cells under way at once."""
    why: str
    """What it rests on, or why it is unknown."""


@dataclass(frozen=True)
class _Rates:
    seconds_per_example: float
    seconds_per_question: float
    seconds_per_delta: float
    bytes_per_model: float
    bytes_per_question: float
    bytes_per_delta: float


def estimate_study(
    cache: Cache, base_id: str, loads: Sequence[Load | None], workers: int, checkpoints: str
) -> StudyEstimate:
    """What these cells will take, all that are not in the cache. loads: None where nobody knows the work."""
    known = [load for load in loads if load is not None]
    if len(known) < len(loads):
        return StudyEstimate(None, None, None, "unknown: the mastery of the facts is computed first")
    if not known:
        return StudyEstimate(0.0, 0, 0, "everything is in the cache")
    runs = [
        i
        for i in list_runs(cache)
        if i.status.state is RunState.DONE and i.spec.inputs.get("base") == base_id
    ]
    rates: dict[str, _Rates] = {}
    for method in {load.method for load in known}:
        if (found := _rates(cache, runs, method)) is None:
            return StudyEstimate(
                None, None, None, f"unknown: no {method} fine-tuning of this base model is in the cache"
            )
        rates[method] = found
    seconds, stays, weights = 0.0, 0.0, []
    for load in known:
        rate = rates[load.method]
        seconds += load.examples * rate.seconds_per_example + load.asked * rate.seconds_per_question
        seconds += rate.seconds_per_delta
        stays += load.asked * rate.bytes_per_question + rate.bytes_per_delta
        weights.append(rate.bytes_per_model)
    at_work = min(workers, len(known))
    n_kept = KEPT_AT_ONCE.get(checkpoints, len(known))
    largest = sorted(weights, reverse=True)
    kept = sum(largest[:n_kept])
    return StudyEstimate(
        seconds / at_work,
        round(stays + kept),
        round(stays + sum(largest[: n_kept + at_work])),
        f"from {len(runs)} earlier runs of this base model in the cache",
    )


def _rates(cache: Cache, runs: Sequence[RunInfo], method: str) -> _Rates | None:
    """What one example, question and comparison took; None where one of them was never done."""
    sft = [i for i in runs if i.kind == "sft" and i.spec.params["sft"]["method"] == method]
    asked = [i for i in runs if i.kind == "evaluate"]
    deltas = [i for i in runs if i.kind == "delta"]
    examples = sum(i.summary["n_examples"] * i.spec.params["sft"]["epochs"] for i in sft)
    questions = sum(i.summary["n_questions"] for i in asked)
    if not (examples and questions and deltas):
        return None
    return _Rates(
        sum(i.status.seconds for i in sft) / examples,
        sum(i.status.seconds for i in asked) / questions,
        sum(i.status.seconds for i in deltas) / len(deltas),
        sum(_weights_bytes(cache, i.run_id) for i in sft) / len(sft),
        sum(i.size_bytes for i in asked) / questions,
        sum(i.size_bytes for i in deltas) / len(deltas),
    )


def _weights_bytes(cache: Cache, run_id: str) -> int:
    """The size of the fine-tuned weights, also where they were deleted since."""
    return sum(folder.bytes for folder in RunFolder(cache, run_id).contents().folders.values())


FULL_BYTES = 16
"""A parameter: float32 weight and gradient, and AdamW's two float32 moments."""
LORA_BYTES = 4
"""A parameter of the frozen base, float32; the adapter is small beside it."""
CHAIN_COPIES = 3
"""Base, tuned and a working copy, in the base's dtype."""
_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}


@dataclass(frozen=True)
class Piece:
    """One part of a job."""

    work: str
    amount: int | None
    """How many of `unit`; None: not known before the job."""
    unit: str
    seconds: float | None
    """None: nothing to reckon from yet."""
    basis: str
    """Where the seconds come from, or what is missing."""


@dataclass(frozen=True)
class Estimate:
    """What a job will take, as far as it can be told."""

    pieces: tuple[Piece, ...]
    memory_bytes: int | None
    """At its peak, without activations, caches and libraries; None: the model's size is not known."""
    memory_basis: str

    @property
    def seconds(self) -> float | None:
        """All pieces together; None where one of them is not known."""
        known = [piece.seconds for piece in self.pieces if piece.seconds is not None]
        return sum(known) if len(known) == len(self.pieces) else None


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

    speeds: results.training.speeds of this base and method; n_train, n_questions: None where only the job will know;
    ks: percentages to restore, None where nothing is evaluated; n_unscored: facts whose mastery comes first.
    """
    pieces = []
    if n_unscored:
        pieces.append(_piece(speeds, "mastery", "scoring mastery", n_unscored, "facts"))
    trained = None if n_train is None else round(n_train * epochs)
    pieces.append(_piece(speeds, "sft", "fine-tuning", trained, "examples"))
    if ks is not None:
        pieces.append(_piece(speeds, "delta", "comparing the weights", 1, "pair"))
        asked = None if n_questions is None or n_train is None else _answers(n_questions, n_train, ks)
        pieces.append(_piece(speeds, "evaluate", "asking questions", asked, "answers"))
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


def _piece(speeds: Mapping[str, Speed], kind: str, work: str, amount: int | None, unit: str) -> Piece:
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
