"""Known but not answered: does a fine-tuned model still hold what it no longer answers?

A flipped question was answered rightly before (by the base after five exemplars, else by its completion prompt, else
asked the same way) and wrongly after tuning. Asked in another way it is

    inaccessible   answered by the completion prompt (or after five exemplars), though not as a question
    lost           answered in neither way

by mastery level of the question, with n and Wilson's 95% interval; all seeds of a cell together, so that n counts a
question once a seed. Two rows to read it by: the same share among the questions that tuned still answers, which says
how far the other way of asking can be trusted, and among the flipped questions in the restored model. Beside them how
often the gold answer's first token is among the ten most probable ones after the question, where that was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import BASE_STATE, CHOSEN, TUNED, Array, Cell, Grid, Which
from sftknow_core.stats.intervals import wilson

WAYS = ("completion", "five-shot")
"""Other ways of asking, as tables name them."""
BEFORE = ("five-shot", "completion", "qa")
"""How the base may have answered before, the fairest first."""
FLIPPED, KEPT = "flipped", "kept"
TOP = 10
ROWS = [
    "train_level", "size", "level", "way", "questions", "state", "n", "n_right", "share", "low", "high", "reason",
]  # fmt: skip


class Accessibility:
    """Flipped questions of a study's own cells."""

    def __init__(self, study: Study, domain: str = "in") -> None:
        self.study, self.domain = study, domain
        self.grid = study.grid(domain)
        self.before = next((way for way in BEFORE if self._base(way) is not None), None)

    def _base(self, way: str) -> Array | None:
        """The base's right answers in the order of the grid's questions; NaN: not asked so."""
        grid = self.study.grid(self.domain, way)
        row = grid.row(Cell("", ""), 0, BASE_STATE) if grid.facts else None
        return None if row is None else self._in_order(grid, row)

    def _in_order(self, grid: Grid, row: Array) -> Array:
        of = dict(zip(grid.facts, row, strict=True))
        return np.array([of.get(fact, np.nan) for fact in self.grid.facts])

    def ways(self) -> list[str]:
        """Other ways in which fine-tuned models were asked."""
        found = []
        for way in WAYS:
            grid = self.study.grid(self.domain, way)
            if any(grid.by_seed(cell, TUNED) for cell in grid.cells()):
                found.append(way)
        return found

    def missing(self) -> str | None:
        """What the study lacks for this; None: nothing."""
        if not self.ways():
            return "no fine-tuned model was asked with completion prompts"
        if self.before is None:
            return "the base was not asked the test questions"
        return None

    def cells(self) -> list[Cell]:
        """Those that were asked in another way."""
        asked = [self.study.grid(self.domain, way) for way in self.ways()]
        return [cell for cell in self.grid.cells() if any(grid.by_seed(cell, TUNED) for grid in asked)]

    def rows(self) -> pd.DataFrame:
        """One row a cell, question level (NaN: all), way of asking, kind of question (flipped, kept) and state (tuned,
        restored): how many of the questions are answered rightly in that way. Flipped and kept are those of tuned."""
        rows = []
        for cell in self.cells():
            for way in self.ways():
                other = self.study.grid(self.domain, way)
                for state, which in (("tuned", TUNED), ("restored", CHOSEN)):
                    rows += self._of(cell, way, state, other, which)
            rows += self._top(cell)
        frame = pd.DataFrame(rows, columns=ROWS)
        return frame.astype(dict.fromkeys(("level", "share", "low", "high"), "float64"))

    def _asked(self, cell: Cell) -> list[tuple[int, Array, Array]]:
        """(seed, flipped, kept) of each seed: bool [Q]."""
        before = self._base(self.before or "")
        if before is None:
            return []
        return [
            (seed, (before == 1) & (row == 0), (before == 1) & (row == 1))
            for seed, row in self.grid.by_seed(cell, TUNED).items()
        ]

    def _of(self, cell: Cell, way: str, state: str, other: Grid, which: Which) -> list[dict[str, Any]]:
        answers = {seed: self._in_order(other, row) for seed, row in other.by_seed(cell, which).items()}
        return self._counted(cell, way, state, answers)

    def _counted(self, cell: Cell, way: str, state: str, answers: dict[int, Array]) -> list[dict[str, Any]]:
        asked = self._asked(cell)
        rows = []
        for level in (None, *map(int, np.unique(self.grid.levels))):
            at = np.ones(len(self.grid.facts), bool) if level is None else self.grid.levels == level
            for kind in (FLIPPED, KEPT):
                own = []
                for seed, flipped, kept in asked:
                    if seed in answers:
                        found = answers[seed][at & (flipped if kind == FLIPPED else kept)]
                        own.append(found[~np.isnan(found)])
                place = {"train_level": cell.level, "size": cell.size, "level": level, "way": way}
                rows.append({**place, "questions": kind, "state": state, **_share(own)})
        return rows

    def _top(self, cell: Cell) -> list[dict[str, Any]]:
        """Whether the gold answer's first token is among the ten most probable after the question."""
        answers = self.study.tables.answers
        if "gold_rank" not in answers or answers["gold_rank"].isna().all():
            return []
        keep = (answers["split"] == "test") & (answers["domain"] == self.domain) & (answers["prompt"] == "qa")
        used = answers[keep & answers["gold_rank"].notna()]
        ranked = Grid(self.study.tables, used.assign(near=used["gold_rank"] <= TOP), "near")
        rows = []
        for state, which in (("tuned", TUNED), ("restored", CHOSEN)):
            found = {seed: self._in_order(ranked, row) for seed, row in ranked.by_seed(cell, which).items()}
            rows += self._counted(cell, "gold in top 10", state, found)
        return rows

    def outcomes(self, way: str = "completion") -> pd.DataFrame:
        """Of the flipped questions, one row a cell and question level (NaN: all): n, inaccessible and lost (counts),
        share (inaccessible of n) with its interval, and the share among the questions kept."""
        rows = self.rows()
        own = rows[(rows["way"] == way) & (rows["state"] == "tuned")]
        place = ["train_level", "size", "level"]
        flipped = own[own["questions"] == FLIPPED].drop(columns=["questions", "state", "way"])
        kept = own[own["questions"] == KEPT][[*place, "share"]].rename(columns={"share": "share_kept"})
        table = flipped.merge(kept, on=place, how="left").rename(columns={"n_right": "inaccessible"})
        table["lost"] = table["n"] - table["inaccessible"]
        return table[[*place, "n", "inaccessible", "lost", "share", "low", "high", "share_kept", "reason"]]


def _share(parts: Sequence[Array]) -> dict[str, Any]:
    values = np.concatenate(parts) if parts else np.array([])
    n, right = len(values), int(values.sum())
    if not n:
        reason = "no such question" if parts else "not asked in this way"
        return {"n": 0, "n_right": 0, "share": None, "low": None, "high": None, "reason": reason}
    low, high = wilson(right, n)
    return {"n": n, "n_right": right, "share": right / n, "low": low, "high": high, "reason": None}
