"""Accuracy by the level of the test question and of the facts fine-tuned on, at one N -> a heat map.

Each cell says its number in percent, so no colour has to be read. Trained models have the colour of their state, the
base stands beside them in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.present.charts.marks import styled
from sftknow_core.present.charts.palette import LIGHT, Palette

_MEAN_PLACE = -1.2
"""Where the means over levels stand: below a gap."""
_REFERENCE_NAMES = {"five-shot": "base,<br>5 ex.", "base": "base"}
_REFERENCE_GAP = 0.4
_CELL_PIXELS = 50
_PALEST = 0.08
"""Share of the colour in a cell of 0%."""
_LEVELS: tuple[int | None, ...] = (None, 0, 1, 2, 3, 4)
_PLACES = (_MEAN_PLACE, 0, 1, 2, 3, 4)


def heat_figure(
    cells: pd.DataFrame,
    references: pd.DataFrame,
    state: str,
    palette: Palette = LIGHT,
    paper: pd.DataFrame | None = None,
) -> go.Figure:
    """Accuracy by test level (rows, and their mean) and train level (columns), each cell with its number in percent.

    cells: across_chains.over_seeds of one N, one state, all levels; references: rows of base and five-shot of
    across_chains.accuracies, drawn as columns of their own in grey. paper: paper_accuracy.by_test_level, written small
    in the cells of its train levels.
    """
    domains = list(cells["domain"].unique())
    titles = [f"<b>{DOMAIN_NAMES.get(d, d)}</b>" for d in domains]
    figure = make_subplots(
        1, max(len(domains), 1), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=titles
    )
    trained = list(dict.fromkeys(cells["train_level"]))
    shown = [name for name in ("five-shot", "base") if (references["state"] == name).any()]
    for column, domain in enumerate(domains, start=1):
        for colour, part in (
            (palette.of(state), _grid(cells[cells["domain"] == domain], "train_level", trained)),
            (palette.base, _grid(references[references["domain"] == domain], "state", shown)),
        ):
            is_trained = colour == palette.of(state)
            beside = paper if is_trained and paper is not None else None
            here = None if beside is None else beside[beside["domain"] == domain]
            first = 0.0 if is_trained else len(trained) + _REFERENCE_GAP
            if part:
                figure.add_trace(_heat(part, first, colour, palette), row=1, col=column)
                for texts in _texts(part, first, colour, palette, here):
                    figure.add_trace(texts, row=1, col=column)
    names = [*trained, *[_REFERENCE_NAMES[name] for name in shown]]
    places = [*range(len(trained)), *[len(trained) + _REFERENCE_GAP + i for i in range(len(shown))]]
    figure.update_xaxes(tickvals=places, ticktext=names, showgrid=False, title_standoff=6)
    figure.update_xaxes(
        title_text="fine-tuned on facts of level", range=[-0.55, max(places, default=0) + 0.55]
    )
    figure.update_yaxes(
        tickvals=[_MEAN_PLACE, *range(5)], ticktext=["mean", *map(str, range(5))], showgrid=False
    )
    figure.update_yaxes(range=[_MEAN_PLACE - 0.55, 4.55])
    figure.update_yaxes(title_text="level of the test question", col=1)
    height = 76 + 6 * _CELL_PIXELS
    styled(figure, palette, height=height).update_layout(height=height, margin_b=66)  # no room for a legend
    figure.update_yaxes(ticks="")
    return figure.update_xaxes(showline=False, ticks="")


def _heat(columns: dict[str, pd.DataFrame], first: float, colour: str, palette: Palette) -> go.Heatmap:
    """One block of columns, from `first` on. columns: name -> rows by level."""
    found = [[_cell(rows, level) for rows in columns.values()] for level in _LEVELS]
    said = [
        [_cell_said(cell, name, level) for cell, name in zip(row, columns, strict=True)]
        for row, level in zip(found, _LEVELS, strict=True)
    ]
    return go.Heatmap(
        x=[first + i for i in range(len(columns))],
        y=_PLACES,
        z=[[None if cell is None else cell["accuracy"] for cell in row] for row in found],
        customdata=said,
        hovertemplate="%{customdata}<extra></extra>",
        zmin=0,
        zmax=1,
        colorscale=[[0, _mixed(colour, palette.background, _PALEST)], [1, colour]],
        showscale=False,
        xgap=3,
        ygap=3,
    )


def _texts(
    columns: dict[str, pd.DataFrame],
    first: float,
    colour: str,
    palette: Palette,
    paper: pd.DataFrame | None,
) -> list[go.Scatter]:
    """Our number in each cell, and the paper's below it where it has one.

    A trace of texts, because plotly shrinks all texts of a heat map to what fits the longest one.
    """
    ours, theirs = [], []
    for i, (name, rows) in enumerate(columns.items()):
        for place, level in zip(_PLACES, _LEVELS, strict=True):
            if (cell := _cell(rows, level)) is None:
                continue
            ink = _ink(
                _mixed(colour, palette.background, _PALEST + (1 - _PALEST) * cell["accuracy"]), palette
            )
            beside = _paper_cell(paper, name, level)
            up = 0.0 if beside is None else 0.14
            ours.append((first + i, place + up, f"{100 * cell['accuracy']:.1f}", ink))
            if beside is not None:
                theirs.append((first + i, place - 0.24, f"({100 * beside:.1f})", ink))
    return [_text_trace(texts, size) for texts, size in ((ours, 14), (theirs, 11)) if texts]


def _text_trace(texts: list[tuple[float, float, str, str]], size: int) -> go.Scatter:
    x, y, text, inks = zip(*texts, strict=True)
    font = {"size": size, "color": list(inks)}
    return go.Scatter(
        x=x, y=y, text=text, textfont=font, mode="text", hoverinfo="skip", showlegend=False, cliponaxis=False
    )


def _ink(ground: str, palette: Palette) -> str:
    """Text or background colour, whichever stands out more from the cell."""
    return max((palette.text, palette.background), key=lambda colour: _contrast(colour, ground))


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio, 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _grid(rows: pd.DataFrame, by: str, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    return {name: rows[rows[by] == name] for name in names}


def _cell(rows: pd.DataFrame, level: int | None) -> dict[str, Any] | None:
    of = rows[rows["level"].isna() if level is None else (rows["level"] == level).fillna(False)]
    return None if of.empty else {str(name): value for name, value in of.iloc[0].items()}


def _paper_cell(paper: pd.DataFrame | None, train_level: str, level: int | None) -> float | None:
    if paper is None:
        return None
    of = paper[paper["train_level"] == train_level]
    found = _cell(of, level)
    return None if found is None else float(found["accuracy"])


def _cell_said(cell: dict[str, Any] | None, name: str, level: int | None) -> str:
    if cell is None:
        return "not asked"
    who = f"trained on level {name}" if name.isdigit() else name
    which = "mean over levels" if level is None else f"test level {level}"
    interval = (
        "no interval: too few seeds"
        if pd.isna(cell["low"])
        else f"95% interval {cell['low']:.1%} to {cell['high']:.1%}"
    )
    seeds = f", {cell['n_seeds']} seeds" if cell.get("n_seeds", 1) > 1 else ""
    return f"{who}, {which}: <b>{cell['accuracy']:.1%}</b><br>{interval}<br>{cell['n']:,} questions{seeds}"


def _mixed(colour: str, ground: str, share: float) -> str:
    """`share` of the colour on the ground, as #rrggbb."""
    pairs = [(int(colour[i : i + 2], 16), int(ground[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)
