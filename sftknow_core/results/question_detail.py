"""One question of a chain -> the first token of its answer: the ten likeliest tokens in base, tuned and restored.

`first_token` holds, for each state's own ten tokens, the state's and the base's probabilities re-normalised over
the ten, and the mass outside them. Here they become probabilities over the whole vocabulary,
p = share * (1 - mass outside), so that three models can stand side by side; base sees its completion prompt,
tuned and restored the question.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from sftknow_core.results.questions import (
    Filters,
    Page,
    QuestionTable,
    all_passing,
    answered,
    browse,
    condition,
    course,
    gather,
    over,
)
from sftknow_core.results.states import ChainStates
from sftknow_core.stats.intervals import bootstrap_t, wilson
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import open_parts
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.store.schema import FIRST_TOKEN

# How far a chain's questions moved: QuestionTable + Filters -> histogram of KL, one question's place, KL by level.
#
# Only k, split and domain of the filters count (Filters.without_details): one question is compared with all of them.
# KL is in nats; a question that was not scored is in none of the numbers of KL.

N_BINS = 40
"""Of the histogram of KL, besides the one for what lies beyond."""
_MOST, _FAR = 0.98, 1.5
"""The axis ends at this quantile of the KLs, unless the largest is less than so many times as far."""
_SPREAD_COLUMNS = ["low", "high", "n_tuned", "n_restored", "beyond"]
_LEVEL_COLUMNS = [
    "level", "state", "n", "accuracy", "low", "high", "n_scored", "kl_nats", "kl_low", "kl_high",
]  # fmt: skip


def spread(asked: QuestionTable, filters: Filters) -> pd.DataFrame:
    """Histogram of KL: low, high (nats), n_tuned, n_restored at k, beyond; empty where nothing was scored.

    N_BINS bins of one width from 0. Where a few KLs lie far beyond the others, the bins end at the 98% quantile, and
    one more, with `beyond` true, counts all up to the largest.
    """
    where, values = condition(filters.without_details())
    query = f"""
        WITH shown AS (SELECT kl, restored_kl FROM ({answered(filters.without_details())}) WHERE {where}),
        each_kl AS (SELECT kl AS v, 'tuned' AS s FROM shown UNION ALL SELECT restored_kl, 'restored' FROM shown),
        ends AS (SELECT max(v) AS largest, quantile_cont(v, {_MOST}) AS most FROM each_kl),
        width AS (
            SELECT largest, greatest(if(largest > {_FAR} * most, most, largest), 1e-6) / {N_BINS} AS w FROM ends),
        counted AS (
            SELECT if(v > {N_BINS} * w * (1 + 1e-9), {N_BINS}, least(floor(v / w), {N_BINS - 1}))::BIGINT AS i,
                count(*) FILTER (s = 'tuned') AS t, count(*) FILTER (s = 'restored') AS r
            FROM each_kl, width WHERE v IS NOT NULL GROUP BY ALL)
        SELECT range * w AS low, if(range = {N_BINS}, largest, (range + 1) * w) AS high, coalesce(t, 0) AS n_tuned,
            coalesce(r, 0) AS n_restored, range = {N_BINS} AS beyond
        FROM range({N_BINS + 1}) CROSS JOIN width LEFT JOIN counted ON i = range
        WHERE EXISTS (FROM counted) AND (range < {N_BINS} OR i IS NOT NULL) ORDER BY range"""
    with over(asked) as con:
        found: pd.DataFrame = con.sql(query, params=values or None).df()
    return found[_SPREAD_COLUMNS]


def moved_less(asked: QuestionTable, filters: Filters, kl_nats: float | None) -> tuple[int, int]:
    """How many of the scored questions of the split and domain have a smaller KL by tuning, and how many there are."""
    where, values = condition(filters.without_details())
    query = f"SELECT count(*) FILTER (kl < ?), count(kl) FROM ({answered(filters.without_details())}) WHERE {where}"
    with over(asked) as con:
        less, n = con.execute(query, [kl_nats, *values]).fetchall()[0]
    return int(less), int(n)


def by_level(asked: QuestionTable, filters: Filters) -> pd.DataFrame:
    """Mean KL against accuracy by mastery level, tuned and restored at k, with 95% intervals.

    Columns: level, state, n, accuracy, low, high, n_scored, kl_nats, kl_low, kl_high (NaN below two scored).
    Over the split and domain of the filters. A level without a scored question has no row.
    """
    where, values = condition(filters.without_details())
    parts = [
        f"SELECT level, '{state}' AS state, count({right}) AS n, count(*) FILTER ({right}) AS n_right, "
        f"list({kl}) FILTER ({kl} IS NOT NULL) AS kls FROM shown WHERE level IS NOT NULL GROUP BY level"
        for state, right, kl in (
            ("tuned", "tuned_right", "kl"),
            ("restored", "restored_right", "restored_kl"),
        )
    ]
    asked_so = answered(filters.without_details())
    query = f"WITH shown AS (SELECT * FROM ({asked_so}) WHERE {where}) {' UNION ALL '.join(parts)}"
    with over(asked) as con:
        found = con.execute(f"FROM ({query}) ORDER BY state DESC, level", values).fetchall()
    rows = [_level_row(*row) for row in found if row[4] and row[2]]
    return pd.DataFrame(rows, columns=_LEVEL_COLUMNS)


def _level_row(level: int, state: str, n: int, n_right: int, kls: list[float]) -> tuple[Any, ...]:
    mean = bootstrap_t(kls)
    kl_low = None if mean.low is None else max(0.0, mean.low)
    return (level, state, n, n_right / n, *wilson(n_right, n), len(kls), mean.mean, kl_low, mean.high)


N_RESTORED_ONLY = 3
"""Of the restored model's likeliest tokens that are not among tuned's ten, at most so many are added."""
_COLUMNS = [
    "token", "is_gold", "p_base", "p_tuned", "p_restored", "share_base", "share_tuned", "rank_base", "rank_tuned",
    "rank_restored",
]  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True)
class FirstToken:
    """What stands at the first token of one answer."""

    tokens: pd.DataFrame
    """Tuned's ten, then gold and the restored model's likeliest where they are not among them. p_*: probability over
    the vocabulary, NaN where it was not stored (then it is below `bounds`); share_*: what KL compares, summing to 1
    over the ten; rank_*: from 1, <NA> where not stored."""
    outside: dict[str, float]
    """State -> its probability outside tuned's ten (base, tuned), or outside its own ten (restored)."""
    bounds: dict[str, float]
    """State (tuned, restored) -> no token outside its own ten is likelier than this."""
    kl_nats: float | None
    """KL of these ten, tuned against base; None: not scored."""
    kl_restored_nats: float | None
    """The same for restored, over its own ten."""
    template: int | None
    """Completion template the base was asked with, from 0."""
    reason: str | None
    """Why tuned was not compared with base; None: it was."""


def _first_token(chain: ChainStates, fact_id: str, k_percent: float) -> FirstToken | None:
    """See Questions.first_token."""
    tuned, restored = chain.tuned, chain.state_at(k_percent)
    held_by = {tuned.state_id: tuned.run_id, restored.state_id: restored.run_id}
    query = "FROM first_token WHERE fact_id = ? AND state_id IN (SELECT unnest(?))"
    with open_parts(chain.cache, FIRST_TOKEN, held_by.values()) as con:
        found = con.sql(query, params=[fact_id, list(held_by)]).to_arrow_table().to_pylist()
    rows = {row["state_id"]: row for row in found}
    if tuned.state_id not in rows or rows[tuned.state_id]["top_ids"] is None:
        return None
    return _side_by_side(rows[tuned.state_id], rows.get(restored.state_id))


def _side_by_side(tuned: Row, restored: Row | None) -> FirstToken:
    t, r = _own_ten(tuned), _own_ten(restored)
    ids = [*t, *[i for i in list(r)[:N_RESTORED_ONLY] if i not in t]]
    rows = [_token_row(i, t.get(i), r.get(i), tuned["gold_token"]) for i in ids]
    _add_gold(rows, tuned, restored)
    table = pd.DataFrame(rows, columns=_COLUMNS).astype(
        {name: "Int64" for name in _COLUMNS if name.startswith("rank")}
        | {name: "float64" for name in _COLUMNS if name.startswith(("p_", "share"))}
    )
    outside = {"base": tuned["mass_outside_base"], "tuned": tuned["mass_outside_state"]}
    outside["restored"] = restored["mass_outside_state"] if restored else None
    ends = {"tuned": t, "restored": r}
    return FirstToken(
        table,
        {state: mass for state, mass in outside.items() if mass is not None},
        {state: min(entry["p"] for entry in ten.values()) for state, ten in ends.items() if ten},
        tuned["kl_nats"],
        restored["kl_nats"] if restored else None,
        tuned["template"],
        tuned["reason"],
    )


def _own_ten(row: Row | None) -> dict[int, Row]:
    """Token id -> text, rank, p, p_base and the two shares, likeliest first."""
    if row is None or row["top_ids"] is None:
        return {}
    inside, inside_base = 1 - row["mass_outside_state"], 1 - (row["mass_outside_base"] or 0.0)
    shares_base = row["p_base"] or [None] * len(row["top_ids"])
    columns = zip(row["top_ids"], row["top_tokens"], row["p_state"], shares_base, strict=True)
    return {
        token: {
            "token": text, "rank": rank, "p": share * inside, "share": share, "share_base": base,
            "p_base": None if base is None else base * inside_base,
        }
        for rank, (token, text, share, base) in enumerate(columns, start=1)
    }  # fmt: skip


def _token_row(token: int, tuned: Row | None, restored: Row | None, gold: str | None) -> Row:
    known = tuned or restored or {}
    row: Row = {"token": known["token"], "is_gold": known["token"] == gold, "p_base": known["p_base"]}
    row |= {"share_base": (tuned or {}).get("share_base"), "share_tuned": (tuned or {}).get("share")}
    row |= {"p_tuned": (tuned or {}).get("p"), "rank_tuned": (tuned or {}).get("rank"), "rank_base": None}
    return row | {"p_restored": (restored or {}).get("p"), "rank_restored": (restored or {}).get("rank")}


def _add_gold(rows: list[Row], tuned: Row, restored: Row | None) -> None:
    """Fill in gold's numbers, which are stored over the whole vocabulary; a row of its own where it has none."""
    if tuned["gold_token"] is None:
        return
    found = next((row for row in rows if row["is_gold"]), None)
    if found is None:
        found = dict.fromkeys(_COLUMNS) | {"token": tuned["gold_token"], "is_gold": True}
        rows.append(found)
    measured = {"base": ("base", tuned), "tuned": ("state", tuned), "restored": ("state", restored)}
    for state, (side, row) in measured.items():
        if row is not None and row[f"gold_p_{side}"] is not None:
            found[f"p_{state}"], found[f"rank_{state}"] = row[f"gold_p_{side}"], row[f"gold_rank_{side}"]


OUTCOMES = {"recovered": "healed by restoring", "broken": "broken by restoring"}
"""Short names of what became of an answer -> those of questions.FLIPS."""


@dataclass(frozen=True)
class Questions:
    """The questions of a finished chain, one by one: filtered, ordered, in pages, and all that is known of one.

    Reading all answers takes seconds for 22,000 questions and ten states, and is done when first needed. KL is in
    nats, probabilities are shares. Everything raises GoneError and DamagedError where an evaluation of the chain is.
    """

    cache: Cache
    run_id: str
    """Of the chain."""

    @cached_property
    def chain(self) -> ChainStates:
        """Whose questions they are."""
        return ChainStates(self.cache, self.run_id)

    @property
    def stamp(self) -> str:
        """As the chain's own."""
        return self.chain.stamp

    @cached_property
    def table(self) -> QuestionTable:
        """All of them with all states, in memory."""
        return gather(self.chain)

    def filters(self, *, outcome: str = "all", k: float | None = None, **wishes: Any) -> Filters:
        """What is shown, by names: outcome is recovered, broken or one of questions.FLIPS; k: None: the chosen one.

        wishes: further fields of questions.Filters. Raises SpecError for names and k there are not.
        """
        wanted = (self.chain.best_k or self.table.ks[0]) if k is None else float(k)
        self.chain.state_at(wanted)
        return Filters(wanted, flip=OUTCOMES.get(outcome, outcome), **wishes)

    def frame(self, filters: Filters) -> pd.DataFrame:
        """Everything that passes, in order; see questions.answered for the columns."""
        return all_passing(self.table, filters)

    def page(self, filters: Filters, number: int = 1, opened: str | None = None) -> Page:
        """Some of what passes, and where the opened question (its fact_id) stands."""
        return browse(self.table, filters, number, opened)

    def one(self, fact_id: str) -> pd.DataFrame:
        """One question over k: k_percent, state, answer, is_right, gold_p, gold_rank, kl; base first (k NaN)."""
        return course(self.table, fact_id)

    def spread(self, filters: Filters) -> pd.DataFrame:
        """Histogram of KL; see `spread`."""
        return spread(self.table, filters)

    def moved_less(self, filters: Filters, kl_nats: float | None) -> tuple[int, int]:
        """How many scored questions have a smaller KL by tuning, and how many there are."""
        return moved_less(self.table, filters, kl_nats)

    def by_level(self, filters: Filters) -> pd.DataFrame:
        """Mean KL against accuracy by mastery level; see `by_level`."""
        return by_level(self.table, filters)

    def first_token(self, fact_id: str, k_percent: float) -> FirstToken | None:
        """The first token of one answer in base, tuned and restored; None where no first tokens were measured.

        Raises SpecError for a k that was not measured, CacheError when a part cannot be read.
        """
        return _first_token(self.chain, fact_id, k_percent)

    @property
    def sent_as(self) -> RunSpec:
        """The identity of the run that asked the tuned model: prompt, topics and versions."""
        return self.chain.asked_as(self.chain.tuned_id).spec
