"""Studies of a cache: what there is, and one study's cells with their headline numbers, finished or not.

(study_frames.py: the same study question by question, for statistics.) Accuracies and shares are 0 to 1, k is in
percent, KL in nats, differences in shares of 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import pandas as pd

from sftknow_core.errors import SpecError
from sftknow_core.results.run import Run
from sftknow_core.specs import Rule
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import RunInfo, find_run, list_runs, run_info
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.study_record import (
    DONE_STATE,
    FAILED,
    IMPOSSIBLE,
    KIND,
    TODO,
    Record,
    all_cells,
    rule_record,
)


@dataclass(frozen=True)
class Headline:
    """The numbers of one chain that its study lists (pipeline/chain_summary.py); None: the chain was deleted since."""

    base_test_in: float | None
    """Accuracy on in-domain test questions, with the prompt tuned with, as the next two."""
    tuned_test_in: float | None
    restored_test_in: float | None
    """By the k chosen on dev."""
    chosen_k_percent: float | None
    gain_test_in: float | None
    """Of restored over tuned, paired."""
    base_five_shot: float | None
    """These accuracies and the gain after five exemplars; None where not all states were asked so."""
    tuned_five_shot: float | None
    restored_five_shot: float | None
    gain_five_shot: float | None
    kl_level4_nats: float | None
    """Mean aligned KL of the questions of level 4."""
    changed_share: float | None


@dataclass(frozen=True)
class StudyInfo:
    """One study in a list: what it is and how far."""

    run_id: str
    name: str
    """As in its file."""
    title: str
    base_id: str | None
    """The model that was fine-tuned."""
    base_name: str
    state: str
    """Of the run: done, running, failed and the like."""
    reason: str | None
    """Why it failed."""
    created_at: str
    """ISO 8601, UTC."""
    seconds: float
    """Time at work."""
    n_cells: int
    n_done: int
    n_failed: int
    n_impossible: int
    n_todo: int


def list_studies(cache: Cache) -> list[StudyInfo]:
    """All studies, newest first."""
    return [_described(info, all_cells(RunFolder(cache, info.run_id))) for info in list_runs(cache, KIND)]


def _described(info: RunInfo, cells: Sequence[Record]) -> StudyInfo:
    counted = Counter(cell["state"] for cell in cells)
    base_id = info.spec.inputs.get("base")
    return StudyInfo(
        run_id=info.run_id,
        name=str(info.about.get("name", "")),
        title=str(info.about.get("title", "")),
        base_id=None if base_id is None else str(base_id),
        base_name=str(info.about.get("base", "")),
        state=str(info.status.state),
        reason=info.status.reason,
        created_at=info.created_at,
        seconds=info.status.seconds,
        n_cells=len(cells),
        n_done=counted[DONE_STATE],
        n_failed=counted[FAILED],
        n_impossible=counted[IMPOSSIBLE],
        n_todo=counted[TODO],
    )


@dataclass(frozen=True)
class Way:
    """One way of restoring that a cell tried, and its chain."""

    strategy: str
    region: str
    layers: str | None
    run_id: str


@dataclass(frozen=True)
class Cell:
    """One cell of a study's grid: a train set and a method."""

    key: str
    level: str
    n: int | None
    """None: all facts of the level."""
    seed: int
    method: str
    state: str
    """done, failed, impossible or to do."""
    reason: str | None
    """Why it failed or is impossible."""
    seconds: float | None
    """Time at work; None: taken from the cache, or never tried."""
    ways: tuple[Way, ...]
    """Empty unless done."""
    rate: float = 1.0
    """Learning rate, as a multiple of the study's."""
    repeats: float = 1.0
    """Passes over the train set, likewise."""
    model_id: str | None = None
    """Of the fine-tuned model; None unless done."""


@dataclass(frozen=True)
class FixedRule:
    """The rule by which a study's claims are decided, and since when."""

    rule: Rule
    """All roles named."""
    fixed_at: str | None
    """ISO 8601, UTC, before the study computed its first cell; None: not on record."""
    n_computed: int | None
    """Of its cells, those that had been computed by then; None: not on record."""
    n_cells: int | None
    in_identity: bool
    """False: the study was begun before studies held a rule, and is judged by the defaults."""


@dataclass(frozen=True)
class Study(Run):
    """A study, finished or not. Everything raises SpecError when the run is no study."""

    NAME: ClassVar[str] = "study"
    HINT: ClassVar[str] = "`sftknow study list` lists them"

    @cached_property
    def _records(self) -> list[Record]:
        return all_cells(self.folder)

    @cached_property
    def info(self) -> StudyInfo:
        """What it is and how far."""
        return _described(run_info(self.cache, self.run_id), self._records)

    @property
    def name(self) -> str:
        """As in its file."""
        return self.info.name

    @property
    def title(self) -> str:
        """For people."""
        return self.info.title

    @property
    def base_name(self) -> str:
        """What people call the model that was fine-tuned."""
        return self.info.base_name

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """All cells of the grid, in its order."""
        return tuple(
            Cell(
                **{f.name: cell[f.name] for f in fields(Cell) if f.name != "ways" and f.name in cell},
                ways=tuple(Way(**{f.name: way[f.name] for f in fields(Way)}) for way in cell["chains"]),
            )
            for cell in self._records
        )

    @property
    def n_questions(self) -> Mapping[str, int]:
        """Group -> questions asked; empty while it is under way."""
        manifest = self.folder.manifest()
        return dict(manifest.summary.get("n_questions", {})) if manifest else {}

    @property
    def n_questions_by_size(self) -> Mapping[str, Mapping[str, int]]:
        """Size -> the same, of sizes that are asked another number."""
        manifest = self.folder.manifest()
        return dict(manifest.summary.get("n_questions_by_size", {})) if manifest else {}

    @property
    def fixed_rule(self) -> FixedRule:
        """Its rule of decision, and when that was fixed. Raises SpecError for one that this version cannot read."""
        params = self.spec.params
        if "rule" not in params:
            sizes = [None if size == "all" else int(size) for size in params["sizes"]]
            return FixedRule(Rule().for_study(sizes, ()), None, None, None, False)
        record = rule_record(self.folder) or {}
        about = {name: record.get(name) for name in ("fixed_at", "n_computed", "n_cells")}
        return FixedRule(Rule.from_json(params["rule"]), **about, in_identity=True)

    @property
    def frame(self) -> pd.DataFrame:
        """The cells as a table, one row a cell and way of restoring; one row where a cell has no chain.

        Columns: key, level, n (<NA>: all), seed, method, state (done, failed, impossible, to do), reason, seconds,
        rate, repeats, strategy, region, layers, run_id (the chain), and those of Headline.
        """
        rows = []
        for cell in self.cells:
            about = asdict(cell)
            ways = about.pop("ways")
            rows += [about | way | asdict(self.headline(way["run_id"])) for way in ways] or [about]
        numbers = [f.name for f in fields(Headline)]
        names = [f.name for kind in (Cell, Way) for f in fields(kind) if f.name != "ways"]
        table = pd.DataFrame(rows, columns=[*names, *numbers])
        return table.astype(
            {"n": "Int64", "seed": "int64", **dict.fromkeys(numbers, "float64"), "seconds": "float64"}
        )

    def headline(self, chain_id: str) -> Headline:
        """The numbers of one of its chains."""
        manifest = RunFolder(self.cache, chain_id).manifest()
        found = manifest.summary.get("headline", {}) if manifest else {}
        return Headline(**{f.name: found.get(f.name) for f in fields(Headline)})

    def to_json(self) -> dict[str, Any]:
        """What `sftknow study show --json` prints: its StudyInfo, its spec and n_questions, and "cells", one dict a
        cell with its record and, in each of "chains", the Headline."""
        with_numbers = [
            {**cell, "chains": [{**way, **asdict(self.headline(way["run_id"]))} for way in cell["chains"]]}
            for cell in self._records
        ]
        return {
            **asdict(self.info),
            "spec": dict(self.spec.params),
            "n_questions": self.n_questions,
            "n_questions_by_size": self.n_questions_by_size,
            "rule": {**vars(fixed := self.fixed_rule), "rule": fixed.rule.model_dump()},
            "cells": with_numbers,
        }


def find_study(cache: Cache, wanted: str) -> Study:
    """By its name, or the start of its run's id. Raises SpecError where none or several fit."""
    named = [one.run_id for one in list_studies(cache) if one.name == wanted]
    if len(named) > 1:
        raise SpecError(f"{wanted!r} is the name of {len(named)} studies: {', '.join(named)}; give a run id")
    return Study(cache, named[0] if named else find_run(cache, wanted))
