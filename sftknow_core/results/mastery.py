"""A finished mastery run: what a base model knows of which facts, as numbers and as tables ready to plot.

R is the share of right completions (0 to 1); level 0: R = 0, level i in 1..4: R in ((i - 1) / 4, i / 4]. Shares of
facts are shares of the scored ones: a fact that could not be asked has no level and is counted apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from sftknow_core.errors import GoneError
from sftknow_core.measure.levels import Agreement, sampled_against_expected
from sftknow_core.results.mastery_facts import (
    Evaluation,
    FactFilters,
    Mastered,
    Page,
    Places,
    Population,
    all_passing,
    base_evaluations,
    gather,
    places,
    row_of,
    said_by_base,
    templates_of,
    turned_to,
)  # fmt: skip
from sftknow_core.results.run import Run
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import RunInfo, list_runs
from sftknow_core.store.opening import open_tables
from sftknow_core.store.run_state import RunState

EVERYBODY = Population()
"""All facts of a run."""
N_BINS = 20
"""Of R and of expected mastery between 0 and 1, beside a bin of its own for 0: every fifth edge is a border."""
_FINISHED = ["run_id", "label", "model", "n_facts", "created_at"]
_R_BIN = f"(({N_BINS} * n_correct + n_samples - 1) // n_samples)"
"""In whole numbers, so that no rounding moves a fact over an edge: 0 for R = 0, else 1 to N_BINS."""
_E_BIN = f"CASE WHEN expected_mastery <= 1 / n_samples THEN 0 ELSE greatest(1, ceil({N_BINS} * expected_mastery)) END"


@dataclass(frozen=True)
class Sampling:
    """How the completions of a mastery run were drawn, and when one is right."""

    n_samples: int = 10
    """Completions of each template."""
    temperature: float = 0.7
    max_new_tokens: int = 32
    seed: int = 0
    matcher: str = "words"
    """words, substring or exact."""


@dataclass(frozen=True)
class Numbers:
    """The facts of a population, counted."""

    n: int
    n_scored: int
    """Those with a level."""
    mean_r: float | None
    """0 to 1; None: none is scored."""
    n_borderline: int
    n_with_interval: int
    """Those of which one can tell whether they are borderline."""
    n_level0: int
    n_marked: int
    """On level 0, though expected mastery exceeds one completion."""
    reasons: Mapping[str, int]
    """Why not scored -> facts."""
    agreement: Agreement
    """R against expected mastery."""

    @property
    def same_level(self) -> float | None:
        """Share of the facts whose levels by R and by expected mastery are equal; None without any."""
        found = self.agreement
        return sum(found.confusion[level][level] for level in range(5)) / found.n if found.n else None


def finished_runs(cache: Cache) -> pd.DataFrame:
    """The finished mastery runs, newest first: run_id, label, model (its name), n_facts, created_at."""
    done = [run for run in list_runs(cache, "mastery") if run.status.state is RunState.DONE]
    labels = [_label(run) for run in done]
    rows = [
        (
            run.run_id,
            f"{label} · {run.run_id[:6]}" if labels.count(label) > 1 else label,
            str(run.about.get("model", run.spec.inputs["model"])),
            _n_facts(run),
            run.created_at,
        )
        for run, label in zip(done, labels, strict=True)
    ]
    return pd.DataFrame(rows, columns=_FINISHED)


def _label(run: RunInfo) -> str:
    """ "demo · 28,000 facts · 10 samples a prompt · seed 0"; what is not the usual way is added."""
    params = run.spec.params
    parts = [str(run.about.get("model", run.spec.inputs["model"])), f"{_n_facts(run):,} facts"]
    parts.append(f"{params.get('n_samples', 10)} samples a prompt")
    if (temperature := params.get("temperature", 0.7)) != 0.7:
        parts.append(f"temperature {temperature:g}")
    if (matcher := params.get("matcher", "words")) != "words":
        parts.append(f"matcher {matcher}")
    return " · ".join([*parts, f"seed {params.get('seed', 0)}"])


def _n_facts(run: RunInfo) -> int:
    counted = sum(run.summary.get("n_by_level", {}).values()) + run.summary.get("n_not_scored", 0)
    return int(counted or run.about.get("n_facts", 0))


@dataclass(frozen=True)
class Mastery(Run):
    """A finished mastery run: what a base model knows of which facts; levels are 0 to 4, shares 0 to 1."""

    KIND: ClassVar[str | None] = "mastery"
    NAME: ClassVar[str] = "mastery run"

    @property
    def model(self) -> str:
        """What people call the model."""
        return str(self.about.get("model", self.model_id))

    @property
    def model_id(self) -> str:
        """The model that was asked."""
        return str(self.spec.inputs["model"])

    @property
    def topics_id(self) -> str | None:
        """Of the topics whose templates were asked; None: not recorded."""
        found = self.spec.inputs.get("topics")
        return None if found is None else str(found)

    @property
    def sampling(self) -> Sampling:
        """How its completions were drawn and marked; what is not recorded has the usual value."""
        params = self.spec.params
        return Sampling(**{f.name: params[f.name] for f in fields(Sampling) if f.name in params})

    @property
    def split_half(self) -> tuple[tuple[int, ...], ...]:
        """Facts by level from even-numbered templates (row) and from odd-numbered ones; empty: not computed."""
        return tuple(tuple(row) for row in self.manifest.summary.get("split_half", ()))

    @cached_property
    def facts(self) -> Mastered:
        """All facts, in memory. Raises GoneError, DamagedError and NotFinishedError, as all that follows."""
        self.check()
        return gather(self.cache, self.run_id)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a fact, in the order of the run: the columns of table `mastery`."""
        return all_passing(self.facts, np.arange(len(self.facts.facts), dtype=np.int64))

    @property
    def levels(self) -> Mapping[str, int]:
        """fact_id -> mastery level, of the facts that have one."""
        table = self.facts.facts.select(["fact_id", "level"])
        pairs = zip(*(column.to_pylist() for column in table.columns), strict=True)
        return {fact_id: level for fact_id, level in pairs if level is not None}

    @property
    def chains(self) -> Mapping[str, str]:
        """The finished chains that took their levels from it: run_id -> title."""
        return {
            info.run_id: str(info.about.get("title") or info.run_id)
            for info in list_runs(self.cache, "chain")
            if info.status.state is RunState.DONE
            and info.summary.get("stages", {}).get("mastery") == self.run_id
        }

    def numbers(self, population: Population = EVERYBODY) -> Numbers:
        """What the cards show of a population."""
        where, values = population.condition
        counted = """count(*) AS n, count(level) AS n_scored,
            avg(n_correct / n_samples) FILTER (level IS NOT NULL) AS mean_r,
            count(*) FILTER (borderline) AS n_borderline, count(borderline) AS n_with_interval,
            count(*) FILTER (level = 0) AS n_level0, count(*) FILTER (expected_level0_marked) AS n_marked"""
        unscored = "SELECT reason, count(*) AS n FROM facts WHERE level IS NULL AND"
        queries = (
            f"SELECT {counted} FROM facts WHERE {where}",
            f"{unscored} {where} GROUP BY ALL ORDER BY ALL",
            f"SELECT r, level, n_samples, expected_mastery FROM facts WHERE {where}",
        )
        with open_tables(facts=self.facts.facts) as con:
            (found,), reasons, rows = (
                con.sql(query, params=values or None).to_arrow_table().to_pylist() for query in queries
            )
        return Numbers(
            **found,
            reasons={str(row["reason"]): row["n"] for row in reasons},
            agreement=sampled_against_expected(rows),
        )

    def by_level(self, population: Population = EVERYBODY) -> pd.DataFrame:
        """level 0 to 4, n_facts, share (of the scored facts; NaN where there are none)."""
        where, values = population.condition
        query = f"""
            WITH counted AS (SELECT level, count(*) AS n FROM facts WHERE level IS NOT NULL AND {where} GROUP BY level)
            SELECT range AS level, coalesce(n, 0) AS n_facts, coalesce(n, 0) / (SELECT sum(n) FROM counted) AS share
            FROM range(5) LEFT JOIN counted ON level = range ORDER BY range"""
        return self._frame(query, values)

    def by_topic(self, population: Population = EVERYBODY) -> pd.DataFrame:
        """topic, domain, n_topic, mean_r, level, n_facts, share (of the topic's scored facts).

        Five rows a topic; in-domain first, then by mean R, largest first.
        """
        where, values = population.condition
        query = f"""
            WITH shown AS (SELECT * FROM facts WHERE level IS NOT NULL AND {where}),
            topics AS (SELECT topic, domain, count(*) AS n_topic, avg(n_correct / n_samples) AS mean_r FROM shown
                GROUP BY ALL),
            counted AS (SELECT topic, domain, level, count(*) AS n FROM shown GROUP BY ALL)
            SELECT t.topic, t.domain, n_topic, mean_r, range AS level, coalesce(n, 0) AS n_facts,
                coalesce(n, 0) / n_topic AS share
            FROM topics t CROSS JOIN range(5) LEFT JOIN counted c
                ON c.topic = t.topic AND c.domain = t.domain AND c.level = range
            ORDER BY t.domain, mean_r DESC, t.topic, range"""
        return self._frame(query, values)

    def histogram(self, population: Population = EVERYBODY) -> pd.DataFrame:
        """r_from, r_to, level, n_facts, share (of the scored facts): a row for R = 0 and N_BINS for (r_from, r_to]."""
        where, values = population.condition
        query = f"""
            WITH counted AS (
                SELECT {_R_BIN} AS i, count(*) AS n FROM facts WHERE level IS NOT NULL AND {where} GROUP BY ALL)
            SELECT greatest(range - 1, 0) / {N_BINS} AS r_from, range / {N_BINS} AS r_to,
                (4 * range + {N_BINS - 1}) // {N_BINS} AS level,
                coalesce(n, 0) AS n_facts, coalesce(n, 0) / (SELECT sum(n) FROM counted) AS share
            FROM range({N_BINS + 1}) LEFT JOIN counted ON i = range ORDER BY range"""
        return self._frame(query, values)

    def against_expected(self, population: Population = EVERYBODY) -> pd.DataFrame:
        """r_bin, expected_bin, n_facts of the facts with both; bins 0 to N_BINS, empty pairs left out.

        Bin 0: R = 0, and an expected mastery of at most one completion in n_samples; bin i: ((i-1)/N_BINS, i/N_BINS].
        """
        where, values = population.condition
        query = f"""
            SELECT {_R_BIN}::BIGINT AS r_bin, ({_E_BIN})::BIGINT AS expected_bin, count(*) AS n_facts FROM facts
            WHERE level IS NOT NULL AND expected_mastery IS NOT NULL AND {where} GROUP BY ALL ORDER BY ALL"""
        return self._frame(query, values)

    def passing(self, filters: FactFilters) -> Places:
        """What passes the filters, in their order."""
        return places(self.facts, filters)

    def page(self, passing: Places, number: int = 1, opened: str | None = None) -> Page:
        """Some of what passes, and where the opened fact (its fact_id) stands."""
        return turned_to(self.facts, passing, number, opened)

    def one(self, fact_id: str) -> pd.Series[Any]:
        """All columns of one fact. Raises GoneError where it is not in the run."""
        row = row_of(self.facts, fact_id)
        if row is None:
            raise GoneError(f"mastery run {self.run_id} has no fact {fact_id}")
        found: pd.Series[Any] = self.facts.facts.slice(row, 1).to_pandas().iloc[0]
        return found

    def templates(self, fact_id: str) -> pd.DataFrame:
        """See templates_of."""
        return templates_of(self.cache, self.run_id, fact_id)

    @property
    def base_evaluations(self) -> tuple[Evaluation, ...]:
        """The finished evaluations that asked the base itself and took their levels from this run; read anew."""
        return base_evaluations(self.cache, self.run_id, self.model_id)

    def said_by_base(self, fact_id: str) -> pd.DataFrame:
        """See said_by_base; what any evaluation of the same model with these levels asked."""
        return said_by_base(self.cache, self.base_evaluations, fact_id)

    def _frame(self, query: str, values: list[Any]) -> pd.DataFrame:
        with open_tables(facts=self.facts.facts) as con:
            found: pd.DataFrame = con.execute(query, values).df()
        return found
