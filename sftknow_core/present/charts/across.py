"""Tables of many chains (results/accuracy.py) -> one figure: a number over N, one line a train level.

Train levels are an ordered scale of one hue, and each has its symbol; tuned is a full symbol on a solid line, restored
an open one on a dashed line. The axis of N is logarithmic; points of one N stand side by side, so that their
intervals do not hide each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10

import pandas as pd
import plotly.graph_objects as go

from sftknow_core.present.charts.marks import (
    REFERENCES,
    add,
    arms,
    curve,
    interval_text,
    panels,
    reference,
    styled,
    texts,
)
from sftknow_core.present.charts.palette import LIGHT, Palette, faded

_SYMBOLS = {"0": "circle", "1": "square", "2": "diamond", "3": "triangle-up", "4": "star", "mixed": "x"}
_OTHER_SYMBOL = "cross"
_DODGE = 1.045
"""Factor between the places of one train level and of the next, at one N."""


@dataclass(frozen=True)
class Measure:
    """What stands on the y axis."""

    value: str
    """Column."""
    low: str
    high: str
    n: str
    """Column: over how many questions."""
    title: str
    form: str
    """Format of ticks and values, as d3 and Python both read it."""
    base: str
    """What the dashed line of the base is."""

    @property
    def numbers(self) -> tuple[str, str, str]:
        """The columns of the value and of the ends of its interval."""
        return (self.value, self.low, self.high)


ACCURACY = Measure("accuracy", "low", "high", "n", "accuracy", ".0%", "base")
KL = Measure("kl_nats", "kl_low", "kl_high", "n_scored", "mean KL (nats)", ".1f", "base (prompt change only)")


def level_colour(level: str, palette: Palette = LIGHT) -> str:
    """The colour of a mastery level, 0 to 4; what is no single level is grey."""
    known = level.isdigit() and int(level) < len(palette.levels)
    return palette.levels[int(level)] if known else palette.faint


def level_symbol(level: str) -> str:
    """The symbol of a train level."""
    return _SYMBOLS.get(level, _OTHER_SYMBOL)


def train_level_name(level: str) -> str:
    """ "level 2", or "mixed levels"."""
    return f"level {level}" if level.isdigit() else f"{level} levels"


def over_n_figure(
    cells: pd.DataFrame,
    rows: pd.DataFrame,
    measure: Measure = ACCURACY,
    palette: Palette = LIGHT,
    paper: pd.DataFrame | None = None,
    paper_name: str = "",
) -> go.Figure:
    """A panel a domain: means over seeds with their intervals, each seed's point where there are several, the base.

    cells: results.accuracy.over_seeds of `rows`, of one test level; rows: results.accuracy.accuracies or shifts. paper:
    published.over_n, drawn faint; its numbers share the axes and nothing else.
    """
    domains = list(rows["domain"].unique())
    sizes = sorted({*cells["n_train"], *([] if paper is None else paper["n_train"])})
    drawn = rows.assign(high=rows[measure.high].fillna(rows[measure.value]))
    if paper is not None:
        drawn = pd.concat([drawn[["high"]], paper["accuracy"].rename("high").to_frame()])
    figure = panels(domains, drawn, dict(rows.groupby("domain")[measure.n].max()))
    levels = list(dict.fromkeys(rows["train_level"].dropna()))
    for column, domain in enumerate(domains, start=1):
        of, seeds = cells[cells["domain"] == domain], rows[rows["domain"] == domain]
        add(figure, column, _references(seeds, sizes, measure, palette))
        if paper is not None:
            add(figure, column, _papers(paper[paper["domain"] == domain], paper_name, palette))
        for place, level in enumerate(levels):
            factor = _DODGE ** (place - (len(levels) - 1) / 2)
            add(figure, column, _of_level(of, seeds, level, factor, measure, palette))
    figure.update_xaxes(
        type="log",
        tickvals=sizes,
        ticktext=[f"{n:,}" for n in sizes],
        range=_log_range(sizes),
        title_text="training facts, N (log scale)",
        title_standoff=4,
    )
    figure.update_yaxes(tickformat=measure.form)
    figure.update_yaxes(title_text=measure.title, col=1)
    figure.update_layout(legend_traceorder="normal")
    return styled(figure, palette, height=410, bottom=62)


def _of_level(
    cells: pd.DataFrame, seeds: pd.DataFrame, level: str, factor: float, measure: Measure, palette: Palette
) -> list[go.Scatter]:
    """The traces of one train level: line and points a state, and the seeds' points."""
    traces = []
    for state in ("tuned", "restored"):
        cell = cells[(cells["train_level"] == level) & (cells["state"] == state)].sort_values("n_train")
        if cell.empty:
            continue
        traces.append(_line(cell, level, state, factor, measure, palette))
        several = set(cell.loc[cell["n_seeds"] > 1, "n_train"])
        of = seeds[(seeds["train_level"] == level) & (seeds["state"] == state)]
        if len(of := of[of["n_train"].isin(several)]):
            traces.append(_seeds(of, level, state, factor, measure, palette))
    return traces


def _line(
    cell: pd.DataFrame, level: str, state: str, factor: float, measure: Measure, palette: Palette
) -> go.Scatter:
    colour, restored = level_colour(level, palette), state == "restored"
    value = cell[measure.value]
    name = train_level_name(level) + (", restored" if restored else "")
    symbol = level_symbol(level) + ("-open" if restored else "")
    outline = {"width": 2, "color": colour} if restored else {"width": 0}
    return curve(
        [n * factor * (1.02 if restored else 1) for n in cell["n_train"]], value, name, colour, width=1.8,
        dash="dash" if restored else "solid",
        marker={"symbol": symbol, "size": 10, "color": colour, "line": outline},
        error_y=arms(value, cell[measure.low], cell[measure.high], colour, thickness=1.2, opacity=0.55),
        **texts(_said(cell, name, measure)),
    )  # fmt: skip


def _said(cell: pd.DataFrame, name: str, measure: Measure) -> list[str]:
    said = []
    for row in cell.to_dict("records"):
        interval = interval_text(row[measure.low], row[measure.high], _finer(measure))
        k = f", k = {row['k_percent']:g}%" if row["state"] == "restored" else ""
        seeds = "1 seed" if row["n_seeds"] == 1 else f"mean of {row['n_seeds']} seeds"
        said.append(
            f"{name}, N = {row['n_train']:,}{k}: <b>{row[measure.value]:{_finer(measure)}}</b><br>{interval}<br>"
            f"{seeds}, {row[measure.n]:,} questions"
        )
    return said


def _finer(measure: Measure) -> str:
    return {".0%": ".1%", ".1f": ".2f"}[measure.form]


def _seeds(
    rows: pd.DataFrame, level: str, state: str, factor: float, measure: Measure, palette: Palette
) -> go.Scatter:
    colour = level_colour(level, palette)
    return go.Scatter(
        x=[n * factor * (1.02 if state == "restored" else 1) for n in rows["n_train"]],
        y=rows[measure.value].tolist(),
        mode="markers",
        marker={"symbol": level_symbol(level) + "-open", "size": 6, "color": faded(colour, 0.75)},
        customdata=[
            [f"seed {seed}: {y:{_finer(measure)}}"]
            for seed, y in zip(rows["seed"], rows[measure.value], strict=True)
        ],
        hovertemplate=f"{train_level_name(level)}, {state}, %{{customdata[0]}}<extra></extra>",
        showlegend=False,
    )


def _references(
    rows: pd.DataFrame, sizes: Sequence[int], measure: Measure, palette: Palette
) -> list[go.Scatter]:
    """The base, which has no N: lines across."""
    ends = [10**end for end in _log_range(sizes)]
    traces = []
    for value in rows.loc[rows["state"] == "base", measure.value].head(1):
        said = f"{measure.base}: <b>{value:{_finer(measure)}}</b>"
        look = (palette.base, REFERENCES["base"][1])
        traces.append(reference(ends, float(value), measure.base, *look, width=1.6, said=said))
    return traces


def _papers(rows: pd.DataFrame, name: str, palette: Palette) -> list[go.Scatter]:
    """The paper's numbers: faint, with the symbols of the train levels."""
    traces = []
    for level, of in rows.groupby("train_level"):
        said = [
            f"{name} ({source}), {train_level_name(str(level))}, N = {n:,}: {y:.1%}"
            for source, n, y in zip(of["source"], of["n_train"], of["accuracy"], strict=True)
        ]
        symbol = level_symbol(str(level)) + "-open"
        line = curve(
            of["n_train"], of["accuracy"], f"paper: {name}", faded(palette.faint, 0.45), dash="dot", width=1.2,
            marker={"symbol": symbol, "size": 9, "color": faded(palette.faint, 0.7)}, **texts(said),
        )  # fmt: skip
        traces.append(line)
    return traces


def _log_range(sizes: Sequence[int]) -> list[float]:
    """From a bit left of the smallest N to a bit right of the largest, as powers of ten."""
    if not sizes:
        return [1.0, 4.0]
    room = max(0.12, 0.08 * (log10(sizes[-1]) - log10(sizes[0])))
    return [log10(sizes[0]) - room - 0.08, log10(sizes[-1]) + room + 0.08]
