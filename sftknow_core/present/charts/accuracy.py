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
from sftknow_core.present.charts.palette import LIGHT, Palette, faded

# Table of one chain's changes (results/accuracy.py) -> figures: differences with intervals, and flips.
#
# Tuning is amber with diamonds, restoring teal with circles; lost answers lie left of zero and gained ones right.

MEAN = "mean"
"""Name of the row of means over levels."""
_MEAN_PLACE = -1.2
_STEPS = {
    "tuning": ("tuned", "by tuning (base → tuned)", "diamond", 0.16),
    "restoring": ("restored", "by restoring (tuned → restored)", "circle", -0.16),
}
"""Step -> whose colour, name, symbol, and how far above the level it stands."""


def change_figure(changes: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """Differences of accuracy by level, with their 95% intervals, and of the mean over levels below a gap.

    changes: see results.accuracy.changes.
    """
    domains = list(changes["domain"].unique())
    figure = _panels(domains, changes)
    for column, domain in enumerate(domains, start=1):
        for step, (state, name, symbol, above) in _STEPS.items():
            rows = changes[(changes["domain"] == domain) & (changes["step"] == step)]
            if rows.empty:
                continue
            colour, value = palette.of(state), 100 * rows["difference"]
            figure.add_scatter(
                x=value.tolist(),
                y=(_places(rows) + above).tolist(),
                error_x={
                    "array": (100 * rows["high"] - value).fillna(0).tolist(),
                    "arrayminus": (value - 100 * rows["low"]).fillna(0).tolist(),
                    "thickness": 1.6,
                    "width": 0,
                    "color": faded(colour, 0.7),
                },
                mode="markers",
                marker={"symbol": symbol, "size": 11, "color": colour},
                name=name,
                customdata=[[text] for text in _said(rows)],
                hovertemplate=f"{name}<br>%{{customdata[0]}}<extra></extra>",
                showlegend=column == 1,
                row=1,
                col=column,
            )
        figure.add_vline(x=0, line={"color": palette.faint, "width": 1}, row=1, col=column)
    figure.update_xaxes(title_text="change of accuracy (percentage points)", tickformat="+.0f")
    figure.update_xaxes(title_standoff=4)
    return styled(_levels_axis(figure), palette, height=400)


def flips_figure(changes: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """How many answers became wrong (left) and right (right), by level; plain bars: gained, hatched: lost.

    changes: see results.accuracy.changes.
    """
    rows_of_levels = changes[changes["level"].notna()]
    domains = list(changes["domain"].unique())
    figure = _panels(domains, changes)
    for column, domain in enumerate(domains, start=1):
        for rank, (step, (state, name, _, _)) in reversed([*enumerate(_STEPS.items())]):
            rows = rows_of_levels[(rows_of_levels["domain"] == domain) & (rows_of_levels["step"] == step)]
            for count, sign, said in (("n_lost", -1, "right → wrong"), ("n_gained", 1, "wrong → right")):
                if rows.empty:
                    continue
                bars = _bars(rows, count, sign, palette.of(state), palette)
                figure.add_bar(
                    **bars,
                    name=f"{said} {name.split(' (')[0]}",
                    offsetgroup=step,
                    legendrank=rank,
                    hovertemplate=f"{said} {name}, level %{{y}}: <b>%{{text}}</b> of %{{customdata}}<extra></extra>",
                    showlegend=column == 1,
                    row=1,
                    col=column,
                )
        figure.add_vline(x=0, line={"color": palette.faint, "width": 1}, row=1, col=column)
    most = max(rows_of_levels[["n_lost", "n_gained"]].max().max() if len(rows_of_levels) else 1, 1)
    ticks = _ticks(int(most))
    figure.update_layout(barmode="group", bargap=0.25, bargroupgap=0.04)
    figure.update_xaxes(
        tickvals=[*[-t for t in reversed(ticks[1:])], *ticks],
        ticktext=[f"{t:,}" for t in [*reversed(ticks[1:]), *ticks]],
        range=[-1.22 * most, 1.22 * most],
        title_text="← right → wrong (questions)   |   wrong → right →",
        title_standoff=4,
    )
    figure.update_yaxes(tickvals=list(range(5)), ticktext=[f"{n}" for n in range(5)], showgrid=False)
    figure.update_yaxes(range=[-0.6, 4.6])
    figure.update_yaxes(title_text="mastery level", col=1)
    return styled(figure, palette, height=400, bottom=60)


def _panels(domains: Sequence[str], changes: pd.DataFrame) -> go.Figure:
    return make_subplots(
        1,
        max(len(domains), 1),
        shared_yaxes=True,
        shared_xaxes="all",
        horizontal_spacing=0.03,
        subplot_titles=_titles(domains, changes),
    )


def _titles(domains: Sequence[str], changes: pd.DataFrame) -> list[str]:
    titles = [f"<b>{DOMAIN_NAMES.get(d, d)}</b>" for d in domains]
    rows = changes[changes["level"].notna() & (changes["step"] == "tuning")]
    n = rows.groupby("domain")["n"].sum()
    return [f"{title}, {n.get(d, 0):,} questions" for title, d in zip(titles, domains, strict=True)]


def _places(rows: pd.DataFrame) -> pd.Series[float]:
    return rows["level"].astype("Float64").fillna(_MEAN_PLACE).astype(float)


def _levels_axis(figure: go.Figure) -> go.Figure:
    figure.update_yaxes(
        tickvals=[_MEAN_PLACE, *range(5)], ticktext=[MEAN, *map(str, range(5))], showgrid=False
    )
    figure.update_yaxes(range=[_MEAN_PLACE - 0.6, 4.6])
    return figure.update_yaxes(title_text="mastery level", col=1)


def _said(rows: pd.DataFrame) -> list[str]:
    said = []
    for row in rows.to_dict("records"):
        where = "mean over levels" if pd.isna(row["level"]) else f"level {row['level']}"
        interval = (
            row["reason"]
            if pd.isna(row["low"])
            else f"95% interval {100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
        )
        said.append(
            f"{where}: {row['before']:.1%} → {row['after']:.1%}, <b>{100 * row['difference']:+.1f} points</b><br>"
            f"{interval}, p = {row['p_value']:.2g}, {row['n']:,} questions"
        )
    return said


def _bars(rows: pd.DataFrame, count: str, sign: int, colour: str, palette: Palette) -> dict[str, Any]:
    """What a bar of lost (hatched) or gained answers looks like."""
    return {
        "x": (sign * rows[count]).tolist(),
        "y": rows["level"].tolist(),
        "orientation": "h",
        "text": [f"{n:,}" for n in rows[count]],
        "textposition": "outside",
        "textfont": {"color": palette.text},
        "cliponaxis": False,
        "customdata": [f"{n:,}" for n in rows["n"]],
        "marker": {
            "color": colour,
            "line": {"color": colour, "width": 1},
            "pattern": {
                "shape": "/" if sign < 0 else "",
                "fillmode": "overlay",
                "fgcolor": palette.background,
                "fgopacity": 0.9,
                "size": 6,
                "solidity": 0.3,
            },
        },
    }


def _ticks(most: int) -> list[int]:
    """0 and up to four round numbers up to `most`."""
    steps = [m * 10**e for e in range(7) for m in (1, 2, 5)]
    step = next(s for s in steps if most / s <= 4)
    return list(range(0, most + 1, step))


_HEAT_MEAN_PLACE = -1.2
"""Where the means over levels stand: below a gap."""
_REFERENCE_NAMES = {"five-shot": "base,<br>5 ex.", "base": "base"}
_REFERENCE_GAP = 0.4
_CELL_PIXELS = 50
_PALEST = 0.08
"""Share of the colour in a cell of 0%."""
_LEVELS: tuple[int | None, ...] = (None, 0, 1, 2, 3, 4)
_PLACES = (_HEAT_MEAN_PLACE, 0, 1, 2, 3, 4)


def heat_figure(
    cells: pd.DataFrame,
    references: pd.DataFrame,
    state: str,
    palette: Palette = LIGHT,
    paper: pd.DataFrame | None = None,
) -> go.Figure:
    """Accuracy by test level (rows, and their mean) and train level (columns), each cell with its number in percent.

    cells: results.accuracy.over_seeds of one N, one state, all levels; references: rows of base and five-shot of
    results.accuracy.accuracies, drawn as columns of their own in grey. paper: published.by_test_level, written small
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
        tickvals=[_HEAT_MEAN_PLACE, *range(5)], ticktext=["mean", *map(str, range(5))], showgrid=False
    )
    figure.update_yaxes(range=[_HEAT_MEAN_PLACE - 0.55, 4.55])
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
