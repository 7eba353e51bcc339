"""Which fine-tuned weights of a study stay on the disk, and how they come back.

Only weights are dropped that were written since the study was begun: what was in the cache before is its owner's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress

from sftknow_core.errors import CacheError
from sftknow_core.facts.train_set import draw_train_set
from sftknow_core.pipeline.mastery import score_facts
from sftknow_core.pipeline.sft import WEIGHTS, fine_tune
from sftknow_core.pipeline.study.cell import limit_threads
from sftknow_core.pipeline.study.plan import open_base
from sftknow_core.pipeline.study.spec import Cell, Checkpoints, StudySpec
from sftknow_core.pipeline.workspace import ModelHandle, Workspace
from sftknow_core.store.cache import Cache
from sftknow_core.store.gc import remove_weights
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_state import RunState
from sftknow_core.store.study_record import DONE_STATE, Record, cell_records


def drop_weights(cache: Cache, study: RunFolder, policy: Checkpoints) -> None:
    """Delete the weights of finished cells that the policy does not keep; their numbers stay."""
    if policy == Checkpoints.ALL:
        return
    done = [record for record in cell_records(study) if record["state"] == DONE_STATE]
    there = [record for record in done if RunFolder(cache, record["sft"]).weights(WEIGHTS) is not None]
    best = _best(cache, done)["key"] if policy == Checkpoints.BEST and done else None
    begun = min(_starts(study), default=0.0)
    for record in there:
        ours = max(_starts(RunFolder(cache, record["sft"])), default=0.0) >= begun
        if ours and record["key"] != best:
            with suppress(CacheError):  # somebody uses them just now; the next cell's end tries again
                remove_weights(cache, record["sft"])


def _starts(run: RunFolder) -> list[float]:
    """When somebody began to work on the run, seconds since the epoch, one a stint."""
    return [event["t"] for event in run.events()[0] if event.get("state") == RunState.RUNNING]


def _best(cache: Cache, done: Sequence[Record]) -> Record:
    """The cell with the highest in-domain dev accuracy before restoring; the first of equals by name."""
    return max(
        sorted(done, key=lambda record: str(record["key"])), key=lambda record: _dev_accuracy(cache, record)
    )


def _dev_accuracy(cache: Cache, record: Record) -> float:
    manifest = RunFolder(cache, record["chains"][0]["run_id"]).manifest()
    if manifest is None:
        return -1.0
    table = {row["state_id"]: row for row in manifest.summary["table"]}
    accuracy = (table[manifest.summary["tuned_id"]]["dev_in"] or {}).get("accuracy")
    return -1.0 if accuracy is None else float(accuracy)


def tuned_model(spec: StudySpec, ws: Workspace, cell: Cell) -> ModelHandle:
    """The cell's fine-tuned model: from the cache, or trained again from the study and the seed.

    Warns when another model came out than the cell's numbers are of (another library, machine or number of threads).
    Trains in this process, with the study's threads. Raises SpecError for an impossible cell.
    """
    limit_threads(spec.threads)
    base = open_base(spec, ws)
    facts, topics = spec.data.load()
    mastery = score_facts(ws, base, facts.facts, topics)
    train_set = draw_train_set(facts.facts, mastery.levels, cell.level, cell.n, cell.seed)
    tuned, run = fine_tune(ws, base, train_set, spec.sft(cell, base))
    study = RunFolder(ws.cache, spec.run_spec(base, facts).run_id)
    before = {record["key"]: record["model_id"] for record in cell_records(study)}.get(cell.key)
    if before is not None and before != tuned.model_id:
        warnings.warn(
            f"{cell.label}: run {run.run_id} gives model {tuned.model_id} now, and gave {before} when the study was "
            "run; another version of a library or another machine rounds otherwise",
            stacklevel=2,
        )
    return tuned
