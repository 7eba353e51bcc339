"""Figures of accuracy by mastery level: changes by tuning and restoring, flips, and a heat map by training level.

Tables come from results/accuracy.py. Tuning is amber with diamonds, restoring teal with circles; lost answers lie left
of zero and gained ones right. Each cell of the heat map holds its number in percent: trained models have the colour of
their state, the base stands beside them in grey.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sftknow_core.present.charts.marks import (
    add,
    arms,
    domain_panels,
    hatched,
    heat_map,
    interval_text,
    level_axis,
    styled,
    texts,
)
from sftknow_core.present.charts.palette import LIGHT, Palette, ink, mixed

_MEAN_PLACE = -1.2
"""Where the mean over levels stands: below a gap."""
_STEPS = {
    "tuning": ("tuned", "by tuning (base → tuned)", "diamond", 0.16),
    "restoring": ("restored", "by restoring (tuned → restored)", "circle", -0.16),
}
"""Step -> whose colour, name, symbol, and how far above the level it stands."""
_REFERENCE_GAP = 0.4
_CELL_PIXELS = 50
_PALEST = 0.08
"""Share of the colour in a cell of 0%."""
_LEVELS: tuple[int | None, ...] = (None, 0, 1, 2, 3, 4)
_PLACES = (_MEAN_PLACE, 0, 1, 2, 3, 4)


def change_figure(changes: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """Differences of accuracy by level, with their 95% CIs, and of the mean over levels below a gap.

    changes: see results.accuracy.changes.
    """
    domains = list(changes["domain"].unique())
    figure = _panels(domains, changes)
    for column, domain in enumerate(domains, start=1):
        add(figure, column, _differences(changes[changes["domain"] == domain], palette))
        figure.add_vline(x=0, line={"color": palette.faint, "width": 1}, row=1, col=column)
    figure.update_xaxes(title_text="change in accuracy (pp)", tickformat="+.0f")
    figure.update_xaxes(title_standoff=4)
    level_axis(figure, "question level", mean=_MEAN_PLACE)
    return styled(figure, palette, height=400)


def _differences(changes: pd.DataFrame, palette: Palette) -> Iterator[go.Scatter]:
    """The points of tuning and of restoring, with their intervals."""
    for step, (state, name, symbol, above) in _STEPS.items():
        rows = changes[changes["step"] == step]
        if rows.empty:
            continue
        colour, value = palette.of(state), 100 * rows["difference"]
        low, high = 100 * rows["low"], 100 * rows["high"]
        yield go.Scatter(
            x=value.tolist(),
            y=(rows["level"].astype("Float64").fillna(_MEAN_PLACE).astype(float) + above).tolist(),
            error_x=arms(value, low, high, colour, thickness=1.6, opacity=0.7),
            mode="markers",
            marker={"symbol": symbol, "size": 11, "color": colour},
            name=name,
            **texts(f"{name}<br>{text}" for text in _said(rows)),
        )


def flips_figure(changes: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """How many answers became incorrect (left) and correct (right), by level; plain bars: gained, hatched: lost.

    changes: see results.accuracy.changes.
    """
    rows_of_levels = changes[changes["level"].notna()]
    domains = list(changes["domain"].unique())
    figure = _panels(domains, changes)
    for column, domain in enumerate(domains, start=1):
        for rank, (step, (state, name, _, _)) in reversed([*enumerate(_STEPS.items())]):
            rows = rows_of_levels[(rows_of_levels["domain"] == domain) & (rows_of_levels["step"] == step)]
            if rows.empty:
                continue
            for count, sign, said in (
                ("n_lost", -1, "correct → incorrect"),
                ("n_gained", 1, "incorrect → correct"),
            ):
                bars = _bars(rows, count, sign, palette.of(state), palette).update(
                    name=f"{said} {name.split(' (')[0]}",
                    offsetgroup=step,
                    legendrank=rank,
                    hovertemplate=f"{said} {name}, level %{{y}}: <b>%{{text}}</b> of %{{customdata}}<extra></extra>",
                )
                add(figure, column, [bars])
        figure.add_vline(x=0, line={"color": palette.faint, "width": 1}, row=1, col=column)
    most = max(rows_of_levels[["n_lost", "n_gained"]].max().max() if len(rows_of_levels) else 1, 1)
    ticks = _ticks(int(most))
    figure.update_layout(barmode="group", bargap=0.25, bargroupgap=0.04)
    figure.update_xaxes(
        tickvals=[*[-t for t in reversed(ticks[1:])], *ticks],
        ticktext=[f"{t:,}" for t in [*reversed(ticks[1:]), *ticks]],
        range=[-1.22 * most, 1.22 * most],
        title_text="← newly incorrect   |   newly correct → (questions)",
        title_standoff=4,
    )
    level_axis(figure, "question level")
    return styled(figure, palette, height=400, bottom=60)


def _panels(domains: Sequence[str], changes: pd.DataFrame) -> go.Figure:
    rows = changes[changes["level"].notna() & (changes["step"] == "tuning")]
    n = dict(rows.groupby("domain")["n"].sum())
    return domain_panels(domains, n, shared_xaxes="all", horizontal_spacing=0.03)


def _said(rows: pd.DataFrame) -> list[str]:
    said = []
    for row in rows.to_dict("records"):
        where = "mean over levels" if pd.isna(row["level"]) else f"level {row['level']}"
        interval = interval_text(100 * row["low"], 100 * row["high"], "+.1f", row["reason"])
        said.append(
            f"{where}: {row['before']:.1%} → {row['after']:.1%}, <b>{100 * row['difference']:+.1f} pp</b><br>"
            f"{interval}, p = {row['p_value']:.2g}, {row['n']:,} questions"
        )
    return said


def _bars(rows: pd.DataFrame, count: str, sign: int, colour: str, palette: Palette) -> go.Bar:
    """Bars of lost (hatched) or gained answers."""
    return go.Bar(
        x=(sign * rows[count]).tolist(),
        y=rows["level"].tolist(),
        orientation="h",
        text=[f"{n:,}" for n in rows[count]],
        textposition="outside",
        textfont={"color": palette.text},
        cliponaxis=False,
        customdata=[f"{n:,}" for n in rows["n"]],
        marker=hatched(colour, "/" if sign < 0 else "", palette.background),
    )


def _ticks(most: int) -> list[int]:
    """0 and up to four round numbers up to `most`."""
    steps = [m * 10**e for e in range(7) for m in (1, 2, 5)]
    step = next(s for s in steps if most / s <= 4)
    return list(range(0, most + 1, step))


def heat_figure(
    cells: pd.DataFrame,
    references: pd.DataFrame,
    state: str,
    palette: Palette = LIGHT,
    paper: pd.DataFrame | None = None,
) -> go.Figure:
    """Accuracy by test level (rows, and their mean) and train level (columns), each cell with its number in percent.

    cells: results.accuracy.over_seeds of one N, one state, all levels; references: rows of base of
    results.accuracy.accuracies under the same prompt, drawn as a column of its own in grey. paper:
    published.by_test_level, written small in the cells of its train levels.
    """
    domains = list(cells["domain"].unique())
    figure = domain_panels(domains, horizontal_spacing=0.03)
    trained = list(dict.fromkeys(cells["train_level"]))
    shown = ["base"] if len(references) else []
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
    names = [*trained, *shown]
    places = [*range(len(trained)), *[len(trained) + _REFERENCE_GAP + i for i in range(len(shown))]]
    figure.update_xaxes(tickvals=places, ticktext=names, showgrid=False, title_standoff=6)
    figure.update_xaxes(title_text="training level", range=[-0.55, max(places, default=0) + 0.55])
    level_axis(figure, "question level", mean=_MEAN_PLACE, room=0.55)
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
    return heat_map(
        [[None if cell is None else cell["accuracy"] for cell in row] for row in found],
        (mixed(colour, palette.background, _PALEST), colour),
        most=1,
        gap=3,
        said=said,
        template="%{customdata}",
        x=[first + i for i in range(len(columns))],
        y=_PLACES,
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
            ground = mixed(colour, palette.background, _PALEST + (1 - _PALEST) * cell["accuracy"])
            readable = ink(ground, palette.text, palette.background)
            beside = _paper_cell(paper, name, level)
            up = 0.0 if beside is None else 0.14
            ours.append((first + i, place + up, f"{100 * cell['accuracy']:.1f}", readable))
            if beside is not None:
                theirs.append((first + i, place - 0.24, f"({100 * beside:.1f})", readable))
    return [_text_trace(texts, size) for texts, size in ((ours, 14), (theirs, 11)) if texts]


def _text_trace(texts: list[tuple[float, float, str, str]], size: int) -> go.Scatter:
    x, y, text, inks = zip(*texts, strict=True)
    font = {"size": size, "color": list(inks)}
    return go.Scatter(
        x=x, y=y, text=text, textfont=font, mode="text", hoverinfo="skip", showlegend=False, cliponaxis=False
    )


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
        return "not evaluated"
    who = f"training level {name}" if name.isdigit() else name
    which = "mean over levels" if level is None else f"question level {level}"
    interval = interval_text(cell["low"], cell["high"])
    seeds = f", {cell['n_seeds']} seeds" if cell.get("n_seeds", 1) > 1 else ""
    return f"{who}, {which}: <b>{cell['accuracy']:.1%}</b><br>{interval}<br>{cell['n']:,} questions{seeds}"
