"""First-token distributions of several states side by side -> a plotly figure."""

from __future__ import annotations

from html import escape

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sftknow_core.present.charts.marks import styled
from sftknow_core.present.charts.palette import LIGHT, Palette
from sftknow_core.present.charts.tokens import spelled
from sftknow_core.present.text.ask import OTHERS

_PATTERNS = {"base": ".", "tuned": "", "restored": "/"}
_ROW_PIXELS = 26


def first_tokens_figure(tokens: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """One panel a state: its ten likeliest first tokens and what lies outside them, likeliest on top, one scale.

    tokens: ask_words.token_table. States are told apart by pattern and title as well as by colour.
    """
    states = list(dict.fromkeys(tokens["state"]))
    figure = make_subplots(
        1,
        max(len(states), 1),
        subplot_titles=[f"<b>{escape(state)}</b>" for state in states],
        horizontal_spacing=0.1,
    )
    for column, state in enumerate(states, start=1):
        rows = tokens[tokens["state"] == state].reset_index(drop=True)
        figure.add_trace(_bars(rows, state, palette), row=1, col=column)
        names = [name if name == OTHERS else escape(spelled(name)) for name in rows["token"]]
        figure.update_yaxes(
            tickvals=list(range(len(rows))), ticktext=names, autorange="reversed", showgrid=False, col=column
        )
    top = min(1.0, 1.28 * float(tokens["p"].max())) if len(tokens) else 1.0
    figure.update_xaxes(range=[0, top], tickformat=".0%", nticks=4)
    figure.update_xaxes(title_text="probability", title_standoff=4)
    return styled(figure, palette, height=110 + _ROW_PIXELS * 11, bottom=24)


def _bars(rows: pd.DataFrame, state: str, palette: Palette) -> go.Bar:
    kind = state.split(" ", maxsplit=1)[0]
    colour = palette.of(kind)
    faint = [0.45 if token == OTHERS else 1.0 for token in rows["token"]]
    return go.Bar(
        y=list(range(len(rows))),
        x=rows["p"].tolist(),
        orientation="h",
        text=[f"{p:.1%}" for p in rows["p"]],
        textposition="outside",
        textangle=0,
        cliponaxis=False,
        textfont={"color": palette.text, "size": 12},
        customdata=[name if name == OTHERS else escape(spelled(name)) for name in rows["token"]],
        marker={
            "color": colour,
            "opacity": faint,
            "line": {"color": colour, "width": 1},
            "pattern": {
                "shape": _PATTERNS.get(kind, "/"),
                "fillmode": "overlay",
                "fgcolor": palette.background,
                "fgopacity": 0.5,
                "size": 6,
                "solidity": 0.2,
            },
        },
        showlegend=False,
        hovertemplate=f"{state}, %{{customdata}}: <b>%{{x:.2%}}</b><extra></extra>",
    )
