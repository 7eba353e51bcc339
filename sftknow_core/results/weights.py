"""How much of a model really changed, from the delta cube alone: tidy tables for the page "Parameters".

    changed_shares   how many weights kept their bits, by region, layer and module
    spread           how large the changes are: bars of r and |d|, and where k percent cut them
    concentration    the share of the summed r that the first k percent hold, its null, other epsilons
    heat             where the first k percent sit: layer x module, layer, module

r = |s - p| / (|p| + 1e-8), |d| = |s - p|; "changed" means that the bits differ. Shares are 0 to 1, k is in
percent. delta_id: see cube.delta_run. All raise SpecError for a region or layers the model lacks, and CacheError
when the delta run is damaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from sftknow_core.errors import SpecError
from sftknow_core.results.cube import PAPER_KS, open_cube, region_tensors
from sftknow_core.results.cube_selection import (
    CURVE_KS,
    change_summary,
    concentration_curve,
    score_histogram,
    selection,
    where_changes_sit,
)
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import RestoreSpec
from sftknow_core.update.strategies import STRATEGIES

# What restoring any k percent of a region amounts to, from the delta cube alone: no model, no second pass.
#
#     RestoreSpec --what_is_taken--> one row of numbers
#                 --where_taken----> where the weights sit, by layer and by module
#                 --taken_curve----> the share over all k, with its null
#
# top and bottom rank by r = |s - p| / (|p| + 1e-8), largest and smallest by |d| = |s - p|.

RANKED_BY = {
    found.name: (str(found.measured), found.direction) for found in STRATEGIES.entries if found.measured
}
"""Strategies that the cube can answer for -> (score, which comes first)."""


@dataclass(frozen=True)
class Places:
    """Where the weights sit that one selection puts back."""

    layers: pd.DataFrame
    """`cube_places.where_changes_sit` by layer; empty where the region lies outside the layers."""
    modules: pd.DataFrame
    """The same by module."""


def reverted_summary(cache: Cache, delta_id: str, spec: RestoreSpec) -> Mapping[str, Any]:
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


def reverted_by_place(cache: Cache, delta_id: str, spec: RestoreSpec) -> Places:
    """Where the weights of a selection sit. Raises as `what_is_taken` does."""
    score, direction = _ranking(spec)
    ranking: dict[str, Any] = {"score": score, "direction": direction}
    ranking |= {"region": spec.region, "layers": spec.layers}
    with open_cube(cache, delta_id, None) as con:
        layers, modules = (
            where_changes_sit(con, spec.k_percent or Decimal(0), by, **ranking) for by in ("layer", "module")
        )
    return Places(layers[layers["layer"].notna()].reset_index(drop=True), modules)


def reverted_curve(cache: Cache, delta_id: str, spec: RestoreSpec) -> pd.DataFrame:
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


N_BARS = 48
WHOLE_MODEL = "all"
CURVES = {
    "relative": "share",
    "permuted": "null_share",
    "relative_1e-6": "share_1e-6",
    "relative_1e-4": "share_1e-4",
}
"""Score of the cube -> its column in `concentration`."""

_CHANGED = """
    SELECT layer, module, GROUPING(layer) = 1 AS by_module, sum(n_params)::BIGINT AS n_weights,
        sum(n_changed)::BIGINT AS n_changed, sum(n_params - n_changed)::BIGINT AS n_same,
        sum(n_params - n_changed) / sum(n_params) AS same_share, sum(sum_r) AS sum_r,
        sum(sum_r_tiny) / nullif(sum(sum_r), 0) AS near_zero_share
    FROM delta_tensors WHERE tensor_id IN (SELECT unnest($tensors))
    GROUP BY GROUPING SETS ((layer), (module))
    ORDER BY by_module, layer NULLS LAST, min(position)"""


@dataclass(frozen=True)
class Spread:
    """How large the changes of a region are."""

    bars: pd.DataFrame
    """Columns: score ("relative" or "absolute"), low, high (a bar holds scores from low up to, not including,
    high; the first bar of a score is the scores 0), n_weights, share (of the region's weights), score_share
    (of the region's sum of the score; NaN where nothing changed)."""
    cuts: Mapping[str, float]
    """Score -> the smallest that the k percent of highest score hold; NaN where k takes none, 0.0 where k goes
    beyond the changed weights."""


@dataclass(frozen=True)
class Heat:
    """Where the first k percent sit; each table as `cube_places.where_changes_sit`, with n_weights for n."""

    cells: pd.DataFrame
    """By layer and module."""
    layers: pd.DataFrame
    modules: pd.DataFrame


def changed_shares(
    cache: Cache, delta_id: str, region: str = "transformer", layers: str | None = None
) -> pd.DataFrame:
    """How many weights of a region kept their bits; one row a layer and one a module.

    Columns: by ("layer" or "module"), group (its name; "outside" for what lies in no layer), n_weights, n_changed,
    n_same, same_share, sum_r, near_zero_share (the part of sum_r from |p| < 1e-6; NaN where nothing changed).
    """
    with open_cube(cache, delta_id, None) as con:
        tensors = region_tensors(con, region, layers).tensor_ids
        rows = con.execute(_CHANGED, {"tensors": tensors}).df()
    layer = rows["layer"].map(lambda number: "outside" if pd.isna(number) else f"{number:.0f}")
    rows.insert(0, "by", np.where(rows["by_module"], "module", "layer"))
    rows.insert(1, "group", rows["module"].where(rows["by_module"], layer))
    return rows.drop(columns=["layer", "module", "by_module"])


def overview(cache: Cache, delta_id: str, spec: RestoreSpec) -> Mapping[str, Any]:
    """The numbers of a region at one k, and of the whole model.

    region and model: a row each of cube_places.change_summary. taken: the row of cube_selection.selection of the
    spec's k. null_share: what the first k percent would hold had the changes been dealt out at random (None where
    weights are not ranked by r).
    """
    score, direction = RANKED_BY[spec.strategy]
    k = spec.k_percent or Decimal(0)
    with open_cube(cache, delta_id, None) as con:
        own = change_summary(con, [spec.region], [spec.layers]).iloc[0]
        whole = change_summary(con, [WHOLE_MODEL]).iloc[0]
        where: dict[str, Any] = {"region": spec.region, "layers": spec.layers}
        taken = selection(con, [k], score=score, direction=direction, **where).iloc[0]
        null = None
        if score == "relative":
            rows = concentration_curve(con, [k], **where)
            null = float(rows.loc[rows["score"] == "permuted", "share"].iloc[0])
    return {"region": dict(own), "model": dict(whole), "taken": dict(taken), "null_share": null}


def spread(cache: Cache, delta_id: str, spec: RestoreSpec, n_bars: int = N_BARS) -> Spread:
    """How the weights of the spec's region spread over r and over |d|, and where its k cuts each of the two."""
    where: dict[str, Any] = {"region": spec.region, "layers": spec.layers}
    tables, cuts = [], {}
    with open_cube(cache, delta_id, None) as con:
        tensors = region_tensors(con, spec.region, spec.layers).tensor_ids
        for score in ("relative", "absolute"):
            bars = score_histogram(con, n_bars, score=score, **where).rename(columns={"n": "n_weights"})
            bins = con.execute(
                "SELECT lower_edge(bin) AS edge, sum_score FROM ranked_bins($tensors, $score, true)",
                {"tensors": tensors, "score": score},
            ).df()
            tables.append(_with_sums(bars, bins).assign(score=score))
            cut = selection(con, [spec.k_percent or Decimal(0)], score=score, **where).iloc[0]
            cuts[score] = float(cut["threshold_low"])
    rows = pd.concat(tables, ignore_index=True)
    return Spread(rows[["score", "low", "high", "n_weights", "share", "score_share"]], cuts)


def concentration(
    cache: Cache, delta_id: str, region: str = "transformer", layers: str | None = None
) -> pd.DataFrame:
    """The share of the summed r that the first k percent hold, over all k.

    Columns: k_percent, share, null_share (changes dealt out at random within each tensor), share_1e-6 and
    share_1e-4 (other epsilons in r), share_error (the most `share` can be off), in_paper (a k of its table 3).
    """
    with open_cube(cache, delta_id, None) as con:
        rows = concentration_curve(con, CURVE_KS, region=region, layers=layers)
    wide = rows.pivot(index="k_percent", columns="score", values="share")[list(CURVES)]
    wide = wide.rename(columns=CURVES).rename_axis(columns=None)
    errors = rows[rows["score"] == "relative"].set_index("k_percent")["error"]
    paper = wide.index.isin([float(k) for k in PAPER_KS])
    return wide.assign(share_error=errors, in_paper=paper).reset_index()


def heat(cache: Cache, delta_id: str, spec: RestoreSpec) -> Heat:
    """Where the first k percent of a spec's weights sit."""
    score, direction = RANKED_BY[spec.strategy]
    ranking: dict[str, Any] = {"score": score, "direction": direction}
    ranking |= {"region": spec.region, "layers": spec.layers}
    k = spec.k_percent or Decimal(0)
    with open_cube(cache, delta_id, None) as con:
        tables = [where_changes_sit(con, k, by, **ranking) for by in ("layer x module", "layer", "module")]
    return Heat(*(table.rename(columns={"n": "n_weights"}) for table in tables))


def _with_sums(bars: pd.DataFrame, bins: pd.DataFrame) -> pd.DataFrame:
    """Bars with their part of the sum of the score; a bar begins and ends at edges of bins."""
    place = np.searchsorted(bars["low"].to_numpy(), bins["edge"].to_numpy(), side="right") - 1
    sums = np.bincount(place, weights=bins["sum_score"].to_numpy(), minlength=len(bars))
    total = sums.sum()
    return bars.assign(score_share=sums / total if total > 0 else np.nan)
