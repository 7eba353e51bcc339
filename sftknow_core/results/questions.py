"""One chain's questions, each with what base, tuned and restored made of it, for browsing.

    answers, first_token (Parquet parts of all evaluations)  --gather-->  QuestionTable: two tables in memory
    QuestionTable + Filters  --browse-->  one page of rows, sorted and filtered in SQL; --course--> figure
    (question_detail.py: how far all of them moved)

Reading the parts of 22,000 questions and ten states takes seconds and is done once a chain; everything after that
runs on the tables in memory. KL is in nats, probabilities and accuracies are shares, k is in percent. KL and the
gold token's numbers come from `first_token`: NULL where a question was not scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from sftknow_core.errors import SpecError
from sftknow_core.facts.matcher import verdict_column
from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT
from sftknow_core.results.run import check_intact
from sftknow_core.results.states import ChainStates
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import open_parts
from sftknow_core.store.opening import open_tables
from sftknow_core.store.schema import ANSWERS, FIRST_TOKEN

# Which of a chain's questions are shown, and in which order: wishes of a reader -> SQL over questions.QuestionTable.
#
# Values go in as parameters; names of columns are looked up, so that no text of a reader becomes SQL.

PAGE_SIZE = 50
_BEFORE = {ZERO_SHOT: "", FIVE_SHOT: "five_"}
"""Prompt -> what stands before the columns of its answers."""
_OF_PROMPT = ("base_answer", "base_right", "tuned_answer", "tuned_right", "back_at_k")
FLIPS = {
    "all": "TRUE",
    "right → wrong by tuning": "base_right AND NOT tuned_right",
    "wrong → right by tuning": "NOT base_right AND tuned_right",
    "healed by restoring": "NOT tuned_right AND restored_right",
    "broken by restoring": "tuned_right AND NOT restored_right",
    "always right": "base_right AND tuned_right AND restored_right",
    "always wrong": "NOT (base_right OR tuned_right OR restored_right)",
}
"""What became of the answer -> its condition."""
SORTS = {
    "KL": "kl",
    "KL, restored": "restored_kl",
    "gold p, base": "gold_p_base",
    "gold p, tuned": "gold_p_tuned",
    "gold p, restored": "gold_p_restored",
    "gold rank, base": "gold_rank_base",
    "gold rank, tuned": "gold_rank_tuned",
    "gold rank, restored": "gold_rank_restored",
    "level": "level",
    "right again at k": "back_at_k",
    "topic": "topic",
    "question": "question",
    "gold": "gold",
    "base answer": "base_answer",
    "tuned answer": "tuned_answer",
    "restored answer": "restored_answer",
}
"""What one can sort by -> its column."""


@dataclass(frozen=True)
class Filters:
    """A reader's wishes. Empty tuples and None leave everything in."""

    k_percent: float
    """Which restored state stands beside base and tuned."""
    prompt: str = ZERO_SHOT
    """ZERO_SHOT or FIVE_SHOT: how base, tuned and restored were asked. KL and gold tokens are of ZERO_SHOT."""
    flip: str = "all"
    """A name in FLIPS."""
    levels: tuple[int, ...] = ()
    topics: tuple[str, ...] = ()
    domain: str | None = None
    split: str | None = None
    kl_from: float | None = None
    """Smallest KL by tuning, nats."""
    kl_to: float | None = None
    search: str = ""
    """Text in question, gold or an answer, whatever its case."""
    sort: str = "KL"
    """A name in SORTS; NULL comes last, ties in the order asked."""
    descending: bool = True

    def __post_init__(self) -> None:
        """Raise SpecError for names there are not."""
        for what, name, allowed in (
            ("prompt", self.prompt, _BEFORE), ("change", self.flip, FLIPS), ("sort", self.sort, SORTS)
        ):  # fmt: skip
            if name not in allowed:
                raise SpecError(f"{what}: got {name!r}; allowed: {', '.join(allowed)}")
        if None not in (self.kl_from, self.kl_to) and self.kl_from > self.kl_to:  # type: ignore[operator]
            raise SpecError(f"KL from {self.kl_from:g} to {self.kl_to:g} nats: the first must be the smaller")

    @property
    def order(self) -> str:
        """ORDER BY ..."""
        return (
            f"ORDER BY {SORTS[self.sort]} {'DESC' if self.descending else 'ASC'} NULLS LAST, place, fact_id"
        )

    def without_details(self) -> Filters:
        """Only k, split and domain: the population that one question is compared with."""
        return replace(
            self,
            flip="all",
            levels=(),
            topics=(),
            prompt=ZERO_SHOT,
            kl_from=None,
            kl_to=None,
            search="",
            sort="KL",
            descending=True,
        )


def answered(filters: Filters) -> str:
    """SELECT of one row a question that was asked under the filters' prompt, with restored as they want it.

    Columns: fact_id, place, question, topic, level, split, domain, gold, {base,tuned,restored}_{answer,right}, kl,
    restored_kl, gold_p_* and gold_rank_* of the three, gold_token, back_at_k, and what else the question has.
    """
    of = _BEFORE[filters.prompt]
    chosen = [f"q.{of}{name} AS {name}" for name in _OF_PROMPT]
    both = [*_OF_PROMPT, *(f"five_{name}" for name in _OF_PROMPT)]
    return f"""
        SELECT q.* EXCLUDE ({", ".join(both)}), {", ".join(chosen)}, s.{of}answer AS restored_answer,
            s.{of}is_right AS restored_right, s.kl AS restored_kl, s.gold_p AS gold_p_restored,
            s.gold_rank AS gold_rank_restored
        FROM questions q LEFT JOIN (FROM states WHERE k = {float(filters.k_percent)!r}) s USING (fact_id)
        WHERE q.{of}tuned_answer IS NOT NULL"""


def condition(filters: Filters) -> tuple[str, list[Any]]:
    """WHERE over `answered`, with placeholders, and their values."""
    parts, values = [FLIPS[filters.flip]], []
    wishes: tuple[tuple[str, Any], ...] = (
        ("level IN (SELECT unnest(?))", list(filters.levels)),
        ("topic IN (SELECT unnest(?))", list(filters.topics)),
        ("domain = ?", filters.domain),
        ("split = ?", filters.split),
        ("kl >= ?", filters.kl_from),
        ("kl <= ?", filters.kl_to),
    )
    for text, value in wishes:
        if value is not None and value != []:
            parts.append(text)
            values.append(value)
    if wanted := filters.search.strip().lower():
        texts = "question, gold, base_answer, tuned_answer, restored_answer"
        parts.append(f"contains(lower(concat_ws(chr(10), {texts})), ?)")
        values.append(wanted)
    return " AND ".join(f"({part})" for part in parts), values


_QUESTIONS = """
SELECT t.fact_id, t.place, t.topic, t.level, t.split, t.domain, t.question, t.gold,
    b.answer AS base_answer, b.is_right AS base_right, f.answer AS five_base_answer, f.is_right AS five_base_right,
    u.answer AS five_tuned_answer, u.is_right AS five_tuned_right,
    CASE WHEN NOT u.is_right THEN v.k END AS five_back_at_k,
    t.answer AS tuned_answer, t.is_right AS tuned_right, s.kl, s.kl_first, s.gold_token, s.gold_p_base,
    s.gold_rank_base, s.gold_p AS gold_p_tuned, s.gold_rank AS gold_rank_tuned, s.base_completion, s.kept,
    s.template, s.reason, CASE WHEN NOT t.is_right THEN r.k END AS back_at_k
FROM answers t
LEFT JOIN (FROM answers WHERE state_id = $base) b USING (fact_id)
LEFT JOIN (FROM five WHERE state_id = $base) f USING (fact_id)
LEFT JOIN (FROM five WHERE state_id = $tuned) u USING (fact_id)
LEFT JOIN (FROM shifts WHERE state_id = $tuned) s USING (fact_id)
LEFT JOIN (SELECT fact_id, min(k) AS k FROM answers JOIN ks USING (state_id) WHERE is_right AND k > 0 GROUP BY ALL) r
    USING (fact_id)
LEFT JOIN (SELECT fact_id, min(k) AS k FROM five JOIN ks USING (state_id) WHERE is_right AND k > 0 GROUP BY ALL) v
    USING (fact_id)
WHERE t.state_id = $tuned ORDER BY t.place, t.fact_id"""
_STATES = """
SELECT fact_id, k, kind, answers.answer, answers.is_right, five.answer AS five_answer,
    five.is_right AS five_is_right, kl, gold_p, gold_rank
FROM answers JOIN ks USING (state_id) LEFT JOIN shifts USING (state_id, fact_id)
LEFT JOIN five USING (state_id, fact_id)
SEMI JOIN (FROM answers WHERE state_id = $tuned) USING (fact_id)"""

_KS = pa.schema([("state_id", pa.string()), ("kind", pa.string()), ("k", pa.float64())])


@dataclass(frozen=True)
class QuestionTable:
    """A chain's questions, in memory; never changed."""

    questions: pa.Table
    """One row a question: answers and right or wrong of base and tuned and back_at_k, the smallest k at which it is
    right again (after five exemplars: five_*, NULL where they were not asked so), KL of tuned, the gold token's
    probability and rank in base and tuned."""
    states: pa.Table
    """One row a question and state: base (k NULL), tuned (k 0), restored and hybrid."""
    ks: tuple[float, ...]
    """What was restored (%), increasing; 100 is the hybrid."""
    prompts: tuple[str, ...]
    """Under which all states were asked; see ChainStates.prompts."""

    @property
    def topics(self) -> list[str]:
        """The topics asked about."""
        return sorted(set(self.questions.column("topic").to_pylist()))

    @property
    def splits(self) -> list[str]:
        """The splits asked."""
        return sorted(set(self.questions.column("split").to_pylist()))


@dataclass(frozen=True)
class Page:
    """Some of the questions that pass the filters."""

    rows: pd.DataFrame
    """At most PAGE_SIZE, in order; see `answered` for the columns."""
    n: int
    """Questions that pass the filters."""
    number: int
    """This page, from 1."""
    place: int | None
    """Where the opened question stands among those that pass, from 1; None: it does not."""
    previous_id: str | None
    next_id: str | None
    """Its neighbours; without a place the first one is next."""


def gather(chain: ChainStates) -> QuestionTable:
    """All questions of a chain with all its states. Raises GoneError and DamagedError where an evaluation is."""
    stages = chain.stages
    five = {*stages.five_shot_states.values(), *([stages.five_shot] if stages.five_shot else [])}
    check_intact(chain.cache, f"chain {chain.run_id}", five)
    runs = list(dict.fromkeys(state.run_id for state in chain.states))
    named = [(state.state_id, state.kind, state.k_percent) for state in chain.states]
    ks = pa.table(dict(zip(("state_id", "kind", "k"), map(list, zip(*named, strict=True)), strict=True)))
    tables = {
        "answers": _answers(chain.cache, runs, chain.matcher),
        "five": _answers(chain.cache, sorted(five), chain.matcher),
        "shifts": _shifts(chain.cache, runs),
        "ks": ks.cast(_KS),
    }
    with open_tables(**tables) as con:
        questions = con.sql(
            _QUESTIONS, params={"base": chain.base_id, "tuned": chain.tuned_id}
        ).to_arrow_table()
        states = con.sql(_STATES, params={"tuned": chain.tuned_id}).to_arrow_table()
    return QuestionTable(questions, states, tuple(sorted(k for _, _, k in named if k)), chain.prompts)


def browse(asked: QuestionTable, filters: Filters, page: int = 1, opened: str | None = None) -> Page:
    """Page `page` (the nearest there is) of what passes; with `opened` also where that question stands."""
    where, values = condition(filters)
    with over(asked) as con:
        con.execute(
            f"CREATE TEMP TABLE passing AS SELECT row_number() OVER ({filters.order}) AS nth, * "
            f"FROM ({answered(filters)}) WHERE {where}",
            values,
        ).fetchall()  # a result left open would bar the next query
        n = con.execute("SELECT count(*) FROM passing").fetchall()[0][0]
        number = min(max(page, 1), n_pages(n))
        first = (number - 1) * PAGE_SIZE
        shown = "FROM passing WHERE nth > ? AND nth <= ? ORDER BY nth"
        rows = con.sql(shown, params=[first, first + PAGE_SIZE]).df()
        place = con.execute("SELECT min(nth) FROM passing WHERE fact_id = ?", [opened]).fetchall()[0][0]
        around = dict(
            con.execute(
                "SELECT nth, fact_id FROM passing WHERE nth IN (?, ?)", [(place or 0) - 1, (place or 0) + 1]
            ).fetchall()
        )
    before, after = around.get((place or 0) - 1), around.get((place or 0) + 1)
    return Page(rows, n, number, place, before, after)


def n_pages(n: int) -> int:
    """Pages of a list of n questions, at least 1."""
    return max(1, -(-n // PAGE_SIZE))


def one(asked: QuestionTable, fact_id: str) -> dict[str, Any] | None:
    """One question's row of QuestionTable.questions; None: it was not asked."""
    with over(asked) as con:
        found = con.sql("FROM questions WHERE fact_id = ?", params=[fact_id]).to_arrow_table().to_pylist()
    return found[0] if found else None


def flip_counts(asked: QuestionTable, filters: Filters) -> dict[str, int]:
    """What became of the answer -> how many questions, whatever `filters.flip` is."""
    where, values = condition(replace(filters, flip="all"))
    counts = ", ".join(f"count(*) FILTER ({text})" for text in FLIPS.values())
    with over(asked) as con:
        found = con.execute(f"SELECT {counts} FROM ({answered(filters)}) WHERE {where}", values).fetchall()[0]
    return dict(zip(FLIPS, found, strict=True))


def all_passing(asked: QuestionTable, filters: Filters) -> pd.DataFrame:
    """Everything that passes, in order: what a download holds."""
    where, values = condition(filters)
    query = f"SELECT * FROM ({answered(filters)}) WHERE {where} {filters.order}"
    with over(asked) as con:
        found: pd.DataFrame = con.sql(query, params=values or None).df()
    return found


def course(asked: QuestionTable, fact_id: str) -> pd.DataFrame:
    """One question over k: k_percent, state, answer, is_right, five_answer, five_is_right (after five exemplars),
    gold_p, gold_rank, kl; base first (k NaN), then by k."""
    query = """SELECT k AS k_percent, kind AS state, answer, is_right, five_answer, five_is_right, gold_p, gold_rank, kl
               FROM states WHERE fact_id = ? ORDER BY k NULLS FIRST"""
    with over(asked) as con:
        found: pd.DataFrame = con.sql(query, params=[fact_id]).df()
    return found


@contextmanager
def over(asked: QuestionTable) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which the two tables can be queried by their names, questions and states."""
    with open_tables(questions=asked.questions, states=asked.states) as con:
        yield con


def _answers(cache: Cache, runs: list[str], matcher: str) -> pa.Table:
    """One row a state and question: its texts, and whether it is right by the chain's matcher."""
    right = verdict_column(matcher)
    query = f"""SELECT DISTINCT ON (state_id, fact_id) state_id, fact_id, row AS place, topic, level, split, domain,
                    question, gold, trim(completion) AS answer, {right} AS is_right FROM answers"""
    with open_parts(cache, ANSWERS, runs) as con:
        return con.sql(query).to_arrow_table()


def _shifts(cache: Cache, runs: list[str]) -> pa.Table:
    """One row a state and question: the numbers of its first token."""
    query = """SELECT DISTINCT ON (state_id, fact_id) state_id, fact_id, kl_aligned_nats AS kl, kl_nats AS kl_first,
                   gold_token, gold_p_state AS gold_p, gold_rank_state AS gold_rank, gold_p_base, gold_rank_base,
                   base_completion, kept, template, reason FROM first_token"""
    with open_parts(cache, FIRST_TOKEN, runs) as con:
        return con.sql(query).to_arrow_table()
