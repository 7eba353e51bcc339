"""One mastery run for the page "Facts and mastery": what a base model knows of which facts, ready to plot.

    mastery (Parquet parts of one run)  --gather-->  Mastered: a table in memory
    Mastered + Population  --numbers, by_level, by_topic, histogram, against_expected-->  tidy tables

R is the share of right completions (0 to 1); level 0: R = 0, level i in 1..4: R in ((i - 1) / 4, i / 4]. Shares of
facts are shares of the scored ones: a fact that could not be asked has no level and is counted apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from sftknow_core.errors import SpecError
from sftknow_core.measure.levels import sampled_against_expected
from sftknow_core.results.run import Run, check_intact
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import open_parts
from sftknow_core.store.listing import RunInfo, list_runs
from sftknow_core.store.opening import open_tables
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_state import RunState
from sftknow_core.store.schema import MASTERY

# Which facts of a mastery run are shown, and in which order: wishes of a reader -> SQL over mastery_views.Mastered.
#
# Values go in as parameters; names of columns are looked up, so that no text of a reader becomes SQL.

PAGE_SIZE = 50
SORTS = {
    "order of the run": "place",
    "R": "r",
    "expected mastery": "expected_mastery",
    "R minus expected": "r - expected_mastery",
    "distance to a border": "border_distance",
    "width of the interval": "r_high - r_low",
    "question": "question",
    "answer": "gold",
    "topic": "topic",
}
"""What one can sort by -> its expression."""
DOUBTS = {
    "all": "TRUE",
    "borderline": "borderline",
    "not borderline": "NOT borderline",
    "level 0, yet expected": "expected_level0_marked",
    "not scored": "level IS NULL",
}
"""How sure a fact's level is -> its condition."""


@dataclass(frozen=True)
class Population:
    """The facts that a figure speaks of; None leaves everything in."""

    split: str | None = None
    """train, dev or test."""
    domain: str | None = None
    """in or out."""

    @property
    def condition(self) -> tuple[str, list[Any]]:
        """WHERE with placeholders, and their values."""
        wishes = [(name, value) for name, value in (("split", self.split), ("domain", self.domain)) if value]
        return " AND ".join(["TRUE", *(f"{name} = ?" for name, _ in wishes)]), [value for _, value in wishes]


@dataclass(frozen=True)
class FactFilters:
    """A reader's wishes for the list of facts. Empty tuples leave everything in."""

    population: Population = field(default_factory=Population)
    levels: tuple[int, ...] = ()
    topics: tuple[str, ...] = ()
    doubt: str = "all"
    """A name in DOUBTS."""
    search: str = ""
    """Text in question or answer, whatever its case."""
    sort: str = "order of the run"
    """A name in SORTS; NULL comes last, ties in the order of the run."""
    descending: bool = False

    def __post_init__(self) -> None:
        """Raise SpecError for names there are not."""
        for what, name, allowed in (("level is", self.doubt, DOUBTS), ("sort", self.sort, SORTS)):
            if name not in allowed:
                raise SpecError(f"{what}: got {name!r}; allowed: {', '.join(allowed)}")

    @property
    def order(self) -> str:
        """ORDER BY ..."""
        return f"ORDER BY {SORTS[self.sort]} {'DESC' if self.descending else 'ASC'} NULLS LAST, place"

    @property
    def condition(self) -> tuple[str, list[Any]]:
        """WHERE with placeholders, and their values."""
        where, values = self.population.condition
        parts = [where, DOUBTS[self.doubt]]
        for column, wanted in (("level", self.levels), ("topic", self.topics)):
            if wanted:
                parts.append(f"{column} IN (SELECT unnest(?))")
                values.append(list(wanted))
        if text := self.search.strip().lower():
            parts.append("contains(searched, ?)")
            values.append(text)
        return " AND ".join(f"({part})" for part in parts), values


N_BINS = 20
"""Of R and of expected mastery between 0 and 1, beside a bin of its own for 0: every fifth edge is a border."""
_FINISHED = ["run_id", "label", "model", "n_facts", "created_at"]
_KEPT = ", ".join(column.name for column in MASTERY.columns if column.name != "run_id")
_GATHER = f"""
SELECT {_KEPT}, row_number() OVER (ORDER BY filename, file_row_number) AS place,
    lower(concat_ws(chr(10), question, gold)) AS searched,
    least(abs(r - 0.25), abs(r - 0.5), abs(r - 0.75)) AS border_distance
FROM (FROM mastery QUALIFY row_number() OVER (PARTITION BY fact_id ORDER BY filename, file_row_number) = 1)
ORDER BY place"""
_R_BIN = f"(({N_BINS} * n_correct + n_samples - 1) // n_samples)"
"""In whole numbers, so that no rounding moves a fact over an edge: 0 for R = 0, else 1 to N_BINS."""
_E_BIN = f"CASE WHEN expected_mastery <= 1 / n_samples THEN 0 ELSE greatest(1, ceil({N_BINS} * expected_mastery)) END"


@dataclass(frozen=True)
class Mastered:
    """The facts of a mastery run, in memory; never changed."""

    facts: pa.Table
    """One row a fact, in the order of the run: the columns of table `mastery` (without run_id), place (from 1),
    searched (lower-case question and answer), border_distance (of R to the nearest of 0.25, 0.5 and 0.75)."""

    @cached_property
    def topics(self) -> list[str]:
        """The topics asked about."""
        return sorted(set(self.facts.column("topic").to_pylist()))

    @cached_property
    def splits(self) -> list[str]:
        """The splits there are, in the order train, dev, test."""
        there = set(self.facts.column("split").to_pylist())
        return [split for split in ("train", "dev", "test") if split in there]


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


def mastery_of_chain(cache: Cache, run_id: str) -> str | None:
    """The mastery run that a finished chain took its levels from; None where there is no such chain."""
    run = RunFolder(cache, run_id)
    manifest = run.manifest() if run.root.is_dir() else None
    if manifest is None or run.spec.kind != "chain":
        return None
    found = manifest.summary.get("stages", {}).get("mastery")
    return str(found) if found else None


def mastery_details(cache: Cache, run_id: str) -> Mapping[str, Any]:
    """How one run was done: model, model_id, inputs, params, versions, summary, seconds, chains (labels by run_id).

    Raises SpecError when the run is no finished mastery run.
    """
    run = RunFolder(cache, run_id)
    manifest = run.manifest() if run.root.is_dir() else None
    if manifest is None or run.spec.kind != "mastery":
        raise SpecError(
            f"there is no finished mastery run {run_id} in {cache.root}; `sftknow runs` lists them"
        )
    spec = run.spec
    chains = [
        info
        for info in list_runs(cache, "chain")
        if info.status.state is RunState.DONE and info.summary.get("stages", {}).get("mastery") == run_id
    ]
    return {
        "run_id": run_id,
        "model": run.description().get("about", {}).get("model", spec.inputs["model"]),
        "model_id": spec.inputs["model"],
        "inputs": dict(spec.inputs),
        "params": dict(spec.params),
        "versions": dict(spec.versions),
        "summary": dict(manifest.summary),
        "seconds": manifest.seconds,
        "chains": {info.run_id: str(info.about.get("title") or info.run_id) for info in chains},
    }


def mastery_stamp(cache: Cache, run_id: str) -> str:
    """Changes when the run is made anew, and not when anything else happens. Raises GoneError when it is gone."""
    return Run(cache, run_id).stamp


def gather(cache: Cache, run_id: str) -> Mastered:
    """All facts of a run. Raises GoneError and DamagedError when it or a part of it is."""
    check_intact(cache, f"mastery run {run_id}", [run_id])
    with open_parts(cache, MASTERY, [run_id]) as con:
        return Mastered(con.sql(_GATHER).to_arrow_table())


def numbers(mastered: Mastered, population: Population) -> dict[str, Any]:
    """What the cards show of a population.

    n, n_scored, mean_r, n_borderline and n_with_interval, n_level0 and n_marked (level 0 though expected mastery
    exceeds one completion), reasons (why not scored -> facts), agreement (measure.agreement.Agreement), same_level
    (share of facts whose level by R and by expected mastery are equal; None without any).
    """
    where, values = population.condition
    counted = """count(*) AS n, count(level) AS n_scored,
        avg(n_correct / n_samples) FILTER (level IS NOT NULL) AS mean_r,
        count(*) FILTER (borderline) AS n_borderline, count(borderline) AS n_with_interval,
        count(*) FILTER (level = 0) AS n_level0, count(*) FILTER (expected_level0_marked) AS n_marked"""
    columns = "r, level, n_samples, expected_mastery"
    unscored = (
        f"SELECT reason, count(*) AS n FROM facts WHERE level IS NULL AND {where} GROUP BY ALL ORDER BY ALL"
    )
    queries = (
        f"SELECT {counted} FROM facts WHERE {where}",
        unscored,
        f"SELECT {columns} FROM facts WHERE {where}",
    )
    with _over(mastered) as con:
        (found,), reasons, rows = (
            con.sql(query, params=values or None).to_arrow_table().to_pylist() for query in queries
        )
    agreement = sampled_against_expected(rows)
    same = sum(agreement.confusion[level][level] for level in range(5))
    return {
        **found,
        "reasons": {str(row["reason"]): row["n"] for row in reasons},
        "agreement": agreement,
        "same_level": same / agreement.n if agreement.n else None,
    }


def by_level(mastered: Mastered, population: Population) -> pd.DataFrame:
    """level 0 to 4, n_facts, share (of the scored facts; NaN where there are none)."""
    where, values = population.condition
    query = f"""
        WITH counted AS (SELECT level, count(*) AS n FROM facts WHERE level IS NOT NULL AND {where} GROUP BY level)
        SELECT range AS level, coalesce(n, 0) AS n_facts, coalesce(n, 0) / (SELECT sum(n) FROM counted) AS share
        FROM range(5) LEFT JOIN counted ON level = range ORDER BY range"""
    return _frame(mastered, query, values)


def by_topic(mastered: Mastered, population: Population) -> pd.DataFrame:
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
    return _frame(mastered, query, values)


def histogram(mastered: Mastered, population: Population) -> pd.DataFrame:
    """r_from, r_to, level, n_facts, share (of the scored facts): a row for R = 0 and N_BINS for (r_from, r_to]."""
    where, values = population.condition
    query = f"""
        WITH counted AS (
            SELECT {_R_BIN} AS i, count(*) AS n FROM facts WHERE level IS NOT NULL AND {where} GROUP BY ALL)
        SELECT greatest(range - 1, 0) / {N_BINS} AS r_from, range / {N_BINS} AS r_to,
            (4 * range + {N_BINS - 1}) // {N_BINS} AS level,
            coalesce(n, 0) AS n_facts, coalesce(n, 0) / (SELECT sum(n) FROM counted) AS share
        FROM range({N_BINS + 1}) LEFT JOIN counted ON i = range ORDER BY range"""
    return _frame(mastered, query, values)


def against_expected(mastered: Mastered, population: Population) -> pd.DataFrame:
    """r_bin, expected_bin, n_facts of the facts with both; bins 0 to N_BINS, empty pairs left out.

    Bin 0: R = 0, and an expected mastery of at most one completion in n_samples; bin i: ((i-1)/N_BINS, i/N_BINS].
    """
    where, values = population.condition
    query = f"""
        SELECT {_R_BIN}::BIGINT AS r_bin, ({_E_BIN})::BIGINT AS expected_bin, count(*) AS n_facts FROM facts
        WHERE level IS NOT NULL AND expected_mastery IS NOT NULL AND {where} GROUP BY ALL ORDER BY ALL"""
    return _frame(mastered, query, values)


@contextmanager
def _over(mastered: Mastered) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which the table can be queried as `facts`."""
    with open_tables(facts=mastered.facts) as con:
        yield con


def _frame(mastered: Mastered, query: str, values: list[Any]) -> pd.DataFrame:
    with _over(mastered) as con:
        found: pd.DataFrame = con.execute(query, values).df()
    return found


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
