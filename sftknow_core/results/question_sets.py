"""Which question sets a chain's two models were asked: the chain's own, and those that were asked later.

A set is named by the input "questions" of the runs that asked it, a hash of its questions with their answers; only
numbers of one set stand in one figure.
"""

from __future__ import annotations

import hashlib

import pandas as pd

from sftknow_core.results.views import chain_summary
from sftknow_core.store.cache import Cache
from sftknow_core.store.ingest import up_to_date
from sftknow_core.store.run_folder import DONE, RunFolder

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
