"""A study in the cache -> everything it says: verdicts, advice, scorecard, the paper's tables, each worked out once.

    cache --study_frames--> tables + the plan that its spec fixes --> Study --> verdicts, advice, scorecard, tables

The paper's eleven tables and figures stand in its order, each with the paper's numbers beside ours. What the study did
not run is said, with how to get it; the paper's numbers are shown all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from sftknow_core.analysis.advice import Advice, Answer, advice, answers, no_advice
from sftknow_core.analysis.claims import all_claims, repeated
from sftknow_core.analysis.claims_size import hardly_known
from sftknow_core.analysis.claims_strategy import pick
from sftknow_core.analysis.context import Plan, Study
from sftknow_core.analysis.flips import flip_table
from sftknow_core.analysis.grid import TUNED, Cell, StudyTables
from sftknow_core.analysis.paper_accuracy import figure2, figure4, figure5, table2, table4, table6, table7
from sftknow_core.analysis.paper_table import PaperTable
from sftknow_core.analysis.paper_weights import table3, table9, table10, table11
from sftknow_core.analysis.rates import Rates, every, plain
from sftknow_core.analysis.rows import cells_of
from sftknow_core.analysis.scorecard import scorecard
from sftknow_core.analysis.verdict import Verdict
from sftknow_core.errors import CacheError
from sftknow_core.results import studies
from sftknow_core.results.chain import Chain
from sftknow_core.results.studies import FixedRule
from sftknow_core.results.study_frames import study_frames
from sftknow_core.store.cache import Cache

TABLES = {
    "figure2": figure2, "table2": table2, "figure4": figure4, "figure5": figure5, "table3": table3, "table4": table4,
    "table6": table6, "table7": table7, "table9": table9, "table10": table10, "table11": table11,
}  # fmt: skip


def paper_table(
    name: str, study: Study, matcher: str = "words", majority: Mapping[str, Any] | None = None
) -> PaperTable:
    """One of TABLES. matcher: how answers were judged, for the captions.

    majority: domain -> accuracy of always giving the topic's most frequent train answer; a baseline of figure 2.
    """
    return figure2(study, matcher, majority) if name == "figure2" else TABLES[name](study, matcher)


_GROUPS = {"test_in": "in", "test_out": "out"}


@dataclass(frozen=True)
class About:
    """What a study is, for captions and heads."""

    run_id: str
    name: str
    title: str
    base_name: str
    state: str
    created_at: str
    matcher: str
    region: str
    seeds: tuple[int, ...]
    n_cells: int
    n_done: int
    n_questions: Mapping[str, int]
    """Group -> questions asked of each model."""
    majority: Mapping[str, float]
    """Domain -> accuracy of always giving the topic's most frequent train answer, on test."""
    fixed: FixedRule
    """The rule, and when it was fixed."""


@dataclass(frozen=True)
class StudyResults:
    """One study, read."""

    study: Study
    about: About
    with_variants: Study | None = None
    """The same with the cells of other learning rates and numbers of passes (analysis/rates.py); None: none."""

    @cached_property
    def rates(self) -> Rates:
        """Its cells by learning rate and steps."""
        return Rates(self.with_variants or self.study)

    @property
    def plan(self) -> Plan:
        """What was fixed before the run."""
        return self.study.plan

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """One a claim and domain."""
        return all_claims(self.study.tables, self.plan)

    @cached_property
    def repeated(self) -> pd.DataFrame:
        """The verdicts again with exact match (claims.repeated)."""
        return repeated(self.study.tables, self.plan)

    @cached_property
    def advice(self) -> list[Advice]:
        """What to do, maybe nothing."""
        return advice(self.study, self.about.region)

    @cached_property
    def answers(self) -> tuple[Answer, ...]:
        """A user's questions, answered."""
        decided = [*self.verdicts, *hardly_known(self.study)]
        return answers(decided, self.advice, self.plan, self.no_advice)

    @cached_property
    def no_advice(self) -> str:
        """Why there is no advice, as the end of a sentence; "" where there is some."""
        return "" if self.advice else no_advice(self.study)

    @cached_property
    def scorecard(self) -> pd.DataFrame:
        """See scorecard.scorecard."""
        return scorecard(self.study)

    @cached_property
    def tables(self) -> tuple[PaperTable, ...]:
        """The paper's tables with this study's numbers."""
        return tuple(map(self.table, TABLES))

    def table(self, name: str) -> PaperTable:
        """One of them, worked out once. name: of TABLES."""
        if name not in self._tables:
            self._tables[name] = paper_table(name, self.study, self.about.matcher, self.about.majority)
        return self._tables[name]

    @cached_property
    def flips(self) -> PaperTable:
        """Which questions restoring changes, run by run; no table of the paper."""
        return flip_table(self.study, self.about.matcher)

    @cached_property
    def _tables(self) -> dict[str, PaperTable]:
        return {}

    @cached_property
    def cell(self) -> Cell | None:
        """The cell that figures of one cell show: at the largest N, the level that dev finds best after tuning."""
        cells = [cell for cell in cells_of(self.study) if cell.size == self.plan.large]
        found = pick(self.study, cells or cells_of(self.study), TUNED)
        return found.cell if found else None


def read_study_results(cache: Cache, run_id: str, *, enrichment: bool = True) -> StudyResults:
    """The cells of a study that are done.

    Raises SpecError when the run is no study, CacheError when none of its cells is done, GoneError or DamagedError
    when a run of it is gone or damaged.
    """
    study = studies.Study(cache, run_id)
    n_done = sum(cell.state == "done" for cell in study.cells)
    if not n_done:
        raise CacheError(
            f"study {run_id}: none of its {len(study.cells)} cells is done; `sftknow study run` goes on"
        )
    frames = study_frames(cache, run_id, enrichment=enrichment)
    tables = StudyTables(**plain(frames))
    plan = Plan.of(study.fixed_rule.rule)
    return StudyResults(Study(tables, plan), _about(study, tables, n_done), Study(every(frames), plan))


def _about(study: studies.Study, tables: StudyTables, n_done: int) -> About:
    first = Chain(study.cache, next(way.run_id for cell in study.cells for way in cell.ways))
    ways = study.spec.params.get("restoring") or [{}]
    return About(
        run_id=study.run_id,
        name=study.name,
        title=study.title,
        base_name=study.base_name,
        state=str(study.state),
        created_at=study.created_at,
        matcher=first.matcher,
        region=str(ways[0].get("region", "transformer")),
        seeds=tuple(sorted(int(seed) for seed in tables.chains["seed"].unique())),
        n_cells=len(study.cells),
        n_done=n_done,
        n_questions=study.n_questions,
        majority={
            domain: score.accuracy
            for group, domain in _GROUPS.items()
            if (score := first.majority.get(group)) and score.accuracy is not None
        },
        fixed=study.fixed_rule,
    )
