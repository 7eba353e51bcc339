"""Figures of restored models: accuracy, update and places over what is reverted, by ranking, with the current k.

Tables come from results/weights.py and results/measured.py.
"""

from __future__ import annotations

from itertools import cycle
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sftknow_core.present.charts.marks import (
    REFERENCES,
    add,
    arms,
    band,
    curve,
    hover,
    hover_data,
    hovered,
    mark_x,
    panels,
    points,
    references,
    side_in_percent,
    styled,
)
from sftknow_core.present.charts.palette import DARK, LIGHT, Palette
from sftknow_core.present.charts.weights import add_null_band
from sftknow_core.results.measured import MASK
from sftknow_core.results.weights import Selection
from sftknow_core.update.strategies import STRATEGIES

AXES = {
    "k": ("k_percent", 1.0, "weights reverted, k (% of the region)"),
    "changed": ("k_of_changed_percent", 1.0, "changed weights reverted (% of those that changed)"),
    "update": ("energy_taken_back", 100.0, "update reverted (% of the squared norm)"),
    "projection": ("projection_taken_back", 100.0, "update reverted (% of its projection)"),
}
"""Choice of axis -> column, factor to percent, title."""
_REFERENCES = {**REFERENCES, "base": ("base", "longdash")}
_PIXELS_A_BAR = 22
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


def measured_figure(rows: pd.DataFrame, axis: str, now: float, palette: Palette = LIGHT) -> go.Figure:
    """Accuracy over what was reverted, with 95% CIs, base and tuned as lines, and the current k.

    rows: Chain.measured of one split, without levels. axis: one of AXES. now: the current k on that
    axis, in percent; NaN where it is not known.
    """
    column_of, factor, title = AXES[axis]
    domains = list(rows["domain"].unique())
    figure = panels(domains, rows, dict(rows.groupby("domain")["n"].max()))
    for column, domain in enumerate(domains, start=1):
        of_domain = rows[rows["domain"] == domain]
        measured = of_domain[of_domain[column_of].notna() & of_domain["accuracy"].notna()]
        measured = measured.sort_values(column_of, kind="stable")
        xs = (measured[column_of] * factor).tolist()
        across = references(of_domain, [0, 100], palette, _REFERENCES)
        line = curve(
            xs, measured["accuracy"], "restored", palette.restored, size=8, width=2.4, **hovered(measured)
        )
        traces = [band(xs, measured, palette), *across, line]
        for state in ("tuned", "hybrid"):
            ends = measured[measured["state"] == state]
            if len(ends):
                end = points(ends, (ends[column_of] * factor).tolist(), state, palette, along="y")
                traces.append(end.update(error_y=None, marker_size=12, overwrite=False))
        add(figure, column, traces)
        mark_x(figure, now, "now", palette, side=side_in_percent(now), row=1, col=column)
    figure.update_xaxes(range=[-4, 104], ticksuffix="%", title_text=title, title_standoff=4)
    figure.update_annotations(selector={"yref": "paper"}, yshift=18)
    return styled(figure, palette, height=400, top=48)


def strategies_figure(rows: pd.DataFrame, axis: str, palette: Palette = LIGHT) -> go.Figure:
    """Accuracy over what was reverted, one line a strategy, with base and tuned as lines across.

    rows: Chain.ways of one split. axis: one of AXES; states that have no place on it (interpolation
    has no k) are left out. Every line starts at tuned, where nothing is reverted. Bars: 95% CIs.
    """
    column_of, factor, title = AXES[axis]
    domains = list(rows["domain"].unique())
    figure = panels(domains, rows, dict(rows.groupby("domain")["n"].max()))
    looks = looks_of(rows)
    for column, domain in enumerate(domains, start=1):
        of_domain = rows[rows["domain"] == domain]
        traces: list[go.Scatter | None] = [*references(of_domain, [0, 100], palette, _REFERENCES)]
        tuned = of_domain[of_domain["state"] == "tuned"]
        for name, look in looks.items():
            own = of_domain[(of_domain["line"] == name) & of_domain[column_of].notna()]
            traces.append(_line(own, tuned, column_of, factor, name, look, palette))
        add(figure, column, traces)
    figure.update_xaxes(range=[-4, 104], ticksuffix="%", title_text=title, title_standoff=4)
    return styled(figure, palette, height=420, top=36, bottom=64)


def looks_of(rows: pd.DataFrame) -> dict[str, Look]:
    """Name of a line -> its look: the same for a strategy on every page; a second line of it takes another one."""
    others, found = cycle(_OTHERS), {}
    for name in dict.fromkeys(name for name in rows["line"] if name):
        own = name.partition(MASK)[0]  # masks of one draw look alike
        found[name] = _LOOKS[own] if own in _LOOKS else next(others)
    return found


def reverted_figure(taken: pd.DataFrame, now: float, score: str, palette: Palette = LIGHT) -> go.Figure:
    """The share of the summed score and of the update that the first k% hold, the null, and the current k.

    taken: see Cube.curve. score: "r" or "|d|", by which they are ranked. The axis of k is
    logarithmic where the share rises at once, so that its first percent can be seen.
    """
    steep = bool(taken.loc[taken["k_percent"] <= 1, "share"].max() > 0.1)
    rows = taken[taken["k_percent"] > 0] if steep else taken
    lines = [
        ("share", f"share of the summed {score}", palette.restored, "solid", 2.6),
        ("null_share", "if changes were shuffled", palette.faint, "dash", 1.8),
        ("energy_taken_back", "share of the squared update norm", palette.ceiling, "dot", 2.2),
    ]
    figure = go.Figure()
    add_null_band(figure, rows, palette)
    for name, title, colour, dash, width in lines:
        if rows[name].notna().any():
            look = {"color": colour, "dash": dash, "width": width}
            said = f"k = %{{x:g}}%: <b>%{{y:.1%}}</b> {title}<extra></extra>"
            xs, ys = rows["k_percent"].tolist(), rows[name].tolist()
            figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line=look, name=title, hovertemplate=said))
    figure.update_yaxes(range=[-0.03, 1.05], tickformat=".0%", title_text="share held by the first k%")
    figure.update_xaxes(title_text="weights reverted, k (%)", title_standoff=4)
    if steep:
        ticks = [0.01, 0.1, 1, 3, 10, 30, 100]
        figure.update_xaxes(
            type="log", range=[-2.05, 2.05], tickvals=ticks, ticktext=[f"{t:g}" for t in ticks]
        )
    else:
        figure.update_xaxes(range=[-2, 102])
    side = "center" if steep else side_in_percent(now)
    mark_x(figure, now if now > 0 or not steep else float("nan"), "now", palette, side=side)
    return styled(figure, palette, height=340, top=40, bottom=76)


def places_figure(
    layers: pd.DataFrame, modules: pd.DataFrame, k_percent: float, palette: Palette = LIGHT
) -> go.Figure:
    """The part of each layer and of each module that is reverted; the line is k, where enrichment is 1.

    layers, modules: see results.weights, `Places`. k_percent: of the whole region.
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
    figure.update_xaxes(title_text="share reverted", title_standoff=4)
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
    return {
        "changed": numbers.k_of_changed_percent,
        "update": 100 * numbers.energy_taken_back,
        "projection": 100 * numbers.projection_taken_back,
    }[axis]


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
    shown = own.sort_values(column, kind="stable")
    joined = name.split(",")[0] not in POINTS_ONLY
    if joined and len(tuned):
        shown = pd.concat([tuned, shown])
    return curve(
        (shown[column] * factor).tolist(), shown["accuracy"], name, colour, symbol=look.symbol, size=10,
        dash=look.dash, width=2.2, mode="lines+markers" if joined else "markers", customdata=_said(shown, name),
        error_y=arms(shown["accuracy"], shown["low"], shown["high"], colour, thickness=1.2, opacity=0.45),
        hovertemplate="%{customdata[4]}<br>" + hover("y"),
    )  # fmt: skip


def _said(rows: pd.DataFrame, name: str) -> list[list[Any]]:
    """`hover_data` of the points, with the part of the update that is reverted."""
    found = []
    for said, row in zip(hover_data(rows), rows.to_dict("records"), strict=True):
        how = row["block"] if isinstance(row["block"], str) else ""
        how = f"α = {row['alpha']:g}" if not pd.isna(row["alpha"]) else how
        said[0] = said[0] if not how else f"{said[0]}, {how}"
        along = row["projection_taken_back"]
        projected = "" if pd.isna(along) else f", {along:.1%} of its projection"
        if not pd.isna(spread := row.get("mask_sd")):
            projected += f"; mean of {row['n_masks']} masks, sd {100 * spread:.1f} pp"
        found.append([*said, f"{name}: {row['energy_taken_back']:.1%} of the squared update norm{projected}"])
    return found


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
        "%{customdata[0]:.1%} of all reverted weights, %{customdata[1]:.1%} of the region's weights<br>"
        "enrichment %{customdata[2]:.2f}<extra></extra>",
    )
