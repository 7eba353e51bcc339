"""One state of one cell of a study -> its accuracy (or KL) with a 95% interval over seeds and questions.

Everything tables and figures print comes from here, by the rule that the verdicts use (stats/contrast.py). Accuracies
are shares, clipped to 0 to 1; KL is in nats. Asked twice, the same numbers are not worked out twice.

Points of accuracy count the same near 0 or 1, where little can move, as in the middle. `beside_points` lays beside them
what does not: log-odds, and which part of the way to the few-shot ceiling restoring goes.

A number is of one prompt, QA (that which was tuned with) or FIVE_SHOT (after five exemplars), and so is a difference:
the base never saw the first, and would fall short of models that did for a reason that has nothing to do with knowing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import BASE, BASE_STATE, TUNED, Array, Cell, Gap, Grid, Term, Which
from sftknow_core.errors import SpecError
from sftknow_core.stats.contrast import contrast
from sftknow_core.stats.seeds import MIN_SEEDS

QA, FIVE_SHOT, COMPLETION = "qa", "five-shot", "completion"
PROMPT_NAMES = {FIVE_SHOT: "5-shot", QA: "zero-shot"}
"""Prompt -> as people read it."""
POPULATION = (
    "95% intervals speak for other seeds and other questions like these (for other questions only, where there is one "
    "seed); topics are taken as fixed"
)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    low: float | None
    """None: the spread over two seeds decides nothing."""
    high: float | None
    sd: float | None
    """Sample standard deviation over seeds; None with one seed."""
    n: int
    """Questions of one seed."""
    seeds: tuple[int, ...]
    """Empty for the base, which has none."""
    per_seed: tuple[float, ...]

    def as_row(self, value: str = "accuracy") -> dict[str, Any]:
        """The cells of a table row; value: the column of the number."""
        ends = {"low": self.low, "high": self.high, "sd": self.sd}
        return {value: self.value, **ends, "n": self.n, "n_seeds": len(self.seeds)}


def prompts_of(study: Study) -> tuple[str, ...]:
    """Under which base, tuned and restored can be compared: FIVE_SHOT where tuned was asked so, then QA."""
    answers = study.tables.answers
    asked = (answers["prompt"] == FIVE_SHOT) & (answers["split"] == "test") & (answers["chain"] != BASE)
    return (FIVE_SHOT, QA) if asked.any() else (QA,)


_MEMO: WeakKeyDictionary[Study, dict[Hashable, Estimate | None]] = WeakKeyDictionary()


def accuracy(
    study: Study,
    cell: Cell,
    which: Which = TUNED,
    *,
    domain: str = "in",
    test_level: int | None = None,
    split: str = "test",
    prompt: str = "qa",
) -> Estimate | None:
    """Right answers of a state, level-balanced or of one test level; None where it was not asked."""
    grid = study.grid(domain, prompt, split)
    key = ("a", cell, which, domain, test_level, split, prompt)
    return _remembered(study, key, lambda: _of_terms(grid, [Term(1, cell, which)], test_level))


def gain(
    study: Study, cell: Cell, which: Which, *, domain: str = "in", split: str = "test", prompt: str = QA
) -> Estimate | None:
    """Paired difference of accuracies, state - tuned, in shares; both under the prompt."""
    terms = [Term(1, cell, which), Term(-1, cell, TUNED)]
    grid = study.grid(domain, prompt, split)
    return _remembered(study, ("g", cell, which, domain, split, prompt), lambda: _of_terms(grid, terms))


def share_in(study: Study, grid: Grid, cell: Cell, which: Which, domain: str) -> Estimate | None:
    """Share of the test questions of a domain in which a column of answers is true; grid: of that column."""
    key = ("s", grid.value, cell, which, domain)
    return _remembered(study, key, lambda: _of_terms(grid, [Term(1, cell, which)]))


def kl(study: Study, cell: Cell, which: Which = TUNED) -> Estimate | None:
    """Mean KL of in-domain level-4 test questions, nats; None where it was not measured."""
    return _remembered(study, ("k", cell, which), lambda: _of_terms(study.kl, [Term(1, cell, which)]))


def base_accuracy(
    study: Study,
    *,
    prompt: str = "qa",
    domain: str = "in",
    test_level: int | None = None,
    split: str = "test",
) -> Estimate | None:
    """The base before fine-tuning, under the prompt."""
    grid = study.grid(domain, prompt, split).on([])
    row = grid.row(Cell("", ""), 0, BASE_STATE)
    if row is None:
        return None
    key = ("b", prompt, domain, test_level, split)
    return _remembered(study, key, lambda: _found(grid, (), row[None, :], test_level))


def of_rows(rows: Sequence[Array], seeds: Iterable[int], levels: Array) -> Estimate | None:
    """An accuracy from right answers [S, Q] of states that a grid does not name."""
    grid_levels = levels.astype(np.int64)
    return _estimate(np.array(rows), tuple(seeds), grid_levels, step=1.0, clip=True) if len(rows) else None


def _remembered(study: Study, key: Hashable, make: Callable[[], Estimate | None]) -> Estimate | None:
    memo = _MEMO.setdefault(study, {})
    if key not in memo:
        memo[key] = make()
    return memo[key]


def _of_terms(grid: Grid, terms: Sequence[Term], test_level: int | None = None) -> Estimate | None:
    grid = grid.on_terms(terms)
    found = grid.sums(terms) if grid.facts else Gap("not asked")
    return None if isinstance(found, Gap) else _found(grid, tuple(found[0]), found[1], test_level)


def _found(grid: Grid, seeds: tuple[int, ...], table: Array, test_level: int | None) -> Estimate | None:
    keep = np.ones(len(grid.levels), dtype=bool) if test_level is None else grid.levels == test_level
    counts = grid.value != "kl_nats"
    # a difference of accuracies lies in -1 to 1, and is not clipped
    clip = counts and bool((table >= 0).all())
    return _estimate(table[:, keep], seeds, grid.levels[keep], step=1.0 if counts else None, clip=clip)


def _estimate(
    table: Array, seeds: tuple[int, ...], levels: np.ndarray, *, step: float | None, clip: bool
) -> Estimate | None:
    try:
        found = contrast(table, levels, step=step)
    except SpecError:  # fewer than two questions
        return None
    ends = (max(0.0, found.low), min(1.0, found.high)) if clip else (found.low, found.high)
    several = len(found.per_seed) > 1
    sd = float(np.std(found.per_seed, ddof=1)) if several else None
    sure = not several or len(found.per_seed) >= MIN_SEEDS
    low, high = ends if sure else (None, None)
    return Estimate(found.value, low, high, sd, found.n_questions, seeds, found.per_seed)


def beside_points(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of rows.curve_rows, with their column prompt, and log_odds (of the accuracy, nats) and of_ceiling (a
    share).

    log_odds is empty at 0 and 1. The ceiling is base after five examples, in the same domain, for rows that were asked
    so too; of_ceiling is empty elsewhere, and where the ceiling's 95% interval does not lie above tuned: there is
    nothing to give back.
    """
    value = rows["accuracy"].astype("float64")
    inside = value.where((value > 0) & (value < 1))
    after_five = rows["prompt"] == PROMPT_NAMES[FIVE_SHOT]
    base = rows[(rows["state"] == "base") & after_five]
    ceiling = base.set_index("domain")[["accuracy", "low"]].astype("float64")
    tuned = rows[(rows["state"] == "tuned") & after_five].set_index(["domain", "train_level", "size"])[
        "accuracy"
    ]
    keys = pd.MultiIndex.from_frame(rows[["domain", "train_level", "size"]])
    start = pd.Series(tuned.reindex(keys).to_numpy(np.float64), index=rows.index)
    top, lowest = rows["domain"].map(ceiling["accuracy"]), rows["domain"].map(ceiling["low"])
    way = (top - start).where((lowest > start) & after_five)
    return rows.assign(log_odds=np.log(inside / (1 - inside)), of_ceiling=rows["gain"] / way)
