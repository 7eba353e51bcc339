"""Figures that put one measure of mastery beside another: R against expected mastery, one fact's templates and place.

A cell of the heat map counts facts; its colour is the logarithm of the count, and pointing at it gives the number.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log10
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sftknow_core.present.charts.marks import styled
from sftknow_core.present.charts.mastery import BORDERS
from sftknow_core.present.charts.palette import LIGHT, Palette, faded

_TICKS = (0, 5, 10, 15, 20)
_TICK_NAMES = ("0", "25%", "50%", "75%", "100%")


def expected_figure(cells: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """R (across) against expected mastery (up): how many facts fall into each cell; on the diagonal both agree.

    cells: see mastery_views.against_expected, with its 20 bins between 0 and 1 and a bin for 0.
    """
    n = 21
    counts: list[list[int]] = [[0] * n for _ in range(n)]
    for r_bin, expected_bin, n_facts in cells.itertuples(index=False):
        counts[int(expected_bin)][int(r_bin)] = int(n_facts)
    top = max((max(row) for row in counts), default=1) or 1
    powers = [10**i for i in range(len(str(top)))]
    scale = palette.levels
    figure = go.Figure()
    figure.add_heatmap(
        z=[[log10(count) if count else None for count in row] for row in counts],
        customdata=[
            [[_bin(x, "R = 0"), _bin(y, "expected at most one completion"), counts[y][x]] for x in range(n)]
            for y in range(n)
        ],
        colorscale=[[0, scale[0]], [0.5, scale[2]], [1, scale[4]]],
        zmin=0,
        zmax=max(log10(top), 0.3),
        xgap=1,
        ygap=1,
        hoverongaps=False,
        colorbar={
            "title": {"text": "facts"},
            "tickvals": [log10(p) for p in powers],
            "ticktext": [f"{p:,}" for p in powers],
            "thickness": 12,
            "outlinewidth": 0,
            "tickfont": {"color": palette.faint},
        },
        hovertemplate="R %{customdata[0]}<br>expected %{customdata[1]}<br><b>%{customdata[2]:,}</b> facts"
        "<extra></extra>",
    )
    figure.add_scatter(
        x=[-0.5, 20.5], y=[-0.5, 20.5], mode="lines", hoverinfo="skip", name="both equal",
        line={"color": palette.faint, "width": 1.3, "dash": "dash"},
    )  # fmt: skip
    for border in (0.5, 5.5, 10.5, 15.5):
        figure.add_vline(x=border, line={"color": palette.faint, "width": 1, "dash": "dot"})
        figure.add_hline(y=border, line={"color": palette.faint, "width": 1, "dash": "dot"})
    edges = [0, *(i + 0.5 for i in _TICKS[1:])]
    axis = {"tickvals": edges, "ticktext": _TICK_NAMES, "range": [-0.5, 20.5], "showgrid": False}
    figure.update_xaxes(**axis, title_text="R, sampled", title_standoff=4)
    figure.update_yaxes(**axis, title_text="expected mastery")
    figure.update_layout(showlegend=False)
    return styled(figure, palette, height=380, top=10, bottom=14)  # without the legend's room


def place_figure(fact: Mapping[str, Any], palette: Palette = LIGHT) -> go.Figure:
    """One fact's R with its 95% interval on the scale of levels, and its expected mastery.

    fact: a row of mastery_views.Mastered.facts with a level.
    """
    figure = go.Figure(layout=_bands(palette))
    arms = {}
    if fact["r_low"] is not None:
        arms = {
            "error_x": {
                "array": [fact["r_high"] - fact["r"]],
                "arrayminus": [fact["r"] - fact["r_low"]],
                "thickness": 2,
                "width": 7,
                "color": palette.text,
            }
        }
    figure.add_scatter(
        x=[fact["r"]], y=[0.62], mode="markers", name="R with its 95% interval",
        marker={"size": 12, "color": palette.base, "line": {"color": palette.text, "width": 1.5}},
        hovertemplate="R: <b>%{x:.1%}</b><extra></extra>", **arms,
    )  # fmt: skip
    if fact["expected_mastery"] is not None:
        figure.add_scatter(
            x=[fact["expected_mastery"]], y=[0.24], mode="markers", name="expected mastery",
            marker={"size": 11, "symbol": "diamond-open", "color": palette.text, "line": {"width": 2}},
            hovertemplate="expected: <b>%{x:.1%}</b><extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(
        range=[-0.02, 1.02], tickvals=[0, *BORDERS, 1], tickformat=".0%", showgrid=False,
        title_text="share of right completions", title_standoff=4,
    )  # fmt: skip
    figure.update_yaxes(range=[0, 1], visible=False)
    return styled(figure, palette, height=112, top=24, bottom=42)


def templates_figure(templates: pd.DataFrame, r: float, palette: Palette = LIGHT) -> go.Figure:
    """One fact by template: share of right completions as bars, the expected share as diamonds, R as a line.

    templates: see mastery_facts.templates_of; r: the fact's R, 0 to 1.
    """
    numbers = (templates["template"] + 1).tolist()
    figure = go.Figure()
    figure.add_bar(
        x=numbers, y=templates["share"].tolist(), name="right, sampled", width=0.68,
        customdata=templates[["n_correct", "n_samples"]].to_numpy().tolist(),
        marker={"color": faded(palette.base, 0.75), "line": {"color": palette.base, "width": 1}},
        hovertemplate="template %{x}: <b>%{customdata[0]} of %{customdata[1]}</b> right<extra></extra>",
    )  # fmt: skip
    if templates["expected"].notna().any():
        figure.add_scatter(
            x=numbers, y=templates["expected"].tolist(), name="expected", mode="markers",
            marker={"size": 9, "symbol": "diamond-open", "color": palette.text, "line": {"width": 1.8}},
            hovertemplate="template %{x}: expected <b>%{y:.1%}</b><extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=[0.4, max(numbers, default=1) + 0.6], y=[r, r], mode="lines", name=f"R = {r:.1%}", hoverinfo="skip",
        line={"color": palette.text, "width": 1.4, "dash": "dash"},
    )  # fmt: skip
    figure.update_xaxes(
        title_text="completion template", title_standoff=4, showgrid=False,
        tickvals=[i for i in numbers if i % 5 == 1], range=[0.3, max(numbers, default=1) + 0.7],
    )  # fmt: skip
    figure.update_yaxes(tickformat=".0%", range=[-0.04, 1.06], title_text="right completions")
    return styled(figure, palette, height=250, top=10)


def _bands(palette: Palette) -> dict[str, Any]:
    """Levels 1 to 4 as named bands over the width, in one piece: adding shapes one by one takes far longer."""
    scale = palette.levels
    bands, names = [], []
    for level, (low, high) in enumerate(zip((0.0, *BORDERS), (*BORDERS, 1.0), strict=True), start=1):
        band = {"type": "rect", "x0": low, "x1": high, "y0": 0, "y1": 1, "yref": "paper", "layer": "below"}
        bands.append({**band, "fillcolor": scale[level], "opacity": 0.32, "line": {"width": 0}})
        name = {"x": (low + high) / 2, "y": 1, "yref": "paper", "yanchor": "bottom", "text": f"level {level}"}
        names.append({**name, "showarrow": False, "font": {"color": palette.text}})
    line = {"color": palette.faint, "width": 1, "dash": "dot"}
    lines = [
        {"type": "line", "x0": b, "x1": b, "y0": 0, "y1": 1, "yref": "paper", "line": line} for b in BORDERS
    ]
    return {"shapes": [*bands, *lines], "annotations": names}


def _bin(number: int, zero: str) -> str:
    """Which values a bin holds."""
    return zero if number == 0 else f"above {(number - 1) / 20:.0%}, up to {number / 20:.0%}"
