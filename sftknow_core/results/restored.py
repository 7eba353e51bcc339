"""What was measured of a chain's pair of models: accuracy of every restored state, and the answers that flipped.

A state that any run measured counts, not only those of the chain: it must come from the same two models and
have been asked the same questions (the chain's own set, or another one that is named) with the same prompt.
Accuracies and other shares are 0 to 1, k is in percent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sftknow_core.errors import CacheError, SpecError
from sftknow_core.facts.matcher import verdict_column
from sftknow_core.results.views import chain_summary
from sftknow_core.stats.paired import MIN_QUESTIONS, mcnemar, paired_difference
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import open_parts
from sftknow_core.store.ingest import up_to_date
from sftknow_core.store.run_folder import DONE, RunFolder
from sftknow_core.store.schema import ANSWERS
from sftknow_core.update.spec import RestoreSpec

# Which question sets a chain's two models were asked: the chain's own, and those that were asked later.
#
# A set is named by the input "questions" of the runs that asked it, a hash of its questions with their answers; only
# numbers of one set stand in one figure.

_SETS = """
    SELECT input_id AS question_set, input_id = $own AS own, max(n)::BIGINT AS n_level,
        sum(n) FILTER (state_id = $tuned_id)::BIGINT AS n, count(DISTINCT state_id)::BIGINT AS n_states
    FROM accuracies JOIN run_inputs USING (run_id)
    WHERE role = 'questions' AND split <> 'train' AND level IS NOT NULL AND subset = 'all'
        AND prompt = $prompt AND matcher = $matcher
        AND (state_id IN ($base_id, $tuned_id) OR state_id IN (
            SELECT state_id FROM restorations WHERE base_id = $base_id AND tuned_id = $tuned_id))
    GROUP BY input_id HAVING count(*) FILTER (state_id = $tuned_id) > 0
    ORDER BY own DESC, n_level, question_set"""


def own_set(cache: Cache, run_id: str) -> str:
    """The id of the questions a chain asked. Raises SpecError when it is no finished chain."""
    chain_summary(cache, run_id)
    return str(RunFolder(cache, run_id).spec.inputs["questions"])


def question_sets(cache: Cache, run_id: str) -> pd.DataFrame:
    """The sets that a chain's tuned model was asked in the chain's way, its own first, then by size.

    Columns: question_set (id), own, n_level (questions of a mastery level in each group: dev, test in-domain, test
    out-of-domain; the most of any), n (questions in all), n_states (base, tuned and restored ones asked so far).
    Raises SpecError when the run is no finished chain.
    """
    summary = chain_summary(cache, run_id)
    asked = {
        "own": own_set(cache, run_id),
        "base_id": summary["base_id"],
        "tuned_id": summary["tuned_id"],
        "prompt": RunFolder(cache, run_id).spec.params["evaluate"]["prompt"],
        "matcher": summary["matcher"],
    }
    with up_to_date(cache) as con:
        rows: pd.DataFrame = con.execute(_SETS, asked).df()
    return rows.astype({"own": "bool", "n_level": "int64", "n": "int64", "n_states": "int64"})


def finished_stamp(cache: Cache) -> str:
    """Changes whenever a run ends well or is removed, and not while one is under way."""
    digest = hashlib.sha256()
    for done in sorted(cache.runs.glob(f"*/{DONE}")):
        stat = done.stat()
        digest.update(f"{done}:{stat.st_mtime_ns}:{stat.st_size}\n".encode())
    return digest.hexdigest()[:16]


FLIPS = ("healed", "broken", "still wrong")
"""Wrong after tuning and right restored; right and then wrong; wrong in both, with another answer."""

FIVE_SHOT = "five-shot"
"""The base after five examples: a state of its own among `measured`."""
_SAME_K = 1e-9

_MEASURED = """
    WITH ends AS (
        SELECT $base_id AS state_id, 'base' AS state, NULL::DOUBLE AS k_percent,
            NULL::DOUBLE AS k_of_changed_percent, NULL::DOUBLE AS energy_taken_back
        UNION ALL SELECT $tuned_id, 'tuned', 0, 0, 0
    ),
    restored AS (
        SELECT DISTINCT ON (state_id) state_id, if(k_percent = 100, 'hybrid', 'restored') AS state, k_percent,
            k_of_changed_percent, energy_taken_back
        FROM restorations
        WHERE base_id = $base_id AND tuned_id = $tuned_id AND strategy = $strategy AND region = $region
            AND json_extract_string(params, '$.layers') IS NOT DISTINCT FROM $layers AND k_percent > 0
        ORDER BY state_id, run_id
    ),
    states AS (FROM ends UNION ALL BY NAME FROM restored),
    asked AS (
        SELECT DISTINCT split, domain, question_set_id
        FROM accuracies JOIN run_inputs USING (run_id)
        WHERE role = 'questions' AND input_id = $question_set AND split <> 'train'
    ),
    scored AS (
        SELECT *, row_number() OVER (PARTITION BY state_id, split, domain, level ORDER BY run_id) AS number
        FROM accuracies SEMI JOIN asked USING (split, domain, question_set_id)
        WHERE prompt = $prompt AND matcher = $matcher AND subset = 'all'
    ),
    five_shot AS (
        SELECT *, row_number() OVER (PARTITION BY split, domain, level ORDER BY run_id) AS number
        FROM accuracies SEMI JOIN asked USING (split, domain, question_set_id)
        WHERE state_id = $base_id AND prompt = 'five-shot' AND matcher = $matcher AND subset = 'all'
    )
    SELECT split, domain, level, state, state_id, k_percent, accuracy, low, high, n, n_right,
        state_id = $chosen AS chosen, k_of_changed_percent, energy_taken_back, question_set_id, run_id
    FROM states JOIN scored USING (state_id) WHERE number = 1
    UNION ALL BY NAME
    SELECT split, domain, level, 'five-shot' AS state, state_id, accuracy, low, high, n, n_right,
        false AS chosen, question_set_id, run_id
    FROM five_shot WHERE number = 1
    ORDER BY split, domain, level NULLS FIRST, k_percent NULLS LAST, state"""

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


def measured(cache: Cache, run_id: str, spec: RestoreSpec, question_set: str | None = None) -> pd.DataFrame:
    """Every measured state of a chain's two models that `spec` selects at some k (its own k does not count).

    question_set: which questions, an id of question_sets.question_sets; None: those of the chain itself. All rows
    are about the same questions, with the chain's prompt and matcher.

    One row a state, split, domain and level (<NA>: the mean over levels). Columns: split, domain, level, state
    (base, tuned, restored, hybrid at k = 100, five-shot), state_id, k_percent (0 for tuned; NaN where there is
    none), accuracy, low, high, n, n_right, chosen (the k chosen on dev), k_of_changed_percent,
    energy_taken_back, question_set_id, run_id (which holds the answers).

    Raises SpecError when the run is no finished chain, CacheError when what its base answered is gone.
    """
    summary = chain_summary(cache, run_id)
    stages, params = summary["stages"], RunFolder(cache, run_id).spec.params
    if question_set is None:
        _check_there(cache, run_id, [stages["evaluate"][summary[end]] for end in ("base_id", "tuned_id")])
    asked = {
        "base_id": summary["base_id"],
        "tuned_id": summary["tuned_id"],
        "strategy": str(spec.strategy),
        "region": spec.region,
        "layers": spec.layers,
        "prompt": params["evaluate"]["prompt"],
        "matcher": summary["matcher"],
        "question_set": question_set or own_set(cache, run_id),
        "chosen": summary["chosen"]["state_id"],
    }
    with up_to_date(cache) as con:
        rows: pd.DataFrame = con.execute(_MEASURED, asked).df()
    whole = {"level": "Int64", "n": "int64", "n_right": "int64", "chosen": "bool"}
    shares = dict.fromkeys(("k_percent", "k_of_changed_percent", "energy_taken_back"), "float64")
    return rows.astype(whole | shares)


def nearest_state(rows: pd.DataFrame, k: float, split: str) -> Mapping[str, Any] | None:
    """The measured restored state whose k is nearest (the smaller of two), as its row's columns; None for none.

    rows: `measured`. A state counts where its answers on the split were scored.
    """
    restored = rows[rows["state"].isin(["restored", "hybrid"]) & (rows["split"] == split)]
    restored = restored[restored["level"].isna()].sort_values("k_percent", kind="stable")
    if restored.empty:
        return None
    return dict(restored.iloc[int((restored["k_percent"] - k).abs().to_numpy().argmin())])


def tuned_state(rows: pd.DataFrame, split: str) -> Mapping[str, Any] | None:
    """The row of the tuned model on a split of `measured`; None where it was not asked."""
    found = rows[(rows["state"] == "tuned") & (rows["split"] == split) & rows["level"].isna()]
    return dict(found.iloc[0]) if len(found) else None


def shown_state(rows: pd.DataFrame, k: float, split: str) -> Mapping[str, Any] | None:
    """The state to show for k: tuned for 0, else as `nearest_state`."""
    return tuned_state(rows, split) if k == 0 else nearest_state(rows, k, split)


def headline(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of `measured` that are means over levels, on one split."""
    return rows[rows["level"].isna() & (rows["split"] == split)].drop(columns=["level", "split"])


def n_level(rows: pd.DataFrame, split: str) -> int | None:
    """Questions of a mastery level, the most of any; None where none was asked. rows: `measured`."""
    found = rows.loc[rows["level"].notna() & (rows["split"] == split), "n"]
    return int(found.max()) if len(found) else None


def missing(rows: pd.DataFrame, k: float, *, five_shot: bool = False) -> tuple[str, ...]:
    """Which of "base", "tuned" and "restored" (at this k) are not among the rows of `measured`; k = 0 is tuned.

    five_shot: "five-shot" is wanted too, and comes last.
    """
    there = rows[rows["level"].isna() & rows["accuracy"].notna()]
    found = [state for state in ("base", "tuned") if not (there["state"] == state).any()]
    at_k = (there["k_percent"] - k).abs() < _SAME_K
    restored = there["state"].isin(["restored", "hybrid"])
    lacks_k = k > 0 and not (restored & at_k).any()
    lacks_five = five_shot and not (there["state"] == FIVE_SHOT).any()
    return (*found, *(["restored"] if lacks_k else []), *([FIVE_SHOT] if lacks_five else []))


def levels_at(rows: pd.DataFrame, shown: Mapping[str, Any], split: str) -> pd.DataFrame:
    """Accuracy by domain and mastery level of base, tuned and one restored state; as chain_views.levels."""
    names = rows["state"].where(rows["state"].isin(["base", "tuned"]))
    if shown["state"] != "tuned":
        names = names.mask(rows["state_id"] == shown["state_id"], "restored")
    rows = rows.assign(state=names)
    rows = rows[rows["level"].notna() & names.notna() & (rows["split"] == split) & rows["accuracy"].notna()]
    kept = ["domain", "level", "state", "k_percent", "accuracy", "low", "high", "n", "question_set_id"]
    return rows.sort_values(["domain", "level"], kind="stable")[kept].reset_index(drop=True)


def flip_counts(
    cache: Cache,
    run_id: str,
    shown: Mapping[str, Any],
    split: str,
    before: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """How answers changed from one state to a restored one, one row a domain.

    shown: the state's state_id and run_id (a row of `measured`). before: the same of the state it is compared
    with, asked the same questions; None: tuned, as the chain asked it. Columns: domain, n (questions), healed
    (wrong, then right), broken, p_value (exact McNemar, two-sided), and gain, gain_low, gain_high: accuracy of
    shown minus before, the mean over levels, with its 95% interval (<NA> where no level has two questions).

    Raises SpecError and CacheError as `measured` does.
    """
    query = "SELECT domain, level, was_right, is_right FROM both_states ORDER BY domain, row"
    rows = _compared(cache, run_id, before, shown, split, query, {})
    found = [{"domain": domain, **_tested(group)} for domain, group in rows.groupby("domain")]
    columns = ["domain", "n", "healed", "broken", "p_value", "gain", "gain_low", "gain_high"]
    return pd.DataFrame(found, columns=columns)


def flipped(
    cache: Cache,
    run_id: str,
    shown: Mapping[str, Any],
    split: str,
    *,
    flips: Sequence[str] = FLIPS[:2],
    domains: Sequence[str] = ("in", "out"),
    search: str = "",
    most: int = 500,
    before: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """The questions whose answer changed from one state to a restored one, with both answers.

    before: see `flip_counts`. flips: which of FLIPS. search: only where question, gold or an answer holds this
    text, whatever its case.
    Columns: flip, domain, level, question, gold, before_answer, restored_answer (marked ✓ or ✗).

    Raises SpecError for an unknown flip, else as `measured` does.
    """
    if unknown := [flip for flip in flips if flip not in FLIPS]:
        raise SpecError(f"flips: got {unknown[0]!r}; allowed: {', '.join(FLIPS)}")
    chosen = {"flips": list(flips), "domains": list(domains), "search": search.strip(), "most": most}
    return _compared(cache, run_id, before, shown, split, _FLIPPED, chosen).astype({"level": "Int64"})


def _compared(
    cache: Cache,
    run_id: str,
    before: Mapping[str, Any] | None,
    shown: Mapping[str, Any],
    split: str,
    query: str,
    values: Mapping[str, Any],
) -> pd.DataFrame:
    """A query about `both_states`, straight from the parts of the two runs that hold the answers."""
    summary = chain_summary(cache, run_id)
    if before is None:
        tuned_id = summary["tuned_id"]
        before = {"state_id": tuned_id, "run_id": summary["stages"]["evaluate"][tuned_id]}
    runs = [before["run_id"], shown["run_id"]]
    _check_there(cache, run_id, runs)
    ids = {
        "before_run": before["run_id"],
        "before_id": before["state_id"],
        "shown_run": shown["run_id"],
        "shown_id": shown["state_id"],
    }
    both = _BOTH.format(matcher=verdict_column(summary["matcher"]))
    with open_parts(cache, ANSWERS, set(runs)) as con:
        rows: pd.DataFrame = con.execute(both + query, {**ids, "split": split, **values}).df()
    return rows


def _tested(rows: pd.DataFrame) -> dict[str, Any]:
    """The row of one domain in `flip_counts`."""
    test = mcnemar(rows["was_right"], rows["is_right"])
    found = {"n": len(rows), "healed": test.n_gained, "broken": test.n_lost, "p_value": test.p_value}
    levelled = rows[rows["level"].notna()]
    if levelled["level"].value_counts().max() >= MIN_QUESTIONS:
        gain = paired_difference(levelled["was_right"], levelled["is_right"], levelled["level"])
        found |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
    return found


def _check_there(cache: Cache, run_id: str, stages: Sequence[str]) -> None:
    for stage in stages:
        if missing := RunFolder(cache, stage).problems():
            raise CacheError(
                f"chain {run_id}: the run {stage} that holds its answers is gone or damaged ({', '.join(missing)}); "
                "repeating the command that made the chain makes it again"
            )
