"""Figures of one run, and of all runs by what they were trained on: accuracies by k, level and run, and the loss.

One panel is in-domain, the other out-of-domain. Traces carry exactly the numbers of their tables (results/chains.py):
accuracies as shares, written in percent.
"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from sftknow_core.present.charts.marks import (
    K_ENDS,
    STATES,
    add,
    band,
    curve,
    hovered,
    joined,
    level_axis,
    mark_x,
    panels,
    points,
    references,
    side_in_percent,
    styled,
)
from sftknow_core.present.charts.palette import LIGHT, Palette, faded

LEVEL_NAMES = ("0 · never", "1 · up to 25%", "2 · up to 50%", "3 · up to 75%", "4 · up to 100%")
"""Mastery level -> share of the base's sampled completions that are correct."""
BASE_X = 116.0
"""Where on the k axis the base stands: it is no point of the curve, so it stands beyond 100%."""
_DODGE = {"base": 0.26, "tuned": 0.0, "restored": -0.26}
"""How far a state's marker stands above its level, so that markers do not hide each other."""
_LEVEL_GAP = 0.7
"""Between the columns of one train level and those of the next, in columns."""
_CELL_WIDTH = 0.7
"""Seeds of one train level and N share it."""


def restoration_figure(table: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """Accuracy over k with its 95% CI, the three endpoints, and where tuned and base lie.

    table: see Chain.curve; rows of one split.
    """
    domains = list(table["domain"].unique())
    figure = panels(domains, table, dict(table.groupby("domain")["n"].max()))
    for column, domain in enumerate(domains, start=1):
        rows = table[table["domain"] == domain]
        measured = rows[rows["k_percent"].notna()].sort_values("k_percent")
        ks = measured["k_percent"].tolist()
        line = curve(
            ks, measured["accuracy"], "restored", palette.restored, size=7, width=2.4, **hovered(measured)
        )
        ends = [_endpoint(rows[rows["state"] == state], palette) for state in ("tuned", "hybrid", "base")]
        across = references(rows, [0, BASE_X], palette, width=1.6)
        add(figure, column, [band(ks, measured, palette), *across, line, *ends])
        for k in rows.loc[rows["chosen"], "k_percent"].dropna():
            mark_x(
                figure, float(k), f"k = {k:g}%, chosen on dev", palette, side=side_in_percent(k), width=1.2,
                size=12, row=1, col=column,
            )  # fmt: skip
    ticks = [0, 20, 40, 60, 80, 100]
    figure.update_xaxes(
        tickvals=[*ticks, BASE_X],
        ticktext=[*(K_ENDS.get(k, f"{k}") for k in ticks), "base"],
        range=[-5, BASE_X + 7],
        title_text="weights reverted, k (%)",
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
        lines = joined(rows, places, "level", palette, along="x", states=STATES)
        add(figure, column, [lines, *_by_state(rows, places, palette, along="x")])
    level_axis(figure, "question level")
    return styled(figure.update_yaxes(ticktext=LEVEL_NAMES), palette, height=410)


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
        lines = joined(rows, places, "run_id", palette, along="y", states=STATES[1:])
        add(figure, column, [lines, *_by_state(rows, places, palette, along="y")])
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
        title_text="training facts (N) and their mastery level",
        title_standoff=30,
    )
    return styled(figure, palette, height=420, bottom=88)


def loss_figure(losses: pd.DataFrame, n_steps: float | None = None, palette: Palette = LIGHT) -> go.Figure:
    """Loss of each step as points, the mean over the steps just before as a line.

    losses: see results.training.loss_curve. n_steps: all there will be, so that the axis stands still; None: not known.
    """
    figure = go.Figure()
    said = "step %{x:,}: <b>%{y:.3f} nats</b> a token<extra></extra>"
    figure.add_scatter(
        x=losses["step"].tolist(), y=losses["loss_nats"].tolist(), mode="markers", name="one step",
        marker={"color": faded(palette.tuned, 0.45), "size": 4, "symbol": "diamond"}, hovertemplate=said,
    )  # fmt: skip
    figure.add_scatter(
        x=losses["step"].tolist(), y=losses["smooth_nats"].tolist(), mode="lines", name="mean over the last steps",
        line={"color": palette.tuned, "width": 2.5}, hovertemplate=f"mean, {said}",
    )  # fmt: skip
    end = max(n_steps or 0, losses["step"].max() if len(losses) else 1)
    figure.update_xaxes(title_text="training step", title_standoff=4, range=[0, 1.02 * end])
    figure.update_yaxes(title_text="training loss (nats per token)", rangemode="tozero")
    return styled(figure, palette, height=240, top=10)


def _endpoint(rows: pd.DataFrame, palette: Palette) -> go.Scatter | None:
    """A marker; only the base has arms, the others stand in the band."""
    if rows.empty:
        return None
    state = rows["state"].iloc[0]
    x = BASE_X if state == "base" else float(rows["k_percent"].iloc[0])
    trace = points(rows.iloc[:1], [x], state, palette, along="y").update(showlegend=False)
    return trace if state == "base" else trace.update(error_y=None, marker_size=13, overwrite=False)


def _by_state(
    rows: pd.DataFrame, places: pd.Series[float], palette: Palette, *, along: str
) -> list[go.Scatter]:
    """Base, tuned and restored, those that there are."""
    found = {state: rows["state"] == state for state in STATES}
    return [
        points(rows[of], places[of].tolist(), state, palette, along=along)
        for state, of in found.items()
        if of.any()
    ]


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
