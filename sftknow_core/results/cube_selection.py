"""What taking back the top or bottom k percent of a region amounts to, by SQL from the delta cube alone.

Counts are exact. Sums over part of the boundary bin are interpolated, each beside the most it can be off
(derived in cube_sql.py); an error above WORTH_SHOWING is flagged. A restoration itself (update/select.py)
finds the exact threshold with a second pass over the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import duckdb
import pandas as pd

from sftknow_core.errors import SpecError
from sftknow_core.results.cube import (
    PAPER_KS,
    PlacedTensor,
    RegionTensors,
    check_counted,
    placed_tensors,
    region_tensors,
    resolved,
)
from sftknow_core.update.region import REGIONS
from sftknow_core.update.spec import Number, Percent, count_for, percent, rounded_percent

EPS_OF = {"relative": 1e-8, "relative_1e-6": 1e-6, "relative_1e-4": 1e-4, "permuted": 1e-8}
"""Score -> what is added to |p| in its denominator."""
RANKING_SCORES = ("relative", "absolute")
DIRECTIONS = ("highest", "lowest")
WORTH_SHOWING = 0.001
"""A share whose error is above 0.1 percentage points is flagged."""
CURVE_KS = tuple(
    sorted({"0.01", "0.02", "0.05", "0.1", "0.2", *(f"{i / 2:g}" for i in range(201)), *PAPER_KS}, key=float)
)
"""0 to 100% in steps of a half, finer where the curve is steep, and the paper's seven."""

_SELECTION = """
    WITH cut AS (
        SELECT *, n_counted - n_positive AS n_zero,
            least(greatest(n_restored - if($highest_first, n_positive, 0), 0), n_zero) AS zeros_taken
        FROM cuts($tensors, $score, $highest_first, $ks, $counts)
    )
    SELECT n_counted, $score AS score, k_percent, $n_region AS n_region, n_restored,
        boundary_bin, threshold_low, threshold_high,
        $n_changed AS n_changed,
        n_restored - zeros_taken + greatest(0, zeros_taken - ($n_region - $n_changed)) AS n_changed_restored,
        100 * n_changed_restored / nullif($n_changed, 0) AS k_of_changed_percent,
        share, share_error, share_error > $worth_showing AS share_flagged,
        energy AS energy_taken_back, energy_error, energy_error > $worth_showing AS energy_flagged,
        if($highest_first AND n_positive = $n_changed,
            (n_positive * 1_000_000 + $n_region - 1) // $n_region / 10_000, NULL) AS no_more_changes_from_k
    FROM cut ORDER BY place"""
"""A taken weight surely changed when its score is above 0, or when more zeros are taken than did not change."""

_COUNT_AT_ENERGY = """
    WITH ranked AS MATERIALIZED (FROM ranked_bins($tensors, $score, $highest_first)),
    asked AS (
        SELECT unnest(range(len($energies))) AS place, unnest($energies) AS energy
    ),
    wanted AS (
        SELECT place, whole, energy * whole AS d2 FROM asked, (SELECT max(d2_before + sum_d2) AS whole FROM ranked)
    )
    SELECT CASE WHEN whole = 0 THEN NULL WHEN d2 = 0 THEN 0
        ELSE min(n_before + n * least((d2 - d2_before) / sum_d2, 1)) END
    FROM wanted LEFT JOIN ranked ON sum_d2 > 0 AND d2_before < d2 AND (d2_before + sum_d2) * (1 + 1e-12) >= d2
    GROUP BY place, whole, d2 ORDER BY place"""
"""How many weights hold a share of the energy; the tolerance is for sums that add up to all but a rounding."""

_CURVE = """
    WITH bins AS (
        SELECT score, bin, sum(n)::BIGINT AS n, sum(sum_score) AS sum_score
        FROM cube WHERE score <> 'absolute' AND tensor_id IN (SELECT unnest($tensors)) GROUP BY score, bin
    ),
    ranked AS MATERIALIZED (
        SELECT *, coalesce(sum(n) OVER before, 0)::BIGINT AS n_before,
            coalesce(sum(sum_score) OVER before, 0) AS score_before
        FROM bins WINDOW before AS (
            PARTITION BY score ORDER BY bin DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
    ),
    whole AS (
        SELECT score, max(n_before + n) AS n_counted, max(score_before + sum_score) AS whole_score
        FROM ranked GROUP BY score
    ),
    curves AS (
        SELECT unnest(range(len($scores))) AS number, unnest($scores) AS score, unnest($epsilons) AS eps
    ),
    asked AS (
        SELECT unnest(range(len($counts))) AS place, unnest($ks) AS k_percent,
            unnest($counts)::BIGINT AS n_restored
    )
    SELECT n_counted, k_percent, n_restored, curves.score, eps,
        share_taken(score_before, sum_score, n_restored - n_before, n, whole_score) AS share,
        coalesce(off_by_at_most(
            n_restored - n_before, n, sum_score, lower_edge(bin), upper_edge(bin), true
        ), 0) / nullif(whole_score, 0) AS error,
        error > $worth_showing AS flagged
    FROM curves CROSS JOIN asked LEFT JOIN whole ON whole.score = curves.score
    LEFT JOIN ranked ON ranked.score = curves.score AND n_restored > n_before AND n_restored <= n_before + n
    ORDER BY number, place"""
"""As `ranked_bins` and `cuts`, for all the scores of a curve at once: the cube is read in one go."""


def selection(
    con: duckdb.DuckDBPyConnection,
    ks: Sequence[Number],
    *,
    region: str = "transformer",
    layers: str | None = None,
    score: str = "relative",
    direction: str = "highest",
) -> pd.DataFrame:
    """What the first k percent of a region by a score hold; one row a k, in the order asked.

    con: from `open_cube`. ks: percent. score: relative (r) or absolute (|d|). direction: highest or lowest
    first. Columns; shares are 0 to 1 and NaN where nothing changed, k and its like are in percent:

        k_percent, n_region, n_restored   floor(n_region * k / 100), exact
        boundary_bin                      the bin of the last weight taken; <NA> for none
        threshold_low, threshold_high     the score of the last weight taken lies between these two, edges
                                          included
        n_changed                         weights of the region whose bits differ
        n_changed_restored                how many of those are surely taken: exact unless a change hides
                                          among the scores 0 (0.0 to -0.0, a difference that underflows)
        k_of_changed_percent              100 * n_changed_restored / n_changed
        share, share_error                share of the region's sum of the score, and the most it can be off
        share_flagged                     whether that is above 0.1 percentage points
        energy_taken_back, energy_error   share of the region's sum of d^2, and the most it can be off
        energy_flagged                    whether that is above 0.1 percentage points
        no_more_changes_from_k            the k (up to 4 places) from which on every change is taken already;
                                          NaN for lowest first and where a change hides among the scores 0

    Raises SpecError for an unknown region, score or direction, layers the model does not have, a k that is
    no percentage; CacheError when the cube is damaged.
    """
    check_ranking(score, direction)
    chosen = region_tensors(con, region, layers)
    further = {
        "score": score,
        "highest_first": direction == "highest",
        "n_region": chosen.n,
        "n_changed": chosen.n_changed,
    }
    frame = _cut(con, _SELECTION, {**_asked(chosen, ks), **further}, chosen.n)
    return frame.drop(columns="score").astype({"boundary_bin": "Int64"})


def k_at_energy(
    con: duckdb.DuckDBPyConnection,
    energies: Sequence[float],
    *,
    region: str = "transformer",
    layers: str | None = None,
    score: str = "relative",
    direction: str = "highest",
) -> list[Percent | None]:
    """The k (percent, 4 places) of which the first weights by a score hold these shares of the region's energy.

    The inverse of `selection`'s energy_taken_back, interpolated in the same way. None where nothing changed. Raises
    as `selection` does.
    """
    check_ranking(score, direction)
    chosen = region_tensors(con, region, layers)
    asked = {
        "tensors": chosen.tensor_ids,
        "score": score,
        "highest_first": direction == "highest",
        "energies": [min(max(float(energy), 0.0), 1.0) for energy in energies],
    }
    counts = [row[0] for row in con.execute(_COUNT_AT_ENERGY, asked).fetchall()]
    return [None if n is None else rounded_percent(100 * min(n / chosen.n, 1.0)) for n in counts]


def concentration_curve(
    con: duckdb.DuckDBPyConnection,
    ks: Sequence[Number] = CURVE_KS,
    *,
    region: str = "transformer",
    layers: str | None = None,
) -> pd.DataFrame:
    """The share of the sum of r that the k percent of largest r hold, for three epsilons and the null.

    The null (score "permuted") deals the changes out at random within each tensor and computes r anew, with
    the epsilon of "relative": what it concentrates too comes from weights near zero, not from what changed.
    Columns: k_percent, n_restored, score, eps, share (0 to 1; NaN where nothing changed), error (the most
    that share can be off), flagged (error above 0.1 percentage points); by score, then in the order asked.

    Raises SpecError and CacheError as `selection` does.
    """
    chosen = region_tensors(con, region, layers)
    curves = {"scores": list(EPS_OF), "epsilons": list(EPS_OF.values())}
    return _cut(con, _CURVE, {**_asked(chosen, ks), **curves}, chosen.n)


def check_ranking(score: str, direction: str) -> None:
    """Raises SpecError for a score nobody ranks by, or no direction."""
    if score not in RANKING_SCORES:
        raise SpecError(f"score: got {score!r}; allowed: {', '.join(RANKING_SCORES)}")
    if direction not in DIRECTIONS:
        raise SpecError(f"direction: got {direction!r}; allowed: {', '.join(DIRECTIONS)}")


def _asked(chosen: RegionTensors, ks: Sequence[Number]) -> dict[str, Any]:
    """The parameters that do not depend on the score."""
    return {
        "tensors": chosen.tensor_ids,
        "ks": [float(percent(k)) for k in ks],
        "counts": [count_for(chosen.n, k) for k in ks],
        "worth_showing": WORTH_SHOWING,
    }


def _cut(con: duckdb.DuckDBPyConnection, query: str, asked: Mapping[str, Any], n_region: int) -> pd.DataFrame:
    """The rows of a query, after a look whether the cube counts every weight under each of its scores."""
    frame = con.execute(query, asked).df()
    seen = frame[["score", "n_counted"]].drop_duplicates()
    for score, n_counted in zip(seen["score"], seen["n_counted"], strict=True):
        check_counted(con, score, 0 if pd.isna(n_counted) else int(n_counted), n_region)
    return frame.drop(columns="n_counted")


# Where changes sit, how large they are, and what there is to draw, by SQL from the delta cube alone.


BREAKDOWNS = ("layer", "module", "kind", "layer x module")
SCORES = (*EPS_OF, "absolute")


def where_changes_sit(
    con: duckdb.DuckDBPyConnection,
    k: Number,
    by: str = "layer",
    *,
    region: str = "transformer",
    layers: str | None = None,
    score: str = "relative",
    direction: str = "highest",
) -> pd.DataFrame:
    """The first k percent of a region by a score, broken down; one row a group, in canonical order.

    con: from `open_cube`. by: layer, module, kind, or "layer x module" (a heat map). Columns:

        layer, module, kind   the group: those of `by`; layer is <NA> outside the layers
        n                     weights of the group within the region
        n_restored            how many are taken; those of the boundary bin are split over the groups in
                              proportion to their weights in it, so it need not be whole
        share                 n_restored over all restored, 0 to 1, sums to 1; NaN where k takes none
        weight_share          n over the region's weights, 0 to 1, sums to 1
        enrichment            share / weight_share: 1 is as often as chance
        share_error           the most that share can be off: never above the boundary bin's part of the
                              restored weights

    Raises SpecError for an unknown region, score, direction or breakdown, layers the model does not have, a
    k that is no percentage; CacheError when the cube is damaged.
    """
    check_ranking(score, direction)
    if by not in BREAKDOWNS:
        raise SpecError(f"by: got {by!r}; allowed: {', '.join(BREAKDOWNS)}")
    chosen = region_tensors(con, region, layers)
    frame = con.execute(
        "FROM places($tensors, $score, $highest_first, $n_taken) WHERE breakdown = $by "
        "ORDER BY layer NULLS LAST, place",
        {
            "tensors": chosen.tensor_ids,
            "score": score,
            "highest_first": direction == "highest",
            "n_taken": (n_taken := count_for(chosen.n, k)),
            "by": by,
        },
    ).df()
    check_counted(con, score, round(frame["n_restored"].sum()), n_taken)
    kept = [*by.split(" x "), "n", "n_restored", "share", "weight_share", "enrichment", "share_error"]
    return frame.astype({"layer": "Int64"})[kept]


def change_summary(
    con: duckdb.DuckDBPyConnection,
    regions: Sequence[str] | None = None,
    layers: Sequence[str | None] = (None,),
) -> pd.DataFrame:
    """How much changed, one row a region and range of layers, e.g. layers=(None, "0-3", "28-31").

    regions None: all that this model has in those layers. Columns:

        region, layers   layers None: all, and what lies outside them where it belongs to the region
        n, n_changed     weights, and those whose bits differ
        changed_share    n_changed / n, 0 to 1
        sum_r            sum of r = |s - p| / (|p| + 1e-8)
        near_zero_share  the part of sum_r from |p| < 1e-6, 0 to 1; NaN where nothing changed
        energy           ||d||^2, the sum of the squared changes
        relative_norm    ||d|| / ||p||; NaN where all p are 0

    Raises SpecError for an unknown region, layers the model does not have, and a named region it lacks.
    """
    chosen = _ranges(placed_tensors(con), regions, layers)
    groups = [number for number, found in enumerate(chosen.values()) for _ in found.tensor_ids]
    tensors = [tensor_id for found in chosen.values() for tensor_id in found.tensor_ids]
    frame = con.execute(
        """WITH members AS (SELECT unnest($groups) AS number, unnest($tensors) AS tensor_id)
           SELECT sum(n_params)::BIGINT AS n, sum(n_changed)::BIGINT AS n_changed,
               sum(n_changed) / sum(n_params) AS changed_share, sum(sum_r) AS sum_r,
               sum(sum_r_tiny) / nullif(sum(sum_r), 0) AS near_zero_share, sum(energy) AS energy,
               sqrt(sum(energy) / nullif(sum(base_energy), 0)) AS relative_norm
           FROM members JOIN delta_tensors USING (tensor_id) GROUP BY number ORDER BY number""",
        {"groups": groups, "tensors": tensors},
    ).df()
    frame.insert(0, "region", [name for name, _ in chosen])
    frame.insert(1, "layers", pd.Series([text for _, text in chosen], dtype=object))
    return frame


def score_histogram(
    con: duckdb.DuckDBPyConnection,
    n_bars: int = 100,
    *,
    region: str = "transformer",
    layers: str | None = None,
    score: str = "relative",
) -> pd.DataFrame:
    """The weights of a region by score, for a figure: exact counts in bars of about equal width in log(score).

    score: any of the cube. Columns: low, high (the bar holds scores from low up to, not including, high),
    n, share (0 to 1, sums to 1). The first row is the scores 0 apart (low 0; they reach up to 9e-41, where
    normal bins begin); the others follow without gap from the smallest to the largest score above that.
    Edges are the cube's own bin edges, less than 0.8% from those of equal width; where the cube has fewer
    bins than bars were asked, there are fewer bars.

    Raises SpecError for an unknown region or score, layers the model does not have, less than one bar;
    CacheError when the cube is damaged.
    """
    if score not in SCORES:
        raise SpecError(f"score: got {score!r}; allowed: {', '.join(SCORES)}")
    if n_bars < 1:
        raise SpecError(f"n_bars: got {n_bars}; allowed: 1 or more")
    chosen = region_tensors(con, region, layers)
    frame = con.execute(
        """WITH bins AS (SELECT bin, n FROM ranked_bins($tensors, $score, false)),
           span AS (SELECT min(bin) AS first, max(bin) AS last FROM bins WHERE bin > 0),
           scale AS (
               SELECT first, last, ln(lower_edge(first)) AS start,
                   ln(lower_edge(last + 1)) - ln(lower_edge(first)) AS width
               FROM span WHERE first IS NOT NULL),
           placed AS (
               SELECT number,
                   floor((ln(lower_edge(number)) - start) / width * $n_bars) AS bar
               FROM scale, LATERAL (SELECT unnest(range(first, last + 1)) AS number)
               UNION ALL SELECT 0, -1)
           SELECT if(bar < 0, 0, lower_edge(min(number))) AS low, lower_edge(max(number) + 1) AS high,
               coalesce(sum(n), 0)::BIGINT AS n
           FROM placed LEFT JOIN bins ON bin = number GROUP BY bar ORDER BY bar""",
        {"tensors": chosen.tensor_ids, "score": score, "n_bars": n_bars},
    ).df()
    check_counted(con, score, int(frame["n"].sum()), chosen.n)
    return frame.assign(share=frame["n"] / chosen.n)


def _ranges(
    tensors: Sequence[PlacedTensor], regions: Sequence[str] | None, layers: Sequence[str | None]
) -> dict[tuple[str, str | None], RegionTensors]:
    """(region, layers) -> its tensors; regions None: those the model has in these layers."""
    if regions is not None:
        return {(name, text): resolved(tensors, name, text) for name in regions for text in layers}
    for text in layers:
        resolved(tensors, "all", text)  # says when there are no such layers
    found = {}
    for name in REGIONS:
        for text in layers:
            with suppress(SpecError):
                found[name, text] = resolved(tensors, name, text)
    return found
