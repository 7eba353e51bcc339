"""Runs as the training page shows them: the loss while it falls, the list with sizes, what a deletion takes along.

Sizes are in bytes, times in seconds, losses in nats per token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import pandas as pd

from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.listing import RunInfo, list_runs
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_state import RunState

CURVE_COLUMNS = ["step", "loss_nats", "smooth_nats", "learning_rate"]
RUN_COLUMNS = [
    "run_id", "kind", "what", "state", "reason", "size_bytes", "with_stages_bytes", "seconds", "created_at",
    "has_weights",
]  # fmt: skip
_SMOOTHED_OVER = 20
"""A smoothed point is the mean over this part of the steps so far: a twentieth."""
_KEPT_STAGES = ("mastery",)
"""Stages that many runs share and that take long: they go only when chosen themselves."""


def loss_curve(cache: Cache, run_id: str) -> pd.DataFrame:
    """What a fine-tuning told so far: step, its loss, the mean loss over the steps just before, the learning rate.

    Only the last attempt counts, because a fine-tuning that is repeated starts afresh. Empty before the first step.
    """
    rows: list[tuple[Any, ...]] = []
    for event in RunFolder(cache, run_id).events()[0]:
        if event.get("type") == "state" and event.get("state") == RunState.RUNNING:
            rows = []
        values = event.get("values") or {}
        if event.get("type") == "metric" and "loss" in values:
            rows.append((event["step"], values["loss"], values.get("learning_rate")))
    table = pd.DataFrame(rows, columns=["step", "loss_nats", "learning_rate"]).astype(
        {"loss_nats": "float64", "learning_rate": "float64"}
    )
    window = max(5, len(table) // _SMOOTHED_OVER)
    table["smooth_nats"] = table["loss_nats"].rolling(window, min_periods=1).mean()
    return table[CURVE_COLUMNS]


def steps_announced(cache: Cache, run_id: str) -> float | None:
    """How many steps a fine-tuning will make; None before it has told."""
    return RunFolder(cache, run_id).status().total


def run_table(cache: Cache) -> pd.DataFrame:
    """One row a run, newest first. with_stages_bytes: with its stages but for mastery, which many runs share."""
    runs = list_runs(cache)
    sizes = {info.run_id: info.size_bytes for info in runs if info.kind not in _KEPT_STAGES}
    rows = [
        (
            info.run_id,
            info.kind,
            what(info),
            str(info.status.state),
            info.status.reason or (info.status.note if info.status.state is RunState.RUNNING else None),
            info.size_bytes,
            info.size_bytes + sum(sizes.get(stage, 0) for stage in info.status.uses),
            info.status.seconds,
            info.created_at,
            info.has_weights,
        )
        for info in runs
    ]
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


def what(info: RunInfo) -> str:
    """A run in a few words, e.g. "demo, level 2, N = 240, seed 0"."""
    about = info.about
    if "title" in about:
        return str(about["title"])
    if info.kind == "sft":
        n = about.get("n")
        size = f"{n:,}" if isinstance(n, int) else n
        return f"{about.get('base')}, level {about.get('level')}, N = {size}, seed {about.get('seed')}"
    if "n_facts" in about:
        return f"{about.get('model')}, {about['n_facts']:,} facts"
    if "state" in about:
        return f"{about['state']} of {about.get('tuned') or about.get('base')}"
    return ", ".join(str(value) for value in about.values() if isinstance(value, str))


def state_counts(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a kind and state: kind, state, n_runs, size_bytes; most runs first. runs: see `run_table`."""
    groups = runs.groupby(["kind", "state"], as_index=False)
    counts = groups.agg(n_runs=("run_id", "size"), size_bytes=("size_bytes", "sum"))
    return counts.sort_values(["n_runs", "kind"], ascending=[False, True], ignore_index=True)


@dataclass(frozen=True)
class Removal:
    """What would go if some runs were deleted."""

    run_ids: tuple[str, ...]
    """Chosen ones first, then the stages that nobody else uses."""
    freed_bytes: int
    counts: Mapping[str, int]
    """Kind -> runs that go."""
    still_used: Mapping[str, tuple[str, ...]]
    """Run that goes -> finished runs that stay and read it: pages about these show less then."""


def plan_removal(cache: Cache, chosen: Iterable[str], *, with_stages: bool) -> Removal:
    """What deleting these runs takes along; with_stages: also their stages that no other run uses.

    Scores of mastery stay unless chosen: many runs share them, and they take long. Unknown ids are left out.
    """
    runs = {info.run_id: info for info in list_runs(cache)}
    goes = {run_id: None for run_id in chosen if run_id in runs}
    queue = list(goes) if with_stages else []
    while queue:
        for stage in runs[queue.pop()].status.uses:
            free = stage in runs and stage not in goes and runs[stage].kind not in _KEPT_STAGES
            if free and not any(stage in runs[i].status.uses for i in runs if i not in goes):
                goes[stage] = None
                queue.append(stage)
    users = {
        run_id: tuple(i for i, info in runs.items() if i not in goes and run_id in info.status.uses)
        for run_id in goes
    }
    return Removal(
        run_ids=tuple(goes),
        freed_bytes=sum(runs[run_id].size_bytes for run_id in goes),
        counts=Counter(runs[run_id].kind for run_id in goes),
        still_used={run_id: by for run_id, by in users.items() if by},
    )


@dataclass(frozen=True)
class Speed:
    """What one piece of work took in this cache."""

    seconds: float
    """Of one piece: an example, a question, a fact, a comparison."""
    n_runs: int
    """Finished runs it comes from."""
    n_bytes: float = 0.0
    """What a piece leaves on the disk; a fine-tuning's is all its weights."""


def speeds(cache: Cache, base_id: str, method: str, without: Iterable[str] = ()) -> dict[str, Speed]:
    """What was measured with this base: by "sft" an example, "evaluate" a question, "mastery" a fact, "delta" a pair.

    Medians over finished runs; a kind without any is missing. method: full or lora, of the fine-tunings.
    without: run ids that do not count.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    passed_over = set(without)
    for info in list_runs(cache):
        about_it = base_id in (info.spec.inputs.get(role) for role in ("base", "model", "state"))
        counts = info.status.state is RunState.DONE and info.run_id not in passed_over
        measured = _of_a_piece(cache, info, method) if about_it and counts else None
        if measured is not None:
            found.setdefault(info.kind, []).append(measured)
    return {
        kind: Speed(median(s for s, _ in values), len(values), median(b for _, b in values))
        for kind, values in found.items()
    }


def _of_a_piece(cache: Cache, info: RunInfo, method: str) -> tuple[float, float] | None:
    """(seconds, bytes) of a piece of a run's work; None where the run tells none."""
    summary, worked = info.summary, info.status.seconds
    if info.kind == "sft":
        spec = info.spec.params.get("sft") or {}
        pieces = summary.get("n_examples", 0) * spec.get("epochs", 1)
        if not pieces or spec.get("method") != method:
            return None
        # also where the weights were deleted since
        folders = RunFolder(cache, info.run_id).contents().folders.values()
        return summary["seconds_training"] / pieces, sum(folder.bytes for folder in folders)
    if info.kind == "delta":
        return worked, info.size_bytes
    pieces = summary.get("n_questions") if info.kind == "evaluate" else info.about.get("n_facts")
    if not pieces or info.kind not in ("evaluate", "mastery"):
        return None
    return worked / pieces, info.size_bytes / pieces


# The models a cache knows that no run made: what they are, and which runs are about them.

COLUMNS = [
    "model_id", "name", "architecture", "n_params", "dtype", "size_bytes", "n_runs", "used_by", "path",
]  # fmt: skip
_ORDER = ("chain", "sft", "mastery", "delta", "evaluate")


def base_models(cache: Cache) -> pd.DataFrame:
    """One row a base model on record, by name: COLUMNS. used_by: "8 chain, 8 sft, 1 mastery", finished runs only.

    path: its folder, absolute; the one seen last.
    """
    rows = read_table(cache, "models", where={"role": "base"})
    rows = rows.drop_duplicates("model_id", keep="last").sort_values(["name", "model_id"], ignore_index=True)
    done = [info for info in list_runs(cache) if info.status.state is RunState.DONE]
    users = [_users(done, model_id) for model_id in rows["model_id"]]
    rows["n_runs"] = pd.Series([sum(counts.values()) for counts in users], dtype="int64")
    rows["used_by"] = pd.Series([_in_words(counts) for counts in users], dtype="object")
    rows["path"] = pd.Series([str(cache.located(path)) for path in rows["path"]], dtype="object")
    return rows[COLUMNS]


def _users(runs: list[RunInfo], model_id: str) -> Counter[str]:
    """Kind -> how many runs have the model among their inputs."""
    return Counter(
        info.kind
        for info in runs
        if any(model_id == ids or model_id in ids for ids in info.spec.inputs.values())
    )


def _in_words(counts: Counter[str]) -> str:
    kinds = sorted(counts, key=lambda kind: (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), kind))
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in kinds)
