"""How much of a model really changed, from the delta cube alone: tidy tables for the page "Parameters".

    changed_shares   how many weights kept their bits, by region, layer and module
    spread           how large the changes are: bars of r and |d|, and where k percent cut them
    concentration    the share of the summed r that the first k percent hold, its null, other epsilons
    heat             where the first k percent sit: layer x module, layer, module

r = |s - p| / (|p| + 1e-8), |d| = |s - p|; "changed" means that the bits differ. Shares are 0 to 1, k is in
percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from sftknow_core.errors import SpecError
from sftknow_core.results.cube import PAPER_KS, DeltaRun, delta_run, open_cube, region_tensors
from sftknow_core.results.cube_selection import (
    CURVE_KS,
    change_summary,
    concentration_curve,
    score_histogram,
    selection,
    where_changes_sit,
)
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import NOTHING, Number, Percent, RestoreSpec, percent
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
class Selection:
    """What the first k percent of a region hold; the columns of cube_selection.selection, and the null.

    Shares are 0 to 1, each beside the most it can be off; NaN where nothing changed. k and its like are in percent.
    """

    k_percent: float
    n_region: int
    n_restored: int
    boundary_bin: int | None
    threshold_low: float
    threshold_high: float
    n_changed: int
    n_changed_restored: int
    k_of_changed_percent: float
    share: float
    share_error: float
    share_flagged: bool
    energy_taken_back: float
    energy_error: float
    energy_flagged: bool
    no_more_changes_from_k: float
    n_model: int
    """Weights of the whole model."""
    null_share: float | None = None
    """The share of the sum of r had the changes been permuted within each tensor, mean over permutations; None where
    there is no such null."""
    null_low: float | None = None
    """Between `null_low` and `null_high` lie the middle 95% of the permutations; None where one alone was measured."""
    null_high: float | None = None
    n_permutations: int | None = None
    top_20_share: float | None = None
    """The share of the sum of r in the 20 weights of largest r, whatever k; None for other scores."""

    @property
    def projection_taken_back(self) -> float:
        """How far these weights go back along the update: the energy taken back, since whole weights go back."""
        return self.energy_taken_back


@dataclass(frozen=True)
class Changed:
    """How much of a region changed; the columns of cube_selection.change_summary."""

    region: str
    layers: str | None
    n: int
    n_changed: int
    changed_share: float
    sum_r: float
    near_zero_share: float
    energy: float
    relative_norm: float


@dataclass(frozen=True)
class Overview:
    """The numbers of a region at one k, and of the whole model."""

    region: Changed
    model: Changed
    taken: Selection


@dataclass(frozen=True)
class Places:
    """Where the weights sit that one selection puts back."""

    layers: pd.DataFrame
    """`cube_places.where_changes_sit` by layer; empty where the region lies outside the layers."""
    modules: pd.DataFrame
    """The same by module."""


def _ranking(spec: RestoreSpec) -> tuple[str, str]:
    if spec.strategy not in RANKED_BY:
        raise SpecError(f"strategy: got {spec.strategy}; from the cube: {', '.join(RANKED_BY)}")
    return RANKED_BY[spec.strategy]


NULL_COLUMNS = ("null_share", "null_sd", "null_low", "null_high", "n_permutations", "p_more", "p_two_sided")
"""Of a share that permuted changes give: mean, sd and middle 95% over permutations, their number, and rank p values of
the measured share; the null's columns of tables concentration and null_shares."""
_ON_GRID = ("p_more", "p_two_sided")
TOP = 20
"""Weights of largest r whose share is given by itself (update/concentration.py)."""


def null_curve(
    con: duckdb.DuckDBPyConnection,
    ks: Sequence[Number],
    region: str = "transformer",
    layers: str | None = None,
) -> pd.DataFrame:
    """NULL_COLUMNS of the shares that the k percent of largest r hold, one row a k, in the order asked.

    con: from `open_cube`. Between the ks that were permuted for (CURVE_KS) shares are interpolated, and there is no p.
    Some layers alone, and runs of earlier versions, have one permutation only, and no spread: n_permutations is 1 and
    the others are NaN. Raises SpecError and CacheError as `concentration_curve` does.
    """
    asked = np.array([float(percent(k)) for k in ks])
    found = pd.DataFrame()
    if layers is None:
        columns = ", ".join(NULL_COLUMNS)
        query = f"SELECT k_percent, {columns} FROM null_shares WHERE region = $region ORDER BY k_percent"
        found = con.execute(query, {"region": region}).df()
    if found.empty:
        rows = concentration_curve(con, ks, region=region, layers=layers)
        once = rows.loc[rows["score"] == "permuted", "share"].to_numpy()
        empty = dict.fromkeys(NULL_COLUMNS, float("nan"))
        return pd.DataFrame({**empty, "null_share": once, "n_permutations": 1.0}, index=range(len(asked)))
    at = found["k_percent"].to_numpy()
    columns_at = {name: np.interp(asked, at, found[name].to_numpy(dtype=float)) for name in NULL_COLUMNS}
    for name in _ON_GRID:
        columns_at[name] = np.where(np.isin(asked, at), columns_at[name], np.nan)
    return pd.DataFrame(columns_at)


def top_share(
    con: duckdb.DuckDBPyConnection, region: str = "transformer", layers: str | None = None
) -> float:
    """The share of a region's sum of r in its TOP weights of largest r; NaN where nothing changed."""
    chosen = region_tensors(con, region, layers)
    asked = {"tensors": chosen.tensor_ids, "counts": [min(TOP, chosen.n)]}
    found = con.execute(
        "SELECT share FROM cuts($tensors, 'relative', true, [0.0], $counts)", asked
    ).fetchone()
    return float("nan") if found is None or found[0] is None else float(found[0])


def _null(con: duckdb.DuckDBPyConnection, ks: list[Percent], spec: RestoreSpec) -> pd.DataFrame:
    """The null at each k; empty for |d|, which dealing changes out anew leaves as it is.

    What the k% smallest hold is what the 100 - k% largest leave.
    """
    score, direction = RANKED_BY[spec.strategy]
    if score != "relative":
        return pd.DataFrame()
    if direction == "highest":
        return null_curve(con, ks, spec.region, spec.layers)
    null = null_curve(con, [k.rest for k in ks], spec.region, spec.layers)
    ends = {"null_low": 1 - null["null_high"], "null_high": 1 - null["null_low"]}
    return null.assign(null_share=1 - null["null_share"], **ends, p_more=float("nan"))


N_BARS = 48
WHOLE_MODEL = "all"
CURVES = {
    "relative": "share",
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


def _with_sums(bars: pd.DataFrame, bins: pd.DataFrame) -> pd.DataFrame:
    """Bars with their part of the sum of the score; a bar begins and ends at edges of bins."""
    place = np.searchsorted(bars["low"].to_numpy(), bins["edge"].to_numpy(), side="right") - 1
    sums = np.bincount(place, weights=bins["sum_score"].to_numpy(), minlength=len(bars))
    total = sums.sum()
    return bars.assign(score_share=sums / total if total > 0 else np.nan)


def _selected(con: duckdb.DuckDBPyConnection, spec: RestoreSpec) -> Selection:
    score, direction = _ranking(spec)
    where: dict[str, Any] = {"region": spec.region, "layers": spec.layers}
    k = spec.k_percent or NOTHING
    row = selection(con, [k], score=score, direction=direction, **where).iloc[0]
    null = _null(con, [k], spec)
    n_model = int(change_summary(con, [WHOLE_MODEL])["n"].iloc[0])
    beside: dict[str, Any] = {}
    if len(null):
        first = null.iloc[0]
        ends = {
            name: None if pd.isna(first[name]) else float(first[name]) for name in ("null_low", "null_high")
        }
        beside = {
            "null_share": float(first["null_share"]),
            "n_permutations": int(first["n_permutations"]),
            **ends,
        }
        beside["top_20_share"] = top_share(con, spec.region, spec.layers)
    return Selection(**_plain(row), n_model=n_model, **beside)


def _plain(row: pd.Series[Any]) -> dict[str, Any]:
    """Column -> Python number or text; None for <NA>."""
    return {
        str(name): None if value is pd.NA else value.item() if hasattr(value, "item") else value
        for name, value in row.items()
    }


@dataclass(frozen=True)
class Cube(DeltaRun):
    """What fine-tuning changed of one pair of models, from the finished comparison of its weights.

    Everything raises GoneError, NotFinishedError and DamagedError, and SpecError for a region or layers that the
    model lacks and for a strategy the cube cannot answer for.
    """

    @classmethod
    def of_pair(cls, cache: Cache, base_id: str, tuned_id: str) -> Cube | None:
        """Of the newest finished comparison of these two; None where they were not compared."""
        found = delta_run(cache, base_id, tuned_id)
        return None if found is None else cls(cache, found)

    @property
    def base_id(self) -> str:
        """The model before fine-tuning."""
        return str(self.spec.inputs["base"])

    @property
    def tuned_id(self) -> str:
        """The model after it."""
        return str(self.spec.inputs["tuned"])

    def open(self, k_percent: Number | None = None) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """For SQL: see cube.open_cube."""
        return open_cube(self.cache, self.run_id, k_percent)

    def select(
        self, k: Number, region: str = "transformer", layers: str | None = None, strategy: str = "top"
    ) -> Selection:
        """What putting back k percent of a region amounts to.

        Args:
            k: percent, e.g. 12.5.
            region: a named region (update/region.py).
            layers: e.g. "0-3,5"; None: all.
            strategy: top, bottom, largest or smallest.
        """
        return self.selection(RestoreSpec(strategy, region, layers, percent(k)))

    def selection(self, spec: RestoreSpec) -> Selection:
        """The same for a way of restoring."""
        with self.open() as con:
            return _selected(con, spec)

    def overview(self, spec: RestoreSpec) -> Overview:
        """What changed in the spec's region and in the whole model, and what its k takes."""
        with self.open() as con:
            own, whole = (
                Changed(**_plain(change_summary(con, [region], [layers]).iloc[0]))
                for region, layers in ((spec.region, spec.layers), (WHOLE_MODEL, None))
            )
            return Overview(own, whole, _selected(con, spec))

    def changed_shares(self, region: str = "transformer", layers: str | None = None) -> pd.DataFrame:
        """How many weights of a region kept their bits; one row a layer and one a module.

        Columns: by ("layer" or "module"), group (its name; "outside" for what lies in no layer), n_weights, n_changed,
        n_same, same_share, sum_r, near_zero_share (the part of sum_r from |p| < 1e-6; NaN where nothing changed).
        """
        with self.open() as con:
            tensors = region_tensors(con, region, layers).tensor_ids
            rows = con.execute(_CHANGED, {"tensors": tensors}).df()
        layer = rows["layer"].map(lambda number: "outside" if pd.isna(number) else f"{number:.0f}")
        rows.insert(0, "by", np.where(rows["by_module"], "module", "layer"))
        rows.insert(1, "group", rows["module"].where(rows["by_module"], layer))
        return rows.drop(columns=["layer", "module", "by_module"])

    def spread(self, spec: RestoreSpec, n_bars: int = N_BARS) -> Spread:
        """How the weights of the spec's region spread over r and over |d|, and where its k cuts each of the two."""
        where: dict[str, Any] = {"region": spec.region, "layers": spec.layers}
        tables, cuts = [], {}
        with self.open() as con:
            tensors = region_tensors(con, spec.region, spec.layers).tensor_ids
            for score in ("relative", "absolute"):
                bars = score_histogram(con, n_bars, score=score, **where).rename(columns={"n": "n_weights"})
                bins = con.execute(
                    "SELECT lower_edge(bin) AS edge, sum_score FROM ranked_bins($tensors, $score, true)",
                    {"tensors": tensors, "score": score},
                ).df()
                tables.append(_with_sums(bars, bins).assign(score=score))
                cut = selection(con, [spec.k_percent or NOTHING], score=score, **where).iloc[0]
                cuts[score] = float(cut["threshold_low"])
        rows = pd.concat(tables, ignore_index=True)
        return Spread(rows[["score", "low", "high", "n_weights", "share", "score_share"]], cuts)

    def concentration(self, region: str = "transformer", layers: str | None = None) -> pd.DataFrame:
        """The share of the summed r that the first k percent hold, over all k.

        Columns: k_percent, share, share_1e-6 and share_1e-4 (other epsilons in r), share_error (the most `share` can be
        off), NULL_COLUMNS (changes permuted within each tensor), top_20_share (of the 20 largest r, the same in each
        row), in_paper (a k of its table 3).
        """
        with self.open() as con:
            rows = concentration_curve(con, CURVE_KS, region=region, layers=layers)
            null = null_curve(con, CURVE_KS, region, layers).set_index(rows["k_percent"].unique())
            top = top_share(con, region, layers)
        wide = rows.pivot(index="k_percent", columns="score", values="share")[list(CURVES)]
        wide = wide.rename(columns=CURVES).rename_axis(columns=None)
        errors = rows[rows["score"] == "relative"].set_index("k_percent")["error"]
        paper = wide.index.isin([float(k) for k in PAPER_KS])
        return wide.assign(share_error=errors, **null, top_20_share=top, in_paper=paper).reset_index()

    def heat(self, spec: RestoreSpec) -> Heat:
        """Where the first k percent of a spec's weights sit."""
        score, direction = RANKED_BY[spec.strategy]
        ranking: dict[str, Any] = {"score": score, "direction": direction}
        ranking |= {"region": spec.region, "layers": spec.layers}
        k = spec.k_percent or NOTHING
        with self.open() as con:
            tables = [
                where_changes_sit(con, k, by, **ranking) for by in ("layer x module", "layer", "module")
            ]
        return Heat(*(table.rename(columns={"n": "n_weights"}) for table in tables))

    def places(self, spec: RestoreSpec) -> Places:
        """Where the weights of a selection sit. Raises as `selection`."""
        score, direction = _ranking(spec)
        ranking: dict[str, Any] = {"score": score, "direction": direction}
        ranking |= {"region": spec.region, "layers": spec.layers}
        with self.open() as con:
            layers, modules = (
                where_changes_sit(con, spec.k_percent or NOTHING, by, **ranking) for by in ("layer", "module")
            )
        return Places(layers[layers["layer"].notna()].reset_index(drop=True), modules)

    def curve(self, spec: RestoreSpec) -> pd.DataFrame:
        """The same over all k (0 to 100 in halves, finer near 0); the spec's own k does not count.

        Columns: k_percent, share, share_error (of the region's sum of the score that ranks), energy_taken_back,
        energy_error, null_share, null_low, null_high (NaN where there is no null, or no spread of it). All 0 to 1.
        Raises as `selection`.
        """
        score, direction = _ranking(spec)
        where: dict[str, Any] = {"region": spec.region, "layers": spec.layers}
        with self.open() as con:
            rows = selection(con, CURVE_KS, score=score, direction=direction, **where)
            null = _null(con, [percent(k) for k in CURVE_KS], spec)
        kept = ["k_percent", "share", "share_error", "energy_taken_back", "energy_error"]
        drawn = ("null_share", "null_low", "null_high")
        return rows[kept].assign(
            **{name: null[name].to_numpy() if len(null) else float("nan") for name in drawn}
        )
