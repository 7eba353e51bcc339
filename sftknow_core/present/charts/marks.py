"""What the figures are made of: panels with one scale, points with intervals, lines between states, one look.

A state is told apart by its symbol as well as by its colour: base a line, tuned a diamond, restored a circle,
hybrid a square. Accuracies run `along` one axis, "x" or "y".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.present.charts.palette import Palette, faded

STATES = ("base", "tuned", "restored")
"""In the order a reader follows them."""
_SYMBOLS = {"base": "line-ew-open", "tuned": "diamond", "restored": "circle", "hybrid": "square"}
_SIZES = {"base": 14, "tuned": 11, "restored": 10, "hybrid": 10}
_LEGEND_PIXELS = 36
_FONTS = '"Source Sans", "Source Sans Pro", sans-serif'
_LEGEND = {
    "orientation": "h",
    "yref": "container",
    "y": 0,
    "yanchor": "bottom",
    "x": 0.5,
    "xanchor": "center",
}


def panels(
    domains: Sequence[str], rows: pd.DataFrame, n_questions: Mapping[Any, int], along: str = "y"
) -> go.Figure:
    """One panel a domain; accuracies start at 0 (with room for a marker) and have one scale."""
    titles = [f"<b>{DOMAIN_NAMES.get(d, d)}</b>, {n_questions[d]:,} questions" for d in domains]
    figure = make_subplots(
        1, max(len(domains), 1), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04
    )
    if along == "x":
        figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%", title_text="accuracy", title_standoff=4)
    else:
        top = max(0.05, 1.06 * rows["high"].max()) if rows["high"].notna().any() else 1.0
        figure.update_yaxes(range=[-0.03 * top, top], tickformat=".0%")
        figure.update_yaxes(title_text="accuracy", col=1)
    return figure


def points(
    rows: pd.DataFrame, places: Sequence[float], state: str, palette: Palette, *, along: str
) -> go.Scatter:
    """The markers of one state with their intervals, at `places` on the other axis."""
    colour = palette.of(state)
    symbol = _SYMBOLS[state].replace("-ew-", "-ns-") if along == "x" else _SYMBOLS[state]
    line = {"width": 3, "color": colour} if state == "base" else {"width": 1, "color": palette.background}
    return go.Scatter(
        {
            along: rows["accuracy"].tolist(),
            across(along): list(places),
            f"error_{along}": _arms(rows, colour),
        },
        customdata=hover_data(rows),
        mode="markers",
        marker={"symbol": symbol, "size": _SIZES[state], "color": colour, "line": line},
        name=state,
        hovertemplate=hover(along),
    )


def joined(
    rows: pd.DataFrame,
    places: pd.Series[float],
    by: str,
    palette: Palette,
    *,
    along: str,
    states: Sequence[str],
) -> go.Scatter:
    """Thin lines from state to state, one for each value of the column `by`."""
    accuracies: list[float | None] = []
    positions: list[float | None] = []
    for _, group in rows[rows["state"].isin(states)].groupby(by, sort=False):
        ordered = group.sort_values("state", key=lambda s: s.map(states.index))
        accuracies += [*ordered["accuracy"], None]
        positions += [*places[ordered.index], None]
    return go.Scatter(
        {along: accuracies, across(along): positions},
        mode="lines",
        line={"color": faded(palette.faint, 0.6), "width": 1.4},
        hoverinfo="skip",
        showlegend=False,
    )


def across(along: str) -> str:
    """The other axis."""
    return "y" if along == "x" else "x"


def hover_data(rows: pd.DataFrame) -> list[list[Any]]:
    """What a point says when one points at it: name, low, high, n."""
    no_k = pd.Series(float("nan"), index=rows.index)
    ks = rows.get("k_percent", no_k)
    names = [f"{state}, k = {k:g}%" if k > 0 else state for state, k in zip(rows["state"], ks, strict=True)]
    return [list(point) for point in zip(names, rows["low"], rows["high"], rows["n"], strict=True)]


def hover(along: str) -> str:
    """The template for `said_of`."""
    return (
        f"%{{customdata[0]}}: <b>%{{{along}:.1%}}</b><br>95% interval %{{customdata[1]:.1%}} to "
        "%{customdata[2]:.1%}<br>%{customdata[3]:,} questions<extra></extra>"
    )


def styled(figure: go.Figure, palette: Palette, *, height: int, top: int = 30, bottom: int = 56) -> go.Figure:
    """The look all figures share; the page's background shows through."""
    laid_out(
        figure,
        {
            "template": "none",
            "height": height + _LEGEND_PIXELS,
            "margin": {"l": 8, "r": 8, "t": top, "b": bottom + _LEGEND_PIXELS},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": _FONTS, "size": 13, "color": palette.text},
            "legend": _LEGEND,
            "hoverlabel": {"bgcolor": palette.background, "font": {"color": palette.text}},
            "dragmode": False,
        },
        axes={
            "gridcolor": palette.grid,
            "zeroline": False,
            "tickfont": {"color": palette.faint},
            "automargin": True,
            "fixedrange": True,
        },
        xaxes={"showline": True, "linecolor": palette.grid, "tickangle": 0},
    )
    return figure


def laid_out(
    figure: go.Figure,
    layout: Mapping[str, Any],
    *,
    axes: Mapping[str, Any] | None = None,
    xaxes: Mapping[str, Any] | None = None,
) -> None:
    """Set parts of the layout in one go; axes: of all axes, xaxes: of the x axes besides.

    plotly's own update_layout and update_xaxes take ten times as long: they look up every name in dotted form, twice.
    """
    given: dict[str, Any] = figure.layout.to_plotly_json()
    _merge(given, layout)
    for name in ("xaxis", "yaxis"):
        given.setdefault(name, {})
    for name, axis in given.items():
        if name.startswith(("xaxis", "yaxis")):
            _merge(axis, axes or {})
            _merge(axis, (xaxes or {}) if name.startswith("x") else {})
    figure.layout = given


def _merge(given: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, Mapping):
            _merge(given.setdefault(name, {}), value)
        else:
            given[name] = value


def _arms(rows: pd.DataFrame, colour: str) -> dict[str, Any]:
    """From a point to the ends of its interval."""
    up, down = (rows["high"] - rows["accuracy"]).tolist(), (rows["accuracy"] - rows["low"]).tolist()
    return {"array": up, "arrayminus": down, "thickness": 1.3, "width": 0, "color": faded(colour, 0.75)}
