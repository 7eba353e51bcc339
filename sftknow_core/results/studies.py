"""Studies of a cache: what there is, and one study's cells with their headline numbers, finished or not.

(study_frames.py: the same study question by question, for statistics.) Accuracies and shares are 0 to 1, k is in
percent, KL in nats, differences in shares of 1.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import RunInfo, list_runs, run_info
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.study_record import DONE_STATE, FAILED, IMPOSSIBLE, KIND, TODO, Record, all_cells

HEADLINE = (
    "base_test_in", "tuned_test_in", "restored_test_in", "chosen_k_percent", "gain_test_in", "kl_level4_nats",
    "changed_share",
)  # fmt: skip
"""Numbers of one chain (pipeline/chain_summary.py): in-domain test accuracy of base, tuned, and restored by the k
chosen on dev; that k; the paired gain of restored over tuned; the mean aligned KL of level-4 questions; the changed
share."""
_CELL = ["key", "level", "n", "seed", "method", "state", "reason", "seconds"]
_WAY = ["strategy", "region", "layers", "run_id"]


def list_studies(cache: Cache) -> list[dict[str, Any]]:
    """All studies, newest first: run_id, name, title, base_id, base_name, state, created_at, n_cells, n_done, n_failed,
    n_impossible, n_todo."""
    return [_described(cache, info) for info in list_runs(cache, KIND)]


def _described(cache: Cache, info: RunInfo) -> dict[str, Any]:
    return {
        "run_id": info.run_id,
        "name": info.about.get("name", ""),
        "title": info.about.get("title", ""),
        "base_id": info.spec.inputs.get("base"),
        "base_name": info.about.get("base", ""),
        "state": str(info.status.state),
        "reason": info.status.reason,
        "created_at": info.created_at,
        "seconds": info.status.seconds,
        **_counts(all_cells(RunFolder(cache, info.run_id))),
    }


def _counts(cells: list[Record]) -> dict[str, int]:
    counted = Counter(cell["state"] for cell in cells)
    return {
        "n_cells": len(cells),
        "n_done": counted[DONE_STATE],
        "n_failed": counted[FAILED],
        "n_impossible": counted[IMPOSSIBLE],
        "n_todo": counted[TODO],
    }


def study_overview(cache: Cache, run_id: str) -> dict[str, Any]:
    """One study as plain values: what `list_studies` says of it, its spec and n_questions, and "cells", one dict a cell
    with its record and, in each of "chains", the HEADLINE numbers.

    Raises SpecError when the run is no study, CacheError when its folder is not readable.
    """
    run = RunFolder(cache, run_id)
    cells = all_cells(run)  # refuses what is no study
    manifest = run.manifest()
    with_numbers = [
        {**cell, "chains": [{**chain, **_headline(cache, chain["run_id"])} for chain in cell["chains"]]}
        for cell in cells
    ]
    return {
        **_described(cache, run_info(cache, run_id)),
        "spec": dict(run.spec.params),
        "n_questions": dict(manifest.summary.get("n_questions", {})) if manifest else {},
        "cells": with_numbers,
    }


def study_cells(cache: Cache, run_id: str) -> pd.DataFrame:
    """The cells as a table, one row a cell and way of restoring; one row where a cell has no chain.

    Columns: key, level, n (<NA>: all), seed, method, state (done, failed, impossible, to do), reason, seconds,
    strategy, region, layers, run_id (the chain), and HEADLINE. Raises as `study_overview`.
    """
    rows = []
    for cell in study_overview(cache, run_id)["cells"]:
        about = {name: cell[name] for name in _CELL}
        rows += [about | {name: chain[name] for name in (*_WAY, *HEADLINE)} for chain in cell["chains"]] or [
            about
        ]
    table = pd.DataFrame(rows, columns=[*_CELL, *_WAY, *HEADLINE])
    return table.astype(
        {"n": "Int64", "seed": "int64", **dict.fromkeys(HEADLINE, "float64"), "seconds": "float64"}
    )


def _headline(cache: Cache, chain_id: str) -> dict[str, Any]:
    """None for every number of a chain that was deleted since."""
    manifest = RunFolder(cache, chain_id).manifest()
    found = manifest.summary.get("headline", {}) if manifest else {}
    return {name: found.get(name) for name in HEADLINE}
