"""One chain's test questions before and after: accuracies by level, paired tests, and answers that flipped.

    questions.Asked  --answers-->  one row a question: right or not, three times  --by_level, changes-->  tidy tables

Everything is paired: only questions that base, tuned and restored were all asked count. Accuracies and differences are
shares (0 to 1); "mean" rows (level <NA>) are means over mastery levels.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from sftknow_core.results.question_filters import Filters, answered
from sftknow_core.results.questions import Asked, over
from sftknow_core.stats.intervals import wilson
from sftknow_core.stats.paired import MIN_QUESTIONS, holm, mcnemar, paired_difference, permutation_test

N_LEVELS = 5
STEPS = {"tuning": ("base", "tuned"), "restoring": ("tuned", "restored"), "both": ("base", "restored")}
"""What happened -> the states before and after it."""
_CHANGES = [
    "domain", "level", "step", "n", "before", "after", "difference", "low", "high", "n_lost", "n_gained", "p_value",
    "p_holm", "reason",
]  # fmt: skip


def answers(asked: Asked, k_percent: float, base: str) -> pd.DataFrame:
    """The test questions of a mastery level: fact_id, domain, level, and base, tuned, restored: right or not.

    base: ASKED or FIVE_SHOT of question_filters. With k_percent 0 nothing was restored, and that column is missing.
    Raises SpecError for another `base`.
    """
    query = f"""SELECT fact_id, domain, level, base_right AS base, tuned_right AS tuned, restored_right AS restored
                FROM ({answered(Filters(k_percent, base))})
                WHERE split = 'test' AND level IS NOT NULL AND base IS NOT NULL AND tuned IS NOT NULL
                    AND restored IS NOT NULL
                ORDER BY domain, place, fact_id"""
    with over(asked) as con:
        rows: pd.DataFrame = con.sql(query).df()
    return rows if k_percent else rows.drop(columns="restored")


def by_level(found: pd.DataFrame) -> pd.DataFrame:
    """Accuracy with its 95% interval, one row a domain, level and state, as chain_views.levels. found: `answers`."""
    rows = [
        {"domain": domain, "level": level, "state": state, **_proportion(group[state])}
        for (domain, level), group in found.groupby(["domain", "level"])
        for state in _states(found)
    ]
    columns = ["domain", "level", "state", "accuracy", "low", "high", "n", "n_right"]
    return pd.DataFrame(rows, columns=columns).astype({"level": "Int64"})


def changes(found: pd.DataFrame) -> pd.DataFrame:
    """Before and after, one row a domain, level (<NA>: mean over levels) and step of STEPS. found: `answers`.

    difference: after minus before, with its 95% interval (paired, over questions); <NA> with a `reason` where it has no
    spread. n_lost: right, then wrong; n_gained the other way round. p_value: exact McNemar, two-sided, of one level;
    of the mean: 10,000 swaps of before and after. p_holm: McNemar's, adjusted for the levels of a domain and step.
    """
    rows = []
    for domain, group in found.groupby("domain"):
        for step, (before, after) in STEPS.items():
            if after not in found:
                continue
            levels = [
                _level_change(part[before], part[after], level) for level, part in group.groupby("level")
            ]
            adjusted = holm([row["p_value"] for row in levels])
            levels = [row | {"p_holm": p} for row, p in zip(levels, adjusted, strict=True)]
            mean = _mean_change(group, before, after)
            rows += [{"domain": domain, "step": step, **row} for row in [*levels, *mean]]
    table = pd.DataFrame(rows, columns=_CHANGES)
    whole = dict.fromkeys(("level", "n", "n_lost", "n_gained"), "Int64")
    real = dict.fromkeys(("before", "after", "difference", "low", "high", "p_value", "p_holm"), "float64")
    return table.astype(whole | real)


def _level_change(before: pd.Series[bool], after: pd.Series[bool], level: Any) -> dict[str, Any]:
    """The row of one level."""
    row: dict[str, Any] = {"level": level, "n": len(before), "before": before.mean(), "after": after.mean()}
    row["difference"] = row["after"] - row["before"]
    test = mcnemar(before, after)
    row |= {"n_lost": test.n_lost, "n_gained": test.n_gained, "p_value": test.p_value}
    if len(before) < MIN_QUESTIONS:
        return row | {"reason": "one question has no spread"}
    return row | _interval(before, after, [level] * len(before))


def _mean_change(rows: pd.DataFrame, before: str, after: str) -> list[dict[str, Any]]:
    """The row of the mean over the levels that have two questions, if any has."""
    rows = rows[rows.groupby("level")["level"].transform("size") >= MIN_QUESTIONS]
    if rows.empty:
        return []
    was, now, levels = rows[before], rows[after], rows["level"]
    test = mcnemar(was, now)
    row: dict[str, Any] = {"level": None, "n": len(rows), "n_lost": test.n_lost, "n_gained": test.n_gained}
    row |= {"before": was.groupby(levels).mean().mean(), "after": now.groupby(levels).mean().mean()}
    row |= {"difference": row["after"] - row["before"]}
    row |= {"p_value": permutation_test(was, now, levels).p_value}
    return [row | _interval(was, now, levels.tolist())]


def _interval(before: pd.Series[bool], after: pd.Series[bool], levels: list[int]) -> dict[str, Any]:
    """low and high, or why there are none."""
    difference = paired_difference(before, after, levels, n_levels=N_LEVELS)
    if difference.df is None:
        same = "no answer changed" if difference.value == 0 else "every answer changed alike"
        return {"reason": f"{same}, so the questions show no spread"}
    return {"low": difference.low, "high": difference.high}


def _proportion(right: pd.Series[bool]) -> dict[str, Any]:
    n_right, n = int(right.sum()), len(right)
    low, high = wilson(n_right, n)
    return {"accuracy": n_right / n, "low": low, "high": high, "n": n, "n_right": n_right}


def _states(found: pd.DataFrame) -> list[str]:
    return [state for state in ("base", "tuned", "restored") if state in found]
