"""Figures of first tokens and of the token shift: one question's tokens and its course over k; KL of all questions.

States are told apart by pattern or symbol as well as by colour: base dots and a dash, tuned plain and a diamond,
restored hatched and a circle. Probabilities are shares over the whole vocabulary, KL is in nats.
"""

from __future__ import annotations

from html import escape

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sftknow_core.present.charts.marks import K_ENDS, arms, hatched, histogram, mark_x, reference, styled
from sftknow_core.present.charts.palette import LIGHT, Palette, faded
from sftknow_core.present.text.ask import OTHERS

GOLD = "★"
"""Marks the gold answer's first token."""
_PATTERNS = {"base": ".", "tuned": "", "restored": "/"}
_ROW_PIXELS, _PANEL_ROW_PIXELS = 36, 26
_IN_BIN = "%{customdata[0]:.2f} to %{customdata[1]:.2f} nats: <b>%{y:,}</b> questions<extra></extra>"
_BEYOND_PLACE = 1.06
"""Where the bin of what lies beyond stands, in lengths of the axis."""


def spelled(token: str) -> str:
    """A token with its white space made visible."""
    return token.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or "(empty)"


def tokens_figure(tokens: pd.DataFrame, k_percent: float, palette: Palette = LIGHT) -> go.Figure:
    """Paired bars, one group a token, likeliest after tuning on top; gold has a star.

    tokens: see results.question_detail.FirstToken.
    """
    labels = [
        f"<b>{GOLD} {escape(spelled(t))}</b>" if gold else escape(spelled(t))
        for t, gold in zip(tokens["token"], tokens["is_gold"], strict=True)
    ]
    figure = go.Figure()
    for state, name in (("base", "base"), ("tuned", "tuned"), ("restored", f"restored {k_percent:g}%")):
        said = ["not stored" if pd.isna(p) else f"{p:.2%}" for p in tokens[f"p_{state}"]]
        figure.add_bar(
            y=list(range(len(tokens))),
            x=tokens[f"p_{state}"].tolist(),
            customdata=list(zip(labels, said, strict=True)),
            orientation="h",
            name=name,
            marker=hatched(palette.of(state), _PATTERNS[state], palette.background, size=5),
            hovertemplate=f"{name}, %{{customdata[0]}}: <b>%{{customdata[1]}}</b><extra></extra>",
        )
    figure.update_layout(barmode="group", bargap=0.22, bargroupgap=0.05)
    figure.update_yaxes(
        tickvals=list(range(len(tokens))), ticktext=labels, autorange="reversed", showgrid=False
    )
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", title_text="probability", title_standoff=4)
    figure = styled(figure, palette, height=90 + _ROW_PIXELS * len(tokens), top=8)
    return figure.update_layout(legend_traceorder="normal")


def course_figure(course: pd.DataFrame, k_percent: float, palette: Palette = LIGHT) -> go.Figure:
    """Gold's probability at each measured k; a full circle where the answer is correct, a cross where it is not.

    course: see results.questions.course. The dashed line is the base, asked in the same way.
    """
    rows = course[course["k_percent"].notna()]
    figure = go.Figure()
    figure.add_scatter(
        x=rows["k_percent"].tolist(), y=rows["gold_p"].tolist(), mode="lines", hoverinfo="skip", showlegend=False,
        line={"color": faded(palette.restored, 0.7), "width": 2},
    )  # fmt: skip
    for right, name, symbol in ((True, "✓ correct", "circle"), (False, "✗ incorrect", "x-thin-open")):
        some = rows[rows["is_right"] == right]
        figure.add_scatter(
            x=some["k_percent"].tolist(),
            y=some["gold_p"].tolist(),
            customdata=[
                [state, escape(str(answer))]
                for state, answer in zip(some["state"], some["answer"], strict=True)
            ],
            mode="markers",
            name=name,
            marker={
                "symbol": symbol,
                "size": 12,
                "color": [palette.of(state) for state in some["state"]],
                "line": {"width": 3 if not right else 0, "color": [palette.of(s) for s in some["state"]]},
            },
            hovertemplate="%{customdata[0]}, k = %{x:g}%: <b>%{y:.1%}</b><br>answers %{customdata[1]}<extra></extra>",
        )
    for p in course.loc[course["state"] == "base", "gold_p"].head(1).dropna():
        said = f"base, same prompt: <b>{p:.1%}</b>"
        line = reference([0, 100], p, "base, same prompt", palette.base, "dash", width=1.6, said=said)
        figure.add_trace(line)
    figure.add_vline(x=k_percent, line={"color": palette.text, "width": 1, "dash": "dot"})
    ticks = [0, 20, 40, 60, 80, 100]
    figure.update_xaxes(
        title_text="weights reverted, k (%)",
        title_standoff=4,
        range=[-5, 106],
        tickvals=ticks,
        ticktext=[K_ENDS.get(k, f"{k}") for k in ticks],
    )
    figure.update_yaxes(tickformat=".0%", rangemode="tozero", title_text="P(gold first token)")
    return styled(figure, palette, height=250, top=12, bottom=64)


def spread_figure(
    spread: pd.DataFrame, here_nats: float | None, k_percent: float, palette: Palette = LIGHT
) -> go.Figure:
    """How many questions moved how far: tuned as bars, restored as a stepped line, the opened question as a line.

    spread: see results.question_detail.spread. The bin of what lies beyond the axis stands apart, hatched and
    named; the restored model has a circle there.
    """
    inside, beyond = spread[~spread["beyond"]], spread[spread["beyond"]]
    figure = go.Figure()
    middles = (inside["low"] + inside["high"]) / 2
    edges = inside[["low", "high"]].to_numpy().tolist()
    bars = histogram(
        inside["low"], inside["high"], inside["n_tuned"], name="tuned", customdata=edges,
        marker={"color": faded(palette.tuned, 0.75), "line": {"color": palette.background, "width": 1}},
        hovertemplate=f"tuned, {_IN_BIN}",
    )  # fmt: skip
    figure.add_trace(bars)
    figure.add_scatter(
        x=middles.tolist(), y=inside["n_restored"].tolist(), mode="lines", customdata=edges,
        line={"color": palette.restored, "width": 2, "shape": "hvh"}, name=f"restored {k_percent:g}%",
        hovertemplate=f"restored, {_IN_BIN}",
    )  # fmt: skip
    figure.update_xaxes(title_text="KL against base (nats)", title_standoff=4, rangemode="tozero")
    figure.update_yaxes(title_text="questions", rangemode="tozero")
    if not beyond.empty:
        _add_beyond(figure, beyond, palette)
    if here_nats is not None and not spread.empty:
        _mark_here(figure, here_nats, spread, palette)
    return styled(figure, palette, height=300, top=34)


def by_level_figure(levels: pd.DataFrame, k_percent: float, palette: Palette = LIGHT) -> go.Figure:
    """Accuracy against mean KL, one point a mastery level and state, each with its level's number; bars: 95% CIs.

    levels: see results.question_detail.by_level.
    """
    figure = go.Figure()
    looks = {
        "tuned": ("diamond", "tuned", "top left"),
        "restored": ("circle", f"restored {k_percent:g}%", "bottom right"),
    }
    for state, (symbol, name, place) in looks.items():
        rows = levels[levels["state"] == state]
        colour, kl, accuracy = palette.of(state), rows["kl_nats"], rows["accuracy"]
        figure.add_scatter(
            x=kl.tolist(),
            y=accuracy.tolist(),
            error_x=arms(kl, rows["kl_low"], rows["kl_high"], colour, thickness=1, opacity=0.5),
            error_y=arms(accuracy, rows["low"], rows["high"], colour, thickness=1, opacity=0.5),
            text=[str(level) for level in rows["level"]],
            textposition=place,
            textfont={"color": palette.text, "size": 14},
            customdata=rows[["level", "n", "n_scored"]].to_numpy().tolist(),
            mode="lines+markers+text",
            line={"color": faded(colour, 0.55), "width": 1.4, "dash": "dot"},
            marker={"symbol": symbol, "size": 11, "color": colour},
            name=name,
            hovertemplate=(
                f"{name}, level %{{customdata[0]}}: accuracy <b>%{{y:.1%}}</b> of %{{customdata[1]:,}}<br>"
                "mean KL <b>%{x:.2f} nats</b> over %{customdata[2]:,} scored<extra></extra>"
            ),
        )
    figure.update_xaxes(title_text="mean KL against base (nats)", title_standoff=4, rangemode="tozero")
    figure.update_yaxes(title_text="accuracy", tickformat=".0%", rangemode="tozero")
    return styled(figure, palette, height=300, top=12)


def first_tokens_figure(tokens: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """One panel a state: its ten likeliest first tokens and what lies outside them, likeliest on top, one scale.

    tokens: text.ask.token_table. States are told apart by pattern and title as well as by colour.
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
    return styled(figure, palette, height=110 + _PANEL_ROW_PIXELS * 11, bottom=24)


def _add_beyond(figure: go.Figure, beyond: pd.DataFrame, palette: Palette) -> None:
    """The bin of all that lies beyond the axis, and ticks that name it."""
    end, largest = beyond[["low", "high"]].iloc[0]
    place, width = end * _BEYOND_PLACE, end * (_BEYOND_PLACE - 1)
    figure.add_bar(
        x=[place], y=beyond["n_tuned"].tolist(), width=[width], customdata=[[end, largest]], showlegend=False,
        hovertemplate=f"tuned, {_IN_BIN}",
        marker={
            "color": faded(palette.tuned, 0.75),
            "pattern": {"shape": "/", "fgcolor": palette.background, "fillmode": "overlay", "size": 6},
        },
    )  # fmt: skip
    figure.add_scatter(
        x=[place], y=beyond["n_restored"].tolist(), mode="markers", customdata=[[end, largest]],
        marker={"color": palette.restored, "size": 8}, showlegend=False, hovertemplate=f"restored, {_IN_BIN}",
    )  # fmt: skip
    step = next(s for s in (m * 10.0**e for e in range(-6, 6) for m in (1, 2, 5)) if end / s <= 8)
    ticks = [i * step for i in range(int(end * 0.97 / step) + 1)]
    figure.update_xaxes(
        tickvals=[*ticks, place],
        ticktext=[*[f"{tick:g}" for tick in ticks], f"{end:.1f} to {largest:.1f}"],
        range=[0, place + width],
    )


def _mark_here(figure: go.Figure, here_nats: float, spread: pd.DataFrame, palette: Palette) -> None:
    """A line where the opened question stands; in the last bin where that is beyond the axis."""
    inside = spread[~spread["beyond"]]
    end = inside["high"].max()
    is_beyond = bool(spread["beyond"].any()) and here_nats > end
    at, side = end * _BEYOND_PLACE if is_beyond else here_nats, "right" if here_nats > end / 2 else "left"
    mark_x(figure, at, f"▼ this question, {here_nats:.2f}", palette, side=side, width=2, dash="dash")


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
        marker=hatched(colour, _PATTERNS.get(kind, "/"), palette.background, opacity=0.5, solidity=0.2)
        | {"opacity": faint},
        showlegend=False,
        hovertemplate=f"{state}, %{{customdata}}: <b>%{{x:.2%}}</b><extra></extra>",
    )
