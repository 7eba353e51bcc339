"""The chains that may share a figure -> tidy tables over train level and N: accuracy by test level, and KL on level 4.

    Survey, run id  --group_of-->  Group
    Group  --accuracies, shifts-->  one row a chain, domain, level and state  --over_seeds-->  one row a cell

A cell is a train level and N. Chains of one cell differ in the seed alone, so they are replicates. Everything is about
test questions. Accuracies are shares, KL is the aligned one in nats; what was not scored has no row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sftknow_core.results.chain import Chain
from sftknow_core.results.chains import LEVEL_ORDER, Survey, comparable
from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT
from sftknow_core.results.questions import Filters, QuestionTable, answered, over
from sftknow_core.results.states import KL_LEVEL
from sftknow_core.stats.contrast import MIN_QUESTIONS, Contrast, contrast
from sftknow_core.stats.intervals import t_interval, wilson
from sftknow_core.stats.paired import holm, mcnemar
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.run_spec import canonical_json

# One chain's test questions before and after: accuracies by level, paired tests, and answers that flipped.
#
#     questions.QuestionTable  --answers-->  one row a question: right or not, three times  --by_level, changes-->  tidy
# tables
#
# Everything is paired: only questions that base, tuned and restored were all asked count. Accuracies and differences
# are shares (0 to 1); "mean" rows (level <NA>) are means over mastery levels.

N_LEVELS = 5
STEPS = {"tuning": ("base", "tuned"), "restoring": ("tuned", "restored"), "both": ("base", "restored")}
"""What happened -> the states before and after it."""
_CHANGES = [
    "domain", "level", "step", "n", "before", "after", "difference", "low", "high", "n_lost", "n_gained", "p_value",
    "p_holm", "reason",
]  # fmt: skip


def answers(asked: QuestionTable, k_percent: float, prompt: str) -> pd.DataFrame:
    """The test questions of a mastery level: fact_id, domain, level, and base, tuned, restored: right or not.

    prompt: ZERO_SHOT or FIVE_SHOT, of all three. With k_percent 0 nothing was restored, and that column is missing.
    Raises SpecError for another `prompt`.
    """
    query = f"""SELECT fact_id, domain, level, base_right AS base, tuned_right AS tuned, restored_right AS restored
                FROM ({answered(Filters(k_percent, prompt))})
                WHERE split = 'test' AND level IS NOT NULL AND base IS NOT NULL AND tuned IS NOT NULL
                    AND restored IS NOT NULL
                ORDER BY domain, place, fact_id"""
    with over(asked) as con:
        rows: pd.DataFrame = con.sql(query).df()
    return rows if k_percent else rows.drop(columns="restored")


def by_level(found: pd.DataFrame) -> pd.DataFrame:
    """Accuracy with its 95% interval, one row a domain, level and state, as Chain.levels. found: `answers`."""
    rows = [
        {"domain": domain, "level": level, "state": state, **_proportion(group[state])}
        for (domain, level), group in found.groupby(["domain", "level"])
        for state in _states(found)
    ]
    columns = ["domain", "level", "state", "accuracy", "low", "high", "n", "n_right"]
    return pd.DataFrame(rows, columns=columns).astype({"level": "Int64"})


def changes(found: pd.DataFrame) -> pd.DataFrame:
    """Before and after, one row a domain, level (<NA>: mean over levels) and step of STEPS. found: `answers`.

    difference: after minus before, with its 95% interval (stats/contrast, over questions); <NA> with a `reason` where a
    level has one question. n_lost: right, then wrong; n_gained the other way round. p_value: of one level exact
    McNemar, two-sided; of the mean by the rule of its interval. p_holm: McNemar's, adjusted for the levels of a domain
    and step.
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
    change = _change(before, after, [level] * len(before))
    return row | {"low": change.low, "high": change.high}


def _mean_change(rows: pd.DataFrame, before: str, after: str) -> list[dict[str, Any]]:
    """The row of the mean over the levels that have two questions, if any has."""
    rows = rows[rows.groupby("level")["level"].transform("size") >= MIN_QUESTIONS]
    if rows.empty:
        return []
    was, now, levels = rows[before], rows[after], rows["level"]
    test = mcnemar(was, now)
    row: dict[str, Any] = {"level": None, "n": len(rows), "n_lost": test.n_lost, "n_gained": test.n_gained}
    row |= {"before": was.groupby(levels).mean().mean(), "after": now.groupby(levels).mean().mean()}
    change = _change(was, now, levels.tolist())
    row |= {"difference": row["after"] - row["before"]}
    return [row | {"low": change.low, "high": change.high, "p_value": change.p_value}]


def _change(before: pd.Series[bool], after: pd.Series[bool], levels: list[int]) -> Contrast:
    return contrast(after.to_numpy(float) - before.to_numpy(float), levels)


def _proportion(right: pd.Series[bool]) -> dict[str, Any]:
    n_right, n = int(right.sum()), len(right)
    low, high = wilson(n_right, n)
    return {"accuracy": n_right / n, "low": low, "high": high, "n": n, "n_right": n_right}


def _states(found: pd.DataFrame) -> list[str]:
    return [state for state in ("base", "tuned", "restored") if state in found]


SEEDS_FOR_INTERVAL = 3
"""With fewer seeds the spread of their values says too little for an interval."""
_CELL = ["train_level", "n_train"]
_ABOUT = ["chain_id", *_CELL, "seed", "state", "k_percent"]
_WHERE = ["run_id", "state_id"]


@dataclass(frozen=True)
class Group:
    """The chains that asked the same base the same questions, after the same way of tuning and of restoring."""

    shown: str
    """The run id that was asked for; one of `run_ids` unless it has no train set."""
    run_ids: tuple[str, ...]
    """At most one a train level, N and seed."""
    n_other_ways: int
    """Comparable chains left out, because they were tuned or restored in another way."""


def group_of(cache: Cache, found: Survey, run_id: str) -> Group:
    """The chains that stand in one figure with this one.

    Of two with equal train level, N and seed (other k were restored) this one counts, else the newer.
    """
    table = comparable(found, run_id).drop_duplicates("run_id").set_index("run_id")
    newest_first = [r for r in found.finished["run_id"] if r in table.index]
    params = {r: Chain(cache, r).spec.params for r in newest_first}
    same = [r for r in newest_first if _way(params[r]) == _way(params[run_id])]
    trained = [r for r in same if pd.notna(table.loc[r, "n_train"])]
    cells: dict[Any, str] = {}
    for r in [*[r for r in trained if r == run_id], *trained]:
        cells.setdefault(tuple(table.loc[r, [*_CELL, "seed"]]), r)
    return Group(run_id, tuple(sorted(cells.values())), len(newest_first) - len(same))


def accuracies(cache: Cache, group: Group, prompt: str = ZERO_SHOT) -> pd.DataFrame:
    """Accuracy of every chain that was asked under the prompt: tuned, and restored by its own k chosen on dev (none
    where that is 0).

    One row a chain, domain, level (<NA>: mean over levels) and state; base stands there once, with the shown chain's id
    and no cell. Columns: chain_id, train_level, n_train, seed, state, k_percent, domain, level,
    accuracy, low, high, n, question_set_id. All rows of a domain and level are over one question set.
    Raises SpecError when a run is no finished chain.
    """
    states = _states_of(cache, group, prompt)
    matcher = Chain(cache, group.shown).matcher
    columns = [*_WHERE, "domain", "level", "accuracy", "low", "high", "n", "question_set_id"]
    rows = read_table(
        cache,
        "accuracies",
        run_ids=list(states["run_id"].unique()),
        columns=columns,
        where={"split": "test", "subset": "all", "matcher": matcher},
    )
    found = states.merge(rows[rows["accuracy"].notna()], on=_WHERE)
    return _sorted(_of_one_question_set(found)).drop(columns=_WHERE)


def shifts(cache: Cache, group: Group) -> pd.DataFrame:
    """Mean aligned KL on level-4 questions of every chain; base is the floor: its two prompts against each other.

    Columns as `accuracies`, with kl_nats, kl_low, kl_high and n_scored of n questions instead of the accuracy.
    Raises SpecError when a run is no finished chain.
    """
    states = _states_of(cache, group, ZERO_SHOT)
    numbers = ["mean_nats", "low_nats", "high_nats", "n", "n_questions"]
    rows = read_table(
        cache,
        "shifts",
        run_ids=list(states["run_id"].unique()),
        columns=[*_WHERE, "domain", "level", *numbers],
        where={"split": "test", "measure": "aligned", "level": KL_LEVEL},
    )
    names = dict(zip(numbers, ("kl_nats", "kl_low", "kl_high", "n_scored", "n"), strict=True))
    found = states.merge(rows[rows["mean_nats"].notna()].rename(columns=names), on=_WHERE)
    return _sorted(found).drop(columns=_WHERE)


def of_level(rows: pd.DataFrame, level: int | None, states: Sequence[str]) -> pd.DataFrame:
    """The rows of one test level (None: of the mean over levels), of these states and of the base."""
    which = rows["level"].isna() if level is None else rows["level"] == level
    kept = rows["state"].isin([*states, "base"])
    return rows[which.fillna(False).astype(bool) & kept].reset_index(drop=True)


def of_size(rows: pd.DataFrame, n_train: int, state: str) -> pd.DataFrame:
    """The rows of one N and one state."""
    return rows[(rows["n_train"] == n_train).fillna(False) & (rows["state"] == state)]


def base_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Base, which has no cell."""
    return rows[rows["state"] == "base"]


def over_seeds(
    rows: pd.DataFrame, numbers: tuple[str, str, str], clip: tuple[float, float] | None = None
) -> pd.DataFrame:
    """Seeds as replicates: one row a cell, domain, level and state, with n_seeds.

    numbers: the columns of the value and of the ends of its interval, e.g. ("accuracy", "low", "high"). With one seed
    the row stays as it is, and its interval speaks for other questions. With three or more: mean and t interval over
    seeds (clipped to `clip`), which speaks for other seeds on these questions. Two seeds: mean, no interval.
    k_percent is the median over seeds. Rows without a cell (base) are left out.
    """
    value, low, high = numbers
    by = [*_CELL, "state", "domain", "level"]
    counts = [name for name in ("n", "n_scored") if name in rows]
    found = []
    for cell, group in rows[rows["n_train"].notna()].groupby(by, sort=False, dropna=False):
        row = dict(zip(by, cell, strict=True)) | {"n_seeds": len(group)}
        row |= {name: int(group[name].min()) for name in counts}
        row |= {"k_percent": float(group["k_percent"].median())}
        found.append(row | dict(zip(numbers, _replicates(group, numbers, clip), strict=True)))
    columns = [*by, "k_percent", value, low, high, *counts, "n_seeds"]
    return pd.DataFrame(found, columns=columns).astype({"n_train": "Int64", "level": "Int64"})


def _replicates(
    group: pd.DataFrame, numbers: tuple[str, str, str], clip: tuple[float, float] | None
) -> tuple[float | None, ...]:
    """(value, low, high) of one cell."""
    if len(group) == 1:
        return tuple(group.iloc[0][list(numbers)])
    mean = t_interval(group[numbers[0]].tolist(), clip=clip)
    if len(group) < SEEDS_FOR_INTERVAL:
        return mean.mean, None, None
    return mean.mean, mean.low, mean.high


def _states_of(cache: Cache, group: Group, prompt: str) -> pd.DataFrame:
    """Which run holds which state's answers: chain_id, cell, seed, state, k_percent, run_id, state_id."""
    rows: list[tuple[Any, ...]] = []
    for chain_id in group.run_ids:
        chain = Chain(cache, chain_id)
        about = (chain_id, chain.level, chain.n, chain.seed)
        for state, state_id, k in (
            ("tuned", chain.tuned_id, 0.0),
            ("restored", chain.chosen.state_id, chain.best_k),
        ):
            if (state == "tuned" or k) and (run_id := _asked(chain, prompt).get(state_id)):
                rows.append((*about, state, k, run_id, state_id))
    shown = Chain(cache, group.shown)
    if run_id := _asked(shown, prompt).get(shown.base_id):
        rows.append((shown.run_id, None, None, None, "base", None, run_id, shown.base_id))
    table = pd.DataFrame(rows, columns=[*_ABOUT, *_WHERE])
    return table.astype({"n_train": "Int64", "seed": "Int64", "k_percent": "float64"})


def _asked(chain: Chain, prompt: str) -> Mapping[str, str]:
    """State -> the run that asked it under the prompt."""
    return chain.stages.five_shot_states if prompt == FIVE_SHOT else chain.stages.evaluate


def _of_one_question_set(rows: pd.DataFrame) -> pd.DataFrame:
    """Only rows over the questions that base was asked, so that no line joins numbers over different sets."""
    base = rows.loc[rows["state"] == "base", ["domain", "level", "question_set_id"]]
    return rows.merge(base, on=["domain", "level", "question_set_id"])


def _sorted(rows: pd.DataFrame) -> pd.DataFrame:
    order = {level: number for number, level in enumerate(LEVEL_ORDER)}
    by = ["domain", "level", "state", *_CELL, "seed"]
    return rows.sort_values(
        by, key=lambda c: c.map(order) if c.name == "train_level" else c, kind="stable", ignore_index=True
    )


def _way(params: Mapping[str, Any]) -> str:
    """How it was tuned and restored, apart from the train set, the seed and the k."""
    sft = {name: value for name, value in (params.get("sft") or {}).items() if name != "seed"}
    ways: Sequence[Mapping[str, Any]] = params.get("restore") or []
    restored = sorted({canonical_json({k: v for k, v in way.items() if k != "k_percent"}) for way in ways})
    return canonical_json([sft, restored])
