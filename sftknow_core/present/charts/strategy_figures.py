"""All measured ways of taking an update back (results/strategies.py) -> one plotly figure."""

from __future__ import annotations

from itertools import cycle
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from sftknow_core.present.charts.marks import hover, panels, said_of, styled
from sftknow_core.present.charts.palette import DARK, LIGHT, Palette, faded

AXES = {
    "k": ("k_percent", 1.0, "parameters put back, k (% of the region)"),
    "changed": ("k_of_changed_percent", 1.0, "changed parameters put back (% of those that changed)"),
    "update": ("energy_taken_back", 100.0, "update taken back (% of the squared change)"),
}
"""Choice of axis -> column, factor to percent, title; the choices of the page "Restore"."""
POINTS_ONLY = frozenset({"block", "all-but-block"})
"""Strategies whose states lie on no common curve."""


class Look(NamedTuple):
    """How a strategy is drawn: colours on light and on dark ground, symbol and dash."""

    light: str
    dark: str
    symbol: str
    dash: str


_LOOKS = {
    "top": Look(LIGHT.restored, DARK.restored, "circle", "solid"),
    "largest": Look("#7b3fa0", "#c79bf0", "triangle-up", "dash"),
    "random": Look("#5a605d", "#a9b0ad", "cross", "dot"),
    "bottom": Look("#1d5fa8", "#6cb0f2", "triangle-down", "dashdot"),
    "smallest": Look("#a3235c", "#f28ab8", "star", "longdash"),
    "interpolation": Look("#5d6b00", "#c3d14a", "square", "longdashdot"),
}
_OTHERS = (
    Look("#7b3fa0", "#c79bf0", "pentagon", "solid"),
    Look("#a3235c", "#f28ab8", "hexagon", "dash"),
    Look("#5d6b00", "#c3d14a", "bowtie", "dot"),
    Look("#1d5fa8", "#6cb0f2", "hourglass", "dashdot"),
)
_ACROSS = {
    "five-shot": ("base after five examples", "dot"),
    "base": ("base", "longdash"),
    "tuned": ("tuned, nothing put back", "dash"),
}


def strategies_figure(rows: pd.DataFrame, axis: str, palette: Palette = LIGHT) -> go.Figure:
    """Accuracy over what was put back, one line a strategy, with base, tuned and five-shot as lines across.

    rows: strategy_views.measured_ways of one split. axis: one of AXES; states that have no place on it (interpolation
    has no k) are left out. Every line starts at tuned, where nothing is put back. Bars: 95% intervals.
    """
    column_of, factor, title = AXES[axis]
    domains = list(rows["domain"].unique())
    figure = panels(domains, rows, dict(rows.groupby("domain")["n"].max()))
    looks = looks_of(rows)
    for column, domain in enumerate(domains, start=1):
        of_domain = rows[rows["domain"] == domain]
        traces = [_across(of_domain, state, palette) for state in _ACROSS]
        tuned = of_domain[of_domain["state"] == "tuned"]
        for name, look in looks.items():
            own = of_domain[(of_domain["line"] == name) & of_domain[column_of].notna()]
            traces.append(_line(own, tuned, column_of, factor, name, look, palette))
        for trace in traces:
            if trace is not None:
                figure.add_trace(trace.update(showlegend=column == 1), row=1, col=column)
    figure.update_xaxes(range=[-4, 104], ticksuffix="%", title_text=title, title_standoff=4)
    return styled(figure, palette, height=420, top=36, bottom=64)


def looks_of(rows: pd.DataFrame) -> dict[str, Look]:
    """Name of a line -> its look: the same for a strategy on every page; a second line of it takes another one."""
    others, found = cycle(_OTHERS), {}
    for name in dict.fromkeys(name for name in rows["line"] if name):
        found[name] = _LOOKS[name] if name in _LOOKS else next(others)
    return found


def _line(
    own: pd.DataFrame,
    tuned: pd.DataFrame,
    column: str,
    factor: float,
    name: str,
    look: Look,
    palette: Palette,
) -> go.Scatter | None:
    if own.empty:
        return None
    colour = look.dark if palette == DARK else look.light
    curve = own.sort_values(column, kind="stable")
    joined = name.split(",")[0] not in POINTS_ONLY
    if joined and len(tuned):
        curve = pd.concat([tuned, curve])
    up, down = (curve["high"] - curve["accuracy"]).tolist(), (curve["accuracy"] - curve["low"]).tolist()
    arms: dict[str, Any] = {"array": up, "arrayminus": down, "thickness": 1.2, "width": 0}
    return go.Scatter(
        x=(curve[column] * factor).tolist(),
        y=curve["accuracy"].tolist(),
        customdata=_said(curve, name),
        mode="lines+markers" if joined else "markers",
        line={"color": colour, "width": 2.2, "dash": look.dash},
        marker={"symbol": look.symbol, "size": 10, "color": colour},
        error_y={**arms, "color": faded(colour, 0.45)},
        name=name,
        hovertemplate="%{customdata[4]}<br>" + hover("y"),
    )


def _said(rows: pd.DataFrame, name: str) -> list[list[Any]]:
    """What a point says: marks.said_of, and what was taken back."""
    found = []
    for said, row in zip(said_of(rows), rows.to_dict("records"), strict=True):
        how = row["block"] if isinstance(row["block"], str) else ""
        how = f"α = {row['alpha']:g}" if not pd.isna(row["alpha"]) else how
        said[0] = said[0] if not how else f"{said[0]}, {how}"
        found.append([*said, f"{name}: {row['energy_taken_back']:.1%} of the update taken back"])
    return found


def _across(rows: pd.DataFrame, state: str, palette: Palette) -> go.Scatter | None:
    """A line across for what no k reaches, and for tuned."""
    of_state = rows[rows["state"] == state].iloc[:1]
    if of_state.empty:
        return None
    name, dash = _ACROSS[state]
    return go.Scatter(
        x=[0, 100],
        y=of_state["accuracy"].tolist() * 2,
        customdata=said_of(of_state) * 2,
        mode="lines",
        line={"color": palette.of(state), "width": 1.8, "dash": dash},
        name=name,
        hovertemplate=hover("y"),
    )
