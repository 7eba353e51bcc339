"""How long a study will take and how much disk it will fill, from what earlier runs of the same base model took.

Without such runs nothing is guessed: the estimate says that it is unknown. Earlier runs may have had other threads or a
busier machine, so this is a size of order; the time left shown while a study runs comes from the study itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sftknow_core.pipeline.evaluate import UNITS_PER_QUESTION
from sftknow_core.pipeline.sft import UNITS_PER_EXAMPLE
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import RunInfo, list_runs
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_state import RunState

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
class Estimate:
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


def estimate(
    cache: Cache, base_id: str, loads: Sequence[Load | None], workers: int, checkpoints: str
) -> Estimate:
    """What these cells will take, all that are not in the cache. loads: None where nobody knows the work."""
    known = [load for load in loads if load is not None]
    if len(known) < len(loads):
        return Estimate(None, None, None, "unknown: the mastery of the facts is computed first")
    if not known:
        return Estimate(0.0, 0, 0, "everything is in the cache")
    runs = [
        i
        for i in list_runs(cache)
        if i.status.state is RunState.DONE and i.spec.inputs.get("base") == base_id
    ]
    rates: dict[str, _Rates] = {}
    for method in {load.method for load in known}:
        if (found := _rates(cache, runs, method)) is None:
            return Estimate(
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
    return Estimate(
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
