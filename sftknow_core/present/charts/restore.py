"""Tables of the slider (results/weights.py, results/measured.py) -> plotly figures that mark the current k."""

from __future__ import annotations

from itertools import cycle
from math import isnan, log10
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sftknow_core.present.charts.marks import hover, hover_data, panels, points, styled
from sftknow_core.present.charts.palette import DARK, LIGHT, Palette, faded
from sftknow_core.results.weights import Selection
from sftknow_core.update.strategies import STRATEGIES

AXES = {
    "k": ("k_percent", 1.0, "parameters put back, k (% of the region)"),
    "changed": ("k_of_changed_percent", 1.0, "changed parameters put back (% of those that changed)"),
    "update": ("energy_taken_back", 100.0, "update taken back (% of the squared change)"),
}
"""Choice of axis -> column, factor to percent, title."""
_ACROSS = {
    "five-shot": ("base after five examples", "dot"),
    "base": ("base", "longdash"),
    "tuned": ("tuned, nothing put back", "dash"),
}
_PIXELS_A_BAR = 22


def measured_figure(rows: pd.DataFrame, axis: str, now: float, palette: Palette = LIGHT) -> go.Figure:
    """Accuracy over what was put back, with 95% bands, base, tuned and five-shot as lines, and the current k.

    rows: Chain.measured of one split, without levels. axis: one of AXES. now: the current k on that
    axis, in percent; NaN where it is not known.
    """
    column_of, factor, title = AXES[axis]
    domains = list(rows["domain"].unique())
    figure = panels(domains, rows, dict(rows.groupby("domain")["n"].max()))
    for column, domain in enumerate(domains, start=1):
        of_domain = rows[rows["domain"] == domain]
        curve = of_domain[of_domain[column_of].notna() & of_domain["accuracy"].notna()]
        curve = curve.sort_values(column_of, kind="stable")
        xs = (curve[column_of] * factor).tolist()
        traces = [_band(curve, xs, palette), *_lines_across(of_domain, palette), _curve(curve, xs, palette)]
        for state in ("tuned", "hybrid"):
            ends = curve[curve["state"] == state]
            if len(ends):
                end = points(ends, (ends[column_of] * factor).tolist(), state, palette, along="y")
                traces.append(end.update(error_y=None, marker_size=12, overwrite=False))
        for trace in traces:
            figure.add_trace(trace.update(showlegend=column == 1), row=1, col=column)
        _mark_now(figure, now, palette, row=1, col=column)
    figure.update_xaxes(range=[-4, 104], ticksuffix="%", title_text=title, title_standoff=4)
    figure.update_annotations(selector={"yref": "paper"}, yshift=18)
    return styled(figure, palette, height=400, top=48)


def reverted_figure(curve: pd.DataFrame, now: float, score: str, palette: Palette = LIGHT) -> go.Figure:
    """The share of the summed score and of the update that the first k% hold, the null, and the current k.

    curve: Cube.curve. score: "r" or "|d|", by which they are ranked. The axis of k is
    logarithmic where the share rises at once, so that its first percent can be seen.
    """
    steep = bool(curve.loc[curve["k_percent"] <= 1, "share"].max() > 0.1)
    rows = curve[curve["k_percent"] > 0] if steep else curve
    lines = [
        ("share", f"share of the summed {score}", palette.restored, "solid", 2.6),
        ("null_share", "the same, changes dealt out at random", palette.faint, "dash", 1.8),
        ("energy_taken_back", "update taken back (squared change)", palette.ceiling, "dot", 2.2),
    ]
    figure = go.Figure()
    for name, title, colour, dash, width in lines:
        if rows[name].notna().any():
            look = {"color": colour, "dash": dash, "width": width}
            said = f"k = %{{x:g}}%: <b>%{{y:.1%}}</b> {title}<extra></extra>"
            xs, ys = rows["k_percent"].tolist(), rows[name].tolist()
            figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line=look, name=title, hovertemplate=said))
    figure.update_yaxes(range=[-0.03, 1.05], tickformat=".0%", title_text="share held by the first k%")
    figure.update_xaxes(title_text="parameters put back, k (%)", title_standoff=4)
    if steep:
        ticks = [0.01, 0.1, 1, 3, 10, 30, 100]
        figure.update_xaxes(
            type="log", range=[-2.05, 2.05], tickvals=ticks, ticktext=[f"{t:g}" for t in ticks]
        )
    else:
        figure.update_xaxes(range=[-2, 102])
    _mark_now(figure, now if now > 0 or not steep else float("nan"), palette)
    return styled(figure, palette, height=340, top=40, bottom=76)


def places_figure(
    layers: pd.DataFrame, modules: pd.DataFrame, k_percent: float, palette: Palette = LIGHT
) -> go.Figure:
    """The part of each layer and of each module that is put back; the line is k, where enrichment is 1.

    layers, modules: see weights.Places. k_percent: of the whole region.
    """
    found = [(name, rows) for name, rows in (("layer", layers), ("module", modules)) if len(rows)]
    names = [f"<b>by {name}</b>" for name, _ in found]
    figure = make_subplots(1, max(len(found), 1), subplot_titles=names, horizontal_spacing=0.24)
    for column, (name, rows) in enumerate(found, start=1):
        figure.add_trace(_bars(name, rows, palette), row=1, col=column)
        line = {"color": palette.text, "width": 1.4, "dash": "dash"}
        figure.add_vline(x=k_percent / 100, line=line, row=1, col=column)
    tops = [float((rows["n_restored"] / rows["n"]).max()) for _, rows in found]
    top = max([*tops, k_percent / 100, 1e-6])
    figure.update_xaxes(range=[0, 1.06 * top], tickformat=".0%" if top > 0.05 else ".2%", nticks=6)
    figure.update_xaxes(title_text="put back of each", title_standoff=4)
    figure.update_yaxes(type="category", autorange="reversed", ticklabelstandoff=6)
    return styled(
        figure, palette, height=90 + _PIXELS_A_BAR * max([len(r) for _, r in found], default=1), bottom=20
    )


def share_of(numbers: Selection) -> float:
    """The reverted share of the region, in percent."""
    return 100 * numbers.n_restored / numbers.n_region


def listed_places(layers: pd.DataFrame, modules: pd.DataFrame) -> pd.DataFrame:
    """Layers and modules of `places_figure` in one table."""
    tables = [
        rows.rename(columns={by: "group", "n": "n_weights"}).assign(by=by, group=rows[by].astype(str))
        for by, rows in (("layer", layers), ("module", modules))
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[["by", "group", *table.columns.drop(["by", "group"])]]


def now_on(axis: str, k: float, numbers: Selection | None) -> float:
    """The current k on one of AXES, in percent; NaN where the histogram of the changes would have to say."""
    if axis == "k":
        return k
    if numbers is None:
        return float("nan")
    return numbers.k_of_changed_percent if axis == "changed" else 100 * numbers.energy_taken_back


def _bars(name: str, rows: pd.DataFrame, palette: Palette) -> go.Bar:
    said = rows[["share", "weight_share", "enrichment", "n"]].to_numpy(dtype=float).tolist()
    labels = [
        str(group) if pd.isna(times) else f"{group}  <b>×{times:.2f}</b>"
        for group, times in zip(rows[name], rows["enrichment"], strict=True)
    ]
    return go.Bar(
        y=labels,
        x=(rows["n_restored"] / rows["n"]).tolist(),
        orientation="h",
        customdata=said,
        marker={"color": palette.restored, "pattern": {"shape": "/", "size": 6, "solidity": 0.25}},
        showlegend=False,
        hovertemplate=f"{name} %{{y}}: <b>%{{x:.1%}}</b> of its %{{customdata[3]:,.0f}} weights<br>"
        "%{customdata[0]:.1%} of all that are put back, %{customdata[1]:.1%} of the region's weights<br>"
        "enrichment %{customdata[2]:.2f}<extra></extra>",
    )


def _band(rows: pd.DataFrame, xs: list[float], palette: Palette) -> go.Scatter:
    return go.Scatter(
        x=[*xs, *reversed(xs)],
        y=[*rows["high"], *reversed(rows["low"].tolist())],
        fill="toself",
        fillcolor=faded(palette.restored, 0.16),
        line={"width": 0},
        mode="lines",
        name="95% interval",
        hoverinfo="skip",
    )


def _lines_across(rows: pd.DataFrame, palette: Palette) -> list[go.Scatter]:
    """The states that no k reaches, and tuned."""
    found: list[go.Scatter] = []
    for state, (name, dash) in _ACROSS.items():
        of_state = rows[(rows["state"] == state) & rows["accuracy"].notna()]
        if of_state.empty:
            continue
        y, said = of_state["accuracy"].iloc[0], hover_data(of_state.iloc[:1])
        look: dict[str, Any] = {"color": palette.of(state), "width": 1.8, "dash": dash}
        found.append(
            go.Scatter(
                x=[0, 100],
                y=[y, y],
                customdata=said * 2,
                mode="lines",
                line=look,
                name=name,
                hovertemplate=hover("y"),
            )
        )
    return found


def _curve(rows: pd.DataFrame, xs: list[float], palette: Palette) -> go.Scatter:
    return go.Scatter(
        x=xs,
        y=rows["accuracy"].tolist(),
        customdata=hover_data(rows),
        mode="lines+markers",
        line={"color": palette.restored, "width": 2.4},
        marker={"size": 8},
        name="measured",
        hovertemplate=hover("y"),
    )


def _mark_now(figure: go.Figure, now: float, palette: Palette, **where: int) -> None:
    """A vertical line at the current k, with its name above."""
    if isnan(now):
        return
    log = (
        figure.layout.xaxis.type == "log"
    )  # a label's place on such an axis is the logarithm, a line's is not
    side = "center" if log or 15 < now < 85 else "left" if now < 50 else "right"
    figure.add_vline(x=now, line={"color": palette.text, "width": 1.6}, **where)
    figure.add_annotation(
        x=log10(now) if log else now,
        y=1,
        yref="y domain",
        text="now",
        showarrow=False,
        xanchor=side,
        yanchor="bottom",
        font={"color": palette.text, "size": 13},
        **where,
    )


# All measured ways of taking an update back (results/measured.py) -> one plotly figure.

STRATEGY_AXES = {
    "k": ("k_percent", 1.0, "parameters put back, k (% of the region)"),
    "changed": ("k_of_changed_percent", 1.0, "changed parameters put back (% of those that changed)"),
    "update": ("energy_taken_back", 100.0, "update taken back (% of the squared change)"),
}
"""Choice of axis -> column, factor to percent, title; the choices of the page "Restore"."""
POINTS_ONLY = frozenset(found.name for found in STRATEGIES.entries if found.takes == "block")
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
_STRATEGY_ACROSS = {
    "five-shot": ("base after five examples", "dot"),
    "base": ("base", "longdash"),
    "tuned": ("tuned, nothing put back", "dash"),
}


def strategies_figure(rows: pd.DataFrame, axis: str, palette: Palette = LIGHT) -> go.Figure:
    """Accuracy over what was put back, one line a strategy, with base, tuned and five-shot as lines across.

    rows: Chain.ways of one split. axis: one of AXES; states that have no place on it (interpolation
    has no k) are left out. Every line starts at tuned, where nothing is put back. Bars: 95% intervals.
    """
    column_of, factor, title = STRATEGY_AXES[axis]
    domains = list(rows["domain"].unique())
    figure = panels(domains, rows, dict(rows.groupby("domain")["n"].max()))
    looks = looks_of(rows)
    for column, domain in enumerate(domains, start=1):
        of_domain = rows[rows["domain"] == domain]
        traces = [_across(of_domain, state, palette) for state in _STRATEGY_ACROSS]
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
    """What a point says: hover_data, and what was taken back."""
    found = []
    for said, row in zip(hover_data(rows), rows.to_dict("records"), strict=True):
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
    name, dash = _STRATEGY_ACROSS[state]
    return go.Scatter(
        x=[0, 100],
        y=of_state["accuracy"].tolist() * 2,
        customdata=hover_data(of_state) * 2,
        mode="lines",
        line={"color": palette.of(state), "width": 1.8, "dash": dash},
        name=name,
        hovertemplate=hover("y"),
    )
