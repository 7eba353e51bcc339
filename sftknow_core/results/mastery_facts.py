"""The facts of a mastery run one by one: the filtered list, page by page, and all that is stored about one fact.

    Mastered + FactFilters  --places-->  row numbers in the wanted order  --turned_to-->  Page
    mastery_templates, answers, first_token (Parquet parts)  --templates_of, said_by_base-->  one fact

A mastery run keeps how many completions of each template were right, and not the completions themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from sftknow_core.errors import GoneError
from sftknow_core.facts.matcher import OWN_RULE, STORED_RULES, verdict_column
from sftknow_core.results import mastery
from sftknow_core.results.mastery import PAGE_SIZE, FactFilters, Mastered, Population
from sftknow_core.results.run import Run
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import open_parts
from sftknow_core.store.listing import list_runs
from sftknow_core.store.opening import open_tables
from sftknow_core.store.run_state import RunState
from sftknow_core.store.schema import ANSWERS, FIRST_TOKEN, MASTERY_TEMPLATES

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
    row = _row_of(mastered, opened) if opened else None
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


def one(mastered: Mastered, fact_id: str) -> dict[str, Any] | None:
    """One fact's row of Mastered.facts; None: it is not in the run."""
    row = _row_of(mastered, fact_id)
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


def _row_of(mastered: Mastered, fact_id: str) -> int | None:
    """Its row in Mastered.facts, from 0."""
    row = int(pc.index(mastered.facts.column("fact_id"), fact_id).as_py())
    return None if row < 0 else row


def _id_at(mastered: Mastered, passing: Places, index: int) -> str | None:
    """The fact at an index of the list, from 0; None beyond its ends."""
    if not 0 <= index < len(passing):
        return None
    return str(mastered.facts.column("fact_id")[int(passing[index])].as_py())


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

    @cached_property
    def facts(self) -> Mastered:
        """All facts, in memory. Raises GoneError, DamagedError and NotFinishedError, as all that follows."""
        self.check()
        return mastery.gather(self.cache, self.run_id)

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

    def by_level(self, population: Population | None = None) -> pd.DataFrame:
        """level 0 to 4, n_facts, share of the scored facts; None: of all facts."""
        return mastery.by_level(self.facts, population or Population())

    def by_topic(self, population: Population | None = None) -> pd.DataFrame:
        """See mastery.by_topic; None: of all facts."""
        return mastery.by_topic(self.facts, population or Population())

    def passing(self, filters: FactFilters) -> Places:
        """What passes the filters, in their order."""
        return places(self.facts, filters)

    def page(self, passing: Places, number: int = 1, opened: str | None = None) -> Page:
        """Some of what passes, and where the opened fact (its fact_id) stands."""
        return turned_to(self.facts, passing, number, opened)

    def one(self, fact_id: str) -> pd.Series[Any]:
        """All columns of one fact. Raises GoneError where it is not in the run."""
        row = _row_of(self.facts, fact_id)
        if row is None:
            raise GoneError(f"mastery run {self.run_id} has no fact {fact_id}")
        found: pd.Series[Any] = self.facts.facts.slice(row, 1).to_pandas().iloc[0]
        return found

    def templates(self, fact_id: str) -> pd.DataFrame:
        """See templates_of."""
        return templates_of(self.cache, self.run_id, fact_id)

    def said_by_base(self, fact_id: str) -> pd.DataFrame:
        """See said_by_base; what any evaluation of the same model with these levels asked."""
        return said_by_base(self.cache, base_evaluations(self.cache, self.run_id, self.model_id), fact_id)
