"""One cell in a worker: study + cell -> its chains in the cache. The same call gives the same runs wherever it is made.

A worker keeps the facts, the mastery levels and the base model between cells; nothing of a cell is kept for the next.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sftknow_core.errors import CacheError, ModelError, PluginError, SftknowError, Stopped
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.topics import Topic
from sftknow_core.pipeline.chain import after_exemplars, ask_after_exemplars, run_chain, to_complete
from sftknow_core.pipeline.evaluate import EvaluationPlan, evaluate
from sftknow_core.pipeline.mastery import Mastery, score_facts
from sftknow_core.pipeline.questions import choose_questions
from sftknow_core.pipeline.reporter import Reporter
from sftknow_core.pipeline.states import StateLoader, base_state
from sftknow_core.pipeline.study.plan import training_of
from sftknow_core.pipeline.workspace import ModelHandle, Workspace
from sftknow_core.registry import load_plugins
from sftknow_core.specs import Cell, QuestionSpec, StudySpec
from sftknow_core.store.progress import ProgressFile
from sftknow_core.store.run import Run
from sftknow_core.store.study_record import DONE_STATE, FAILED, nothing

PROGRESS = "progress"
"""Folder in the study's run folder where workers say how far they are: one small file a cell."""


@dataclass(frozen=True)
class CellTask:
    """Everything a worker needs to know."""

    spec: StudySpec
    cell: Cell | None
    """None: only what all cells share, mastery and the base model's answers."""
    cache: str
    study_id: str
    base_id: str
    """The model_id the study was begun with."""
    facts_id: str
    """The facts it was begun with (FactSet.data_id)."""
    device: str = "auto"
    dtype: str = "auto"

    @property
    def key(self) -> str:
        """The cell's, or "base"."""
        return self.cell.key if self.cell else "base"


class InputChangedError(ModelError):
    """The base model or the facts are not those that the study was begun with."""


def do_shared(task: CellTask) -> None:
    """Mastery of all facts, and the base model's answers to the questions that every cell asks.

    Raises SpecError where the facts allow no study, Stopped, and whatever else stands in the way of all cells.
    """
    place = _placed(task)
    loader = StateLoader(place.ws, place.base)
    controlled = {task.spec.questions_of(n) for n in task.spec.controlled_sizes()}
    for asked in task.spec.question_specs():
        exam = place.exam(asked)
        evaluate(exam, base_state(place.base), loader)
        on_test = tuple(fact for fact in exam.questions if fact.split == "test")
        complete = task.spec.completions and asked in controlled
        if complete and (sentences := to_complete(place.ws, exam, on_test)):
            evaluate(sentences, base_state(place.base), loader)
        few_shot = task.spec.five_shot and asked in controlled
        if task.spec.baselines:
            ask_after_exemplars(place.ws, exam, loader)
        elif few_shot and (few := after_exemplars(place.ws, exam, on_test)):
            evaluate(few, base_state(place.base), loader)


def do_cell(task: CellTask) -> dict[str, Any]:
    """Do the cell's chains, or take them from the cache. Returns its record (store/study_record.py).

    What goes wrong in this cell alone is in the record. Raises Stopped, CacheError, InputChangedError and
    PluginError, which concern all cells.
    """
    assert task.cell is not None
    began = time.monotonic()
    about = {"key": task.cell.key, **task.cell.model_dump()}
    try:
        found = _chains(task, task.cell)
    except (Stopped, CacheError, InputChangedError, PluginError):
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, SftknowError) else f"{type(error).__name__}: {error}"
        return about | nothing(FAILED, reason, round(time.monotonic() - began, 3))
    finally:
        progress_file(Path(task.cache), task.study_id, task.key).unlink(missing_ok=True)
    seconds = round(time.monotonic() - began, 3)
    return about | {"state": DONE_STATE, "reason": None, "seconds": seconds, **found}


def _chains(task: CellTask, cell: Cell) -> dict[str, Any]:
    place = _placed(task)
    sft = training_of(task.spec, cell, place.base)
    chains = []
    for way in task.spec.restoring:
        spec = task.spec.chain_spec(cell, way)
        done = run_chain(
            place.ws, place.base, place.facts, place.topics, spec, sft, mastery=place.mastery,
            exam=place.exam(spec.questions),
        )  # fmt: skip
        chains.append({**way.model_dump(), "run_id": done.run.run_id})
    return {"chains": chains, "sft": done.summary["stages"]["sft"], "model_id": done.summary["tuned_id"]}


@dataclass
class _Place:
    """What a worker keeps between cells."""

    ws: Workspace
    base: ModelHandle
    facts: FactSet
    topics: dict[str, Topic]
    spec: StudySpec

    exams: dict[QuestionSpec, EvaluationPlan] = field(default_factory=dict)

    def exam(self, asked: QuestionSpec) -> EvaluationPlan:
        """The questions that cells ask, with what the base model says to them; made once."""
        if asked not in self.exams:
            questions = choose_questions(self.facts.facts, self.mastery.levels, asked)
            self.exams[asked] = EvaluationPlan(
                self.ws, self.base, self.facts, self.topics, self.mastery, questions, self.spec.evaluate
            )
        return self.exams[asked]

    @cached_property
    def mastery(self) -> Mastery:
        """Computed by the first who needs it; in a study that is `do_shared`."""
        return score_facts(self.ws, self.base, self.facts.facts, self.topics)


def _placed(task: CellTask) -> _Place:
    """The worker's place, ready for this task: its threads, its study to obey, its progress file."""
    limit_threads(task.spec.threads)
    load_plugins()
    place = _place(replace(task, cell=None))
    study = Run(place.ws.cache, task.study_id)  # only looked at: whether it was asked to stop
    study.check_stop()
    place.ws.parent = study
    place.ws.reporter = _FileReporter(progress_file(place.ws.cache.root, task.study_id, task.key))
    now = place.ws.open_model(task.spec.base or "")
    if now.model_id != task.base_id:
        raise InputChangedError(
            f"base model {task.spec.base}: its files changed while the study was under way (model {task.base_id} "
            f"before, {now.model_id} now). Put the former files back and run the same command again."
        )
    return place


_kept: tuple[CellTask, _Place] | None = None
"""The last study's place in this process."""


def _place(task: CellTask) -> _Place:
    global _kept
    if _kept is None or _kept[0] != task:
        ws = Workspace(task.cache, device=task.device, dtype=task.dtype)
        facts, topics = task.spec.data.load()
        if facts.data_id != task.facts_id:
            raise InputChangedError(
                f"facts {task.spec.data.data}: they changed while the study was under way. Put the former ones back "
                "and run the same command again, or give the study another name."
            )
        _kept = (task, _Place(ws, ws.open_model(task.spec.base or ""), facts, topics, task.spec))
    return _kept[1]


def limit_threads(n: int) -> None:
    """Use n threads from now on; libraries that are not loaded yet read the variables when they are."""
    if "torch" not in sys.modules:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(n)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # why: serve/process.py
    import torch

    if torch.get_num_threads() != n:
        torch.set_num_threads(n)


# -- how far a worker is


class _FileReporter(Reporter):
    """Says how far it is in a small file, which the process that handed out the work reads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = ProgressFile(path)

    def show(self) -> None:
        """Bring the file up to date."""
        self._file.write(self.text, self.share, self.seconds_left)


def progress_file(cache: Path, study_id: str, key: str) -> Path:
    """Where the worker of a cell says how far it is (store/progress.py)."""
    return cache / "runs" / study_id / PROGRESS / f"{key}.json"


def read_progress(cache: Path, study_id: str, key: str) -> tuple[str, float]:
    """What is being done in a cell, and the share done; ("", 0) where nobody said."""
    try:
        found = json.loads(progress_file(cache, study_id, key).read_text("utf-8"))
        return str(found["stage"]), float(found["share"] or 0)
    except (OSError, ValueError, KeyError, TypeError):
        return "", 0.0
