"""The whole grid: study -> every cell's chains in the cache, and the study's own run that lists them.

    plan -> what all cells share (mastery, base answers) -> the cells, several at once -> manifest

A cell in the cache is not done again, a failed one is put on record and does not stop the rest, and the same call
goes on after a kill: the cells on record and the chunks of those that were under way are there already.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sftknow_core.errors import CacheError, SftknowError
from sftknow_core.facts.train_set import draw_train_set
from sftknow_core.pipeline.device import device_name
from sftknow_core.pipeline.mastery import score_facts
from sftknow_core.pipeline.sft import WEIGHTS, fine_tune
from sftknow_core.pipeline.study.cell import CellTask, do_cell, do_shared, limit_threads, read_progress
from sftknow_core.pipeline.study.plan import (
    CACHED,
    PlannedCell,
    StudyPlan,
    known_mastery,
    open_base,
    plan,
    study_run,
    training_of,
)
from sftknow_core.pipeline.study.pool import EXECUTORS, PROCESSES, BrokenExecutor, Workers
from sftknow_core.pipeline.workspace import ModelHandle, Workspace
from sftknow_core.results.study_frames import keep_study_frames
from sftknow_core.specs import Cell, Checkpoints, StudySpec
from sftknow_core.store.cache import Cache
from sftknow_core.store.gc import remove_weights
from sftknow_core.store.open_run import request_stop
from sftknow_core.store.run import Run
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_state import RunState
from sftknow_core.store.study_record import (
    DONE_STATE,
    FAILED,
    IMPOSSIBLE,
    TODO,
    CellLog,
    Record,
    all_cells,
    cell_records,
    fix_rule,
    nothing,
    reopen,
)

# Which fine-tuned weights of a study stay on the disk, and how they come back.
#
# Only weights are dropped that were written since the study was begun: what was in the cache before is its owner's.


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
    tuned, run = fine_tune(ws, base, train_set, training_of(spec, cell, base), spec.evaluate.train_prompt)
    study = RunFolder(ws.cache, study_run(spec, base, facts).run_id)
    before = {record["key"]: record["model_id"] for record in cell_records(study)}.get(cell.key)
    if before is not None and before != tuned.model_id:
        warnings.warn(
            f"{cell.label}: run {run.run_id} gives model {tuned.model_id} now, and gave {before} when the study was "
            "run; another version of a library or another machine rounds otherwise",
            stacklevel=2,
        )
    return tuned


_POLL_SECONDS = 0.5
_WORTH_TELLING = 0.01
_DIED = "its process ended without a word (killed from outside, or out of memory)"


@dataclass(frozen=True)
class StudyResult:
    """A finished study."""

    run: RunFolder
    summary: Mapping[str, Any]
    """As in the run's manifest: name, base_id, base_name, matcher, mastery, n_questions, n_done, n_failed,
    n_impossible, and cells: one record a cell (store/study_record.py)."""


def run_study(
    spec: StudySpec, ws: Workspace, executor: Executor | str = PROCESSES, *, skip_impossible: bool = False
) -> StudyResult:
    """Do the study, or what is left of it.

    executor: where the cells are done: a name in EXECUTORS, for `spec.workers` cells at once, one on an accelerator; or
    an executor, which must not do two cells at once in one process. Raises SpecError for impossible cells unless they
    are skipped, for a base model that changed, and for facts without questions; Stopped when asked to stop; CacheError
    for a full disk. A cell that fails is in the summary and raises nothing.
    """
    if isinstance(executor, str):
        EXECUTORS.get(executor)
    found = plan(spec, ws)
    if not skip_impossible:
        found.require_possible()
    if found.of(TODO):
        reopen(ws.cache, found.run_spec.run_id)  # cells failed last time, or their chains were deleted since
    with ws.open_run(found.run_spec, _about(spec, found)) as run:
        if not run.done:
            ws.finish(run, _Study(spec, ws, run, found, executor, skip_impossible).do())
        if run.summary["n_done"]:
            ws.reporter.stage("putting the answers of all cells together")
            keep_study_frames(ws.cache, run.run_id)
        drop_weights(ws.cache, run, spec.checkpoints)
        return StudyResult(run, run.summary)


def _about(spec: StudySpec, found: StudyPlan) -> dict[str, Any]:
    return {
        "name": spec.name,
        "title": f"study {spec.name}: {len(found.cells)} cells of {found.base.name}",
        "base": found.base.name,
        "base_path": str(found.base.path.resolve()),
        "facts": found.facts.ref,
        "checkpoints": str(spec.checkpoints),
    }


@dataclass
class _Study:
    """A study in the hands of the process that hands out its cells."""

    spec: StudySpec
    ws: Workspace
    run: Run
    plan: StudyPlan
    executor: Executor | str
    skip_impossible: bool
    done_units: float = 0.0
    told_units: float = 0.0
    records: dict[str, Record] = field(default_factory=dict)

    def do(self) -> dict[str, Any]:
        """Everything that is not in the cache; returns the summary."""
        self.records = {record["key"]: record for record in cell_records(self.run)}
        self.log = CellLog(self.run)
        self.workers = Workers(self._n_workers(), self.executor)
        try:
            if self.plan.of(TODO):
                self._shared()
            if not self.plan.mastery_known:
                self.plan = plan(self.spec, self.ws)
                if not self.skip_impossible:
                    self.plan.require_possible()
            rule = self.spec.fixed_rule.model_dump()
            fix_rule(self.run, rule, len(self.plan.of(CACHED)), len(self.plan.cells))
            self._what_is_known()
            self._cells(self.plan.of(TODO))
            return self._summary()
        except BaseException:
            with suppress(SftknowError):
                request_stop(self.ws.cache, self.run.run_id)  # those at work look at it
            raise
        finally:
            self.workers.close()
            self.log.close()

    def _n_workers(self) -> int:
        n = min(self.spec.workers, max(1, len(self.plan.of(TODO))))
        if isinstance(self.executor, str) and n > 1 and (name := device_name(self.ws.device)) is not None:
            self.ws.reporter.say(
                f"one worker instead of {n}: {name} holds the models of one process at a time"
            )
            return 1
        return n

    def _task(self, planned: PlannedCell | None) -> CellTask:
        return CellTask(
            self.spec,
            planned.cell if planned else None,
            str(self.ws.cache.root),
            self.run.run_id,
            self.plan.base.model_id,
            self.plan.facts.data_id,
            self.ws.device,
            self.ws.dtype,
        )

    # -- what all cells share

    def _shared(self) -> None:
        """Mastery and the base model's answers, by one worker while the others wait."""
        task = self._task(None)
        future = self.workers.submit(do_shared, task)
        while not wait([future], _POLL_SECONDS).done:
            self.run.check_stop()
            text, share = read_progress(self.ws.cache.root, self.run.run_id, task.key)
            self.ws.reporter.stage(f"before the cells: {text} ({share:.0%})" if text else "before the cells")
            self.run.progress(share, 1.0, text)
        try:
            future.result()
        except BrokenExecutor as error:
            raise SftknowError(f"study {self.spec.name}: mastery was not computed: {_DIED}") from error

    # -- the cells

    def _what_is_known(self) -> None:
        """Put the cells on record that need no work: those in the cache, and impossible ones."""
        for planned in self.plan.cells:
            about = {"key": planned.cell.key, **planned.cell.model_dump()}
            if planned.state == IMPOSSIBLE:
                self._record(about | nothing(IMPOSSIBLE, planned.reason))
            elif planned.state == CACHED:
                mine = self.records.get(planned.cell.key, {})
                if [chain["run_id"] for chain in mine.get("chains", ())] != list(planned.run_ids):
                    self._record(about | self._cached(planned))

    def _cached(self, planned: PlannedCell) -> dict[str, Any]:
        summary = Run(self.ws.cache, planned.run_ids[0]).summary
        chains = [
            {**way.model_dump(), "run_id": run_id}
            for way, run_id in zip(self.spec.restoring, planned.run_ids, strict=True)
        ]
        found = {"chains": chains, "sft": summary["stages"]["sft"], "model_id": summary["tuned_id"]}
        return {"state": DONE_STATE, "reason": None, "seconds": None, **found}

    def _record(self, record: Record) -> None:
        self.log.add(record)
        self.records[record["key"]] = record

    def _cells(self, todo: list[PlannedCell]) -> None:
        """All cells that are left, as many at once as there are workers."""
        self.units = {one.cell.key: one.load.units for one in todo if one.load}
        self.ws.reporter.expect(sum(self.units.values()))
        waiting, suspects = deque(todo), deque[PlannedCell]()
        at_work: dict[Future[Record], PlannedCell] = {}
        retried: set[str] = set()
        while waiting or suspects or at_work:
            self.run.check_stop()
            # when a worker died one of those at work was the reason: they are tried again one by one
            while (waiting or suspects) and len(at_work) < (1 if suspects or retried else self.workers.n):
                planned = (suspects or waiting).popleft()
                self._submit(planned, at_work)
            wait(at_work, _POLL_SECONDS, FIRST_COMPLETED)
            self._tell(at_work, len(todo))
            broken = []
            for future in [one for one in at_work if one.done()]:
                planned = at_work.pop(future)
                try:
                    self._ended(planned, future.result())
                    retried.discard(planned.cell.key)
                except BrokenExecutor:
                    broken.append(planned)
            if broken:
                broken += at_work.values()
                at_work.clear()
                renewed = self.workers.renew()
                for planned in broken:
                    if renewed and planned.cell.key not in retried:
                        retried.add(planned.cell.key)
                        suspects.append(planned)
                    else:
                        retried.discard(planned.cell.key)
                        about = {"key": planned.cell.key, **planned.cell.model_dump()}
                        self._ended(planned, about | nothing(FAILED, _DIED))

    def _submit(self, planned: PlannedCell, at_work: dict[Future[Record], PlannedCell]) -> None:
        for run_id in planned.run_ids:
            self.run.uses(run_id)
        at_work[self.workers.submit(do_cell, self._task(planned))] = planned

    def _ended(self, planned: PlannedCell, record: Record) -> None:
        self._record(record)
        self.done_units += self.units.get(planned.cell.key, 0.0)
        if record["state"] == FAILED:
            self.ws.reporter.say(f"failed: {planned.cell.label}: {record['reason']}")
        drop_weights(self.ws.cache, self.run, self.spec.checkpoints)

    def _tell(self, at_work: Mapping[Future[Record], PlannedCell], n_todo: int) -> None:
        """Bring both displays up to date: the bar with its time left, and the run's own progress."""
        under_way = 0.0
        labels = []
        for planned in at_work.values():
            _, share = read_progress(self.ws.cache.root, self.run.run_id, planned.cell.key)
            under_way += share * self.units.get(planned.cell.key, 0.0)
            labels.append(planned.cell.label)
        n_ended = sum(
            1 for key in self.units if self.records.get(key, {}).get("state") in (DONE_STATE, FAILED)
        )
        note = f"{n_ended} of {n_todo} cells; now: {'; '.join(labels)}"
        total = sum(self.units.values())
        now = max(self.told_units, self.done_units + under_way)
        if now < _WORTH_TELLING * total:  # a time left would be a wild guess
            now = self.told_units
        self.ws.reporter.stage(note)
        self.ws.reporter.advance(now - self.told_units)
        self.told_units = now
        self.run.progress(now, total, note)

    def _summary(self) -> dict[str, Any]:
        cells = all_cells(self.run)
        mastery = known_mastery(self.ws, self.plan.base, self.plan.facts, self.plan.topics)
        return {
            "name": self.spec.name,
            "base_id": self.plan.base.model_id,
            "base_name": self.plan.base.name,
            "matcher": self.spec.evaluate.matcher,
            "mastery": mastery.run.run_id if mastery else None,
            "n_questions": dict(self.plan.n_questions),
            **({"n_questions_by_size": by_size} if (by_size := self.plan.n_questions_by_size) else {}),
            **{f"n_{s}": sum(c["state"] == s for c in cells) for s in (DONE_STATE, FAILED, IMPOSSIBLE)},
            "cells": cells,
        }
