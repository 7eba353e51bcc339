from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from fake_runs import accuracy_row, mastery_rows, template_rows

from sftknow_core.errors import SftknowError
from sftknow_core.store.opening import create_tables, open_memory
from sftknow_core.store.schema import SHORT_TABLES, TABLES, docs, table_named
from sftknow_core.store.table import SQL_TYPES


def test_every_table_and_column_has_a_meaning_and_is_documented() -> None:
    text = docs()
    for table in TABLES.values():
        assert len(table.meaning) > 10 and f"## {table.name}\n" in text
        assert table.columns[0].name == "run_id"
        assert len(set(table.names)) == len(table.names)
        for column in table.columns:
            assert len(column.meaning) > 5, (table.name, column.name)
            assert f"| {column.name} | {column.type} |" in text


def test_catalogue_has_exactly_the_declared_columns() -> None:
    with open_memory() as con:
        create_tables(con)
        for table in SHORT_TABLES:
            found = con.execute(
                "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
                "WHERE table_name = ? ORDER BY ordinal_position",
                [table.name],
            ).fetchall()
            declared = [(c.name, SQL_TYPES[c.type], "YES" if c.nullable else "NO") for c in table.columns]
            assert found == declared


def test_rows_of_three_forms_become_the_same_table() -> None:
    """0.0 stays 0.0, None and NaN become NULL; run_id and absent nullable columns are filled in."""
    table = table_named("mastery_templates")
    rows = [{**template_rows(0)[0], "expected": 0.0}, {**template_rows(0)[1], "expected": None}]
    frame = pd.DataFrame(rows)
    assert np.isnan(frame["expected"][1])
    expected = table.conform(rows, "r")
    assert expected.to_pylist()[1] == {"run_id": "r", **rows[1]}
    assert expected.schema == table.arrow
    assert table.conform(frame, "r") == expected
    assert table.conform(pa.Table.from_pylist(rows), "r") == expected
    assert table.conform([{**rows[0]}, {**rows[1], "expected": np.float32("nan")}], "r") == expected


def test_no_rows_give_an_empty_table() -> None:
    for name, table in TABLES.items():
        assert table.conform([], "r").schema == table.arrow, name


def test_json_columns_take_dicts() -> None:
    row = {
        "state_id": "s",
        "kind": "restored",
        "base_id": "b",
        "tuned_id": "t",
        "spec": {"k": 20.0, "a": [1]},
    }
    assert table_named("states").conform([row], "r")["spec"].to_pylist() == ['{"a":[1],"k":20}']


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"colour": 1}, "table mastery has no column colour; it has: run_id, fact_id"),
        ({"topic": None}, "table mastery, column topic: 1 of 1 values are NULL or NaN"),
        ({"n_correct": 1.5}, "table mastery, column n_correct: values are not of type int"),
        ({"r": "much"}, "table mastery, column r: values are not of type float"),
        ({"r": float("inf")}, "table mastery, column r: an infinity"),
        ({"n_samples": float("nan")}, "column n_samples: 1 of 1 values are NULL or NaN"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(SftknowError, match=why):
        table_named("mastery").conform([{**mastery_rows(0)[1], **change}], "r")


def test_missing_columns_and_unknown_tables_are_named() -> None:
    row = accuracy_row("s", 1, 0.5)
    del row["matcher"], row["n"]
    with pytest.raises(SftknowError, match="rows for table accuracies lack matcher, n"):
        table_named("accuracies").conform([row], "r")
    with pytest.raises(SftknowError, match="there is no table 'anwsers'; there are: models, states"):
        table_named("anwsers")
