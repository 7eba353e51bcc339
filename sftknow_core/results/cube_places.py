"""Where changes sit, how large they are, and what there is to draw, by SQL from the delta cube alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import duckdb
import pandas as pd

from sftknow_core.errors import SpecError
from sftknow_core.results.cube import (
    PlacedTensor,
    RegionTensors,
    check_counted,
    placed_tensors,
    region_tensors,
    resolved,
)
from sftknow_core.results.cube_selection import EPS_OF, check_ranking
from sftknow_core.update.region import REGIONS
from sftknow_core.update.spec import Number, count_for

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
