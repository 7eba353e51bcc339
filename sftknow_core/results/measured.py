"""What was measured of a pair of models on one set of questions: accuracy of every state, and answers that changed.

A state that any run measured counts: it must come from the same two models and have been asked the same questions
with the same prompt. Accuracies and other shares are 0 to 1, k is in percent. `Chain` (chain.py) asks for all of this
about its own pair; here are the queries and what is computed from their rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sftknow_core.errors import SpecError
from sftknow_core.facts.matcher import RULES, verdict_column
from sftknow_core.results.run import check_intact
from sftknow_core.stats.contrast import MIN_QUESTIONS, contrast
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import open_parts
from sftknow_core.store.ingest import up_to_date
from sftknow_core.store.schema import ANSWERS
from sftknow_core.update.spec import UNITS_PER_PERCENT, Number, RestoreSpec, percent

_ALIKE = f"""run_id IN (
            SELECT run_id FROM run_inputs GROUP BY run_id
            HAVING max(input_id) FILTER (role = '{RULES}') IS NOT DISTINCT FROM $rules)"""
"""Judged by the same version of the matcher's rules."""
_SETS = f"""
    SELECT input_id AS question_set, input_id = $own AS own, max(n)::BIGINT AS n_level,
        sum(n) FILTER (state_id = $tuned_id)::BIGINT AS n, count(DISTINCT state_id)::BIGINT AS n_states
    FROM accuracies JOIN run_inputs USING (run_id)
    WHERE role = 'questions' AND split <> 'train' AND level IS NOT NULL AND subset = 'all'
        AND prompt = $prompt AND matcher = $matcher AND {_ALIKE}
        AND (state_id IN ($base_id, $tuned_id) OR state_id IN (
            SELECT state_id FROM restorations WHERE base_id = $base_id AND tuned_id = $tuned_id))
    GROUP BY input_id HAVING count(*) FILTER (state_id = $tuned_id) > 0
    ORDER BY own DESC, n_level, question_set"""

FLIPS = ("healed", "broken", "still wrong")
"""Wrong after tuning and right restored; right and then wrong; wrong in both, with another answer."""

ZERO_SHOT, FIVE_SHOT = "zero-shot", "five-shot"
"""How base, tuned and restored are asked alike: with the prompt that was tuned with, or after five exemplars. The base
never saw the first one, so numbers of the two are never compared."""
MASK = ", mask "
"""In the name of a line, between a random strategy and the number of its draw, where there are several."""

_MEASURED = f"""
    WITH restored AS (
        SELECT DISTINCT ON (state_id) state_id, if(k_percent = 100, 'hybrid', 'restored') AS state, strategy, region,
            json_extract_string(params, '$.layers') AS layers,
            json_extract_string(params, '$.seed')::BIGINT AS seed,
            json_extract_string(params, '$.block') AS block, alpha, k_percent, k_of_changed_percent,
            energy_taken_back,
            coalesce(projection_taken_back, if(alpha IS NULL, energy_taken_back, NULL)) AS projection_taken_back
        FROM restorations
        WHERE base_id = $base_id AND tuned_id = $tuned_id AND k_percent IS DISTINCT FROM 0
            AND alpha IS DISTINCT FROM 1 AND ($strategy IS NULL OR (strategy = $strategy AND region = $region
            AND json_extract_string(params, '$.layers') IS NOT DISTINCT FROM $layers AND k_percent > 0))
        ORDER BY state_id, run_id
    ),
    states AS (
        SELECT $base_id AS state_id, 'base' AS state
        UNION ALL BY NAME SELECT $tuned_id AS state_id, 'tuned' AS state, 0 AS k_percent, 0 AS k_of_changed_percent,
            0 AS energy_taken_back, 0 AS projection_taken_back
        UNION ALL BY NAME FROM restored
    ),
    asked AS (
        SELECT DISTINCT split, domain, question_set_id FROM accuracies JOIN run_inputs USING (run_id)
        WHERE role = 'questions' AND input_id = $question_set AND split <> 'train' AND {_ALIKE}
    ),
    scored AS (
        SELECT *, row_number() OVER (PARTITION BY state_id, prompt, split, domain, level ORDER BY run_id) AS number,
            max(n) FILTER (level IS NOT NULL) OVER (PARTITION BY run_id, state_id, prompt, split, domain) AS n_level
        FROM accuracies SEMI JOIN asked USING (split, domain, question_set_id)
        WHERE matcher = $matcher AND subset = 'all' AND {_ALIKE}
    ),
    together AS (FROM states JOIN scored USING (state_id) WHERE number = 1 AND prompt = $prompt)
    FROM together"""
"""The one condition for "measured": of this pair, on these questions, with this prompt, matcher and its version."""
_BY_K = " ORDER BY split, domain, level NULLS FIRST, k_percent NULLS LAST, state"
_BY_WAY = """ WHERE level IS NULL AND accuracy IS NOT NULL
    ORDER BY split, domain, strategy NULLS FIRST, region, layers NULLS FIRST, seed, block, k_percent, alpha DESC,
        state_id, state"""
_COLUMNS = [
    "split", "domain", "level", "state", "state_id", "k_percent", "accuracy", "low", "high", "n", "n_right",
    "k_of_changed_percent", "energy_taken_back", "projection_taken_back", "question_set_id", "run_id",
]  # fmt: skip
_AMOUNTS = ("k_percent", "k_of_changed_percent", "energy_taken_back", "projection_taken_back")
WAY_COLUMNS = (
    "line", "state", "split", "domain", "strategy", "region", "layers", "seed", "block", "alpha", "k_percent",
    "k_of_changed_percent", "energy_taken_back", "projection_taken_back", "accuracy", "low", "high", "n", "n_level",
    "question_set_id", "state_id", "run_id",
)  # fmt: skip

_BOTH = """
    WITH before AS (
        SELECT * FROM answers WHERE run_id = $before_run AND state_id = $before_id AND split = $split
    ),
    restored AS (
        SELECT * FROM answers WHERE run_id = $shown_run AND state_id = $shown_id AND split = $split
    ),
    both_states AS (
        SELECT before.domain, before.level, before.row, before.question, before.gold, before.topic,
            trim(before.completion) AS before_said, trim(restored.completion) AS restored_said,
            before.{matcher} AS was_right, restored.{matcher} AS is_right,
            CASE WHEN is_right AND NOT was_right THEN 'healed' WHEN was_right AND NOT is_right THEN 'broken'
                WHEN NOT was_right AND before_said <> restored_said THEN 'still wrong' END AS flip
        FROM before JOIN restored USING (fact_id, domain)
    )"""
_FLIPPED = """
    SELECT flip, domain, level, question, gold,
        if(was_right, '✓ ', '✗ ') || before_said AS before_answer,
        if(is_right, '✓ ', '✗ ') || restored_said AS restored_answer
    FROM both_states
    WHERE flip IN (SELECT unnest($flips)) AND domain IN (SELECT unnest($domains))
        AND contains(lower(concat_ws(chr(10), question, gold, before_said, restored_said)), lower($search))
    ORDER BY list_position($flips, flip), domain, level DESC, row LIMIT $most"""


@dataclass(frozen=True)
class Asked:
    """A pair of models, and how and what it was asked."""

    base_id: str
    tuned_id: str
    prompt: str
    matcher: str
    question_set: str
    """Id of the questions: what a run's input "questions" names."""
    rules: str | None = None
    """What its input "rules" names; None: the matcher's first version."""

    @property
    def values(self) -> dict[str, str | None]:
        """For the queries' parameters."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def question_sets(cache: Cache, asked: Asked) -> pd.DataFrame:
    """The sets that the tuned model was asked in this way, asked.question_set first (`own`), then by size.

    Columns: question_set (id), own, n_level (questions of a mastery level in each group: dev, test in-domain, test
    out-of-domain; the most of any), n (questions in all), n_states (base, tuned and restored ones asked so far).
    """
    values = asked.values
    values["own"] = values.pop("question_set")
    with up_to_date(cache) as con:
        rows: pd.DataFrame = con.execute(_SETS, values).df()
    return rows.astype({"own": "bool", "n_level": "int64", "n": "int64", "n_states": "int64"})


def measured_states(cache: Cache, asked: Asked, spec: RestoreSpec) -> pd.DataFrame:
    """Every measured state of the pair that `spec` selects at some k (its own k does not count).

    One row a state, split, domain and level (<NA>: the mean over levels). Columns: split, domain, level, state
    (base, tuned, restored, hybrid at k = 100), state_id, k_percent (0 for tuned; NaN where there is none), accuracy,
    low, high, n, n_right, k_of_changed_percent, energy_taken_back, projection_taken_back (as
    update.spec.stored_projection), question_set_id, run_id (which holds the answers).
    """
    way = {"strategy": spec.stored_strategy, "region": spec.region, "layers": spec.layers}
    with up_to_date(cache) as con:
        rows: pd.DataFrame = con.execute(_MEASURED + _BY_K, {**asked.values, **way}).df()
    shares = dict.fromkeys(_AMOUNTS, "float64")
    return rows[_COLUMNS].astype({"level": "Int64", "n": "int64", "n_right": "int64", **shares})


def measured_ways(cache: Cache, asked: Asked) -> pd.DataFrame:
    """Every measured state of the pair, whatever its strategy, region and layers; columns: WAY_COLUMNS.

    One row a state, split and domain; accuracy (0 to 1) is the mean over mastery levels. `line` names what is drawn
    as one curve: strategy, with region and layers where they are not the usual ones; empty for the ends. Several random
    draws are "random, mask 1" and so on: their spread is seen from one to the next.
    state: restored, hybrid (k = 100), or the ends base and tuned, of which tuned has k 0 and takes 0 of
    the update back. k in percent is NaN for interpolation and blocks, and alpha for all but interpolation.
    energy_taken_back and projection_taken_back are 0 to 1; n_level: questions of a mastery level, the most of any.
    Equal k of two strategies take back different parts of the update: compare at equal k, equal parts of the changed
    weights, or of the update; weights put back and an interpolation at equal projection.
    """
    any_way = dict.fromkeys(("strategy", "region", "layers"))
    with up_to_date(cache) as con:
        rows: pd.DataFrame = con.execute(_MEASURED + _BY_WAY, {**asked.values, **any_way}).df()
    rows["line"] = _with_masks(rows, [_line(row) for row in rows.to_dict("records")])
    floats = dict.fromkeys(("alpha", *_AMOUNTS), "float64")
    return rows[list(WAY_COLUMNS)].astype({**floats, "seed": "Int64", "n": "int64", "n_level": "Int64"})


def _line(row: dict[Any, Any]) -> str:
    if pd.isna(row["strategy"]):
        return ""
    parts = [str(row["strategy"])]
    if row["region"] != "transformer":
        parts.append(str(row["region"]))
    if isinstance(row["layers"], str):
        parts.append(f"layers {row['layers']}")
    return ", ".join(parts)


def _with_masks(rows: pd.DataFrame, lines: Sequence[str]) -> list[str]:
    """Lines of which there are several random draws, numbered by their seeds: "random, mask 2"."""
    drawn = rows.assign(line=lines)[rows["seed"].notna()].groupby("line")["seed"].unique()
    seeds = {str(line): sorted(found) for line, found in drawn.items()}
    return [
        f"{line}{MASK}{seeds[line].index(seed) + 1}" if len(seeds.get(line, ())) > 1 else line
        for line, seed in zip(lines, rows["seed"], strict=True)
    ]


@dataclass(frozen=True)
class MeasuredState:
    """A state that was asked, and which run holds its answers."""

    state: str
    """base, tuned, restored or hybrid."""
    state_id: str
    run_id: str
    k_percent: float
    """0 for tuned; NaN where there is none."""

    @classmethod
    def of_row(cls, row: pd.Series[Any]) -> MeasuredState:
        """Of a row of `measured_states`."""
        return cls(str(row["state"]), str(row["state_id"]), str(row["run_id"]), float(row["k_percent"]))


def nearest_state(rows: pd.DataFrame, k: Number, split: str) -> MeasuredState | None:
    """The measured restored state whose k is nearest (the smaller of two); None for none.

    rows: `measured_states`. A state counts where its answers on the split were scored.
    """
    restored = rows[rows["state"].isin(["restored", "hybrid"]) & (rows["split"] == split)]
    restored = restored[restored["level"].isna()].sort_values("k_percent", kind="stable")
    if restored.empty:
        return None
    return MeasuredState.of_row(
        restored.iloc[int((_units(restored) - percent(k).units).abs().to_numpy().argmin())]
    )


def tuned_state(rows: pd.DataFrame, split: str) -> MeasuredState | None:
    """The tuned model on a split of `measured_states`; None where it was not asked."""
    found = rows[(rows["state"] == "tuned") & (rows["split"] == split) & rows["level"].isna()]
    return MeasuredState.of_row(found.iloc[0]) if len(found) else None


def shown_state(rows: pd.DataFrame, k: Number, split: str) -> MeasuredState | None:
    """The state to show for k: tuned for 0, else as `nearest_state`."""
    return tuned_state(rows, split) if not percent(k) else nearest_state(rows, k, split)


def _units(rows: pd.DataFrame) -> pd.Series[float]:
    """Column k_percent in whole units of `Percent`, so that equal k are equal; NaN where there is no k."""
    return (rows["k_percent"] * UNITS_PER_PERCENT).round()


def headline(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of `measured_states` that are means over levels, on one split."""
    return rows[rows["level"].isna() & (rows["split"] == split)].drop(columns=["level", "split"])


def n_level(rows: pd.DataFrame, split: str) -> int | None:
    """Questions of a mastery level, the most of any; None where none was asked. rows: `measured_states`."""
    found = rows.loc[rows["level"].notna() & (rows["split"] == split), "n"]
    return int(found.max()) if len(found) else None


def missing(rows: pd.DataFrame, k: Number) -> tuple[str, ...]:
    """Which of "base", "tuned" and "restored" (at this k; 0 is tuned) are not among the rows of `measured_states`."""
    there = rows[rows["level"].isna() & rows["accuracy"].notna()]
    found = [state for state in ("base", "tuned") if not (there["state"] == state).any()]
    at_k = _units(there) == percent(k).units
    restored = there["state"].isin(["restored", "hybrid"])
    lacks_k = bool(percent(k)) and not (restored & at_k).any()
    return (*found, *(["restored"] if lacks_k else []))


def levels_at(rows: pd.DataFrame, shown: MeasuredState, split: str) -> pd.DataFrame:
    """Accuracy by domain and mastery level of base, tuned and one restored state; as `Chain.levels`."""
    names = rows["state"].where(rows["state"].isin(["base", "tuned"]))
    if shown.state != "tuned":
        names = names.mask(rows["state_id"] == shown.state_id, "restored")
    rows = rows.assign(state=names)
    rows = rows[rows["level"].notna() & names.notna() & (rows["split"] == split) & rows["accuracy"].notna()]
    kept = ["domain", "level", "state", "k_percent", "accuracy", "low", "high", "n", "question_set_id"]
    return rows.sort_values(["domain", "level"], kind="stable")[kept].reset_index(drop=True)


def flip_counts(
    cache: Cache, matcher: str, before: MeasuredState, after: MeasuredState, split: str
) -> pd.DataFrame:
    """How answers changed from one state to a restored one, asked the same questions; one row a domain.

    Columns: domain, n (questions), healed (wrong, then right), broken, and gain, gain_low, gain_high,
    p_value: accuracy of after minus before, the mean over levels, with its 95% interval and the two-sided p of "no
    change" (<NA> where no level has two questions). Raises GoneError and DamagedError where the answers of one are.

    Args:
        cache: where both lie.
        matcher: decides what is right.
        before: usually tuned.
        after: usually restored.
        split: dev or test.
    """
    query = "SELECT domain, level, was_right, is_right FROM both_states ORDER BY domain, row"
    rows = _compared(cache, matcher, before, after, query, {"split": split})
    found = [{"domain": domain, **_tested(group)} for domain, group in rows.groupby("domain")]
    columns = ["domain", "n", "healed", "broken", "p_value", "gain", "gain_low", "gain_high"]
    return pd.DataFrame(found, columns=columns)


def flipped(
    cache: Cache,
    matcher: str,
    before: MeasuredState,
    after: MeasuredState,
    split: str,
    *,
    flips: Sequence[str] = FLIPS[:2],
    domains: Sequence[str] = ("in", "out"),
    search: str = "",
    most: int = 500,
) -> pd.DataFrame:
    """The questions whose answer changed from one state to a restored one, with both answers.

    Columns: flip, domain, level, question, gold, before_answer, restored_answer (marked ✓ or ✗).
    Raises SpecError for an unknown flip, else as `flip_counts`.

    Args:
        cache: where both lie.
        matcher: decides what is right.
        before: usually tuned.
        after: usually restored.
        split: dev or test.
        flips: which of FLIPS.
        domains: in, out or both.
        search: only where question, gold or an answer holds this text, whatever its case.
        most: at most so many rows.
    """
    if unknown := [flip for flip in flips if flip not in FLIPS]:
        raise SpecError(f"flips: got {unknown[0]!r}; allowed: {', '.join(FLIPS)}")
    chosen = {"flips": list(flips), "domains": list(domains), "search": search.strip(), "most": most}
    return _compared(cache, matcher, before, after, _FLIPPED, {"split": split, **chosen}).astype(
        {"level": "Int64"}
    )


def _compared(
    cache: Cache,
    matcher: str,
    before: MeasuredState,
    after: MeasuredState,
    query: str,
    values: Mapping[str, Any],
) -> pd.DataFrame:
    """A query about `both_states`, straight from the parts of the two runs that hold the answers."""
    runs = [before.run_id, after.run_id]
    for run_id in runs:
        check_intact(cache, f"evaluation {run_id}", [run_id])
    ids = {
        "before_run": before.run_id,
        "before_id": before.state_id,
        "shown_run": after.run_id,
        "shown_id": after.state_id,
    }
    both = _BOTH.format(matcher=verdict_column(matcher))
    with open_parts(cache, ANSWERS, set(runs)) as con:
        rows: pd.DataFrame = con.execute(both + query, {**ids, **values}).df()
    return rows


def _tested(rows: pd.DataFrame) -> dict[str, Any]:
    """The row of one domain in `flip_counts`."""
    change = rows["is_right"].astype(float) - rows["was_right"].astype(float)
    found: dict[str, Any] = {
        "n": len(rows),
        "healed": int((change > 0).sum()),
        "broken": int((change < 0).sum()),
    }
    levelled = rows["level"].notna()
    if rows["level"].value_counts().max() >= MIN_QUESTIONS:
        gain = contrast(change[levelled], rows["level"][levelled])
        found |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high, "p_value": gain.p_value}
    return found
