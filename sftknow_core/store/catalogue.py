"""Rows of runs: short tables from the catalogue, long ones straight from the Parquet parts without a lock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from sftknow_core.store.cache import Cache
from sftknow_core.store.ingest import up_to_date
from sftknow_core.store.opening import open_memory
from sftknow_core.store.run_folder import DONE, RunFolder
from sftknow_core.store.schema import table_named
from sftknow_core.store.table import SQL_TYPES, Table

_PART_ORDER = "filename, file_row_number"


def read_table(
    cache: Cache,
    name: str,
    *,
    run_ids: Iterable[str] | None = None,
    columns: Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Rows of a table of results (store/schema.py), of some runs or of all finished ones.

    where: column -> value, or a list of values, or None for NULL; all of them must hold.
    A long table of a run still under way gives the chunks committed so far. NULL is NaN in float columns and
    <NA> in integer and bool columns that allow it. Raises SftknowError for unknown names, CacheError for
    damage. Rows come by run_id, and within a run in the order they were written.
    """
    table = table_named(name)
    chosen = [table.column(column).name for column in (columns if columns is not None else table.names)]
    ids = None if run_ids is None else list(run_ids)
    conditions, values = _conditions(table, {**(where or {}), **({} if ids is None else {"run_id": ids})})
    query = f"SELECT {', '.join(chosen)} FROM {table.name} WHERE {conditions} ORDER BY run_id, {{as_written}}"
    if table.long:
        with open_parts(cache, table, ids) as con:
            rows = con.sql(query.format(as_written=_PART_ORDER), params=values or None).to_arrow_table()
    else:
        with up_to_date(cache) as con:
            rows = con.sql(query.format(as_written="rowid"), params=values or None).to_arrow_table()
    return _to_pandas(rows, table)


def runs_with_input(cache: Cache, input_id: str) -> list[str]:
    """The finished runs done to something (a model_id, a question_set_id, another run), oldest first."""
    query = """SELECT DISTINCT run_id, finished_at FROM run_inputs JOIN runs USING (run_id)
               WHERE input_id = ? ORDER BY finished_at, run_id"""
    with up_to_date(cache) as con:
        return [run_id for run_id, _ in con.execute(query, [input_id]).fetchall()]


@contextmanager
def open_parts(
    cache: Cache, table: Table, run_ids: Iterable[str] | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which a long table can be queried by its name; needs no lock.

    Columns that older parts lack are NULL. Rows have no order of their own (`_PART_ORDER` gives it back).
    """
    ids = run_ids if run_ids is not None else [path.parent.name for path in cache.runs.glob(f"*/{DONE}")]
    paths = [_not_a_glob(path) for run_id in ids for path in RunFolder(cache, run_id).part_paths(table.name)]
    with open_memory() as con:
        columns = ", ".join(f"{column.name} {SQL_TYPES[column.type]}" for column in table.columns)
        con.execute(f"CREATE TABLE declared ({columns}, filename VARCHAR, file_row_number BIGINT)")
        if paths:
            parts = con.read_parquet(paths, union_by_name=True, filename=True, file_row_number=True)
            parts.create_view("parts")
            con.execute(f"CREATE VIEW {table.name} AS FROM declared UNION ALL BY NAME FROM parts")
        else:
            con.execute(f"CREATE VIEW {table.name} AS FROM declared")
        yield con


def _not_a_glob(path: Path) -> str:
    """The path so that DuckDB takes none of its characters for a pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path))


def _conditions(table: Table, where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """SQL with placeholders, and their values."""
    parts, values = ["TRUE"], []
    for name, value in where.items():
        column = table.column(name).name
        if value is None:
            parts.append(f"{column} IS NULL")
        elif isinstance(value, str) or not isinstance(value, Iterable):
            parts.append(f"{column} = ?")
            values.append(value)
        elif chosen := list(value):
            parts.append(f"{column} IN (SELECT unnest(?))")
            values.append(chosen)
        else:
            parts.append("FALSE")
    return " AND ".join(parts), values


def _to_pandas(rows: pa.Table, table: Table) -> pd.DataFrame:
    """The same column types whatever the rows: Int64 and boolean where NULL may be, else int64 and bool."""
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame: pd.DataFrame = rows.to_pandas(types_mapper=nullable.get)
    plain = {"int": "int64", "bool": "bool"}
    fixed = [table.column(name) for name in rows.column_names if not table.column(name).nullable]
    return frame.astype({column.name: plain[column.type] for column in fixed if column.type in plain})
