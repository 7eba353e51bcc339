"""What restoring any k percent of a region amounts to, from the delta cube alone: no model, no second pass.

    RestoreSpec --what_is_taken--> one row of numbers
                --where_taken----> where the weights sit, by layer and by module
                --taken_curve----> the share over all k, with its null

top and bottom rank by r = |s - p| / (|p| + 1e-8), largest and smallest by |d| = |s - p|.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pandas as pd

from sftknow_core.errors import SpecError
from sftknow_core.results.cube import open_cube
from sftknow_core.results.cube_places import change_summary, where_changes_sit
from sftknow_core.results.cube_selection import CURVE_KS, concentration_curve, selection
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import RestoreSpec, Strategy

RANKED_BY = {
    Strategy.TOP: ("relative", "highest"),
    Strategy.BOTTOM: ("relative", "lowest"),
    Strategy.LARGEST: ("absolute", "highest"),
    Strategy.SMALLEST: ("absolute", "lowest"),
}
"""Strategies that the cube can answer for -> (score, which comes first)."""


@dataclass(frozen=True)
class Places:
    """Where the weights sit that one selection puts back."""

    layers: pd.DataFrame
    """`cube_places.where_changes_sit` by layer; empty where the region lies outside the layers."""
    modules: pd.DataFrame
    """The same by module."""


def what_is_taken(cache: Cache, delta_id: str, spec: RestoreSpec) -> Mapping[str, Any]:
    """The numbers of a selection. delta_id: see cube.delta_run.

    They are the row of `cube_selection.selection`, n_model (weights of the whole model), null_share (the share
    of the sum of r had the changes been dealt out at random; None where there is no such null) and null_error.

    Raises SpecError for a strategy the cube cannot answer for, layers the model does not have and a region it
    lacks; CacheError when the delta run is damaged.
    """
    score, direction = _ranking(spec)
    where: dict[str, Any] = {"region": spec.region, "layers": spec.layers}
    k = spec.k_percent or Decimal(0)
    with open_cube(cache, delta_id, None) as con:
        row = selection(con, [k], score=score, direction=direction, **where).iloc[0]
        null = _null(con, [k], spec)
        n_model = int(change_summary(con, ["all"])["n"].iloc[0])
    of_null = {"null_share": null["share"].iloc[0], "null_error": null["error"].iloc[0]} if len(null) else {}
    measured: dict[str, Any] = {str(name): value for name, value in row.items()}
    return {**measured, "n_model": n_model, "null_share": None, "null_error": None, **of_null}


def where_taken(cache: Cache, delta_id: str, spec: RestoreSpec) -> Places:
    """Where the weights of a selection sit. Raises as `what_is_taken` does."""
    score, direction = _ranking(spec)
    ranking: dict[str, Any] = {"score": score, "direction": direction}
    ranking |= {"region": spec.region, "layers": spec.layers}
    with open_cube(cache, delta_id, None) as con:
        layers, modules = (
            where_changes_sit(con, spec.k_percent or Decimal(0), by, **ranking) for by in ("layer", "module")
        )
    return Places(layers[layers["layer"].notna()].reset_index(drop=True), modules)


def taken_curve(cache: Cache, delta_id: str, spec: RestoreSpec) -> pd.DataFrame:
    """The same over all k (0 to 100 in halves, finer near 0); the spec's own k does not count.

    Columns: k_percent, share, share_error (of the region's sum of the score that ranks), energy_taken_back,
    energy_error, null_share (NaN where there is no null). All 0 to 1. Raises as `what_is_taken` does.
    """
    score, direction = _ranking(spec)
    where: dict[str, Any] = {"region": spec.region, "layers": spec.layers}
    with open_cube(cache, delta_id, None) as con:
        rows = selection(con, CURVE_KS, score=score, direction=direction, **where)
        null = _null(con, [Decimal(k) for k in CURVE_KS], spec)
    kept = ["k_percent", "share", "share_error", "energy_taken_back", "energy_error"]
    return rows[kept].assign(null_share=null["share"].to_numpy() if len(null) else float("nan"))


def _ranking(spec: RestoreSpec) -> tuple[str, str]:
    if spec.strategy not in RANKED_BY:
        raise SpecError(f"strategy: got {spec.strategy}; from the cube: {', '.join(RANKED_BY)}")
    return RANKED_BY[spec.strategy]


def _null(con: Any, ks: list[Decimal], spec: RestoreSpec) -> pd.DataFrame:
    """share and error of the null at each k; empty for |d|, which dealing changes out anew leaves as it is.

    What the k% smallest hold is what the 100 - k% largest leave.
    """
    score, direction = RANKED_BY[spec.strategy]
    if score != "relative":
        return pd.DataFrame()
    lowest = direction == "lowest"
    asked = [100 - k if lowest else k for k in ks]
    rows = concentration_curve(con, asked, region=spec.region, layers=spec.layers)
    null = rows.loc[rows["score"] == "permuted", ["share", "error"]].reset_index(drop=True)
    return null.assign(share=1 - null["share"]) if lowest else null
