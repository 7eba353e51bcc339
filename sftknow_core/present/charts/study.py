"""The figures of a study: accuracy and KL over N, restoration curves, knowledge or format, what restoring heals.

    analysis/rows.py  --tidy rows-->  plotly figures

Train levels have the colours and symbols of charts/across.py. A figure without data is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sftknow_core.analysis import published
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import Cell
from sftknow_core.analysis.rows import (
    accuracy_rows,
    curve_rows,
    energy_rows,
    format_rows,
    kl_rows,
    recovered_rows,
)
from sftknow_core.analysis.verdict import Part, Status, Verdict, number
from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.present.charts.across import (
    ACCURACY,
    KL,
    level_colour,
    level_symbol,
    over_n_figure,
    train_level_name,
)
from sftknow_core.present.charts.marks import panels, styled
from sftknow_core.present.charts.palette import LIGHT, Palette, faded
from sftknow_core.present.charts.restore import strategies_figure

_ACROSS = {"five-shot": ("base after five examples", "dot"), "base": ("base", "dash")}


def figure2(study: Study, palette: Palette = LIGHT, paper_model: str | None = None) -> go.Figure | None:
    """Accuracy over N by train level, tuned: seeds as points, means with intervals (mean over test levels)."""
    cells, seeds = accuracy_rows(study)
    paper = published.over_n(paper_model) if paper_model else None
    return _over_n(cells, seeds, palette, paper, paper_model)


def figure4(study: Study, palette: Palette = LIGHT) -> go.Figure | None:
    """As Figure 2, on the questions of mastery level 4: what the base knew best."""
    return _over_n(*accuracy_rows(study, 4), palette)


def figure5(study: Study, palette: Palette = LIGHT) -> go.Figure | None:
    """Mean KL over N by train level, on in-domain test questions of mastery level 4."""
    cells, seeds = kl_rows(study)
    if cells.empty:
        return None
    figure = over_n_figure(cells, seeds, KL, palette)
    return figure.update_yaxes(tickformat=".2g")  # KL of small models is often below 0.1 nats


def _over_n(
    cells: pd.DataFrame,
    seeds: pd.DataFrame,
    palette: Palette,
    paper: pd.DataFrame | None = None,
    name: str | None = None,
) -> go.Figure | None:
    if cells.empty:
        return None
    if paper is not None:
        paper = paper[paper["domain"].isin(cells["domain"])]
    return over_n_figure(cells, seeds, ACCURACY, palette, paper, name or "")


def restoration_figure(study: Study, size: str | None = None, palette: Palette = LIGHT) -> go.Figure | None:
    """Accuracy over k by train level at one N (None: the largest): what Table 4 prints.

    The k stand at equal distances, because most of the curve happens below 20%. Lines across: the base asked the same
    way, and after five exemplars, which is as far as knowledge the base had can lift it.
    """
    size = size or next(iter(reversed(study.sizes())), None)
    rows = curve_rows(study, size)
    curves = rows[rows["k_percent"].notna()]
    if size is None or curves.empty:
        return None
    domains = list(curves["domain"].unique())
    figure = panels(
        domains, rows.assign(high=rows["high"].fillna(rows["accuracy"])), _most(curves, "domain", "n")
    )
    ks = sorted(curves["k_percent"].unique())
    levels = list(dict.fromkeys(curves["train_level"]))
    for column, domain in enumerate(domains, start=1):
        here = rows[rows["domain"] == domain]
        traces = [_across(here, state, len(ks), palette) for state in _ACROSS]
        for place, level in enumerate(levels):
            shift = 0.09 * (place - (len(levels) - 1) / 2)
            traces.append(_curve(here[here["train_level"] == level], level, ks, shift, palette))
        for trace in (t for t in traces if t is not None):
            figure.add_trace(trace.update(showlegend=column == 1), row=1, col=column)
    _k_axis(figure, ks)
    return styled(figure, palette, height=420, bottom=62)


def _curve(
    rows: pd.DataFrame, level: str, ks: Sequence[float], shift: float, palette: Palette
) -> go.Scatter | None:
    if rows.empty:
        return None
    colour, name = level_colour(level, palette), train_level_name(level)
    return go.Scatter(
        x=[ks.index(k) + shift for k in rows["k_percent"]],
        y=rows["accuracy"].tolist(),
        error_y=_arms(rows, "accuracy", colour),
        mode="lines+markers",
        line={"color": colour, "width": 1.8},
        marker={"symbol": level_symbol(level), "size": 9, "color": colour},
        name=name,
        customdata=[[text] for text in _said(rows, name)],
        hovertemplate="%{customdata[0]}<extra></extra>",
    )


def _said(rows: pd.DataFrame, name: str) -> list[str]:
    said = []
    for row in rows.to_dict("records"):
        text = f"{name}, k = {row['k_percent']:g}%: <b>{row['accuracy']:.1%}</b>{_interval(row['low'], row['high'])}"
        if pd.notna(row["gain"]):
            text += f"<br>{100 * row['gain']:+.1f} points against tuned"
        text += f"<br>{row['n_seeds']} seeds, {row['n']:,} questions"
        said.append(text + (f"<br>chosen on dev by {row['n_chosen']} seeds" if row["n_chosen"] else ""))
    return said


def _across(rows: pd.DataFrame, state: str, n: int, palette: Palette) -> go.Scatter | None:
    of = rows[rows["state"] == state]
    if of.empty:
        return None
    name, dash = _ACROSS[state]
    value = float(of["accuracy"].iloc[0])
    return go.Scatter(
        x=[-0.5, n - 0.5],
        y=[value, value],
        mode="lines",
        line={"color": palette.of(state), "width": 1.8, "dash": dash},
        name=name,
        hovertemplate=f"{name}: <b>{value:.1%}</b><extra></extra>",
    )


def knowledge_figure(study: Study, cell: Cell, palette: Palette = LIGHT) -> go.Figure | None:
    """Is the gain knowledge or format? Right answers, right tokens and answers that end, over k, against the base.

    Where restoring lifts questions but not completion prompts, or only up to the base after five exemplars together
    with the share of answers that end, it gives back a format rather than knowledge.
    """
    rows = format_rows(study, cell)
    curves = rows[rows["k_percent"].notna()]
    if curves.empty:
        return None
    ks = sorted(curves["k_percent"].unique())
    looks = {
        "questions, right": (palette.restored, "circle", "solid"),
        "completion prompts, right": (palette.levels[2], "diamond", "dashdot"),
        "right token among the ten": (palette.levels[4], "square", "dash"),
        "answers that end": (palette.tuned, "triangle-up", "dot"),
    }
    lines = {
        "base": (palette.base, "dash"),
        "base after five examples": (palette.ceiling, "dot"),
        "base, completion prompts": (palette.levels[2], "longdash"),
    }
    figure = go.Figure()
    for name, (colour, symbol, dash) in looks.items():
        of = curves[curves["measure"] == name]
        if len(of):
            figure.add_trace(_measured(of, name, ks, colour, symbol, dash))
    for name, (colour, dash) in lines.items():
        for value in rows.loc[rows["measure"] == name, "share"]:
            line = {"color": colour, "width": 1.8, "dash": dash}
            said = f"{name}: <b>{value:.1%}</b><extra></extra>"
            figure.add_scatter(
                x=[-0.5, len(ks) - 0.5], y=[value] * 2, mode="lines", line=line, name=name, hovertemplate=said
            )
    figure.update_yaxes(range=[-0.03, 1.06], tickformat=".0%", title_text="share of test questions")
    _k_axis(figure, ks)
    return styled(figure, palette, height=380, bottom=62)


def _measured(
    rows: pd.DataFrame, name: str, ks: Sequence[float], colour: str, symbol: str, dash: str
) -> go.Scatter:
    said = [
        f"{name}, k = {row['k_percent']:g}%: <b>{row['share']:.1%}</b>{_interval(row['low'], row['high'])}<br>"
        f"{row['n_seeds']} seeds, {row['n']:,} questions"
        for row in rows.to_dict("records")
    ]
    return go.Scatter(
        x=[ks.index(k) for k in rows["k_percent"]],
        y=rows["share"].tolist(),
        error_y=_arms(rows, "share", colour),
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": dash},
        marker={"symbol": symbol, "size": 9, "color": colour},
        name=name,
        customdata=[[text] for text in said],
        hovertemplate="%{customdata[0]}<extra></extra>",
    )


def energy_figure(study: Study, cell: Cell, palette: Palette = LIGHT) -> go.Figure | None:
    """All strategies the study restored with, over the part of the update they take back; one cell, mean of seeds."""
    rows = energy_rows(study, cell)
    if not (rows["line"] != "").any():
        return None
    drawn = rows.assign(**{end: rows[end].fillna(rows["accuracy"]) for end in ("low", "high")})
    return strategies_figure(drawn.astype({"n": "int64"}), "update", palette)


def recovered_figure(study: Study, size: str | None = None, palette: Palette = LIGHT) -> go.Figure | None:
    """Questions restoring heals and breaks by their mastery level, one panel a train level; counts of all seeds."""
    size = size or next(iter(reversed(study.sizes())), None)
    rows = recovered_rows(study, size)
    if size is None or not len(rows):
        return None
    levels = list(dict.fromkeys(rows["train_level"]))
    titles = [f"<b>{train_level_name(level)}</b>" for level in levels]
    figure = make_subplots(1, len(levels), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.015)
    for column, level in enumerate(levels, start=1):
        of = rows[rows["train_level"] == level]
        for name, sign, colour in (("healed", 1, palette.restored), ("broken", -1, palette.tuned)):
            trace = _bars(of, name, sign, colour).update(showlegend=column == 1)
            figure.add_trace(trace, row=1, col=column)
    figure.update_xaxes(tickvals=list(range(5)), range=[-0.6, 4.6])
    figure.update_yaxes(zeroline=True, zerolinecolor=palette.faint)
    most = max(1, int(rows[["n_healed", "n_broken"]].max().max()))
    step = max(1, round(most / 3))
    ticks = [*range(-step * 3, step * 4, step)]
    figure.update_yaxes(
        range=[-1.25 * most, 1.25 * most], tickvals=ticks, ticktext=[f"{abs(t):,}" for t in ticks]
    )
    figure.update_yaxes(title_text="broken ↓ questions ↑ healed", col=1)
    figure.update_xaxes(title_text="mastery level", title_standoff=4)
    figure.update_layout(barmode="relative", bargap=0.25)
    return styled(figure, palette, height=360, bottom=62).update_yaxes(zeroline=True)


def _bars(rows: pd.DataFrame, name: str, sign: int, colour: str) -> go.Bar:
    counts, shares = rows[f"n_{name}"], rows[f"share_{name}"]
    among = rows["n_wrong"] if name == "healed" else rows["n"] - rows["n_wrong"]
    of = "that were wrong" if name == "healed" else "that were right"
    said = [
        f"level {level}: <b>{count:,} {name}</b> of {n:,} {of}"
        + (f" ({share:.1%})" if pd.notna(share) else "")
        for level, count, n, share in zip(rows["level"], counts, among, shares, strict=True)
    ]
    return go.Bar(
        x=rows["level"].tolist(),
        y=(sign * counts).tolist(),
        name=f"{name}, {of}",
        marker={"color": faded(colour, 0.85), "pattern": {"shape": "" if name == "healed" else "/"}},
        text=[f"{share:.0%}" if pd.notna(share) and count else "" for share, count in zip(shares, counts, strict=True)],
        textposition="outside",
        textangle=0,
        cliponaxis=False,
        customdata=[[text] for text in said],
        hovertemplate="%{customdata[0]}<extra></extra>",
    )  # fmt: skip


def _k_axis(figure: go.Figure, ks: Sequence[float]) -> None:
    names = {0.0: "0<br>tuned", 100.0: "100<br>hybrid"}
    figure.update_xaxes(
        tickvals=list(range(len(ks))),
        ticktext=[names.get(k, f"{k:g}") for k in ks],
        range=[-0.5, len(ks) - 0.5],
        title_text="parameters put back, k (%), not to scale",
        title_standoff=4,
    )


def _arms(rows: pd.DataFrame, value: str, colour: str) -> Mapping[str, Any]:
    up, down = (rows["high"] - rows[value]).fillna(0), (rows[value] - rows["low"]).fillna(0)
    arms = {"array": up.tolist(), "arrayminus": down.tolist()}
    return {**arms, "thickness": 1.2, "width": 0, "color": faded(colour, 0.5)}


def _interval(low: float, high: float) -> str:
    return "" if pd.isna(low) else f"<br>95% interval {low:.1%} to {high:.1%}"


def _most(rows: pd.DataFrame, by: str, value: str) -> dict[str, int]:
    return {str(name): int(n) for name, n in rows.groupby(by)[value].max().items()}


# All claims of a study at a glance: the effect of every part with its interval, by colour and symbol of its verdict.
#
# One figure a unit, because points of accuracy and nats share no axis. Right of 0 the data say what the claim says.

UNITS = {
    "pp": "percentage points of accuracy",
    "nats": "nats of KL",
    "enrichment - 1": "enrichment above 1",
    "% of the region": "percent of the region",
}
"""A unit -> its name on the axis; other units are written as they are."""
_SYMBOLS = {
    Status.SHOWN: "circle",
    Status.NOT_SHOWN: "square-open",
    Status.CONTRADICTED: "x",
    Status.UNDECIDED: "diamond-open",
    Status.NOT_TESTED: "line-ns-open",
}
_PART_PIXELS, _CLAIM_GAP = 15, 0.9


def status_colour(status: Status, palette: Palette = LIGHT) -> str:
    """Teal for shown, amber for contradicted, blue for not shown, grey for the rest."""
    return {
        Status.SHOWN: palette.restored,
        Status.CONTRADICTED: palette.tuned,
        Status.NOT_SHOWN: palette.ceiling,
    }.get(status, palette.base)


def verdict_figures(verdicts: Sequence[Verdict], palette: Palette = LIGHT) -> dict[str, go.Figure]:
    """Unit -> figure; claims without a measured part are in none. The first unit is that of most claims."""
    units = dict.fromkeys(v.unit for v in verdicts if any(p.effect is not None for p in v.parts))
    by_unit = {unit: [v for v in verdicts if v.unit == unit] for unit in units}
    ordered = sorted(by_unit, key=lambda unit: -len(by_unit[unit]))
    return {unit: _figure(by_unit[unit], unit, palette) for unit in ordered}


def _figure(verdicts: Sequence[Verdict], unit: str, palette: Palette) -> go.Figure:
    ticks: list[tuple[float, str]] = []
    points: list[tuple[float, Part, Verdict]] = []
    place = 0.0
    figure = go.Figure()
    for verdict in verdicts:
        measured = [part for part in verdict.parts if part.effect is not None]
        if not measured:
            continue
        ticks.append((place + (len(measured) - 1) / 2, _name(verdict)))
        points += [(place + i, part, verdict) for i, part in enumerate(measured)]
        place += len(measured) + _CLAIM_GAP
        line = {"color": palette.grid, "width": 1}
        figure.add_hline(y=place - (1 + _CLAIM_GAP) / 2, line=line, layer="below")
    figure.add_vline(x=0, line={"color": palette.faint, "width": 1.4}, layer="below")
    for status in Status:
        of = [point for point in points if point[1].status is status]
        if of:
            figure.add_trace(_points(of, status, unit, palette))
    figure.update_yaxes(
        tickvals=[y for y, _ in ticks],
        ticktext=[name for _, name in ticks],
        range=[place - _CLAIM_GAP + 0.4, -1],
        showgrid=False,
    )
    title = f"effect, {UNITS.get(unit, unit)}; right of 0: as the claim says"
    figure.update_xaxes(title_text=title, title_standoff=4)
    height = max(150, round(_PART_PIXELS * (place + 2)))
    styled(figure, palette, height=height, top=12, bottom=62)
    return figure.update_layout(showlegend=True)


def _points(
    points: Sequence[tuple[float, Part, Verdict]], status: Status, unit: str, palette: Palette
) -> go.Scatter:
    colour = status_colour(status, palette)
    effects = [part.effect or 0.0 for _, part, _ in points]
    up = [
        (part.high if part.high is not None else e) - e
        for (_, part, _), e in zip(points, effects, strict=True)
    ]
    down = [
        e - (part.low if part.low is not None else e) for (_, part, _), e in zip(points, effects, strict=True)
    ]
    return go.Scatter(
        x=effects,
        y=[y for y, _, _ in points],
        error_x={"array": up, "arrayminus": down, "thickness": 1.3, "width": 0, "color": faded(colour, 0.6)},
        mode="markers",
        marker={"symbol": _SYMBOLS[status], "size": 9, "color": colour, "line": {"width": 2, "color": colour}},
        name=str(status),
        customdata=[[_said_of_verdict(part, verdict, unit)] for _, part, verdict in points],
        hovertemplate="%{customdata[0]}<extra></extra>",
    )  # fmt: skip


def _said_of_verdict(part: Part, verdict: Verdict, unit: str) -> str:
    lines = [
        f"<b>{_name(verdict)}</b>: {verdict.title}",
        f"{part.label}: {number(part, unit)}",
        str(part.status),
    ]
    if part.null:
        lines.append(f"tested against {part.null:g} {unit}")
    return "<br>".join([*lines, *([part.reason] if part.reason else [])])


def _name(verdict: Verdict) -> str:
    domain = DOMAIN_NAMES.get(verdict.domain, "")
    return f"{verdict.claim_id}, {domain}" if domain else verdict.claim_id
