"""What every claim needs: the study's tables, the plan fixed before the run, and the grids, each built once.

Test questions are the same for all chains (`Grid`). Of the questions trained on every seed has its own (`TrainGrid`):
there seeds are the replicates, and nothing pairs between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd

from sftknow_core.analysis.grid import (
    LEVELS,
    TUNED,
    Array,
    Cell,
    Gap,
    Grid,
    StudyTables,
    Term,
    Which,
    size_number,
    state_index,
)
from sftknow_core.analysis.verdict import Part, Rule, part_of
from sftknow_core.errors import SpecError
from sftknow_core.stats.contrast import level_variance
from sftknow_core.stats.seeds import SeedMean, over_seeds


@dataclass(frozen=True)
class TrainDifference:
    """A difference of accuracies on the own train sets."""

    mean: SeedMean
    n: int
    """Questions of all seeds."""
    n_smallest: int
    """Of the seed with the fewest."""


class TrainGrid:
    """Answers to the train-set questions."""

    def __init__(self, tables: StudyTables, value: str = "right") -> None:
        answers = tables.answers[(tables.answers["split"] == "train") & (tables.answers["prompt"] == "qa")]
        by_fact = answers.sort_values("fact_id").groupby(["chain", "state_id"])
        self._rows: dict[Any, tuple[list[str], Array]] = {
            key: (list(rows["fact_id"]), rows[value].to_numpy(np.float64)) for key, rows in by_fact
        }
        # controls are not asked the train questions: what is, is one state
        self._states = {key: states[0] for key, states in state_index(tables.states).items()}
        self._tables = tables

    def difference(
        self, cell: Cell, after: Which, before: Which = TUNED, null: float = 0.0
    ) -> TrainDifference | Gap:
        """Accuracy on the own train set, after - before, paired by question, over seeds.

        The variance of drawing the questions comes on top of the spread over seeds, which holds it as well where
        seeds have their own questions: wide rather than narrow, and never zero because nothing changed in few.
        Raises SpecError when two states of a chain answered different train questions.
        """
        moved = []
        for chain in self._tables.chains_of(cell):
            was, now = (
                self._rows.get((chain, self._states.get((chain, which)))) for which in (before, after)
            )
            if was is not None and now is not None:
                if was[0] != now[0]:
                    raise SpecError(f"the states of chain {chain} did not answer the same train questions")
                moved.append(now[1] - was[1])
        if not moved:
            return Gap(f"the train questions of {cell} were not asked")
        drawn = sum(level_variance(one[None, :], step=1.0) for one in moved) / len(moved) ** 2
        counts = [len(one) for one in moved]
        mean = over_seeds([float(one.mean()) for one in moved], null, extra_variance=drawn)
        return TrainDifference(mean, sum(counts), min(counts))


@dataclass(frozen=True)
class Plan:
    """What is fixed before a study runs."""

    small: str = "60"
    middle: str = "240"
    large: str = "1920"
    rule: Rule = field(default_factory=Rule)
    score: str = "right"
    """right or exact: verdicts are repeated with exact match, since a substring rule rewards long answers."""
    without_borderline: bool = False
    """Leave out facts whose mastery interval crosses the limit of a level."""
    half_templates: bool = False
    """Group questions by the level that the even-numbered completion templates give; facts without one drop out."""
    kl_measure: str = "shift"
    fixed_k: float = 20.0
    """The k of R1b, fixed instead of chosen."""
    enrichment_k: float = 20.0

    @classmethod
    def of(cls, rule: Rule) -> Plan:
        """What a study's rule fixes, all roles named (Rule.for_study)."""
        roles = rule.roles
        return cls(
            str(roles.small), str(roles.middle), str(roles.large), rule, kl_measure=roles.kl_measure,
            fixed_k=roles.fixed_k, enrichment_k=roles.enrichment_k,
        )  # fmt: skip


class Study:
    """Tables under a plan."""

    def __init__(self, tables: StudyTables, plan: Plan | None = None) -> None:
        self.plan = plan or Plan()
        self.tables = _kept(tables, self.plan)
        self.rule = self.plan.rule
        self._grid = cache(self._build)

    def grid(self, domain: str = "in", prompt: str = "qa", split: str = "test") -> Grid:
        """Right answers of one way of asking."""
        return self._grid(domain, prompt, split)

    def _build(self, domain: str, prompt: str, split: str) -> Grid:
        return Grid.of(self.tables, split=split, domain=domain, prompt=prompt, value=self.plan.score)

    @cached_property
    def train(self) -> TrainGrid:
        """Answers to the questions trained on."""
        return TrainGrid(self.tables, self.plan.score)

    @cached_property
    def kl(self) -> Grid:
        """KL of in-domain level-4 test questions."""
        rows = self.tables.shifts
        keep = (
            (rows["measure"] == self.plan.kl_measure) & (rows["split"] == "test") & (rows["domain"] == "in")
        )
        return Grid(self.tables, rows[keep & (rows["level"] == 4)], "kl_nats")

    def levels(self) -> list[str]:
        """Train levels 0 to 4 that have any fully fine-tuned chain."""
        chains = self.tables.chains
        present = set(chains.loc[chains["method"] == "full", "level"])
        return [level for level in LEVELS if level in present]

    def sizes(self) -> list[str]:
        """Sizes that have any fully fine-tuned chain of one level, increasing; "all" last."""
        chains = self.tables.chains
        single = (chains["method"] == "full") & chains["level"].isin(LEVELS)
        return sorted(set(chains.loc[single, "size"]), key=size_number)

    def ks(self) -> list[float]:
        """k above 0 of the restored states (top), increasing."""
        states = self.tables.states
        top = (states["kind"] == "restored") & (states["strategy"] == "top")
        return sorted(set(states.loc[top, "k_percent"].dropna().astype(float)) - {0.0, 100.0})

    def domains(self) -> list[str]:
        """in, and out where it was asked."""
        return [d for d in ("in", "out") if (self.tables.answers["domain"] == d).any()] or ["in"]

    def part(
        self,
        label: str,
        terms: Sequence[Term],
        *,
        domain: str = "in",
        prompt: str = "qa",
        split: str = "test",
        levels: Sequence[int] | None = None,
        tolerance: bool = False,
    ) -> Part:
        """A part in percentage points; tolerance: "not worse by more than the margin" instead of "better"."""
        margin = self.rule.margin_pp
        null = -margin if tolerance else 0.0
        grid = self.grid(domain, prompt, split)
        found = grid.contrast(terms, levels, null=null / 100) if terms else Gap("not run")
        return part_of(label, found, 0.0 if tolerance else margin, null=null)

    def by_level(self, make: Callable[[str], Part]) -> list[Part]:
        """One part a level 0 to 4, whether it was run or not: "regardless of the level" needs all five."""
        return [replace(make(level), level=level) for level in LEVELS]

    def train_part(self, label: str, cell: Cell, after: Which) -> Part:
        """ "The fit is not lower by more than the margin", on the questions trained on."""
        margin = self.rule.margin_pp
        found = self.train.difference(cell, after, null=-margin / 100)
        if isinstance(found, Gap):
            return part_of(label, found, 0.0)
        part = part_of(label, found.mean, 0.0, null=-margin, n=found.n)
        return replace(part, n_smallest=found.n_smallest, population="seeds and questions")

    def matched(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows of fully fine-tuned chains, of the cells that every seed among them has.

        An adapter's change is no change of the same weights; and where a study is unfinished, a seed that has other
        cells than the next would differ by its cells.
        """
        chains = self.tables.chains
        own = chains[(chains["method"] == "full") & chains["chain"].isin(rows["chain"])]
        seeds = own.groupby(["level", "size"])["seed"].transform("nunique")
        return rows[rows["chain"].isin(own.loc[seeds == own["seed"].nunique(), "chain"])]

    def over_seeds(
        self, label: str, rows: pd.DataFrame, value: str, null: float, margin: float, scale: float
    ) -> Part:
        """One number a chain -> mean over the cells of each seed -> a part over seeds, about `null` (in value's unit).

        The part's effect is value - null. Only `matched` rows count; where these are of some sizes only, as in a study
        with more seeds at its largest, the label names them.
        """
        measured = rows[rows[value].notna()]
        about = self.tables.chains[["chain", "seed", "size"]]
        merged = self.matched(measured).merge(about, on="chain")
        if merged.empty:
            return Part(label, reason="no cell has all seeds yet" if len(measured) else "not measured")
        sizes = set(merged["size"])
        if sizes < set(about.loc[about["chain"].isin(measured["chain"]), "size"]):
            label += f", N = {', '.join(sorted(sizes, key=size_number))}"
        means = (merged[value].astype(float) - null).groupby(merged["seed"]).mean()
        return part_of(label, over_seeds(means.tolist()), margin, scale=scale)


def minus(after: Cell, before: Cell, which: Which = TUNED) -> list[Term]:
    """after - before."""
    return [Term(1, after, which), Term(-1, before, which)]


def gain(cell: Cell, which: Which, weight: float = 1.0) -> list[Term]:
    """weight * (restored - tuned) of one cell."""
    return [Term(weight, cell, which), Term(-weight, cell, TUNED)]


def joined(parts: Iterable[Sequence[Term]]) -> list[Term]:
    """A sum of contrasts."""
    return [term for part in parts for term in part]


def _kept(tables: StudyTables, plan: Plan) -> StudyTables:
    if plan.half_templates:
        halved = {
            name: frame[frame["level_even"].notna()].assign(level=lambda rows: rows["level_even"].astype(int))
            for name, frame in (("answers", tables.answers), ("shifts", tables.shifts))
            if "level_even" in frame
        }
        tables = replace(tables, **halved)
    if not plan.without_borderline or "borderline" not in tables.answers:
        return tables
    without = {
        name: frame[~frame["borderline"].fillna(False).astype(bool)]
        for name, frame in (("answers", tables.answers), ("shifts", tables.shifts))
        if "borderline" in frame
    }
    return replace(tables, **without)
