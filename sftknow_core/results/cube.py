"""The delta cube of one pair of models, opened for SQL: every question about the update without its weights.

`open_cube` gives an in-memory DuckDB over the Parquet parts of one finished run of kind "delta". In it are

    cube                  tensor_id, score, bin, n, sum_score, sum_d2: the histogram (store/schema.py)
    delta_tensors         one row a tensor: layer, kind, module, n_params, n_changed, sum_r, energy, ...
    region_tensors        region, tensor_id: which tensors make up each named region of this model
    cube_run              one row: run_id, base_id, tuned_id, base_name, tuned_name
    table3_concentration  } the paper's tables 3, 9 and 10 (arXiv 2509.16596) for this pair: its column names,
    table9_layers         } in percent, of the region transformer, ranked by r; error_pp bounds what the
    table10_modules       } boundary bin leaves open (results/cube_sql.py), in percentage points

and the macros `lower_edge(bin)`, `upper_edge(bin)` (smallest and largest score of a bin), `ranked_bins`,
`cuts` and `places` (results/cube_sql.py), which the functions of cube_selection.py and cube_places.py call.
For example, the module in which most of the largest relative changes (r > 1) sit:

    SELECT module, sum(n) AS n FROM cube JOIN delta_tensors USING (tensor_id)
    WHERE score = 'relative' AND lower_edge(bin) > 1 GROUP BY module ORDER BY n DESC LIMIT 1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import duckdb

from sftknow_core.errors import CacheError, SpecError
from sftknow_core.results.cube_sql import MACROS, PAPER_TABLES
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import open_parts
from sftknow_core.store.ingest import up_to_date
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.schema import CUBE
from sftknow_core.update.region import REGIONS, Region
from sftknow_core.update.spec import Number, count_for, percent

if TYPE_CHECKING:
    from sftknow_core.model.io.layout import TensorMeta

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


@contextmanager
def open_cube(
    cache: Cache, run_id: str, k_percent: Number | None = "20"
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the tables, macros and views of the module's docstring; needs no lock.

    `k_percent` is the k of the views table9_layers and table10_modules, which name it. None is for who asks
    through functions only: without region_tensors and the paper's tables it opens a fifth faster. One
    thread computes, so that sums run in one order and the same question always gives the same digits. A
    connection serves one thread at a time; `.cursor()` gives another one.

    Raises SpecError when there is no such finished run, and for SQL that does not fit these tables;
    CacheError for damage.
    """
    k = None if k_percent is None else percent(k_percent)
    run = _finished_delta(cache, run_id)
    with open_parts(cache, CUBE, [run_id]) as con:
        con.execute("SET threads = 1; SET parquet_metadata_cache = true")
        con.register("tensor_rows", run.read("delta_tensors"))
        con.execute("CREATE TABLE delta_tensors AS FROM tensor_rows ORDER BY position")
        con.unregister("tensor_rows")
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


def _finished_delta(cache: Cache, run_id: str) -> RunFolder:
    run = RunFolder(cache, run_id)
    if not run.root.is_dir() or run.spec.kind != "delta" or run.manifest() is None:
        raise SpecError(
            f"there is no finished comparison of two models {run_id} in {cache.root}; "
            "`sftknow delta --base B --tuned T` makes one"
        )
    if problems := run.problems():
        raise CacheError(
            f"run {run_id} is damaged ({', '.join(problems)}); repeating its `sftknow delta` makes it again"
        )
    return run


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
            "cube, delta_tensors, region_tensors, cube_run, table3_concentration, table9_layers, table10_modules."
        ) from error
