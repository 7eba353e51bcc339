"""Learning rate x steps x N: does restoring cure more than a learning rate that was too high?

    a study with `rates` and `match_steps` --> accuracy tuned and restored, R, step effects, accuracy over update norm

    R(l) = A_test(restored, rate l, k chosen on dev) - A_test(tuned, rate l*), l* the rate with the highest dev accuracy

Both on the same questions and seeds (stats/contrast.py), for each training level, N and number of passes; beside R the
difference from the tuned model of the same rate. At equal steps: A(240 x 8 epochs) - A(1,920 x 1 epoch), few facts
often against many facts once; and A(240 x 8) - A(240 x 1), what the steps alone do.

The rest of the analyses knows a study's own training only (`plain`): a cell of another rate is another experiment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.estimates import accuracy
from sftknow_core.analysis.grid import CHOSEN, LEVELS, TUNED, Cell, Gap, StudyTables, Term, Which, size_number
from sftknow_core.stats.contrast import Contrast
from sftknow_core.stats.seeds import MIN_SEEDS

MEAN = "mean"
"""Training level of rows about the mean over the levels 0 to 4 that the study has."""
STATES = {"tuned": TUNED, "restored": CHOSEN}
HOW = "in the study's file, [grid] rates = [0.25, 0.5, 1, 2] and match_steps = true; or `sftknow study run objections`"
"""What a study needs for these tables."""


class Recipe(NamedTuple):
    """How long and how fast a cell was trained, as multiples of the study's own."""

    rate: float = 1.0
    repeats: float = 1.0

    def of(self, level: str, size: str, method: str = "full") -> Cell:
        """The cell of that training, as tables of `every` name it."""
        return Cell(
            level, size, method if self == Recipe() else f"{method}, lr x {self.rate:g}, x {self.repeats:g}"
        )


def recipes_of(chains: pd.DataFrame) -> list[Recipe]:
    """Of each chain; a study without such columns has its own training only."""
    one = pd.Series(1.0, index=chains.index)
    rates, repeats = (chains.get(name, one).astype(float) for name in ("rate", "repeats"))
    return [Recipe(*pair) for pair in zip(rates, repeats, strict=True)]


def plain(frames: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables of a study (results/study_frames.py) without cells of another learning rate or number of passes."""
    chains = frames["chains"]
    own = [recipe == Recipe() for recipe in recipes_of(chains)]
    if all(own):
        return dict(frames)
    left_out = set(chains.loc[[not one for one in own], "chain"])
    return {name: frame[~frame["chain"].isin(left_out)] for name, frame in frames.items()}


def every(frames: Mapping[str, pd.DataFrame]) -> StudyTables:
    """All cells as one set of tables: the column method holds the rate and the passes too (Recipe.of)."""
    chains = frames["chains"]
    named = [
        recipe.of("", "", method).method
        for recipe, method in zip(recipes_of(chains), chains["method"], strict=True)
    ]
    return StudyTables(**{**frames, "chains": chains.assign(method=named)})


@dataclass(frozen=True)
class Effect:
    """A difference of accuracies, in shares, with its 95% interval."""

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n: int = 0
    """Questions."""
    n_seeds: int = 0
    reason: str | None = None
    """Why there is no value, or no interval."""

    def as_row(self) -> dict[str, Any]:
        """The cells of a table row."""
        ends = {"effect": self.value, "low": self.low, "high": self.high, "p": self.p}
        return {**ends, "n": self.n, "n_seeds": self.n_seeds, "reason": self.reason}


def effect_of(found: Contrast | Gap) -> Effect:
    """From a contrast; two seeds have no interval, because their spread decides nothing."""
    if isinstance(found, Gap):
        return Effect(None, reason=found.reason)
    effect = Effect(found.value, found.low, found.high, found.p_value, found.n_questions, found.n_seeds)
    if 1 < found.n_seeds < MIN_SEEDS:
        return replace(
            effect, low=None, high=None, p=None, reason=f"fewer than {MIN_SEEDS} seeds: no interval"
        )
    return effect


class Rates:
    """The cells of a study by learning rate and passes. study: over the tables of `every`."""

    def __init__(self, study: Study, domain: str = "in") -> None:
        self.study, self.domain = study, domain
        chains = study.tables.chains
        recipes = recipes_of(chains)
        full = chains["method"].astype(str).str.startswith("full")
        self._there = {
            (str(row["level"]), str(row["size"]), recipe)
            for row, recipe, own in zip(chains.to_dict("records"), recipes, full, strict=True)
            if own
        }

    @property
    def varied(self) -> bool:
        """Whether there is more than the study's own training."""
        return any(recipe != Recipe() for *_, recipe in self._there)

    def levels(self) -> list[str]:
        """Training levels; after two or more of the levels 0 to 4 their mean."""
        found = sorted({level for level, *_ in self._there})
        return [*found, MEAN] if len(self._single()) > 1 else found

    def _single(self) -> list[str]:
        return [level for level in LEVELS if any(level == one for one, *_ in self._there)]

    def sizes(self) -> list[str]:
        """Sizes, increasing."""
        return sorted({size for _, size, _ in self._there}, key=size_number)

    def recipes(self, size: str) -> list[Recipe]:
        """Of a size, by passes, then by rate."""
        return sorted({r for _, s, r in self._there if s == size}, key=lambda r: (r.repeats, r.rate))

    def _terms(self, weight: float, level: str, size: str, recipe: Recipe, which: Which) -> list[Term]:
        levels = self._single() if level == MEAN else [level]
        return [Term(weight / len(levels), recipe.of(one, size), which) for one in levels]

    def effect(self, terms: Sequence[Term]) -> Effect:
        """The contrast on test questions, paired by question and seed."""
        return effect_of(self.study.grid(self.domain).contrast(terms))

    def best(self, level: str, size: str, repeats: float = 1.0) -> Recipe | None:
        """The rate of the tuned model that dev finds best (of equals the smallest); None where none was asked."""
        found: dict[Recipe, float] = {}
        for recipe in self.recipes(size):
            asked = accuracy(self.study, recipe.of(level, size), TUNED, domain=self.domain, split="dev")
            if recipe.repeats == repeats and asked is not None:
                found[recipe] = asked.value
        return max(found, key=lambda recipe: (found[recipe], -recipe.rate)) if found else None

    def _best_terms(
        self, weight: float, level: str, size: str, repeats: float
    ) -> tuple[list[Term], str] | None:
        """-A(tuned, l*) and the rates in words; each level of a mean has its own."""
        levels = self._single() if level == MEAN else [level]
        chosen = [self.best(one, size, repeats) for one in levels]
        terms = [
            term
            for one, recipe in zip(levels, chosen, strict=True)
            if recipe is not None
            for term in self._terms(weight / len(levels), one, size, recipe, TUNED)
        ]
        if len(terms) < len(levels):
            return None
        return terms, ", ".join(f"{recipe.rate:g}" for recipe in dict.fromkeys(chosen) if recipe)

    def accuracies(self) -> pd.DataFrame:
        """Accuracy on test, one row a training level, N, passes, rate and state (tuned; restored by the k chosen on
        dev); mean_k: mean over seeds of the chosen k."""
        rows = []
        for level in self.levels():
            for size in self.sizes():
                for recipe in self.recipes(size):
                    for state, which in STATES.items():
                        found = self.effect(self._terms(1, level, size, recipe, which))
                        k = self._mean_k(level, size, recipe) if state == "restored" else None
                        place = {"train_level": level, "size": size, **recipe._asdict(), "state": state}
                        rows.append({**place, "mean_k": k, **_clipped(found).as_row()})
        frame = _typed(rows, ["train_level", "size", "rate", "repeats", "state", "mean_k", *_EFFECT])
        return frame.drop(columns="p").rename(columns={"effect": "accuracy"})

    def gains(self) -> pd.DataFrame:
        """One row a training level, N, passes and rate: R in `effect`, and beside it the gain over the tuned model of
        the same rate (same_rate, with its ends). best_rate: the untouched rate that R is held against."""
        rows = []
        for level in self.levels():
            for size in self.sizes():
                for recipe in self.recipes(size):
                    restored = self._terms(1, level, size, recipe, CHOSEN)
                    untouched = self._best_terms(-1, level, size, recipe.repeats)
                    none = Effect(None, reason="tuned was not asked the dev questions")
                    r = none if untouched is None else self.effect([*restored, *untouched[0]])
                    same = self.effect([*restored, *self._terms(-1, level, size, recipe, TUNED)])
                    row = {"train_level": level, "size": size, **recipe._asdict(), **r.as_row()}
                    row |= {"best_rate": untouched[1] if untouched else None}
                    row |= {"same_rate": same.value, "same_low": same.low, "same_high": same.high}
                    rows.append(row)
        numbers = ["same_rate", "same_low", "same_high"]
        return _typed(rows, ["train_level", "size", "rate", "repeats", "best_rate", *_EFFECT, *numbers])

    def steps(self) -> pd.DataFrame:
        """At equal steps, one row a training level, size, rate and state. comparison: "data", A(few facts x several
        epochs) - A(the largest size x 1); "steps", A(few facts x several epochs) - A(the same facts x 1)."""
        rows = []
        largest = next((size for size in reversed(self.sizes()) if size.isdigit()), None)
        for level in self.levels():
            for size in self.sizes():
                for recipe in self.recipes(size):
                    if recipe.repeats == 1 or largest is None:
                        continue
                    once = Recipe(recipe.rate)
                    for state, which in STATES.items():
                        often = self._terms(1, level, size, recipe, which)
                        for name, other in (("data", largest), ("steps", size)):
                            found = self.effect([*often, *self._terms(-1, level, other, once, which)])
                            place = {
                                "train_level": level,
                                "size": size,
                                "other_size": other,
                                **recipe._asdict(),
                            }
                            rows.append({**place, "state": state, "comparison": name, **found.as_row()})
        names = ["train_level", "size", "other_size", "rate", "repeats", "state", "comparison"]
        return _typed(rows, [*names, *_EFFECT])

    def norms(self) -> pd.DataFrame:
        """One row a run and state: update_norm ||out - p|| / ||p||, where restored models keep sqrt(1 - energy taken
        back) of the tuned model's, and the level-balanced accuracy on test. k_percent: 0 for tuned."""
        tables, grid = self.study.tables, self.study.grid(self.domain)
        recipes = dict(zip(tables.chains["chain"], recipes_of(tables.chains), strict=True))
        rows = []
        for chain in tables.chains.to_dict("records"):
            own = tables.states[
                (tables.states["chain"] == chain["chain"]) & tables.states["strategy"].isin([None, "top"])
            ]
            cell = Cell(str(chain["level"]), str(chain["size"]), str(chain["method"]))
            norm = float(chain.get("update_norm") or np.nan)
            for state in own.to_dict("records"):
                if state["kind"] == "hybrid" or not cell.method.startswith("full"):
                    continue
                k = float(state["k_percent"] or 0)
                row = grid.row(cell, int(chain["seed"]), TUNED if k == 0 else Which("restored", "top", k))
                if row is None:
                    continue
                kept = float(np.sqrt(max(0.0, 1 - float(state["energy_taken_back"]))))
                rows.append(
                    {
                        "train_level": cell.level, "size": cell.size, **recipes[chain["chain"]]._asdict(),
                        "seed": int(chain["seed"]), "k_percent": k, "update_norm": norm * kept,
                        "accuracy": _balanced(row, grid.levels), "chosen": bool(state["chosen"]),
                        "chain": chain["chain"],
                    }
                )  # fmt: skip
        names = [
            "train_level",
            "size",
            "rate",
            "repeats",
            "seed",
            "k_percent",
            "update_norm",
            "accuracy",
            "chosen",
        ]
        frame = pd.DataFrame(rows, columns=[*names, "chain"])
        return frame.astype(
            dict.fromkeys(("rate", "repeats", "k_percent", "update_norm", "accuracy"), "float64")
        )

    def _mean_k(self, level: str, size: str, recipe: Recipe) -> float | None:
        cells = [recipe.of(one, size) for one in (self._single() if level == MEAN else [level])]
        chains = [chain for cell in cells for chain in self.study.tables.chains_of(cell)]
        states = self.study.tables.states
        ks = states.loc[states["chosen"] & states["chain"].isin(chains), "k_percent"]
        return float(ks.astype(float).mean()) if len(ks) else None


_EFFECT = ["effect", "low", "high", "p", "n", "n_seeds", "reason"]


def _clipped(found: Effect) -> Effect:
    """An accuracy's interval stays within 0 and 1."""
    low, high = (None if end is None else min(1.0, max(0.0, end)) for end in (found.low, found.high))
    return replace(found, low=low, high=high, p=None)


def _balanced(row: np.ndarray[Any, Any], levels: np.ndarray[Any, Any]) -> float:
    return float(np.mean([row[levels == level].mean() for level in np.unique(levels)]))


def _typed(rows: list[dict[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(names))
    numbers = {
        "mean_k",
        "effect",
        "low",
        "high",
        "p",
        "same_rate",
        "same_low",
        "same_high",
        "rate",
        "repeats",
    }
    return frame.astype({name: "float64" for name in names if name in numbers})
