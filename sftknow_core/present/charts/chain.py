"""Tidy tables (results/chains.py) -> plotly figures, with one panel for in-domain and one for out-of-domain.

Traces carry exactly the numbers of the table: accuracies as shares, written in percent. marks.py has what the
figures share.
"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from sftknow_core.present.charts.marks import STATES, hover, hover_data, joined, panels, points, styled
from sftknow_core.present.charts.palette import LIGHT, Palette, faded

LEVEL_NAMES = ("0 · never", "1 · up to 25%", "2 · up to 50%", "3 · up to 75%", "4 · up to 100%")
"""Mastery level -> share of the base's sampled completions that are right."""
BASE_X = 116.0
"""Where on the k axis the base stands: it is no point of the curve, so it stands beyond 100%."""
_LINES = {
    "five-shot": ("base after five examples", "dot"),
    "base": ("base", "dash"),
    "tuned": ("tuned, nothing put back", "dash"),
}
_DODGE = {"base": 0.26, "tuned": 0.0, "restored": -0.26}
"""How far a state's marker stands above its level, so that markers do not hide each other."""
_LEVEL_GAP = 0.7
"""Between the columns of one train level and those of the next, in columns."""
_CELL_WIDTH = 0.7
"""Seeds of one train level and N share it."""


def restoration_figure(curve: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """Accuracy over k with its 95% band, the three endpoints, and where tuned, base and five-shot lie.

    curve: see Chain.curve; rows of one split.
    """
    domains = list(curve["domain"].unique())
    figure = panels(domains, curve, dict(curve.groupby("domain")["n"].max()))
    for column, domain in enumerate(domains, start=1):
        rows = curve[curve["domain"] == domain]
        for trace in _curve_traces(rows, palette):
            shown = trace.showlegend is not False and column == 1
            figure.add_trace(trace.update(showlegend=shown), row=1, col=column)
        for k in rows.loc[rows["chosen"], "k_percent"].dropna():
            _mark_k(figure, float(k), column, palette)
    figure.update_xaxes(
        tickvals=[0, 20, 40, 60, 80, 100, BASE_X],
        ticktext=["0<br>tuned", "20", "40", "60", "80", "100<br>hybrid", "<br>base"],
        range=[-5, BASE_X + 7],
        title_text="parameters put back, k (%)",
        title_standoff=4,
    )
    figure.update_annotations(selector={"yref": "paper"}, yshift=18)  # room for the name of the chosen k
    return styled(figure, palette, height=420, top=48)


def levels_figure(levels: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """Accuracy by the question's mastery level: base, tuned and restored, joined in this order.

    levels: see Chain.levels.
    """
    domains = list(levels["domain"].unique())
    n = levels.groupby(["domain", "state"])["n"].sum().groupby("domain").max()
    figure = panels(domains, levels, dict(n), along="x")
    for column, domain in enumerate(domains, start=1):
        rows = levels[levels["domain"] == domain]
        places = rows["level"].astype(float) + rows["state"].map(_DODGE)
        figure.add_trace(joined(rows, places, "level", palette, along="x", states=STATES), row=1, col=column)
        _add_states(figure, rows, places, palette, column, along="x")
    figure.update_yaxes(tickvals=list(range(5)), ticktext=LEVEL_NAMES, range=[-0.6, 4.6], showgrid=False)
    figure.update_yaxes(title_text="mastery level of the question", col=1)
    return styled(figure, palette, height=410)


def chains_figure(results: pd.DataFrame, shown: str | None = None, palette: Palette = LIGHT) -> go.Figure:
    """Accuracy of chains by what they were trained on: base, tuned, and restored by the k chosen on dev.

    results: see results.chains.comparable, sorted by train level, n_train and seed; a chain without a train set
    stands under "given". shown: the run_id to mark.
    """
    results = results.assign(train_level=results["train_level"].fillna("given"))
    domains = list(results["domain"].unique())
    columns, sizes = _columns(results)
    figure = panels(domains, results, dict(results.groupby("domain")["n"].max()))
    for column, domain in enumerate(domains, start=1):
        rows = results[results["domain"] == domain]
        places = rows["run_id"].map(columns)
        figure.add_trace(
            joined(rows, places, "run_id", palette, along="y", states=STATES[1:]), row=1, col=column
        )
        _add_states(figure, rows, places, palette, column, along="y")
        _name_train_levels(figure, rows, columns, column, palette)
        if shown in columns:
            edges = {"x0": columns[shown] - 0.4, "x1": columns[shown] + 0.4}
            look = {"fillcolor": palette.grid, "opacity": 0.45, "line_width": 0, "layer": "below"}
            figure.add_vrect(**edges, **look, row=1, col=column)
    figure.update_xaxes(
        tickvals=list(sizes),
        ticktext=list(sizes.values()),
        showgrid=False,
        range=[-0.7, max(columns.values(), default=0) + 0.7],
        title_text="N facts fine-tuned on, and their mastery level",
        title_standoff=30,
    )
    return styled(figure, palette, height=420, bottom=88)


def _curve_traces(rows: pd.DataFrame, palette: Palette) -> list[go.Scatter]:
    """The traces of one panel, from back to front."""
    measured = rows[rows["k_percent"].notna()].sort_values("k_percent")
    of = {state: rows[rows["state"] == state] for state in rows["state"].unique()}
    across = [_line_across(of[state], palette) for state in _LINES if state in of]
    ends = [_endpoint(of[state], palette) for state in ("tuned", "hybrid", "base") if state in of]
    return [_band(measured, palette), *across, _curve(measured, palette), *ends]


def _band(rows: pd.DataFrame, palette: Palette) -> go.Scatter:
    ks, low = rows["k_percent"].tolist(), rows["low"].tolist()
    return go.Scatter(
        x=[*ks, *reversed(ks)],
        y=[*rows["high"], *reversed(low)],
        fill="toself",
        fillcolor=faded(palette.restored, 0.16),
        line={"width": 0},
        mode="lines",
        name="95% interval",
        hoverinfo="skip",
    )


def _line_across(rows: pd.DataFrame, palette: Palette) -> go.Scatter:
    """A state that does not depend on k."""
    state, accuracy = rows[["state", "accuracy"]].iloc[0]
    name, dash = _LINES[state]
    return go.Scatter(
        x=[0, BASE_X],
        y=[accuracy, accuracy],
        mode="lines",
        line={"color": palette.of(state), "width": 1.6, "dash": dash},
        name=name,
        hoverinfo="skip",
    )


def _curve(rows: pd.DataFrame, palette: Palette) -> go.Scatter:
    return go.Scatter(
        x=rows["k_percent"].tolist(),
        y=rows["accuracy"].tolist(),
        customdata=hover_data(rows),
        mode="lines+markers",
        line={"color": palette.restored, "width": 2.4},
        marker={"size": 7},
        name="k% put back",
        hovertemplate=hover("y"),
    )


def _endpoint(rows: pd.DataFrame, palette: Palette) -> go.Scatter:
    """A marker; only the base has arms, the others stand in the band."""
    state = rows["state"].iloc[0]
    x = BASE_X if state == "base" else float(rows["k_percent"].iloc[0])
    trace = points(rows.iloc[:1], [x], state, palette, along="y").update(showlegend=False)
    return trace if state == "base" else trace.update(error_y=None, marker_size=13, overwrite=False)


def _mark_k(figure: go.Figure, k: float, column: int, palette: Palette) -> None:
    """A vertical line where the chosen k is, with its name above the panel."""
    side = "center" if 15 < k < 85 else "left" if k < 50 else "right"
    font = {"color": palette.text, "size": 12}
    label = {"text": f"k = {k:g}%, chosen on dev", "xanchor": side, "yanchor": "bottom", "font": font}
    line = {"color": palette.text, "width": 1.2}
    figure.add_vline(x=k, line=line, annotation=label, annotation_position="top", row=1, col=column)


def _add_states(
    figure: go.Figure,
    rows: pd.DataFrame,
    places: pd.Series[float],
    palette: Palette,
    column: int,
    *,
    along: str,
) -> None:
    """Base, tuned and restored, those that there are."""
    for state in STATES:
        which = rows["state"] == state
        if which.any():
            trace = points(rows[which], places[which].tolist(), state, palette, along=along)
            figure.add_trace(trace.update(showlegend=column == 1), row=1, col=column)


def _columns(results: pd.DataFrame) -> tuple[dict[str, float], dict[float, str]]:
    """run_id -> its place from left to right, and place -> N: sizes beside each other, a gap between train levels."""
    chains = results.drop_duplicates("run_id")
    places: dict[str, float] = {}
    sizes: dict[float, str] = {}
    middle = 0.0
    for _, of_level in chains.groupby("train_level", sort=False):
        for _, cell in of_level.groupby("n_train", sort=False, dropna=False):
            step, first = _CELL_WIDTH / len(cell), (len(cell) - 1) / 2
            places |= {run_id: middle + (i - first) * step for i, run_id in enumerate(cell["run_id"])}
            n = cell["n_train"].iloc[0]
            sizes[middle] = "" if pd.isna(n) else f"{n:,}"
            middle += 1
        middle += _LEVEL_GAP
    return places, sizes


def _name_train_levels(
    figure: go.Figure, rows: pd.DataFrame, columns: dict[str, float], column: int, palette: Palette
) -> None:
    """The train levels under the sizes."""
    for level, group in rows.groupby("train_level", sort=False):
        xs = [columns[run_id] for run_id in group["run_id"]]
        figure.add_annotation(
            x=(min(xs) + max(xs)) / 2,
            xref=f"x{column}" if column > 1 else "x",
            y=0,
            yref="paper",
            yshift=-24,
            yanchor="top",
            text=f"level {level}" if str(level).isdigit() else str(level),
            font={"color": palette.text, "size": 13},
            showarrow=False,
        )


# The figure of a fine-tuning: its loss, step by step.


def loss_figure(curve: pd.DataFrame, n_steps: float | None = None, palette: Palette = LIGHT) -> go.Figure:
    """Loss of each step as points, the mean over the steps just before as a line.

    curve: see results.training.loss_curve. n_steps: all there will be, so that the axis stands still; None: not known.
    """
    figure = go.Figure()
    said = "step %{x:,}: <b>%{y:.3f} nats</b> a token<extra></extra>"
    figure.add_scatter(
        x=curve["step"].tolist(), y=curve["loss_nats"].tolist(), mode="markers", name="one step",
        marker={"color": faded(palette.tuned, 0.45), "size": 4, "symbol": "diamond"}, hovertemplate=said,
    )  # fmt: skip
    figure.add_scatter(
        x=curve["step"].tolist(), y=curve["smooth_nats"].tolist(), mode="lines", name="mean over the last steps",
        line={"color": palette.tuned, "width": 2.5}, hovertemplate=f"mean, {said}",
    )  # fmt: skip
    end = max(n_steps or 0, curve["step"].max() if len(curve) else 1)
    figure.update_xaxes(title_text="training step", title_standoff=4, range=[0, 1.02 * end])
    figure.update_yaxes(title_text="training loss (nats per token)", rangemode="tozero")
    return styled(figure, palette, height=240, top=10)
