"""Figures of a base model's mastery of facts: levels, topics, R and expected mastery, one fact and its templates.

Tables come from results/mastery.py and mastery_facts.py. Mastery levels are an ordered scale of one hue, from pale (0)
to strong (4), and always stand beside their number or at their place on an axis, so that nobody has to tell the hues
apart. R and shares run from 0 to 1, written in percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from math import log10
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.present.charts.chain import LEVEL_NAMES
from sftknow_core.present.charts.marks import reference, styled
from sftknow_core.present.charts.palette import LIGHT, Palette, faded, ink

BORDERS = (0.25, 0.5, 0.75)
"""Values of R where one level ends and the next begins; level 0 is R = 0 alone."""
_PAPER_SYMBOLS = ("circle-open", "square-open", "triangle-up-open", "diamond-open", "x-thin-open")
_ZERO_X = -0.035
"""Where the bar of R = 0 stands, beside the bins of (0, 1]."""
_ROW_PIXELS = 25
_TICKS = (0, 5, 10, 15, 20)
_TICK_NAMES = ("0", "25%", "50%", "75%", "100%")


def distribution_figure(levels: pd.DataFrame, paper: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """Share of the facts on each level as bars, with counts; the paper's models as symbols beside.

    levels: see results.mastery.by_level; paper: see published.mastery_distribution, may be empty.
    """
    figure = go.Figure()
    said = [f"<b>{s:.1%}</b><br>{n:,}" for s, n in zip(levels["share"], levels["n_facts"], strict=True)]
    figure.add_bar(
        x=levels["level"].tolist(),
        y=levels["share"].tolist(),
        text=said if levels["n_facts"].sum() else None,
        textposition="outside",
        textfont={"color": palette.text},
        cliponaxis=False,
        customdata=levels[["n_facts"]].to_numpy().tolist(),
        marker=_filled(palette, levels["level"].tolist()),
        width=0.42,
        name="this model",
        hovertemplate="level %{x}: <b>%{y:.1%}</b>, %{customdata[0]:,} facts<extra></extra>",
    )
    models = list(paper["model"].unique())
    for number, model in enumerate(models):
        rows = paper[paper["model"] == model]
        figure.add_scatter(
            x=(rows["level"] + 0.26 + 0.055 * number).tolist(),
            y=rows["share"].tolist(),
            customdata=rows[["level", "n_facts"]].to_numpy().tolist(),
            mode="markers",
            marker={
                "symbol": _PAPER_SYMBOLS[number % len(_PAPER_SYMBOLS)],
                "size": 9,
                "color": palette.text,
                "line": {"width": 1.6, "color": palette.text},
            },
            name=f"paper: {model}",
            hovertemplate=f"{model} (paper), level %{{customdata[0]}}: <b>%{{y:.1%}}</b>, "
            "%{customdata[1]:,} facts<extra></extra>",
        )
    names = [name.replace(" · ", "<br>") for name in LEVEL_NAMES]
    figure.update_xaxes(tickvals=list(range(5)), ticktext=names, range=[-0.5, 4.62], showgrid=False)
    figure.update_xaxes(title_text="mastery level: share of correct completions, R", title_standoff=4)
    top = max(0.05, 1.22 * levels["share"].fillna(0).max(), 1.08 * (paper["share"].max() if models else 0))
    figure.update_yaxes(tickformat=".0%", range=[0, top], title_text="share of facts")
    figure.update_layout(showlegend=bool(models))
    return styled(figure, palette, height=380 if models else 330, top=10, bottom=92 if models else 36)


def topics_figure(topics: pd.DataFrame, names: dict[str, str], palette: Palette = LIGHT) -> go.Figure:
    """One row a topic: its facts' shares by level, side by side, best known topic of each domain on top.

    topics: see results.mastery.by_topic; names: topic -> what people read.
    """
    order = topics[topics["level"] == 0].reset_index(drop=True)
    places = {key: i + (domain != order["domain"].iloc[0]) for i, (key, domain) in enumerate(_keys(order))}
    labels = [
        f"{escape(names.get(topic, topic))}, {n:,}"
        for topic, n in zip(order["topic"], order["n_topic"], strict=True)
    ]
    figure = go.Figure()
    for level in range(5):
        rows = topics[topics["level"] == level]
        figure.add_bar(
            y=[places[key] for key, _ in _keys(rows)],
            x=rows["share"].tolist(),
            orientation="h",
            name=f"level {level}",
            text=[f"{share:.0%}" if share >= 0.055 else "" for share in rows["share"]],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            constraintext="none",
            textfont={"color": ink(palette.levels[level], "#111111", "#ffffff"), "size": 12},
            customdata=[
                [escape(names.get(t, t)), n, n_topic, r]
                for t, n, n_topic, r in zip(
                    rows["topic"], rows["n_facts"], rows["n_topic"], rows["mean_r"], strict=True
                )
            ],
            marker=_filled(palette, [level] * len(rows)),
            hovertemplate=f"%{{customdata[0]}}, level {level}: <b>%{{x:.1%}}</b>, %{{customdata[1]:,}} of "
            "%{customdata[2]:,} facts<br>mean R of the topic %{customdata[3]:.1%}<extra></extra>",
        )
    for domain in order["domain"].unique():
        first = min(places[key] for key, its in _keys(order) if its == domain)
        figure.add_annotation(
            x=0, y=first - 0.52, xref="x", yref="y", xanchor="left", yanchor="bottom", showarrow=False,
            text=f"<b>{DOMAIN_NAMES.get(domain, domain)}</b>", font={"color": palette.text},
        )  # fmt: skip
    last = max(places.values(), default=0)
    figure.update_layout(barmode="stack", bargap=0.18, legend_traceorder="normal")
    figure.update_yaxes(
        tickvals=list(places.values()), ticktext=labels, range=[last + 0.6, -1.3], showgrid=False
    )
    figure.update_xaxes(
        tickformat=".0%",
        dtick=0.25,
        range=[0, 1.012],
        title_text="share of the topic's facts",
        title_standoff=4,
    )
    return styled(figure, palette, height=120 + _ROW_PIXELS * (last + 2), top=4)


def histogram_figure(bins: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """How many facts have which R, R = 0 as a bar of its own, with the borders of the levels.

    bins: see results.mastery.histogram.
    """
    zero = bins["r_to"] == 0
    middles = ((bins["r_from"] + bins["r_to"]) / 2).mask(zero, _ZERO_X)
    ranges = [
        "R = 0" if to == 0 else f"R above {low:.0%}, up to {to:.0%}"
        for low, to in zip(bins["r_from"], bins["r_to"], strict=True)
    ]
    figure = go.Figure()
    figure.add_bar(
        x=middles.tolist(),
        y=bins["n_facts"].tolist(),
        width=[0.04 if is_zero else 0.046 for is_zero in zero],
        marker=_filled(palette, bins["level"].tolist()),
        customdata=[list(one) for one in zip(ranges, bins["level"], bins["share"], strict=True)],
        hovertemplate="%{customdata[0]} (level %{customdata[1]}): <b>%{y:,}</b> facts, %{customdata[2]:.1%}"
        "<extra></extra>",
    )
    for border in (0.0, *BORDERS):
        figure.add_vline(x=border - (0.007 if border == 0 else 0), line=_border(palette))
    for level, x in enumerate((_ZERO_X, 0.125, 0.375, 0.625, 0.875)):
        figure.add_annotation(
            x=x, y=1, yref="paper", yanchor="bottom", showarrow=False, text=f"level {level}" if level else "0",
            font={"color": palette.text},
        )  # fmt: skip
    figure.update_xaxes(
        range=[-0.07, 1.02],
        tickvals=[_ZERO_X, *BORDERS, 1],
        ticktext=["R = 0", "25%", "50%", "75%", "100%"],
        showgrid=False,
        title_text="R: share of correct completions",
        title_standoff=4,
    )
    figure.update_yaxes(title_text="facts", rangemode="tozero", tickformat=",")
    figure.update_layout(showlegend=False)
    return styled(figure, palette, height=254, top=26, bottom=14)  # without the legend's room


def expected_figure(cells: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """R (across) against expected mastery (up): how many facts fall into each cell; on the diagonal both agree.

    cells: see results.mastery.against_expected, with its 20 bins between 0 and 1 and a bin for 0.
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
        figure.add_vline(x=border, line=_border(palette))
        figure.add_hline(y=border, line=_border(palette))
    edges = [0, *(i + 0.5 for i in _TICKS[1:])]
    axis = {"tickvals": edges, "ticktext": _TICK_NAMES, "range": [-0.5, 20.5], "showgrid": False}
    figure.update_xaxes(**axis, title_text="R, sampled", title_standoff=4)
    figure.update_yaxes(**axis, title_text="expected mastery")
    figure.update_layout(showlegend=False)
    return styled(figure, palette, height=380, top=10, bottom=14)  # without the legend's room


def place_figure(fact: Mapping[str, Any], palette: Palette = LIGHT) -> go.Figure:
    """One fact's R with its 95% CI on the scale of levels, and its expected mastery.

    fact: a row of Mastered.facts with a level.
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
        x=[fact["r"]], y=[0.62], mode="markers", name="R with its 95% CI",
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
        title_text="share of correct completions", title_standoff=4,
    )  # fmt: skip
    figure.update_yaxes(range=[0, 1], visible=False)
    return styled(figure, palette, height=112, top=24, bottom=42)


def templates_figure(templates: pd.DataFrame, r: float, palette: Palette = LIGHT) -> go.Figure:
    """One fact by template: share of correct completions as bars, the expected share as diamonds, R as a line.

    templates: see Mastery.templates; r: the fact's R, 0 to 1.
    """
    numbers = (templates["template"] + 1).tolist()
    figure = go.Figure()
    figure.add_bar(
        x=numbers, y=templates["share"].tolist(), name="correct, sampled", width=0.68,
        customdata=templates[["n_correct", "n_samples"]].to_numpy().tolist(),
        marker={"color": faded(palette.base, 0.75), "line": {"color": palette.base, "width": 1}},
        hovertemplate="template %{x}: <b>%{customdata[0]} of %{customdata[1]}</b> correct<extra></extra>",
    )  # fmt: skip
    if templates["expected"].notna().any():
        figure.add_scatter(
            x=numbers, y=templates["expected"].tolist(), name="expected", mode="markers",
            marker={"size": 9, "symbol": "diamond-open", "color": palette.text, "line": {"width": 1.8}},
            hovertemplate="template %{x}: expected <b>%{y:.1%}</b><extra></extra>",
        )  # fmt: skip
    ends = [0.4, max(numbers, default=1) + 0.6]
    name = f"R = {r:.1%}"
    figure.add_trace(reference(ends, r, name, palette.text, "dash", width=1.4, said=name))
    figure.update_xaxes(
        title_text="completion template", title_standoff=4, showgrid=False,
        tickvals=[i for i in numbers if i % 5 == 1], range=[0.3, max(numbers, default=1) + 0.7],
    )  # fmt: skip
    figure.update_yaxes(tickformat=".0%", range=[-0.04, 1.06], title_text="correct completions")
    return styled(figure, palette, height=250, top=10)


def _keys(rows: pd.DataFrame) -> list[tuple[tuple[str, str], str]]:
    """((topic, domain), domain) of each row."""
    return [((topic, domain), domain) for topic, domain in zip(rows["topic"], rows["domain"], strict=True)]


def _filled(palette: Palette, levels: list[int]) -> dict[str, object]:
    """Bars in the colours of their levels, with an outline where the colour is near the background's."""
    line = {"color": faded(palette.faint, 0.9), "width": 1}
    return {"color": [palette.levels[int(level)] for level in levels], "line": line}


def _border(palette: Palette) -> dict[str, object]:
    return {"color": palette.faint, "width": 1, "dash": "dot"}


def _bands(palette: Palette) -> dict[str, Any]:
    """Levels 1 to 4 as named bands over the width, in one piece: adding shapes one by one takes far longer."""
    scale = palette.levels
    bands, names = [], []
    for level, (low, high) in enumerate(zip((0.0, *BORDERS), (*BORDERS, 1.0), strict=True), start=1):
        band = {"type": "rect", "x0": low, "x1": high, "y0": 0, "y1": 1, "yref": "paper", "layer": "below"}
        bands.append({**band, "fillcolor": scale[level], "opacity": 0.32, "line": {"width": 0}})
        name = {"x": (low + high) / 2, "y": 1, "yref": "paper", "yanchor": "bottom", "text": f"level {level}"}
        names.append({**name, "showarrow": False, "font": {"color": palette.text}})
    place = {"type": "line", "y0": 0, "y1": 1, "yref": "paper", "line": _border(palette)}
    lines = [{**place, "x0": border, "x1": border} for border in BORDERS]
    return {"shapes": [*bands, *lines], "annotations": names}


def _bin(number: int, zero: str) -> str:
    """Which values a bin holds."""
    return zero if number == 0 else f"above {(number - 1) / 20:.0%}, up to {number / 20:.0%}"
