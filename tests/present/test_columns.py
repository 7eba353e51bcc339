"""One registry of columns: what it gives, and that no header stands anywhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from sftknow_core.analysis.flips import FLIP_COLUMNS
from sftknow_core.analysis.paper_table import COLUMNS as PAPER_COLUMNS
from sftknow_core.present import columns
from sftknow_core.present.columns import COLUMNS, Column

ROOT = Path(__file__).parents[2]
HOMES = {"present/columns.py", "analysis/paper_table.py", "analysis/flips.py"}
"""analysis prints the paper's tables and owns their headers, which the registry takes in."""


def header_tables(source: str) -> Iterator[int]:
    """Lines of dictionaries whose values are (header, meaning, format), or streamlit's columns with a header."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict) and any(map(_is_header, node.values)):
            yield node.lineno


def _is_header(value: ast.expr) -> bool:
    if isinstance(value, ast.Call) and "column_config" in ast.unparse(value.func):
        return True
    if not (isinstance(value, ast.Tuple) and len(value.elts) == 3):
        return False
    header, meaning, form = value.elts
    written = form.value if isinstance(form, ast.Constant) else None
    return (
        all(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in (header, meaning))
        and isinstance(form, ast.Constant)
        and (written is None or (isinstance(written, str) and ("{" in written or "%" in written)))
    )


def test_no_header_stands_outside_the_registry() -> None:
    files = [*ROOT.glob("sftknow_core/**/*.py"), *ROOT.glob("pages/**/*.py")]
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in files
        if "/".join(path.parts[-2:]) not in HOMES
        for line in header_tables(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        'A = {"n": ("questions", "how many", "{:,.0f}")}',
        'A = {"answer": ("answer", "", None)}',
        'A = {"n": st.column_config.NumberColumn("n")}',
    ],
)
def test_a_planted_header_is_found(source: str) -> None:
    assert list(header_tables(source)) == [1]


def test_a_qualified_name_stands_under_the_name_in_the_table() -> None:
    found = columns.of("accuracy", "changes.low")
    assert list(found) == ["accuracy", "low"]
    assert found["low"] == COLUMNS["changes.low"] != COLUMNS["low"]
    assert columns.table("changes")["low"] == COLUMNS["changes.low"]
    assert columns.table("changes")["accuracy"] == COLUMNS["accuracy"]
    assert "accuracy" not in columns.own("changes")


def test_an_unregistered_column_is_refused() -> None:
    with pytest.raises(KeyError):
        columns.of("made_up")


def test_the_papers_columns_are_registered_as_analysis_prints_them() -> None:
    assert columns.own("paper") == {n: Column(*about) for n, about in (PAPER_COLUMNS | FLIP_COLUMNS).items()}


def test_formats_can_print_a_number() -> None:
    for name, column in COLUMNS.items():
        assert column.format is None or column.format.format(0.5), name
        assert not column.is_share or column.unit in ("%", "pp") or name.startswith("paper."), name
