"""The parts that several figures draw: panels, points with intervals, curves, bands, reference lines, marks, one look.

A state is told apart by its symbol as well as by its colour: base a line, tuned a diamond, restored a circle,
k = 100% (layers = base) a square. Accuracies run `along` one axis, "x" or "y".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isnan, log10
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType
from plotly.subplots import make_subplots

from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.present.charts.palette import Palette, faded

NAMES = {"hybrid": "k = 100% (layers = base)"}
"""A state -> its name in a figure; the others are called as they are stored."""
STATES = ("base", "tuned", "restored")
"""In the order a reader follows them."""
REFERENCES = {
    "base": ("base", "dash"),
    "tuned": ("fine-tuned (k = 0)", "dash"),
}
"""A state -> the name and the dash of its line across a figure."""
K_ENDS = {0.0: "0<br>tuned", 100.0: "100<br>layers = base"}
"""Ticks of an axis of k that have a name."""
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
    figure = domain_panels(domains, n_questions, horizontal_spacing=0.04)
    if along == "x":
        figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%", title_text="accuracy", title_standoff=4)
    else:
        top = max(0.05, 1.06 * rows["high"].max()) if rows["high"].notna().any() else 1.0
        figure.update_yaxes(range=[-0.03 * top, top], tickformat=".0%")
        figure.update_yaxes(title_text="accuracy", col=1)
    return figure


def domain_panels(
    domains: Sequence[str], n_questions: Mapping[Any, int] | None = None, **more: Any
) -> go.Figure:
    """Empty panels beside each other, one a domain, with its name and its number of questions above."""
    titles = [f"<b>{DOMAIN_NAMES.get(d, d)}</b>" for d in domains]
    if n_questions is not None:
        titles = [f"{t}, {n_questions.get(d, 0):,} questions" for t, d in zip(titles, domains, strict=True)]
    return make_subplots(1, max(len(domains), 1), shared_yaxes=True, subplot_titles=titles, **more)


def add(figure: go.Figure, column: int, traces: Iterable[BaseTraceType | None]) -> None:
    """Draw the traces in one panel, from back to front; a name stands in the legend once. None draws nothing."""
    named = {trace.name for trace in figure.data if trace.showlegend}
    for trace in traces:
        if trace is not None:
            shown = trace.showlegend is not False and trace.name not in named
            figure.add_trace(trace.update(showlegend=shown), row=1, col=column)
            named |= {trace.name} if shown else set()


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
            f"error_{along}": arms(rows["accuracy"], rows["low"], rows["high"], colour),
        },
        **hovered(rows, along),
        mode="markers",
        marker={"symbol": symbol, "size": _SIZES[state], "color": colour, "line": line},
        name=NAMES.get(state, state),
    )


def curve(
    xs: Iterable[float],
    ys: Iterable[float],
    name: str,
    colour: str,
    *,
    symbol: str = "circle",
    size: float = 9,
    dash: str = "solid",
    width: float = 2,
    **more: Any,
) -> go.Scatter:
    """Points joined by a line.

    Args:
        more: further properties of the trace, such as those of `hovered`, or `error_y` from `arms`.
    """
    return go.Scatter(
        {
            "mode": "lines+markers",
            "line": {"color": colour, "width": width, "dash": dash},
            "marker": {"symbol": symbol, "size": size, "color": colour},
        }
        | more,
        x=list(xs),
        y=list(ys),
        name=name,
    )


def band(xs: Sequence[float], rows: pd.DataFrame, palette: Palette) -> go.Scatter:
    """The area between the ends of the intervals of a curve of restored models."""
    return go.Scatter(
        x=[*xs, *reversed(xs)],
        y=[*rows["high"], *reversed(rows["low"].tolist())],
        fill="toself",
        fillcolor=faded(palette.restored, 0.16),
        line={"width": 0},
        mode="lines",
        name="95% CI",
        hoverinfo="skip",
    )


def arms(
    values: pd.Series[float],
    low: pd.Series[float],
    high: pd.Series[float],
    colour: str,
    *,
    thickness: float = 1.3,
    opacity: float = 0.75,
) -> dict[str, Any]:
    """Error bars from the values to the ends of their intervals; none where there is no interval."""
    return {
        "array": (high - values).fillna(0).tolist(),
        "arrayminus": (values - low).fillna(0).tolist(),
        "thickness": thickness,
        "width": 0,
        "color": faded(colour, opacity),
    }


def reference(
    ends: Sequence[float],
    value: float,
    name: str,
    colour: str,
    dash: str,
    *,
    width: float = 1.8,
    said: str | None = None,
) -> go.Scatter:
    """A line across, for what does not depend on the other axis. said: the hover text; None: name and share."""
    return go.Scatter(
        x=list(ends),
        y=[value, value],
        mode="lines",
        line={"color": colour, "width": width, "dash": dash},
        name=name,
        hovertemplate=f"{said or f'{name}: <b>{value:.1%}</b>'}<extra></extra>",
    )


def references(
    rows: pd.DataFrame,
    ends: Sequence[float],
    palette: Palette,
    looks: Mapping[str, tuple[str, str]] = REFERENCES,
    width: float = 1.8,
) -> list[go.Scatter]:
    """Lines across for the states of `looks` that have an accuracy, with their intervals as hover text."""
    drawn = []
    for state, (name, dash) in looks.items():
        of = rows[(rows["state"] == state) & rows["accuracy"].notna()]
        for row in of.head(1).to_dict("records"):
            interval = interval_text(row["low"], row["high"], missing="")
            said = [f"{name}: <b>{row['accuracy']:.1%}</b>", interval, f"{row['n']:,} questions"]
            line = reference(
                ends, row["accuracy"], name, palette.of(state), dash, width=width,
                said="<br>".join(filter(None, said)),
            )  # fmt: skip
            drawn.append(line)
    return drawn


def mark_x(
    figure: go.Figure,
    at: float,
    text: str,
    palette: Palette,
    *,
    side: str = "center",
    width: float = 1.6,
    dash: str = "solid",
    size: int = 13,
    **where: int,
) -> None:
    """A vertical line with its name above the panel; nothing for NaN.

    Args:
        side: which side of the text stands at the line.
        where: row and col of the panel, where there are several.
    """
    if isnan(at):
        return
    is_log = figure.layout.xaxis.type == "log"  # such an axis takes a line's value, but a text's logarithm
    figure.add_vline(x=at, line={"color": palette.text, "width": width, "dash": dash}, **where)
    figure.add_annotation(
        x=log10(at) if is_log else at, y=1, yref="y domain", text=text, showarrow=False, xanchor=side,
        yanchor="bottom", font={"color": palette.text, "size": size}, **where,
    )  # fmt: skip


def side_in_percent(at: float) -> str:
    """The side of a text at `at` on an axis from 0 to 100%, such that it stays inside."""
    return "center" if 15 < at < 85 else "left" if at < 50 else "right"


def hatched(
    colour: str, shape: str, ground: str, *, size: int = 6, opacity: float = 0.9, solidity: float = 0.3
) -> dict[str, Any]:
    """Bars of one colour with a pattern of the ground's, so that they are told apart by more than colour."""
    pattern = {"shape": shape, "fillmode": "overlay", "fgcolor": ground, "fgopacity": opacity}
    return {
        "color": colour,
        "line": {"color": colour, "width": 1},
        "pattern": {**pattern, "size": size, "solidity": solidity},
    }


def histogram(low: Any, high: Any, heights: Any, **more: Any) -> go.Bar:
    """A bar over each interval from low to high (arrays), as wide as the interval; `more`: further properties."""
    return go.Bar(x=((low + high) / 2).tolist(), width=(high - low).tolist(), y=heights.tolist(), **more)


def heat_map(
    z: Any, colours: tuple[str, str], *, most: float, gap: int, said: Any, template: str, **more: Any
) -> go.Heatmap:
    """Cells shaded from 0 to `most`, with a gap between them and no scale beside them: they hold their numbers.

    Args:
        z: the values, row by row.
        colours: of 0 and of `most`.
        gap: between the cells, in pixels.
        said: customdata of each cell, for the hover `template`.
        more: further properties of the trace, such as its places and texts.
    """
    return go.Heatmap(
        z=z,
        zmin=0,
        zmax=most,
        colorscale=[[0, colours[0]], [1, colours[1]]],
        showscale=False,
        xgap=gap,
        ygap=gap,
        customdata=said,
        hovertemplate=f"{template}<extra></extra>",
        **more,
    )


def level_axis(figure: go.Figure, title: str, *, mean: float | None = None, room: float = 0.6) -> None:
    """Mastery levels 0 to 4 upwards, and below them their mean at the place `mean`."""
    means = [] if mean is None else [mean]
    figure.update_yaxes(
        tickvals=[*means, *range(5)],
        ticktext=[*("mean" for _ in means), *map(str, range(5))],
        range=[min(0, *means, 0) - room, 4 + room],
        showgrid=False,
    )
    figure.update_yaxes(title_text=title, col=1)


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


def texts(said: Iterable[str]) -> dict[str, Any]:
    """The properties of a trace whose points have one hover text each."""
    return {"customdata": [[text] for text in said], "hovertemplate": "%{customdata[0]}<extra></extra>"}


def hovered(rows: pd.DataFrame, along: str = "y") -> dict[str, Any]:
    """The properties of a trace whose points say their state, accuracy, interval and n."""
    return {"customdata": hover_data(rows), "hovertemplate": hover(along)}


def interval_text(low: Any, high: Any, form: str = ".1%", missing: str = "no interval: too few seeds") -> str:
    """ "95% CI 20.0% to 60.0%"; `missing` where there is none."""
    return missing if pd.isna(low) or pd.isna(high) else f"95% CI {low:{form}} to {high:{form}}"


def hover_data(rows: pd.DataFrame) -> list[list[Any]]:
    """Name, low, high and n of each point, for `hover`."""
    no_k = pd.Series(float("nan"), index=rows.index)
    ks = rows.get("k_percent", no_k)
    names = [
        NAMES.get(state, f"{state}, k = {k:g}%" if k > 0 else state)
        for state, k in zip(rows["state"], ks, strict=True)
    ]
    return [list(point) for point in zip(names, rows["low"], rows["high"], rows["n"], strict=True)]


def hover(along: str) -> str:
    """The hover text over `hover_data`."""
    return (
        f"%{{customdata[0]}}: <b>%{{{along}:.1%}}</b><br>95% CI %{{customdata[1]:.1%}} to "
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
