"""Studies of a cache: what there is, and one study's cells with their headline numbers, finished or not.

(study_frames.py: the same study question by question, for statistics.) Accuracies and shares are 0 to 1, k is in
percent, KL in nats, differences in shares of 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import pandas as pd

from sftknow_core.errors import SpecError
from sftknow_core.results.run import Run
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import RunInfo, find_run, list_runs, run_info
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.study_record import DONE_STATE, FAILED, IMPOSSIBLE, KIND, TODO, Record, all_cells

HEADLINE = (
    "base_test_in", "tuned_test_in", "restored_test_in", "chosen_k_percent", "gain_test_in", "kl_level4_nats",
    "changed_share",
)  # fmt: skip
"""Numbers of one chain (pipeline/chain_summary.py): in-domain test accuracy of base, tuned, and restored by the k
chosen on dev; that k; the paired gain of restored over tuned; the mean aligned KL of level-4 questions; the changed
share."""
_CELL = ["key", "level", "n", "seed", "method", "state", "reason", "seconds"]
_WAY = ["strategy", "region", "layers", "run_id"]


def list_studies(cache: Cache) -> list[dict[str, Any]]:
    """All studies, newest first: run_id, name, title, base_id, base_name, state, created_at, n_cells, n_done, n_failed,
    n_impossible, n_todo."""
    return [_described(cache, info) for info in list_runs(cache, KIND)]


def _described(cache: Cache, info: RunInfo) -> dict[str, Any]:
    return {
        "run_id": info.run_id,
        "name": info.about.get("name", ""),
        "title": info.about.get("title", ""),
        "base_id": info.spec.inputs.get("base"),
        "base_name": info.about.get("base", ""),
        "state": str(info.status.state),
        "reason": info.status.reason,
        "created_at": info.created_at,
        "seconds": info.status.seconds,
        **_counts(all_cells(RunFolder(cache, info.run_id))),
    }


def _counts(cells: list[Record]) -> dict[str, int]:
    counted = Counter(cell["state"] for cell in cells)
    return {
        "n_cells": len(cells),
        "n_done": counted[DONE_STATE],
        "n_failed": counted[FAILED],
        "n_impossible": counted[IMPOSSIBLE],
        "n_todo": counted[TODO],
    }


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


@dataclass(frozen=True)
class Study(Run):
    """A study, finished or not. Everything raises SpecError when the run is no study."""

    NAME: ClassVar[str] = "study"
    HINT: ClassVar[str] = "`sftknow study list` lists them"

    @cached_property
    def _records(self) -> list[Record]:
        return all_cells(self.folder)

    @property
    def name(self) -> str:
        """As in its file."""
        return str(self.about.get("name", ""))

    @property
    def title(self) -> str:
        """For people."""
        return str(self.about.get("title", ""))

    @property
    def base_id(self) -> str | None:
        """The model that was fine-tuned."""
        found = self.spec.inputs.get("base")
        return None if found is None else str(found)

    @property
    def base_name(self) -> str:
        """What people call it."""
        return str(self.about.get("base", ""))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells of the grid, in its order."""
        return tuple(
            Cell(
                **{f.name: cell[f.name] for f in fields(Cell) if f.name != "ways"},
                ways=tuple(Way(**{name: way[name] for name in _WAY}) for way in cell["chains"]),
            )
            for cell in self._records
        )

    @property
    def n_questions(self) -> Mapping[str, int]:
        """Group -> questions asked; empty while it is under way."""
        manifest = self.folder.manifest()
        return dict(manifest.summary.get("n_questions", {})) if manifest else {}

    @property
    def frame(self) -> pd.DataFrame:
        """The cells as a table, one row a cell and way of restoring; one row where a cell has no chain.

        Columns: key, level, n (<NA>: all), seed, method, state (done, failed, impossible, to do), reason, seconds,
        strategy, region, layers, run_id (the chain), and HEADLINE.
        """
        rows = []
        for cell in self.cells:
            about = {name: getattr(cell, name) for name in _CELL}
            ways = [{name: getattr(way, name) for name in _WAY} for way in cell.ways]
            rows += [about | way | _headline(self.cache, way["run_id"]) for way in ways] or [about]
        table = pd.DataFrame(rows, columns=[*_CELL, *_WAY, *HEADLINE])
        return table.astype(
            {"n": "Int64", "seed": "int64", **dict.fromkeys(HEADLINE, "float64"), "seconds": "float64"}
        )

    def to_json(self) -> dict[str, Any]:
        """What `sftknow study show --json` prints: what `list_studies` says of it, its spec and n_questions, and
        "cells", one dict a cell with its record and, in each of "chains", the HEADLINE numbers."""
        with_numbers = [
            {**cell, "chains": [{**way, **_headline(self.cache, way["run_id"])} for way in cell["chains"]]}
            for cell in self._records
        ]
        return {
            **_described(self.cache, run_info(self.cache, self.run_id)),
            "spec": dict(self.spec.params),
            "n_questions": self.n_questions,
            "cells": with_numbers,
        }


def find_study(cache: Cache, wanted: str) -> Study:
    """By its name, or the start of its run's id. Raises SpecError where none or several fit."""
    named = [one["run_id"] for one in list_studies(cache) if one["name"] == wanted]
    if len(named) > 1:
        raise SpecError(f"{wanted!r} is the name of {len(named)} studies: {', '.join(named)}; give a run id")
    return Study(cache, named[0] if named else find_run(cache, wanted))


def _headline(cache: Cache, chain_id: str) -> dict[str, Any]:
    """None for every number of a chain that was deleted since."""
    manifest = RunFolder(cache, chain_id).manifest()
    found = manifest.summary.get("headline", {}) if manifest else {}
    return {name: found.get(name) for name in HEADLINE}
