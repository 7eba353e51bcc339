"""How far a chain's questions moved: questions.Asked + Filters -> histogram of KL, one question's place, KL by level.

Only k, split and domain of the filters count (Filters.without_details): one question is compared with all of them.
KL is in nats; a question that was not scored is in none of the numbers of KL.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from sftknow_core.results.question_filters import Filters, answered, condition
from sftknow_core.results.questions import Asked, over
from sftknow_core.stats.intervals import t_interval, wilson

N_BINS = 40
"""Of the histogram of KL, besides the one for what lies beyond."""
_MOST, _FAR = 0.98, 1.5
"""The axis ends at this quantile of the KLs, unless the largest is less than so many times as far."""
_SPREAD_COLUMNS = ["low", "high", "n_tuned", "n_restored", "beyond"]
_LEVEL_COLUMNS = [
    "level", "state", "n", "accuracy", "low", "high", "n_scored", "kl_nats", "kl_low", "kl_high",
]  # fmt: skip


def spread(asked: Asked, filters: Filters) -> pd.DataFrame:
    """Histogram of KL: low, high (nats), n_tuned, n_restored at k, beyond; empty where nothing was scored.

    N_BINS bins of one width from 0. Where a few KLs lie far beyond the others, the bins end at the 98% quantile, and
    one more, with `beyond` true, counts all up to the largest.
    """
    where, values = condition(filters.without_details())
    query = f"""
        WITH shown AS (SELECT kl, restored_kl FROM ({answered(filters)}) WHERE {where}),
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


def moved_less(asked: Asked, filters: Filters, kl_nats: float | None) -> tuple[int, int]:
    """How many of the scored questions of the split and domain have a smaller KL by tuning, and how many there are."""
    where, values = condition(filters.without_details())
    query = f"SELECT count(*) FILTER (kl < ?), count(kl) FROM ({answered(filters)}) WHERE {where}"
    with over(asked) as con:
        less, n = con.execute(query, [kl_nats, *values]).fetchall()[0]
    return int(less), int(n)


def by_level(asked: Asked, filters: Filters) -> pd.DataFrame:
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
    query = f"WITH shown AS (SELECT * FROM ({answered(filters)}) WHERE {where}) {' UNION ALL '.join(parts)}"
    with over(asked) as con:
        found = con.execute(f"FROM ({query}) ORDER BY state DESC, level", values).fetchall()
    rows = [_level_row(*row) for row in found if row[4] and row[2]]
    return pd.DataFrame(rows, columns=_LEVEL_COLUMNS)


def _level_row(level: int, state: str, n: int, n_right: int, kls: list[float]) -> tuple[Any, ...]:
    mean = t_interval(kls)
    kl_low = None if mean.low is None else max(0.0, mean.low)
    return (level, state, n, n_right / n, *wilson(n_right, n), len(kls), mean.mean, kl_low, mean.high)
