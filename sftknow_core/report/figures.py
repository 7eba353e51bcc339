"""Tidy tables (store/chain_views.py) -> plotly figures.

Traces carry exactly the numbers of the table: accuracies as shares, shown in percent. Each figure has one panel for
in-domain and one for out-of-domain questions, with one scale. A state is told apart by its symbol as well as by its colour: base a
line, tuned a diamond, restored a circle, hybrid a square.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sftknow_core.report.palette import LIGHT, Palette, faded

DOMAIN_NAMES = {"in": "in-domain", "out": "out-of-domain"}
LEVEL_NAMES = ("0 · never", "1 · up to 25%", "2 · up to 50%", "3 · up to 75%", "4 · up to 100%")
"""Mastery level -> share of the base's sampled completions that are right."""
BASE_X = 116.0
"""Where on the k axis the base stands: it is no point of the curve, so it stands beyond 100%."""
_VERTICAL = {"base": "line-ew-open", "tuned": "diamond", "restored": "circle", "hybrid": "square"}
_HORIZONTAL = {**_VERTICAL, "base": "line-ns-open"}
_SIZES = {"base": 14, "tuned": 11, "restored": 10, "hybrid": 10}
_STATES = ("base", "tuned", "restored")
_DODGE = {"base": 0.26, "tuned": 0.0, "restored": -0.26}
_HOVER = "%{customdata[0]}: <b>%{ACCURACY:.1%}</b><br>95% interval %{customdata[1]:.1%} to %{customdata[2]:.1%}<br>%{customdata[3]:,} questions<extra></extra>"
_LEVEL_GAP = 0.7
"""Between the sizes of one train level and those of the next, in columns."""


def restoration_figure(curve: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """Accuracy over k with its 95% band, the three endpoints, and where tuned, base and five-shot lie.

    curve: see chain_views.curve; rows of one split.
    """
    domains = list(curve["domain"].unique())
    figure = _panels(domains, curve)
    for number, domain in enumerate(domains, start=1):
        rows = curve[curve["domain"] == domain]
        measured = rows[rows["k_percent"].notna()].sort_values("k_percent")
        traces = [_band(measured, palette)]
        traces += [_level_line(rows, state, palette) for state in ("five-shot", "base", "tuned") if state in set(rows["state"])]
        traces += [_curve_line(measured, palette)]
        traces += [_endpoint(rows, state, palette) for state in ("tuned", "hybrid", "base") if state in set(rows["state"])]
        for trace in traces:
            figure.add_trace(trace.update(showlegend=trace.showlegend is not False and number == 1), row=1, col=number)
        for k in rows.loc[rows["chosen"] & rows["k_percent"].notna(), "k_percent"]:
            _mark_k(figure, float(k), number, palette)
    ticks = {0.0: "0<br>tuned", 20.0: "20", 40.0: "40", 60.0: "60", 80.0: "80", 100.0: "100<br>hybrid", BASE_X: "<br>base"}
    figure.update_xaxes(tickvals=list(ticks), ticktext=list(ticks.values()), range=[-5, BASE_X + 7], tickangle=0)
    figure.update_xaxes(title_text="parameters put back, k (%)", title_standoff=4)
    return _styled(figure, palette, height=410)


def levels_figure(levels: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """Accuracy by the question's mastery level: base, tuned and restored, joined in this order.

    levels: see chain_views.levels.
    """
    domains = list(levels["domain"].unique())
    figure = _panels(domains, levels, along="x")
    for number, domain in enumerate(domains, start=1):
        rows = levels[levels["domain"] == domain]
        places = [rows["level"].astype(float) + rows["state"].map(_DODGE)]
        figure.add_trace(_joined(rows, places[0], "level", palette, along="x"), row=1, col=number)
        for state in _STATES:
            of_state = rows["state"] == state
            if of_state.any():
                trace = _points(rows[of_state], places[0][of_state], state, palette, along="x")
                figure.add_trace(trace.update(showlegend=number == 1), row=1, col=number)
    figure.update_yaxes(tickvals=list(range(5)), ticktext=LEVEL_NAMES, range=[-0.6, 4.6], showgrid=False)
    figure.update_yaxes(title_text="mastery level of the question", col=1)
    return _styled(figure, palette, height=430)


def chains_figure(results: pd.DataFrame, shown: str | None = None, palette: Palette = LIGHT) -> go.Figure:
    """Accuracy of chains by what they were trained on: base, tuned, and restored by the k chosen on dev.

    results: see chain_views.comparable, sorted by train level, n_train and seed; chains without a train set are
    left out. shown: the run_id to mark.
    """
    results = results[results["train_level"].notna()]
    domains = list(results["domain"].unique())
    columns = _columns(results)
    figure = _panels(domains, results)
    for number, domain in enumerate(domains, start=1):
        rows = results[results["domain"] == domain]
        places = rows["run_id"].map(columns)
        figure.add_trace(_joined(rows, places, "run_id", palette, along="y", states=_STATES[1:]), row=1, col=number)
        for state in _STATES:
            of_state = rows["state"] == state
            trace = _points(rows[of_state], places[of_state], state, palette, along="y")
            figure.add_trace(trace.update(showlegend=number == 1), row=1, col=number)
        if shown in columns:
            x = columns[shown]
            figure.add_vrect(x0=x - 0.4, x1=x + 0.4, fillcolor=palette.grid, opacity=0.45, line_width=0, layer="below", row=1, col=number)
        _name_train_levels(figure, rows, columns, number, palette)
    sizes = results.drop_duplicates("run_id").set_index("run_id")["n_train"]
    cells = {columns[run]: f"{n:,}" for run, n in sizes.items()}
    figure.update_xaxes(tickvals=list(cells), ticktext=list(cells.values()), tickangle=0, showgrid=False)
    figure.update_xaxes(range=[-0.7, max(columns.values(), default=0) + 0.7])
    return _styled(figure, palette, height=420, bottom=78)


def _panels(domains: Sequence[str], rows: pd.DataFrame, along: str = "y") -> go.Figure:
    """One panel a domain; accuracies run `along` an axis with one scale from 0 for all panels."""
    n = rows.groupby("domain")["n"].max() if "level" not in rows else rows.groupby(["domain", "state"])["n"].sum().groupby("domain").max()
    titles = [f"<b>{DOMAIN_NAMES.get(d, d)}</b>, {n[d]:,} questions" for d in domains]
    figure = make_subplots(
        1, max(len(domains), 1), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04
    )
    top = min(1.0, float(rows["high"].max(skipna=True)) * 1.06) if len(rows) and rows["high"].notna().any() else 1.0
    scale: dict[str, Any] = {"range": [0, max(top, 0.05)], "tickformat": ".0%"}
    if along == "x":
        figure.update_xaxes(**scale | {"range": [-0.02, 1.02]}, title_text="accuracy", title_standoff=4)
    else:
        figure.update_yaxes(**scale)
        figure.update_yaxes(title_text="accuracy", col=1)
    return figure


def _described(rows: pd.DataFrame, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """What a point says when one points at it: name, low, high, n."""
    return list(zip(names, rows["low"], rows["high"], rows["n"], strict=True))


def _band(rows: pd.DataFrame, palette: Palette) -> go.Scatter:
    ks = rows["k_percent"].tolist()
    return go.Scatter(
        x=[*ks, *reversed(ks)],
        y=[*rows["high"], *reversed(rows["low"].tolist())],
        fill="toself",
        fillcolor=faded(palette.restored, 0.16),
        line={"width": 0},
        mode="lines",
        name="95% interval",
        hoverinfo="skip",
    )


def _level_line(rows: pd.DataFrame, state: str, palette: Palette) -> go.Scatter:
    """A state that does not depend on k, as a line across."""
    accuracy = rows.loc[rows["state"] == state, "accuracy"].iloc[0]
    return go.Scatter(
        x=[0, BASE_X],
        y=[accuracy, accuracy],
        mode="lines",
        line={"color": palette.of(state), "width": 1.6, "dash": "dot" if state == "five-shot" else "dash"},
        name={"five-shot": "base after five examples", "tuned": "tuned, nothing put back"}.get(state, state),
        hoverinfo="skip",
    )


def _curve_line(rows: pd.DataFrame, palette: Palette) -> go.Scatter:
    names = [f"{state}, k = {k:g}%" for state, k in zip(rows["state"], rows["k_percent"], strict=True)]
    return go.Scatter(
        x=rows["k_percent"].tolist(),
        y=rows["accuracy"].tolist(),
        customdata=_described(rows, names),
        mode="lines+markers",
        line={"color": palette.restored, "width": 2.4},
        marker={"size": 7},
        name="k% put back",
        hovertemplate=_HOVER.replace("ACCURACY", "y"),
    )


def _endpoint(rows: pd.DataFrame, state: str, palette: Palette) -> go.Scatter:
    row = rows[rows["state"] == state].iloc[:1]
    x = BASE_X if state == "base" else float(row["k_percent"].iloc[0])
    marker: dict[str, Any] = {"symbol": _VERTICAL[state], "size": _SIZES[state] + 2, "color": palette.of(state)}
    marker["line"] = {"width": 3 if state == "base" else 1.5, "color": palette.of(state) if state == "base" else palette.background}
    return go.Scatter(
        x=[x],
        y=row["accuracy"].tolist(),
        error_y=_errors(row, palette.base) if state == "base" else None,
        customdata=_described(row, [state]),
        mode="markers",
        marker=marker,
        name=state,
        showlegend=False,
        hovertemplate=_HOVER.replace("ACCURACY", "y"),
    )


def _mark_k(figure: go.Figure, k: float, column: int, palette: Palette) -> None:
    """A vertical line where the chosen k is."""
    figure.add_vline(
        x=k,
        line={"color": palette.text, "width": 1.2},
        annotation={
            "text": f"k = {k:g}%, chosen on dev",
            "font": {"color": palette.text, "size": 12},
            "xanchor": "left" if k < 50 else "right",
            "xshift": 4 if k < 50 else -4,
            "yanchor": "bottom",
            "y": 0,
        },
        annotation_position="bottom right",
        row=1,
        col=column,
    )


def _points(rows: pd.DataFrame, places: pd.Series, state: str, palette: Palette, *, along: str) -> go.Scatter:
    """The markers of one state, with intervals; accuracies run `along` x or y."""
    across = "y" if along == "x" else "x"
    colour = palette.of(state)
    chosen = rows["k_percent"] if "k_percent" in rows else pd.Series(float("nan"), index=rows.index)
    names = [f"restored, k = {k:g}%" if state == "restored" and k == k else state for k in chosen]
    return go.Scatter(
        {along: rows["accuracy"].tolist(), across: places.tolist(), f"error_{along}": _errors(rows, colour)},
        customdata=_described(rows, names),
        mode="markers",
        marker={
            "symbol": (_HORIZONTAL if along == "x" else _VERTICAL)[state],
            "size": _SIZES[state],
            "color": colour,
            "line": {"width": 3 if state == "base" else 0, "color": colour},
        },
        name=state,
        hovertemplate=_HOVER.replace("ACCURACY", along),
    )


def _errors(rows: pd.DataFrame, colour: str) -> dict[str, Any]:
    """Arms from a point to the ends of its interval."""
    up, down = (rows["high"] - rows["accuracy"]).tolist(), (rows["accuracy"] - rows["low"]).tolist()
    return {"array": up, "arrayminus": down, "thickness": 1.3, "width": 0, "color": faded(colour, 0.75)}


def _joined(
    rows: pd.DataFrame, places: pd.Series, by: str, palette: Palette, *, along: str, states: Sequence[str] = _STATES
) -> go.Scatter:
    """Thin lines from state to state, one for each value of `by`."""
    across = "y" if along == "x" else "x"
    accuracies: list[float | None] = []
    positions: list[float | None] = []
    for _, group in rows[rows["state"].isin(states)].groupby(by, sort=False):
        ordered = group.sort_values("state", key=lambda s: s.map(states.index))
        accuracies += [*ordered["accuracy"], None]
        positions += [*places[ordered.index], None]
    return go.Scatter(
        {along: accuracies, across: positions},
        mode="lines",
        line={"color": faded(palette.faint, 0.6), "width": 1.4},
        hoverinfo="skip",
        showlegend=False,
    )


def _columns(results: pd.DataFrame) -> dict[str, float]:
    """run_id -> its place from left to right: sizes beside each other, a gap between train levels, seeds side by side."""
    chains = results.drop_duplicates("run_id")
    places: dict[str, float] = {}
    start = 0.0
    for _, of_level in chains.groupby("train_level", sort=False):
        for _, cell in of_level.groupby("n_train", sort=False):
            width = 0.7 / len(cell)
            for number, run_id in enumerate(cell["run_id"]):
                places[run_id] = start + (number - (len(cell) - 1) / 2) * width
            start += 1
        start += _LEVEL_GAP
    return places


def _name_train_levels(figure: go.Figure, rows: pd.DataFrame, columns: dict[str, float], panel: int, palette: Palette) -> None:
    axis = "" if panel == 1 else str(panel)
    for level, group in rows.groupby("train_level", sort=False):
        xs = [columns[run_id] for run_id in group["run_id"]]
        figure.add_annotation(
            x=(min(xs) + max(xs)) / 2,
            y=0,
            xref=f"x{axis}",
            yref="paper",
            yshift=-24,
            yanchor="top",
            text=f"level {level}" if str(level).isdigit() else str(level),
            font={"color": palette.text, "size": 13},
            showarrow=False,
        )


def _styled(figure: go.Figure, palette: Palette, *, height: int, bottom: int = 64) -> go.Figure:
    """The look all figures share; the background shows through."""
    figure.update_layout(
        template="none",
        height=height + 36,
        margin={"l": 8, "r": 8, "t": 44, "b": bottom + 36},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": '"Source Sans", "Source Sans Pro", sans-serif', "size": 13, "color": palette.text},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0.5, "xanchor": "center"},
        hoverlabel={"bgcolor": palette.background, "font": {"color": palette.text}},
        dragmode=False,
    )
    axes = {"gridcolor": palette.grid, "zeroline": False, "tickfont": {"color": palette.faint}, "automargin": True}
    figure.update_xaxes(**axes, fixedrange=True, showline=True, linecolor=palette.grid)
    figure.update_yaxes(**axes, fixedrange=True)
    return figure
