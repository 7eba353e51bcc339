"""The delta cube of one pair of models, opened for SQL: every question about the update without its weights.

`open_cube` gives an in-memory DuckDB over the Parquet parts of one finished run of kind "delta". In it are

    cube                  tensor_id, score, bin, n, sum_score, sum_d2: the histogram (store/schema.py)
    delta_tensors         one row a tensor: layer, kind, module, n_params, n_changed, sum_r, energy, ...
    null_shares           region, k_percent, null_share, null_sd, ...: shares after permuting the changes within tensors
    null_places           region, k_percent, tensor_id, n_restored: where the most changed would then be; both are empty
                          in runs of earlier versions
    region_tensors        region, tensor_id: which tensors make up each named region of this model
    cube_run              one row: run_id, base_id, tuned_id, base_name, tuned_name
    table3_concentration  } the paper's tables 3, 9 and 10 (arXiv 2509.16596) for this pair: its column names,
    table9_layers         } in percent, of the region transformer, ranked by r; error_pp bounds what the
    table10_modules       } boundary bin leaves open (results/cube.py), in percentage points

and the macros `lower_edge(bin)`, `upper_edge(bin)` (smallest and largest score of a bin), `ranked_bins`,
`cuts` and `places` (results/cube.py), which the functions of cube_selection.py call.
For example, the module in which most of the largest relative changes (r > 1) sit:

    SELECT module, sum(n) AS n FROM cube JOIN delta_tensors USING (tensor_id)
    WHERE score = 'relative' AND lower_edge(bin) > 1 GROUP BY module ORDER BY n DESC LIMIT 1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import duckdb

from sftknow_core.errors import CacheError, SpecError
from sftknow_core.results.run import Run
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import open_parts
from sftknow_core.store.ingest import up_to_date
from sftknow_core.store.schema import CUBE
from sftknow_core.update.region import REGIONS, Region
from sftknow_core.update.spec import Number, count_for, percent

if TYPE_CHECKING:
    from sftknow_core.model.io.layout import TensorMeta

# The SQL of the delta cube: macros that rank and cut a region, and the paper's tables as views.
#
# A bin of the cube is the top 16 bits of a float32 score, so a query knows of every bin its smallest and
# largest possible score (`lower_edge`, `upper_edge`), the number of its weights and the sums of their scores
# and of their squared changes. Taking the first x weights of a region then takes whole bins, and m of the N
# weights of one more, the boundary bin. What those m hold is put at m/N of what the bin holds:
#
# score    The m highest hold at least m/N of the bin's sum S, as their mean is no lower than the bin's mean
#          S/N. They hold at most m * high, and at most S - (N - m) * low, as the others are no lower than
#          `low`. So the true sum lies above m/N * S, by no more than
#
#              min(m * (high - S/N), (N - m) * (S/N - low)).
#
#          The m lowest mirror that: below, by no more than min(m * (S/N - low), (N - m) * (high - S/N)).
#          Both are reached by weights that lie at the edges: no tighter bound follows from the cube. Highest
#          first the error is below 0.8% of the sum taken, as a bin is less than 0.8% wide.
# energy   Ranked by |d| the same with squared edges, since d^2 grows with |d|. Ranked by r nothing is known of
#          d inside the bin: the m weights hold something between 0 and all of its energy E, so m/N * E is
#          off by at most max(m, N - m)/N * E.
# counts   How many of the m belong to a group (a layer, a module) with g of the N lies between
#          max(0, m - (N - g)) and min(m, g); put at m * g/N.
#
# The bounds are exact but for float64 rounding.

EDGES = (
    """CREATE MACRO lower_edge(number) AS
        (if(number < 128, 0, 1) + (number & 127) / 128) * pow(2.0, greatest(number >> 7, 1) - 127)""",
    """CREATE MACRO upper_edge(number) AS
        lower_edge(number) + (1 - pow(2.0, -16)) * pow(2.0, greatest(number >> 7, 1) - 134)""",
)
"""The smallest and the largest float32 of a bin; below 128 they are subnormal."""

INSIDE = (
    """CREATE MACRO share_taken(before, total, m, n, whole) AS
        least(coalesce(before + total * m / n, 0), whole) / nullif(whole, 0)""",
    """CREATE MACRO off_by_at_most(m, n, total, low, high, highest_first) AS
        greatest(0, if(highest_first,
            least(m * (high - total / n), (n - m) * (total / n - low)),
            least(m * (total / n - low), (n - m) * (high - total / n))))""",
)
"""The share interpolated inside a bin of n values; how far m/n * total can be from the sum of the m highest
(lowest) of n values between low and high."""

RANKED = """CREATE MACRO ranked_bins(tensors, which, highest_first) AS TABLE
    WITH bins AS (
        SELECT bin, sum(n)::BIGINT AS n, sum(sum_score) AS sum_score, sum(sum_d2) AS sum_d2
        FROM cube WHERE score = which AND tensor_id IN (SELECT unnest(tensors)) GROUP BY bin
    )
    SELECT *,
        coalesce(sum(n) OVER before, 0)::BIGINT AS n_before,
        coalesce(sum(sum_score) OVER before, 0) AS score_before,
        coalesce(sum(sum_d2) OVER before, 0) AS d2_before
    FROM bins
    WINDOW before AS (
        ORDER BY if(highest_first, -bin, bin) ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )"""
"""The bins of a region in the order of the score, each with what comes before it."""

CUTS = """CREATE MACRO cuts(tensors, which, highest_first, ks, counts) AS TABLE
    WITH ranked AS MATERIALIZED (FROM ranked_bins(tensors, which, highest_first)),
    whole AS (
        SELECT max(n_before + n) AS n_counted, max(score_before + sum_score) AS whole_score,
            max(d2_before + sum_d2) AS whole_d2,
            coalesce(sum(n) FILTER (WHERE bin > 0), 0)::BIGINT AS n_positive
        FROM ranked
    ),
    asked AS (
        SELECT unnest(range(len(counts))) AS place, unnest(ks) AS k_percent,
            unnest(counts)::BIGINT AS n_restored
    ),
    cut AS (
        SELECT asked.*, whole.*, ranked.*, n_restored - n_before AS m,
            lower_edge(bin) AS low, upper_edge(bin) AS high
        FROM asked CROSS JOIN whole
        LEFT JOIN ranked ON n_restored > n_before AND n_restored <= n_before + n
    )
    SELECT place, k_percent, n_restored, n_counted, n_positive,
        bin AS boundary_bin, low AS threshold_low, high AS threshold_high,
        share_taken(score_before, sum_score, m, n, whole_score) AS share,
        coalesce(off_by_at_most(m, n, sum_score, low, high, highest_first), 0)
            / nullif(whole_score, 0) AS share_error,
        share_taken(d2_before, sum_d2, m, n, whole_d2) AS energy,
        coalesce(CASE
            WHEN which = 'absolute' THEN off_by_at_most(m, n, sum_d2, low * low, high * high, highest_first)
            WHEN m < n THEN sum_d2 * greatest(m, n - m) / n
        END, 0) / nullif(whole_d2, 0) AS energy_error
    FROM cut"""
"""One row a count: the first `n_restored` weights of a region, their share of the score and of the energy."""

PLACES = """CREATE MACRO places(tensors, which, highest_first, n_taken) AS TABLE
    WITH asked AS (SELECT n_taken AS n_all),
    edge AS (
        SELECT bin AS edge_bin, n AS n_edge, n_all - n_before AS m
        FROM asked JOIN ranked_bins(tensors, which, highest_first)
            ON n_all > n_before AND n_all <= n_before + n
    ),
    taken AS (
        SELECT tensor_id,
            sum(n) FILTER (WHERE if(highest_first, bin > edge_bin, bin < edge_bin)) AS n_above,
            sum(n) FILTER (WHERE bin = edge_bin) AS n_on_edge
        FROM cube CROSS JOIN edge
        WHERE score = which AND tensor_id IN (SELECT unnest(tensors)) GROUP BY tensor_id
    ),
    grouped AS (
        SELECT layer, module, kind,
            CASE GROUPING(layer, module, kind)
                WHEN 3 THEN 'layer' WHEN 5 THEN 'module' WHEN 6 THEN 'kind' ELSE 'layer x module'
            END AS breakdown,
            min(position) AS place, sum(n_params)::BIGINT AS n,
            coalesce(sum(n_above), 0)::BIGINT AS n_above, coalesce(sum(n_on_edge), 0)::BIGINT AS g
        FROM delta_tensors LEFT JOIN taken USING (tensor_id)
        WHERE tensor_id IN (SELECT unnest(tensors))
        GROUP BY GROUPING SETS ((layer), (module), (kind), (layer, module))
    ),
    split AS (
        SELECT *, coalesce(m::DOUBLE * g / n_edge, 0) AS n_split,
            n / sum(n) OVER (PARTITION BY breakdown) AS weight_share
        FROM grouped CROSS JOIN asked LEFT JOIN edge ON true
    )
    SELECT breakdown, layer, module, kind, n, place,
        n_above + n_split AS n_restored,
        (n_above + n_split) / nullif(n_all, 0) AS share,
        weight_share,
        (n_above + n_split) / nullif(n_all, 0) / nullif(weight_share, 0) AS enrichment,
        coalesce(greatest(least(m, g) - n_split, n_split - greatest(0, m - (n_edge - g))), 0)
            / nullif(n_all, 0) AS share_error
    FROM split"""
"""Where the first `n_taken` weights of a region sit: one row a layer, module, kind, and layer x module."""

PAPER_TABLES = (
    """CREATE MACRO transformer_tensors() AS
        (SELECT list(tensor_id) FROM region_tensors WHERE region = 'transformer')""",
    """CREATE VIEW table3_concentration AS
        SELECT base_name AS model, k_percent AS top_percent,
            100 * share AS share_of_total_relative_change_percent, 100 * share_error AS error_pp
        FROM cube_run, cuts(transformer_tensors(), 'relative', true,
            (SELECT list(k_percent ORDER BY k_percent) FROM paper_ks WHERE in_table = 3),
            (SELECT list(n_restored ORDER BY k_percent) FROM paper_ks WHERE in_table = 3))
        ORDER BY top_percent""",
    """CREATE VIEW table9_layers AS
        SELECT base_name AS model, layer, 100 * share AS share_percent, k_percent, 100 * share_error AS error_pp
        FROM cube_run, paper_ks, places(transformer_tensors(), 'relative', true,
            (SELECT n_restored FROM paper_ks WHERE in_table = 9))
        WHERE in_table = 9 AND breakdown = 'layer' ORDER BY layer""",
    """CREATE VIEW table10_modules AS
        SELECT base_name AS model, module, 100 * share AS share_percent, k_percent,
            100 * share_error AS error_pp
        FROM cube_run, paper_ks, places(transformer_tensors(), 'relative', true,
            (SELECT n_restored FROM paper_ks WHERE in_table = 10))
        WHERE in_table = 10 AND breakdown = 'module' ORDER BY share_percent DESC, module""",
)
"""Tables 3, 9 and 10 of arXiv 2509.16596 for this pair: the paper's column names, percent, region transformer."""

MACROS = (*EDGES, *INSIDE, RANKED, CUTS, PLACES)
"""In the order in which they build on one another; the views build on them."""


PAPER_KS = ("1", "3", "5", "10", "20", "40", "60")
"""The k of the paper's concentration table, in percent."""


class PlacedTensor(NamedTuple):
    """What a region needs to know of a tensor, and what is counted of it; named as in `TensorMeta`."""

    tensor_id: int
    position: int
    name: str
    layer: int | None
    kind: str
    module: str
    numel: int
    n_changed: int


@dataclass(frozen=True)
class RegionTensors:
    """The tensors of a region, and their weights counted."""

    tensor_ids: list[int]
    n: int
    n_changed: int
    """Weights whose bits differ."""


def delta_run(cache: Cache, base_id: str, tuned_id: str) -> str | None:
    """The finished delta run of a pair of models (the newest, where versions differ), or None."""
    query = """SELECT run_id FROM runs
               JOIN run_inputs AS base USING (run_id) JOIN run_inputs AS tuned USING (run_id)
               WHERE kind = 'delta' AND base.role = 'base' AND base.input_id = $base_id
                 AND tuned.role = 'tuned' AND tuned.input_id = $tuned_id
               ORDER BY finished_at DESC, run_id LIMIT 1"""
    with up_to_date(cache) as con:
        found = con.execute(query, {"base_id": base_id, "tuned_id": tuned_id}).fetchone()
    return None if found is None else str(found[0])


def newest_deltas(cache: Cache) -> dict[tuple[str, str], str]:
    """(base_id, tuned_id) -> what `delta_run` gives, of all pairs."""
    query = """SELECT base.input_id, tuned.input_id, run_id FROM runs
               JOIN run_inputs AS base USING (run_id) JOIN run_inputs AS tuned USING (run_id)
               WHERE kind = 'delta' AND base.role = 'base' AND tuned.role = 'tuned'
               ORDER BY finished_at, run_id DESC"""
    with up_to_date(cache) as con:
        return {(base, tuned): run_id for base, tuned, run_id in con.execute(query).fetchall()}


@contextmanager
def open_cube(
    cache: Cache, run_id: str, k_percent: Number | None = "20"
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the tables, macros and views of the module's docstring; needs no lock.

    `k_percent` is the k of the views table9_layers and table10_modules, which name it. None is for who asks
    through functions only: without region_tensors and the paper's tables it opens a fifth faster. One
    thread computes, so that sums run in one order and the same question always gives the same digits. A
    connection serves one thread at a time; `.cursor()` gives another one.

    Raises GoneError, NotFinishedError, DamagedError, and SpecError for SQL that does not fit these tables.
    """
    k = None if k_percent is None else percent(k_percent)
    delta = DeltaRun(cache, run_id)
    delta.check()
    run = delta.folder
    with open_parts(cache, CUBE, [run_id]) as con:
        con.execute("SET threads = 1; SET parquet_metadata_cache = true")
        con.register("tensor_rows", run.read("delta_tensors"))
        con.execute("CREATE TABLE delta_tensors AS FROM tensor_rows ORDER BY position")
        con.unregister("tensor_rows")
        for name in ("null_shares", "null_places"):
            con.register(name, run.read(name))
        _add_run(con, run.description())
        con.execute(";".join(MACROS))
        if k is not None:
            _add_regions(con, {3: PAPER_KS, 9: [k], 10: [k]})
            con.execute(";".join(PAPER_TABLES))
        with _sql_explained(run_id):
            yield con


def region_tensors(con: duckdb.DuckDBPyConnection, region: str, layers: str | None = None) -> RegionTensors:
    """The tensors of a named region (update/region.py), of all layers or of "0-3,5".

    Raises SpecError for an unknown region, layers the model does not have, and a region it lacks.
    """
    return resolved(placed_tensors(con), region, layers)


def resolved(tensors: Sequence[PlacedTensor], region: str, layers: str | None = None) -> RegionTensors:
    """The same out of all tensors of a model, in canonical order."""
    metas = cast("Sequence[TensorMeta]", tensors)  # `resolve` reads only what both kinds of tensor have
    chosen = cast("Sequence[PlacedTensor]", Region(region, layers).resolve(metas))
    return RegionTensors(
        [t.tensor_id for t in chosen], sum(t.numel for t in chosen), sum(t.n_changed for t in chosen)
    )


def placed_tensors(con: duckdb.DuckDBPyConnection) -> list[PlacedTensor]:
    """All tensors of the model in canonical order."""
    rows = con.execute(
        "SELECT tensor_id, position, name, layer, kind, module, n_params, n_changed FROM delta_tensors "
        "ORDER BY position"
    ).fetchall()
    return [PlacedTensor._make(row) for row in rows]


def check_counted(con: duckdb.DuckDBPyConnection, score: str, n_counted: int | None, n_region: int) -> None:
    """Raises CacheError when the cube does not count every weight of a region under this score."""
    if n_counted != n_region:
        (run_id,) = con.execute("SELECT run_id FROM cube_run").fetchall()[0]
        raise CacheError(
            f"the cube of run {run_id} counts {n_counted or 0:,} of {n_region:,} weights by the score {score}: "
            f"it is damaged or of an earlier version. Delete it with `sftknow runs rm {run_id}`; "
            "`sftknow delta` makes it again."
        )


@dataclass(frozen=True)
class DeltaRun(Run):
    """A finished comparison of two models' weights."""

    KIND: ClassVar[str | None] = "delta"
    NAME: ClassVar[str] = "comparison of two models"
    HINT: ClassVar[str] = "`sftknow delta --base B --tuned T` makes one"


def _add_run(con: duckdb.DuckDBPyConnection, description: Mapping[str, Any]) -> None:
    inputs, about = description["inputs"], description.get("about", {})
    con.execute(
        "CREATE TABLE cube_run AS SELECT $run_id::VARCHAR AS run_id, $base::VARCHAR AS base_id, "
        "$tuned::VARCHAR AS tuned_id, $base_name::VARCHAR AS base_name, $tuned_name::VARCHAR AS tuned_name",
        {
            "run_id": description["run_id"],
            "base": inputs.get("base"),
            "tuned": inputs.get("tuned"),
            "base_name": about.get("base"),
            "tuned_name": about.get("tuned"),
        },
    )


def _add_regions(con: duckdb.DuckDBPyConnection, ks: Mapping[int, Sequence[Number]]) -> None:
    """Tables region_tensors and paper_ks; a model can lack a region, and without layers the views are empty."""
    tensors, found = placed_tensors(con), {}
    for name in REGIONS:
        with suppress(SpecError):
            found[name] = resolved(tensors, name)
    con.execute(
        "CREATE TABLE region_tensors AS SELECT unnest($1)::VARCHAR AS region, unnest($2)::BIGINT AS tensor_id",
        [
            [name for name in found for _ in found[name].tensor_ids],
            [tensor_id for chosen in found.values() for tensor_id in chosen.tensor_ids],
        ],
    )
    asked = [(table, k) for table in ks for k in ks[table] if "transformer" in found]
    con.execute(
        "CREATE TABLE paper_ks AS SELECT unnest($1)::INTEGER AS in_table, unnest($2)::DOUBLE AS k_percent, "
        "unnest($3)::BIGINT AS n_restored",
        [
            [table for table, _ in asked],
            [float(percent(k)) for _, k in asked],
            [count_for(found["transformer"].n, k) for _, k in asked],
        ],
    )


@contextmanager
def _sql_explained(run_id: str) -> Iterator[None]:
    try:
        yield
    except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
        raise SpecError(
            f"the query does not fit the cube of run {run_id}: {str(error).splitlines()[0]} Tables and views: "
            "cube, delta_tensors, null_shares, null_places, region_tensors, cube_run, table3_concentration, "
            "table9_layers, table10_modules."
        ) from error
