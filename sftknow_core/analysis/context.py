"""What every claim needs: the study's tables, the plan fixed before the run, and the grids, each built once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import pandas as pd

from sftknow_core.analysis.grid import TUNED, Cell, Gap, Grid, Term, Which, size_number
from sftknow_core.analysis.study_tables import LEVELS, StudyTables
from sftknow_core.analysis.study_train import TrainGrid
from sftknow_core.analysis.verdict import Part, Rule, part_of
from sftknow_core.stats.seeds import over_seeds


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
    kl_measure: str = "shift"
    fixed_k: float = 20.0
    """The k of R1b, fixed instead of chosen."""
    enrichment_k: float = 20.0


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
        return [make(level) for level in LEVELS]

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

        The part's effect is value - null. Only `matched` rows count.
        """
        measured = rows[rows[value].notna()]
        merged = self.matched(measured).merge(self.tables.chains[["chain", "seed"]], on="chain")
        if merged.empty:
            return Part(label, reason="no cell has all seeds yet" if len(measured) else "not measured")
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
    if not plan.without_borderline or "borderline" not in tables.answers:
        return tables
    without = {
        name: frame[~frame["borderline"].fillna(False).astype(bool)]
        for name, frame in (("answers", tables.answers), ("shifts", tables.shifts))
        if "borderline" in frame
    }
    return replace(tables, **without)
