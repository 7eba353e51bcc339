"""How reports are printed on a terminal: tables, lines, and how numbers are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Result = Mapping[str, Any]
_WIDTH_WITHOUT_TERMINAL = 120
PAPER_DEFINITION = (
    "accuracy: closed-book, mean over mastery levels 0 to 4, in %, with 95% interval; k: the most changed k% of the "
    "transformer layers put back to base"
)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)


def table_of(title: str | None, *columns: str) -> Table:
    """An empty table; the first column stands left, the others right."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def print_lines(*parts: Any) -> None:
    """Tables and lines, one below the other, as they are: nothing in them is markup."""
    console = _console()
    for part in parts:
        console.print(part, highlight=False, markup=False)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage without its sign; "-" for none."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def interval(row: Mapping[str, Any] | None) -> str:
    """ "31.7 [28.0, 35.6]" of an accuracy row; "-" where it was not scored."""
    if row is None or row["accuracy"] is None:
        return "-"
    return f"{percent(row['accuracy'])} [{percent(row['low'])}, {percent(row['high'])}]"


def points(share: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    return "-" if share is None else f"{100 * share:+.1f}"
