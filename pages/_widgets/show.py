"""How pages show things: figures with their table, tables with units, messages instead of tracebacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from pandas.api.types import is_numeric_dtype
from streamlit.delta_generator import DeltaGenerator

from sftknow_core.errors import SftknowError
from sftknow_core.present.charts.palette import THEMES, Palette
from sftknow_core.present.columns import COLUMNS, Column
from sftknow_core.present.text.story import KeyNumber, Part

_SHARE, _COUNT, _PLAIN = "{:.1%}", "{:,.0f}", "{:g}"
_PRINTED = {
    "{:.1%}": "percent",
    "{:.2%}": "percent",
    "{:,.0f}": "%,d",
    "{:.0f}": "%d",
    "{:g}": "%g",
    "{:.1f}": "%.1f",
    "{:.2f}": "%.2f",
    "{:,.2f}": "%.2f",
    "{:.4g}": "%.4g",
}
"""A column's format in the browser's words, for long tables; percent has two places there."""
MOST_STYLED = 300
"""Rows of a table whose every cell is written here, not in the browser."""
IMAGES = ("PNG", "SVG")
"""What a figure can be saved as."""
_NOT_OFFERED = ["zoom2d", "pan2d", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"]
OPEN_AT_FIRST = False
"""Whether what is `shut` is open when a page is first seen."""
STYLE = """<style>
.block-container {padding: 2.4rem 2.5rem 3rem}
h1 {font-size: 2.1rem !important}
[data-testid="stMetricValue"] {font-size: 1.6rem}
[data-testid="stCaptionContainer"] {opacity: 0.85}
[data-testid="stMain"] button kbd, [data-testid="stMain"] button :has(> kbd) {opacity: 1 !important}
[data-testid="stMain"] button[data-testid^="stBaseButton-primary"]:not(:disabled) * {color: %s !important}
</style>"""
"""Less empty space around the page, numbers that fit into their cards, and small print that can be read: keys on
buttons, and what stands on a filled button (white would be faint on the dark theme's bright one)."""


@contextmanager
def messages() -> Iterator[None]:
    """Errors that are the cache's or the user's become a message, and the rest of the page is left out."""
    try:
        yield
    except SftknowError as error:
        st.error(str(error))
        st.stop()


def palette() -> Palette:
    """The colours for the theme the reader has chosen."""
    return THEMES.get(st.context.theme.type or "light", THEMES["light"])


def style() -> None:
    """Put `STYLE` into the page."""
    st.html(STYLE % palette().background)


def numbers(found: tuple[KeyNumber, ...], key: str = "numbers", width: int = 256) -> None:
    """Cards side by side, as many in a row as there is room for; width in pixels."""
    with st.container(horizontal=True, key=key):
        for number in found:
            with st.container(border=True, width=width, height="stretch", gap="xsmall"):
                st.markdown(f"**{number.name}**")
                for group, parts in _groups(number.parts).items():
                    if group:
                        st.caption(f"**{group}**")
                    for (label, part), column in zip(parts, st.columns(len(parts)), strict=True):
                        with column.container(gap=None):
                            st.metric(label, part.value)
                            st.caption(part.interval)
                st.caption(number.sentence)


def _groups(parts: Sequence[Part]) -> dict[str, list[tuple[str, Part]]]:
    """Rows of a card: what follows the comma of a label, "5-shot" in "in-domain, 5-shot", stands once above its row."""
    found: dict[str, list[tuple[str, Part]]] = {}
    for part in parts:
        label, _, group = part.label.partition(", ")
        found.setdefault(group, []).append((label, part))
    return found


def figure(
    drawn: go.Figure, table: pd.DataFrame, name: str, alt: str, columns: Mapping[str, Column] | None = None
) -> None:
    """A figure with a camera button, and below it its table to open and to download. columns: see `listed`.

    The camera saves what is on the screen, as the format chosen beside the table says.
    """
    choice, kept = f"{name}.image", f"{name}.saved_as"  # a widget that is not drawn forgets its value
    chosen = st.session_state.get(choice) or st.session_state.get(kept, IMAGES[0])
    st.session_state[kept] = chosen
    figure_alone(drawn, name, alt, chosen)
    if numbers_of_it := shut("Data", f"{name}.numbers"):
        with numbers_of_it:
            listed(table, name, alt, columns)
            st.segmented_control(
                "Format of the camera button",
                IMAGES,
                default=chosen,
                required=True,
                key=choice,
                help="PNG: pixels, twice the screen size. SVG: vector, for papers and slides.",
            )


def shut(label: str, key: str) -> DeltaGenerator | None:
    """An expander for what few readers open: the place for its content while it is open, else None.

    label: always the same, for Streamlit takes one with another label for another expander, which is shut.

    Tables and code that nobody sees would be a sixth of a page's work, and have the browser load what shows them.
    """
    place = st.expander(label, OPEN_AT_FIRST, key=key, on_change="rerun")
    return place if place.open else None


def figure_alone(drawn: go.Figure, name: str, alt: str, image: str = IMAGES[0]) -> None:
    """A figure with a camera button, whose table stands elsewhere. image: one of IMAGES."""
    colours = palette()
    drawn.update_layout(
        paper_bgcolor=colours.background,  # else a saved figure has pale text on nothing
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": colours.faint, "activecolor": colours.text},
    )
    st.plotly_chart(drawn, theme=None, key=f"{name}.figure", config=_camera(name, image), alt=alt)


def _camera(name: str, image: str) -> dict[str, Any]:
    """plotly's buttons: save the figure, and undo a zoom where a figure can be zoomed."""
    saved = {"format": image.lower(), "filename": name, "scale": 2 if image == "PNG" else 1}
    return {
        "displayModeBar": "hover",
        "displaylogo": False,
        "modeBarButtonsToRemove": _NOT_OFFERED,
        "toImageButtonOptions": saved,
    }


def listed(table: pd.DataFrame, name: str, alt: str, columns: Mapping[str, Column] | None = None) -> None:
    """A table with meanings and units in its header, and buttons to download just what it shows.

    columns: name -> column where a name means something else in this table (columns.table); by default COLUMNS.
    """
    named = {name: about for name, about in (columns or COLUMNS).items() if name in table}
    formats: dict[Any, str | Callable[[object], str] | None] = {
        name: about.format for name, about in named.items() if about.format
    }
    many = len(table) > MOST_STYLED
    headers = {name: _header(about, many and is_numeric_dtype(table[name])) for name, about in named.items()}
    shown = table if many else table.style.format(formats, na_rep="–")
    st.dataframe(shown, hide_index=True, column_config=headers, key=f"{name}.table", alt=alt, placeholder="–")
    downloads(table, name, at_once=not many)


def downloads(table: pd.DataFrame, name: str, *, at_once: bool = True) -> None:
    """Buttons that save a table as CSV and as Parquet. at_once: the CSV is short, and written unasked."""
    with st.container(horizontal=True):
        csv = partial(as_csv, table)
        st.download_button(
            "Download CSV",
            csv() if at_once else csv,
            f"{name}.csv",
            "text/csv",
            key=f"{name}.csv",
            on_click="ignore",
        )
        parquet_button(table, name, f"{name}.parquet")


def parquet_button(table: pd.DataFrame, name: str, key: str) -> None:
    """A button that saves a table as Parquet, written when it is asked for. name: of the file, without its ending."""
    st.download_button(
        "Download Parquet",
        partial(as_parquet, table),
        f"{name}.parquet",
        "application/vnd.apache.parquet",
        key=key,
        on_click="ignore",
    )


def _header(column: Column, printed: bool) -> Any:
    """A column's header; printed: with the format of its numbers, as a Styler would take seconds in a long table."""
    how = in_browser(column)
    if not printed or how is None:
        return st.column_config.Column(column.header, help=column.meaning or None)
    return st.column_config.NumberColumn(column.header, help=column.meaning or None, format=how)


def in_browser(column: Column) -> str | None:
    """How the browser writes a column's numbers; None for texts."""
    return _PRINTED.get(column.format, "plain") if column.format else None


def as_csv(table: pd.DataFrame) -> str:
    """The table as comma-separated values, its header first."""
    return table.to_csv(index=False)


def as_parquet(table: pd.DataFrame) -> bytes:
    """The table as a Parquet file; columns of mixed kinds become text, which is all that one column can hold then."""
    plain = table.reset_index(drop=True)
    for column in [name for name in plain if plain[name].dtype == object]:
        kinds = {type(value) for value in plain[column] if not _missing(value)}
        if len(kinds) > 1:
            plain[column] = [None if _missing(value) else str(value) for value in plain[column]]
    written: bytes = plain.to_parquet(index=False)
    return written


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def unfinished(runs: pd.DataFrame) -> None:
    """Runs under way or ended early, with the reason; nothing where there are none."""
    if not runs.empty:
        st.subheader("Not finished")
        listed(runs, "shared.unfinished", "Running, failed and stopped runs")
