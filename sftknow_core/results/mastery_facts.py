"""The facts of a mastery run one by one: the filtered list, page by page, and all that is stored about one fact.

    mastery (Parquet parts of one run)  --gather-->  Mastered: a table in memory
    Mastered + FactFilters  --places-->  row numbers in the wanted order  --turned_to-->  Page
    mastery_templates, answers, first_token (Parquet parts)  --templates_of, said_by_base-->  one fact

A mastery run keeps how many completions of each template were right, and not the completions themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sftknow_core.errors import SpecError
from sftknow_core.facts.matcher import OWN_RULE, STORED_RULES, verdict_column
from sftknow_core.results.run import check_intact
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import open_parts
from sftknow_core.store.listing import list_runs
from sftknow_core.store.opening import open_tables
from sftknow_core.store.run_state import RunState
from sftknow_core.store.schema import ANSWERS, FIRST_TOKEN, MASTERY, MASTERY_TEMPLATES

# Which facts of a mastery run are shown, and in which order: wishes of a reader -> SQL over Mastered.
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


_KEPT = ", ".join(column.name for column in MASTERY.columns if column.name != "run_id")
_GATHER = f"""
SELECT {_KEPT}, row_number() OVER (ORDER BY filename, file_row_number) AS place,
    lower(concat_ws(chr(10), question, gold)) AS searched,
    least(abs(r - 0.25), abs(r - 0.5), abs(r - 0.75)) AS border_distance
FROM (FROM mastery QUALIFY row_number() OVER (PARTITION BY fact_id ORDER BY filename, file_row_number) = 1)
ORDER BY place"""


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


def gather(cache: Cache, run_id: str) -> Mastered:
    """All facts of a run. Raises GoneError and DamagedError when it or a part of it is."""
    check_intact(cache, f"mastery run {run_id}", [run_id])
    with open_parts(cache, MASTERY, [run_id]) as con:
        return Mastered(con.sql(_GATHER).to_arrow_table())


Places = NDArray[np.int64]
"""Row numbers of Mastered.facts, from 0."""


@dataclass(frozen=True)
class Page:
    """Some of the facts that pass the filters."""

    rows: pd.DataFrame
    """At most PAGE_SIZE rows of Mastered.facts, in order."""
    n: int
    """Facts that pass the filters."""
    number: int
    """This page, from 1."""
    place: int | None
    """Where the opened fact stands among those that pass, from 1; None: it does not."""
    previous_id: str | None
    next_id: str | None
    """Its neighbours; without a place the first one is next."""


class Evaluation(NamedTuple):
    """A run that asked the base itself."""

    run_id: str
    how: str
    """question (alone) or five-shot."""
    matcher: str
    """words, substring or exact."""


def places(mastered: Mastered, filters: FactFilters) -> Places:
    """What passes the filters, in their order."""
    where, values = filters.condition
    with open_tables(facts=mastered.facts) as con:
        found = con.execute(f"SELECT place - 1 AS i FROM facts WHERE {where} {filters.order}", values)
        return np.asarray(found.fetchnumpy()["i"], dtype=np.int64)


def turned_to(mastered: Mastered, passing: Places, number: int = 1, opened: str | None = None) -> Page:
    """Page `number` (the nearest there is) of what passes; with `opened` also where that fact stands."""
    number = min(max(number, 1), n_pages(len(passing)))
    first = (number - 1) * PAGE_SIZE
    row = row_of(mastered, opened) if opened else None
    found = np.flatnonzero(passing == row) if row is not None else np.array([], np.int64)
    place = int(found[0]) + 1 if len(found) else None
    before, after = (place or 0) - 2, place or 0  # as indices from 0
    return Page(
        rows=mastered.facts.take(passing[first : first + PAGE_SIZE]).to_pandas(),
        n=len(passing),
        number=number,
        place=place,
        previous_id=_id_at(mastered, passing, before),
        next_id=_id_at(mastered, passing, after),
    )


def n_pages(n: int) -> int:
    """Pages of a list of n facts, at least 1."""
    return max(1, -(-n // PAGE_SIZE))


def fact_row(mastered: Mastered, fact_id: str) -> dict[str, Any] | None:
    """One fact's row of Mastered.facts; None: it is not in the run."""
    row = row_of(mastered, fact_id)
    found: dict[str, Any] | None = None if row is None else mastered.facts.slice(row, 1).to_pylist()[0]
    return found


def all_passing(mastered: Mastered, passing: Places) -> pd.DataFrame:
    """What passes, in order, with the columns of table `mastery`: what a download holds."""
    helpers = ["place", "searched", "border_distance"]
    found: pd.DataFrame = mastered.facts.drop_columns(helpers).take(passing).to_pandas()
    return found


def templates_of(cache: Cache, run_id: str, fact_id: str) -> pd.DataFrame:
    """template (from 0), n_correct, n_samples, share, expected (NaN: not computed); empty for a fact not asked."""
    query = """SELECT DISTINCT ON (template) template, n_correct, n_samples, n_correct / n_samples AS share, expected
               FROM mastery_templates WHERE fact_id = ? ORDER BY template"""
    with open_parts(cache, MASTERY_TEMPLATES, [run_id]) as con:
        found: pd.DataFrame = con.execute(query, [fact_id]).df()
    return found


def base_evaluations(cache: Cache, run_id: str, model_id: str) -> tuple[Evaluation, ...]:
    """The finished evaluations that asked the base itself and took their levels from this mastery run."""
    return tuple(
        Evaluation(
            run_id=info.run_id,
            how="five-shot" if "exemplars" in info.spec.inputs else "question",
            matcher=str(info.spec.params.get("matcher", "words")),
        )
        for info in list_runs(cache, "evaluate")
        if info.status.state is RunState.DONE
        and (info.spec.inputs.get("state"), info.spec.inputs.get("mastery")) == (model_id, run_id)
    )


def said_by_base(cache: Cache, asked: Sequence[Evaluation], fact_id: str) -> pd.DataFrame:
    """What the base wrote about one fact, greedily. asked: `base_evaluations`.

    how (completion, question or five-shot), template (of the completion, from 0; else NULL), text, is_right (whether
    it holds an answer by the evaluation's matcher; the completion: whether it begins with one). Empty where nobody
    asked. One row a kind: repeated askings of the same base say the same.
    """
    runs = [one.run_id for one in asked]
    begun = """SELECT template, trim(base_completion), kept FROM first_token
               WHERE fact_id = ? AND base_completion IS NOT NULL AND template IS NOT NULL LIMIT 1"""
    with open_parts(cache, FIRST_TOKEN, runs) as con:
        rows = [("completion", *row) for row in con.execute(begun, [fact_id]).fetchall()]
    rules = (*STORED_RULES, OWN_RULE)
    answered = f"SELECT run_id, trim(completion), {', '.join(rules)} FROM answers WHERE fact_id = ?"
    with open_parts(cache, ANSWERS, runs) as con:
        found = {row[0]: row for row in con.execute(answered, [fact_id]).fetchall()}
    for one in asked:
        if one.run_id in found:
            _, text, *verdicts = found[one.run_id]
            right = dict(zip(rules, verdicts, strict=True))[verdict_column(one.matcher)]
            rows.append((one.how, None, text, right))
    said = pd.DataFrame(rows, columns=["how", "template", "text", "is_right"])
    return said.drop_duplicates("how", ignore_index=True).astype({"template": "Int64"})


def row_of(mastered: Mastered, fact_id: str) -> int | None:
    """Its row in Mastered.facts, from 0."""
    row = int(pc.index(mastered.facts.column("fact_id"), fact_id).as_py())
    return None if row < 0 else row


def _id_at(mastered: Mastered, passing: Places, index: int) -> str | None:
    """The fact at an index of the list, from 0; None beyond its ends."""
    if not 0 <= index < len(passing):
        return None
    return str(mastered.facts.column("fact_id")[int(passing[index])].as_py())
