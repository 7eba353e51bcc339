"""All claims of a study at a glance: the effect of every part with its interval, by colour and symbol of its verdict.

One figure a unit, because points of accuracy and nats share no axis. Right of 0 the data say what the claim says.
"""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from sftknow_core.analysis.verdict import Part, Status, Verdict, number
from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.present.charts.marks import styled
from sftknow_core.present.charts.palette import LIGHT, Palette, faded

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
        customdata=[[_said(part, verdict, unit)] for _, part, verdict in points],
        hovertemplate="%{customdata[0]}<extra></extra>",
    )  # fmt: skip


def _said(part: Part, verdict: Verdict, unit: str) -> str:
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
