"""The models a cache knows that no run made: what they are, and which runs are about them."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.listing import RunInfo, list_runs
from sftknow_core.store.run_state import RunState

COLUMNS = [
    "model_id", "name", "architecture", "n_params", "dtype", "size_bytes", "n_runs", "used_by", "path",
]  # fmt: skip
_ORDER = ("chain", "sft", "mastery", "delta", "evaluate")


def base_models(cache: Cache) -> pd.DataFrame:
    """One row a base model on record, by name: COLUMNS. used_by: "8 chain, 8 sft, 1 mastery", finished runs only.

    path: its folder, absolute; the one seen last.
    """
    rows = read_table(cache, "models", where={"role": "base"})
    rows = rows.drop_duplicates("model_id", keep="last").sort_values(["name", "model_id"], ignore_index=True)
    done = [info for info in list_runs(cache) if info.status.state is RunState.DONE]
    users = [_users(done, model_id) for model_id in rows["model_id"]]
    rows["n_runs"] = pd.Series([sum(counts.values()) for counts in users], dtype="int64")
    rows["used_by"] = pd.Series([_in_words(counts) for counts in users], dtype="object")
    rows["path"] = pd.Series([str(cache.located(path)) for path in rows["path"]], dtype="object")
    return rows[COLUMNS]


def _users(runs: list[RunInfo], model_id: str) -> Counter[str]:
    """Kind -> how many runs have the model among their inputs."""
    return Counter(
        info.kind
        for info in runs
        if any(model_id == ids or model_id in ids for ids in info.spec.inputs.values())
    )


def _in_words(counts: Counter[str]) -> str:
    kinds = sorted(counts, key=lambda kind: (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), kind))
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in kinds)
