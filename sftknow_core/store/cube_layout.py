"""How the parts of a table lie in Parquet: as they come, and the cube so that a question reads little of it.

    cube rows in any order  -->  by (score, tensor_id, bin), in row groups of ROWS_PER_GROUP

Every row group carries the smallest and largest value of its columns, so a query for one score, or for some
layers of it, passes over the others. What repeats is stored once, numbers that grow from row to row as
differences (Parquet's DELTA_BINARY_PACKED), and LZ4 unpacks faster than the Zstandard of the other tables:
most of the time that a question takes goes into reading.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

ROWS_PER_GROUP = 1 << 16
_ORDER = ("score", "tensor_id", "bin")
_REPEATED = ["run_id", "score", "tensor_id"]
_ENCODINGS = {"bin": "DELTA_BINARY_PACKED", "n": "DELTA_BINARY_PACKED"}


def laid_out(table: str, rows: pa.Table) -> tuple[pa.Table, dict[str, Any]]:
    """The rows of a part in the order to write them, and the options for `pyarrow.parquet.write_table`."""
    if table != "cube":
        return rows, {"compression": "zstd"}
    return rows.sort_by([(name, "ascending") for name in _ORDER]), {
        "compression": "lz4",
        "row_group_size": ROWS_PER_GROUP,
        "use_dictionary": _REPEATED,
        "column_encoding": _ENCODINGS,
    }
