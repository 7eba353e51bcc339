"""Figures of a base model's mastery of facts: tidy tables (results/mastery.py, mastery_facts.py) -> plotly figures.

Mastery levels are an ordered scale of one hue, from pale (0) to strong (4), and always stand beside their number or
at their place on an axis, so that nobody has to tell the hues apart. R and shares run from 0 to 1, written in percent.
"""

from __future__ import annotations

from html import escape

import pandas as pd
import plotly.graph_objects as go

from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.present.charts.chain import LEVEL_NAMES
from sftknow_core.present.charts.marks import styled
from sftknow_core.present.charts.palette import LIGHT, Palette, faded

BORDERS = (0.25, 0.5, 0.75)
"""Values of R where one level ends and the next begins; level 0 is R = 0 alone."""
_PAPER_SYMBOLS = ("circle-open", "square-open", "triangle-up-open", "diamond-open", "x-thin-open")
_ZERO_X = -0.035
"""Where the bar of R = 0 stands, beside the bins of (0, 1]."""
_ROW_PIXELS = 25


def distribution_figure(levels: pd.DataFrame, paper: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """Share of the facts on each level as bars, with counts; the paper's models as symbols beside.

    levels: see mastery_views.by_level; paper: see paper_numbers.mastery_distribution, may be empty.
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
    figure.update_xaxes(title_text="mastery level: share of right completions, R", title_standoff=4)
    top = max(0.05, 1.22 * levels["share"].fillna(0).max(), 1.08 * (paper["share"].max() if models else 0))
    figure.update_yaxes(tickformat=".0%", range=[0, top], title_text="share of the facts")
    figure.update_layout(showlegend=bool(models))
    return styled(figure, palette, height=380 if models else 330, top=10, bottom=92 if models else 36)


def topics_figure(topics: pd.DataFrame, names: dict[str, str], palette: Palette = LIGHT) -> go.Figure:
    """One row a topic: its facts' shares by level, side by side, best known topic of each domain on top.

    topics: see mastery_views.by_topic; names: topic -> what people read.
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
            textfont={"color": _text_on(palette.levels[level]), "size": 12},
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

    bins: see mastery_views.histogram.
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
        title_text="R: share of right completions",
        title_standoff=4,
    )
    figure.update_yaxes(title_text="facts", rangemode="tozero", tickformat=",")
    figure.update_layout(showlegend=False)
    return styled(figure, palette, height=254, top=26, bottom=14)  # without the legend's room


def _keys(rows: pd.DataFrame) -> list[tuple[tuple[str, str], str]]:
    """((topic, domain), domain) of each row."""
    return [((topic, domain), domain) for topic, domain in zip(rows["topic"], rows["domain"], strict=True)]


def _filled(palette: Palette, levels: list[int]) -> dict[str, object]:
    """Bars in the colours of their levels, with an outline where the colour is near the background's."""
    line = {"color": faded(palette.faint, 0.9), "width": 1}
    return {"color": [palette.levels[int(level)] for level in levels], "line": line}


def _border(palette: Palette) -> dict[str, object]:
    return {"color": palette.faint, "width": 1, "dash": "dot"}


def _text_on(colour: str) -> str:
    """Black or white, whichever is easier to read on it."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#111111" if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else "#ffffff"
