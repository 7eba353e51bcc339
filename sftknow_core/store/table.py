"""What a table of results looks like: columns with a type and a meaning, and rows made to fit them.

    rows (list of dicts | pandas | pyarrow)  --conform-->  pyarrow table with exactly the declared columns

"Not scored" is NULL with a reason: NaN becomes NULL where NULL is allowed and is refused elsewhere;
infinities are refused everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftknow_core.errors import SftknowError
from sftknow_core.store.run_spec import canonical_json

Rows: TypeAlias = "Sequence[Mapping[str, Any]] | pd.DataFrame | pa.Table"

_ARROW = {
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "json": pa.string(),
    "texts": pa.list_(pa.string()),
    "ints": pa.list_(pa.int64()),
    "floats": pa.list_(pa.float64()),
}
SQL_TYPES = {
    "text": "VARCHAR",
    "int": "BIGINT",
    "float": "DOUBLE",
    "bool": "BOOLEAN",
    "json": "VARCHAR",
    "texts": "VARCHAR[]",
    "ints": "BIGINT[]",
    "floats": "DOUBLE[]",
}


@dataclass(frozen=True)
class Column:
    """One column: what stands in it, in which unit, and whether it may be NULL."""

    name: str
    type: str
    """text, int, float, bool, json (text), or a list of them: texts, ints, floats."""
    meaning: str
    """For people; names the unit where there is one."""
    nullable: bool = False

    @property
    def arrow(self) -> pa.DataType:
        """The column's type in Parquet."""
        return _ARROW[self.type]


@dataclass(frozen=True)
class Table:
    """One table: `run_id` first, then its columns."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    long: bool = False
    """Long tables stay in the Parquet parts; short ones are copied into the catalogue."""

    @property
    def names(self) -> list[str]:
        """The column names, in order."""
        return [column.name for column in self.columns]

    def column(self, name: str) -> Column:
        """One column. Raises SftknowError naming the columns there are."""
        for column in self.columns:
            if column.name == name:
                return column
        raise SftknowError(f"table {self.name} has no column {name!r}; it has: {', '.join(self.names)}")

    def conform(self, rows: Rows, run_id: str) -> pa.Table:
        """`rows` with exactly this table's columns and types; run_id filled in, absent nullable columns NULL.

        Raises SftknowError naming table and column for: an unknown column, a missing or NULL value where none
        may be, a value of another type, an infinity.
        """
        given = _columns_of(rows, self)
        self._check_names(given)
        n_rows = len(next(iter(given.values()))) if given else 0
        filled = {column.name: given.get(column.name) for column in self.columns}
        if filled["run_id"] is None:
            filled["run_id"] = pa.array([run_id] * n_rows, pa.string())
        arrays = [
            _typed(self, column, pa.nulls(n_rows, column.arrow) if values is None else values)
            for column, values in zip(self.columns, filled.values(), strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=self.arrow)

    @property
    def arrow(self) -> pa.Schema:
        """The table's schema in Parquet."""
        return pa.schema([pa.field(c.name, c.arrow, nullable=c.nullable) for c in self.columns])

    def _check_names(self, given: Mapping[str, Any]) -> None:
        unknown = [name for name in given if name not in self.names]
        missing = [
            c.name for c in self.columns if c.name not in given and not c.nullable and c.name != "run_id"
        ]
        if unknown:
            raise SftknowError(
                f"table {self.name} has no column {', '.join(unknown)}; it has: {', '.join(self.names)}. "
                f"New columns are declared in store/schema.py."
            )
        if missing and given:
            raise SftknowError(f"rows for table {self.name} lack {', '.join(missing)}")


def _columns_of(rows: Rows, table: Table) -> dict[str, Any]:
    """Column name -> pyarrow array or list of values."""
    if isinstance(rows, pd.DataFrame):
        rows = pa.Table.from_pandas(rows, preserve_index=False)
    if isinstance(rows, pa.Table):
        return {name: rows.column(name).combine_chunks() for name in rows.column_names}
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    found = {name: [row.get(name) for row in rows] for name in names}
    for column in table.columns:
        if column.type == "json" and column.name in found:
            found[column.name] = [_as_text(value) for value in found[column.name]]
    return found


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else canonical_json(value)


def _typed(table: Table, column: Column, values: Any) -> pa.Array:
    where = f"table {table.name}, column {column.name}"
    try:
        array = _as_array(column, values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise SftknowError(f"{where}: values are not of type {column.type} ({error})") from error
    _check_finite(where, array)
    if array.null_count and not column.nullable:
        raise SftknowError(f"{where}: {array.null_count} of {len(array)} values are NULL or NaN; none may be")
    return array


def _as_array(column: Column, values: Any) -> pa.Array:
    if isinstance(values, list):
        if column.type not in ("int", "float"):
            return pa.array(values, column.arrow)
        values = pa.array(values, pa.float64(), from_pandas=True) if _any_float(values) else pa.array(values)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    return values.cast(column.arrow)


def _any_float(values: list[Any]) -> bool:
    return any(isinstance(value, float) for value in values)


def _check_finite(where: str, array: pa.Array) -> None:
    numbers = array.flatten() if pa.types.is_list(array.type) else array
    if pa.types.is_floating(numbers.type) and pc.any(pc.invert(pc.is_finite(numbers))).as_py():
        raise SftknowError(f"{where}: an infinity, or a NaN in a list, is no value; write NULL and say why")
