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


def terminal_headers(source: str) -> Iterator[int]:
    """Lines where a table on a terminal has a header of its own, instead of a column of the registry."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func).rpartition(".")[2]
        if called == "add_column":
            given = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "header")]
        elif called == "table_of":
            given = [*node.args[1:], *(k.value for k in node.keywords if k.arg == "more")]
        else:
            continue
        texts = [one.value for value in given for one in ast.walk(value) if isinstance(one, ast.Constant)]
        if any(isinstance(text, str) and not _names_a_column(text, called) for text in texts):
            yield node.lineno


def _names_a_column(text: str, called: str) -> bool:
    """Whether the text is a column's name, or the beginning of several ones' in a formatted string."""
    return called == "table_of" and (text in COLUMNS or (text.endswith("_") and text + "0" in COLUMNS))


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


def test_no_table_on_a_terminal_has_a_header_of_its_own() -> None:
    files = [*(ROOT / "sftknow_core/present").glob("**/*.py"), *(ROOT / "sftknow_core/cli").glob("**/*.py")]
    found = [f"{p.relative_to(ROOT)}:{line}" for p in files for line in terminal_headers(p.read_text())]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        'table_of(title, "run_id", "base %")',
        'table_of(title, "run_id", more=["base %"])',
        'table_of(title, *(f"level {i}" for i in range(5)))',
        'table.add_column("base %")',
        'table.add_column(header="base %")',
    ],
)
def test_a_planted_header_on_a_terminal_is_found(source: str) -> None:
    assert list(terminal_headers(source)) == [1]


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


def test_headers_stand_in_the_order_asked_for() -> None:
    assert columns.headers("terminal.base", "n_train") == ["base (%)", "N"]


def test_an_unregistered_column_is_refused() -> None:
    with pytest.raises(KeyError):
        columns.of("made_up")


def test_the_papers_columns_are_registered_as_analysis_prints_them() -> None:
    assert columns.own("paper") == {n: Column(*about) for n, about in (PAPER_COLUMNS | FLIP_COLUMNS).items()}


def test_formats_can_print_a_number() -> None:
    for name, column in COLUMNS.items():
        assert column.format is None or column.format.format(0.5), name
        assert not column.is_share or column.unit in ("%", "pp") or name.startswith("paper."), name
