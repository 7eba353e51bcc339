"""Making room: delete runs, or the weights of checkpoints that are not worth keeping.

Folders and rows go together. A run under way, and what one under way uses (its stages, and the runs that made its
inputs), are left alone. Without its weights a run keeps its numbers; its command makes the weights again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd
from filelock import FileLock

from sftknow_core.errors import CacheError, SpecError
from sftknow_core.store.cache import Cache, check_may_write
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.files import TEMPORARY_PREFIX, disk_errors, write_atomic
from sftknow_core.store.ingest import up_to_date
from sftknow_core.store.listing import RunInfo, list_runs
from sftknow_core.store.open_run import try_acquire
from sftknow_core.store.run_folder import DONE, RunFolder
from sftknow_core.store.run_spec import utc_now
from sftknow_core.store.run_state import RunState

_REMOVED_PREFIX = f"{TEMPORARY_PREFIX}removed-"


class Keep(StrEnum):
    """Which checkpoints stay."""

    BEST = "best"
    """Of each base model and role the one with the highest in-domain accuracy (level-balanced, on dev where
    there is one), and those not evaluated yet."""
    LATEST = "latest"
    """Of each base model and role the one finished last."""
    NONE = "none"


class What(StrEnum):
    """What goes of the others."""

    WEIGHTS = "weights"
    RUNS = "runs"
    """Their numbers as well."""


@dataclass(frozen=True)
class Collected:
    """What `gc` removed, or would remove."""

    removed: tuple[str, ...]
    """Run ids."""
    freed_bytes: int
    kept: tuple[tuple[str, str], ...]
    """(run_id, why) of the runs with weights that stay."""


def remove_runs(cache: Cache, run_ids: Iterable[str]) -> int:
    """Delete runs, folder and rows; returns the bytes freed. CacheError, and none gone, for one in use."""
    check_may_write("delete runs")
    ids = list(dict.fromkeys(run_ids))
    protected = in_use(list_runs(cache))
    for run_id in ids:
        if not cache.run_folder(run_id).is_dir():
            raise SpecError(f"there is no run {run_id} in {cache.root}; `sftknow runs` lists them")
        if run_id in protected:
            raise CacheError(f"run {run_id} is {protected[run_id]}, which is under way; stop that first")
    freed = sum(_committed_bytes(cache, run_id) for run_id in ids)
    with _locked(cache, ids), disk_errors(cache.runs):
        for run_id in ids:
            cache.run_folder(run_id).replace(cache.root / f"{_REMOVED_PREFIX}{run_id}-{time.time_ns()}")
            cache.run_lock(run_id).unlink(missing_ok=True)
    _sweep(cache)
    return freed


def remove_weights(cache: Cache, run_id: str) -> int:
    """Delete the weights folders of a finished run, keeping its numbers; returns the bytes freed."""
    check_may_write("delete weights")
    run = RunFolder(cache, run_id)
    with _locked(cache, [run_id]), disk_errors(run.root):
        manifest = run.manifest()
        if manifest is None:
            raise CacheError(
                f"run {run_id} is not finished; `sftknow runs rm {run_id}` deletes it as a whole"
            )
        there = [name for name, folder in manifest.contents.folders.items() if not folder.removed_at]
        freed = sum(manifest.contents.folders[name].bytes for name in there)
        write_atomic(run.root / DONE, manifest.without_weights(utc_now()).to_json().encode())
        for name in there:  # the manifest first: a kill leaves a folder too many, never one too few
            shutil.rmtree(run.root / name, ignore_errors=True)
    return freed


def gc(
    cache: Cache, keep: Keep = Keep.BEST, what: What = What.WEIGHTS, *, dry_run: bool = False
) -> Collected:
    """Remove the fine-tuned and restored checkpoints that `keep` does not keep; base models always stay."""
    if not dry_run:
        check_may_write("delete weights")
    runs = list_runs(cache)
    reasons = _kept(cache, [info for info in runs if info.has_weights], keep)
    reasons.update(in_use(runs))
    goes = [info for info in runs if info.has_weights and info.run_id not in reasons]
    if dry_run:
        by_weights = what is What.WEIGHTS
        freed = sum(_weights_bytes(cache, i.run_id) if by_weights else i.size_bytes for i in goes)
    elif what is What.WEIGHTS:
        freed = sum(remove_weights(cache, info.run_id) for info in goes)
    else:
        freed = remove_runs(cache, [info.run_id for info in goes])
    if not dry_run:
        _sweep(cache)
    kept = tuple(
        (info.run_id, reasons[info.run_id]) for info in runs if info.has_weights and info not in goes
    )
    return Collected(tuple(info.run_id for info in goes), freed, kept)


def in_use(runs: Iterable[RunInfo]) -> dict[str, str]:
    """Run -> whose it is, where a run under way uses it: "a stage of run X", or "an input of run X" that it made."""
    runs = list(runs)
    makers = {info.run_id: info.run_id for info in runs}
    makers |= {str(info.summary["model_id"]): info.run_id for info in runs if "model_id" in info.summary}
    found: dict[str, str] = {}
    for info in runs:
        if info.status.state is RunState.RUNNING:
            named = [[ids] if isinstance(ids, str) else ids for ids in info.spec.inputs.values()]
            inputs = [makers[one] for ids in named for one in ids if one in makers]
            found |= dict.fromkeys(inputs, f"an input of run {info.run_id}")
            found |= dict.fromkeys(info.status.uses, f"a stage of run {info.run_id}")
    return found


def _kept(cache: Cache, runs: list[RunInfo], keep: Keep) -> dict[str, str]:
    """run_id -> why its weights stay."""
    reasons = {info.run_id: "not finished" for info in runs if info.status.state is not RunState.DONE}
    made = _checkpoints(cache, [info.run_id for info in runs if info.run_id not in reasons])
    replaceable = made[made["role"] != "base"]
    for info in runs:
        if info.run_id not in reasons and info.run_id not in set(replaceable["run_id"]):
            reasons[info.run_id] = "no fine-tuned model"
    if keep is Keep.NONE:
        return reasons
    value = "accuracy" if keep is Keep.BEST else "finished_at"
    for run_id in replaceable[replaceable[value].isna()]["run_id"]:
        reasons[run_id] = "not evaluated yet"
    judged = replaceable.dropna(subset=[value]).sort_values([value, "run_id"])
    stay = judged.drop_duplicates(["base_id", "role"], keep="last")
    for run_id, role in zip(stay["run_id"], stay["role"], strict=True):
        reasons[run_id] = f"{keep.value} {role} model of its base"
    return reasons


def _checkpoints(cache: Cache, run_ids: list[str]) -> pd.DataFrame:
    """One row a checkpoint made by these runs: run_id, model_id, role, base_id, accuracy, finished_at."""
    models = read_table(cache, "models", run_ids=run_ids, columns=["run_id", "model_id", "role", "made_by"])
    models = models[models["made_by"] == models["run_id"]]
    states = read_table(cache, "states", columns=["state_id", "base_id"]).dropna().drop_duplicates("state_id")
    headline = {"level": None, "subset": "all", "domain": "in", "split": ["dev", "test"]}
    accuracies = read_table(
        cache, "accuracies", columns=["state_id", "split", "prompt", "accuracy"], where=headline
    )
    # chosen on dev, with the prompt tuned with; on test, or asked in another way, only where there is nothing else
    asked = accuracies.dropna().assign(other=lambda rows: rows["prompt"].isin(["five-shot", "completion"]))
    best = asked.sort_values(["split", "other", "accuracy"], ascending=[True, True, False])
    best = best.drop_duplicates("state_id")[["state_id", "accuracy"]]
    frame = models.merge(states, how="left", left_on="model_id", right_on="state_id")
    frame = frame.drop(columns="state_id").merge(best, how="left", left_on="model_id", right_on="state_id")
    finished = {run_id: _finished_at(cache, run_id) for run_id in run_ids}
    return frame.assign(finished_at=frame["run_id"].map(finished), base_id=frame["base_id"].fillna(""))


def _finished_at(cache: Cache, run_id: str) -> str | None:
    manifest = RunFolder(cache, run_id).manifest()
    return manifest.finished_at if manifest else None


def _committed_bytes(cache: Cache, run_id: str) -> int:
    contents = RunFolder(cache, run_id).contents()
    parts = sum(record.bytes for table in contents.tables.values() for record in table.values())
    return parts + _weights_bytes(cache, run_id)


def _weights_bytes(cache: Cache, run_id: str) -> int:
    folders = RunFolder(cache, run_id).contents().folders.values()
    return sum(folder.bytes for folder in folders if not folder.removed_at)


@contextmanager
def _locked(cache: Cache, run_ids: Iterable[str]) -> Iterator[None]:
    """The locks of all these runs. Raises CacheError when one is under way."""
    with ExitStack() as stack:
        for run_id in run_ids:
            lock = FileLock(cache.run_lock(run_id), thread_local=False)
            if not try_acquire(lock):
                raise CacheError(f"run {run_id} is under way; stop it first: sftknow runs stop {run_id}")
            stack.callback(lock.release)
        yield


def _sweep(cache: Cache) -> None:
    """Delete the folders and rows of removed runs, also those that a kill left."""
    with up_to_date(cache):
        pass
    for path in cache.root.glob(f"{_REMOVED_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
