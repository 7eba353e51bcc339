"""A column of a table: header, meaning, format and unit; and the usual kinds. The registry is present/columns.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """What stands above a column, what it means, and how its numbers are written."""

    header: str
    meaning: str = ""
    """A phrase for the help of the header; "" where the header says it all."""
    format: str | None = None
    """A format string such as "{:.1%}"; None: values are shown as they are."""
    unit: str = ""
    """Unit of the numbers as printed, e.g. "%", "nats", "pp"; "" for texts and numbers without a unit."""

    @property
    def is_share(self) -> bool:
        """Whether the numbers are shares, 0 to 1, that are printed in percent."""
        return self.format is not None and self.format.endswith("%}")


def share(header: str, meaning: str, digits: int = 1) -> Column:
    """A share, 0 to 1, printed in percent."""
    return Column(header, meaning, f"{{:.{digits}%}}", "%")


def count(header: str, meaning: str = "", unit: str = "") -> Column:
    """A number of things."""
    return Column(header, meaning, "{:,.0f}", unit)


def change(header: str, meaning: str) -> Column:
    """A difference of shares, printed in percentage points with its sign."""
    return Column(header, meaning, "{:+.1%}", "pp")


def nats(header: str, meaning: str, digits: int = 2) -> Column:
    """A number of nats."""
    return Column(header, meaning, f"{{:.{digits}f}}", "nats")


def number(header: str, meaning: str = "", format: str = "{:g}", unit: str = "") -> Column:
    """Any other number."""
    return Column(header, meaning, format, unit)
