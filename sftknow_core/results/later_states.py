"""Restored states that were measured after their chain: on the chain's own questions, in its way, by its strategy.

The dashboard's slider measures any k; what was measured there belongs beside the chain's own k.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from sftknow_core.results import restored as restored_results
from sftknow_core.results.views import chain_summary
from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.update.spec import RestoreSpec

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
