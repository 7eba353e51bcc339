"""All measured ways of taking a chain's update back, in one table: what to compare strategies with.

A state that any run measured counts: it must come from the same two models and have been asked the same questions
with the same prompt. Equal k of two strategies take back different parts of the update; the table has the columns to
compare them at equal k, at equal parts of the changed weights, or at equal parts of the update.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from sftknow_core.results import restored as restored_results
from sftknow_core.results.restored import own_set
from sftknow_core.results.views import chain_summary
from sftknow_core.store.cache import Cache
from sftknow_core.store.ingest import up_to_date
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.update.spec import RestoreSpec

COLUMNS = (
    "line", "state", "split", "domain", "strategy", "region", "layers", "seed", "block", "alpha", "k_percent",
    "k_of_changed_percent", "energy_taken_back", "accuracy", "low", "high", "n", "n_level", "question_set_id",
    "state_id", "run_id",
)  # fmt: skip

_MEASURED = """
    WITH restored AS (
        SELECT DISTINCT ON (state_id) state_id, strategy, region, json_extract_string(params, '$.layers') AS layers,
            json_extract_string(params, '$.seed')::BIGINT AS seed,
            json_extract_string(params, '$.block') AS block, alpha, k_percent, k_of_changed_percent,
            energy_taken_back, if(k_percent = 100, 'hybrid', 'restored') AS state
        FROM restorations
        WHERE base_id = $base_id AND tuned_id = $tuned_id AND k_percent IS DISTINCT FROM 0
            AND alpha IS DISTINCT FROM 1
        ORDER BY state_id, run_id
    ),
    ends AS (
        SELECT $base_id AS state_id, 'base' AS state
        UNION ALL SELECT $tuned_id, 'tuned'
    ),
    states AS (FROM ends UNION ALL BY NAME FROM restored),
    asked AS (
        SELECT DISTINCT split, domain, question_set_id FROM accuracies JOIN run_inputs USING (run_id)
        WHERE role = 'questions' AND input_id = $question_set AND split <> 'train'
    ),
    scored AS (
        SELECT accuracies.*,
            row_number() OVER (PARTITION BY state_id, prompt, split, domain ORDER BY run_id) AS number
        FROM accuracies SEMI JOIN asked USING (split, domain, question_set_id)
        WHERE matcher = $matcher AND subset = 'all' AND level IS NULL AND accuracy IS NOT NULL
    ),
    per_level AS (
        SELECT run_id, state_id, prompt, split, domain, max(n)::BIGINT AS n_level FROM accuracies
        WHERE matcher = $matcher AND subset = 'all' AND level IS NOT NULL GROUP BY ALL
    ),
    together AS (
        SELECT * EXCLUDE (number) FROM states JOIN scored USING (state_id) WHERE number = 1 AND prompt = $prompt
        UNION ALL BY NAME
        SELECT * EXCLUDE (number), 'five-shot' AS state FROM scored
        WHERE number = 1 AND prompt = 'five-shot' AND $prompt <> 'five-shot' AND state_id = $base_id
    )
    FROM together LEFT JOIN per_level USING (run_id, state_id, prompt, split, domain)
    ORDER BY split, domain, strategy NULLS FIRST, region, layers NULLS FIRST, seed, block,
        k_percent, alpha DESC, state_id, state"""


def measured_ways(cache: Cache, run_id: str, question_set: str | None = None) -> pd.DataFrame:
    """Every measured state of a chain's two models, whatever its strategy, region and layers; COLUMNS.

    One row a state, split and domain; accuracy (0 to 1) is the mean over mastery levels. `line` names what is drawn
    as one curve: strategy, with region, layers and seed where they are not the usual ones; empty for the ends.
    state: restored, hybrid (k = 100), or the ends base, tuned and five-shot, of which tuned has k 0 and takes 0 of
    the update back. k in percent is NaN for interpolation and blocks, and alpha for all but interpolation.
    energy_taken_back is 0 to 1; n_level: questions of a mastery level, the most of any.

    question_set: which questions were asked (see question_sets); None: the chain's own.

    Raises SpecError when the run is no finished chain.
    """
    summary = chain_summary(cache, run_id)
    asked = {
        "base_id": summary["base_id"],
        "tuned_id": summary["tuned_id"],
        "prompt": RunFolder(cache, run_id).spec.params["evaluate"]["prompt"],
        "matcher": summary["matcher"],
        "question_set": question_set or own_set(cache, run_id),
    }
    with up_to_date(cache) as con:
        rows: pd.DataFrame = con.execute(_MEASURED, asked).df()
    rows.loc[rows["state"] == "tuned", ["k_percent", "k_of_changed_percent", "energy_taken_back"]] = 0.0
    rows["line"] = [_line(row) for row in rows.to_dict("records")]
    floats = dict.fromkeys(("alpha", "k_percent", "k_of_changed_percent", "energy_taken_back"), "float64")
    return rows[list(COLUMNS)].astype({**floats, "seed": "Int64", "n": "int64", "n_level": "Int64"})


def _line(row: dict[object, object]) -> str:
    if pd.isna(row["strategy"]):  # type: ignore[call-overload]
        return ""
    parts = [str(row["strategy"])]
    if row["region"] != "transformer":
        parts.append(str(row["region"]))
    if isinstance(row["layers"], str):
        parts.append(f"layers {row['layers']}")
    if not pd.isna(row["seed"]) and row["seed"]:  # type: ignore[call-overload]
        parts.append(f"seed {row['seed']:.0f}")
    return ", ".join(parts)


# Restored states that were measured after their chain: on the chain's own questions, in its way, by its strategy.
#
# The dashboard's slider measures any k; what was measured there belongs beside the chain's own k.

_SLID = ("top", "bottom", "largest", "smallest")
"""Strategies whose states k alone tells apart."""


class Later(NamedTuple):
    """One such state."""

    state_id: str
    kind: str
    """restored, or hybrid at 100."""
    k_percent: float
    run_id: str
    """The evaluation that holds its answers."""


def later_states(cache: Cache, run_id: str) -> tuple[Later, ...]:
    """All of a finished chain, by k; none of a k that the chain has itself, or that lacks a group of its questions.

    Raises SpecError and CacheError as restore_views.measured does.
    """
    chain, spec = chain_summary(cache, run_id), RunFolder(cache, run_id).spec
    ways = spec.params.get("restore") or []
    if "questions" not in spec.inputs or not ways or ways[0].get("strategy") not in _SLID:
        return ()
    rows = restored_results.measured(cache, run_id, RestoreSpec.from_json(ways[0]))
    rows = rows[rows["level"].isna()]
    all_groups = _groups(rows[rows["state"] == "tuned"])
    known = {row["k_percent"] for row in chain["table"]}
    found: dict[float, Later] = {}
    restored = rows[rows["state"].isin(["restored", "hybrid"]) & ~rows["k_percent"].isin(known)]
    for _, group in restored.groupby(["k_percent", "state_id", "run_id"]):
        first = group.iloc[0]
        one = Later(
            str(first["state_id"]), str(first["state"]), float(first["k_percent"]), str(first["run_id"])
        )
        if _groups(group) == all_groups and not RunFolder(cache, one.run_id).problems():
            found.setdefault(one.k_percent, one)
    return tuple(found.values())


def _groups(rows: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(rows["split"], rows["domain"], strict=True))
