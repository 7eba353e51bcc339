"""All measured ways of taking a chain's update back, in one table: what to compare strategies with.

A state that any run measured counts: it must come from the same two models and have been asked the same questions
with the same prompt. Equal k of two strategies take back different parts of the update; the table has the columns to
compare them at equal k, at equal parts of the changed weights, or at equal parts of the update.
"""

from __future__ import annotations

import pandas as pd

from sftknow_core.results.question_sets import own_set
from sftknow_core.results.views import chain_summary
from sftknow_core.store.cache import Cache
from sftknow_core.store.ingest import up_to_date
from sftknow_core.store.run_folder import RunFolder

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
