"""The figures of a study: accuracy and KL over N, curves over k, knowledge or format, recovered questions, all claims.

Rows come from analysis/rows.py. Training levels have the colours and symbols of across.py. A figure without data is
None. The effects of claims have one figure a unit, because points of accuracy and nats share no axis; right of 0 the
data agree with the claim.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sftknow_core.analysis import published
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.estimates import QA
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
from sftknow_core.present.charts.marks import (
    K_ENDS,
    REFERENCES,
    add,
    arms,
    curve,
    interval_text,
    panels,
    reference,
    references,
    styled,
    texts,
)
from sftknow_core.present.charts.palette import LIGHT, Palette, faded
from sftknow_core.present.charts.restore import strategies_figure

_REFERENCES = {"base": REFERENCES["base"]}
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


def figure2(
    study: Study, palette: Palette = LIGHT, paper_model: str | None = None, prompt: str = QA
) -> go.Figure | None:
    """Accuracy over N by train level, tuned: seeds as points, means with intervals (mean over test levels).

    prompt: of the tuned models and of base. The paper's models were asked with the prompt they were tuned with.
    """
    cells, seeds = accuracy_rows(study, prompt=prompt)
    paper = published.over_n(paper_model) if paper_model else None
    return _over_n(cells, seeds, palette, paper, paper_model)


def figure4(study: Study, palette: Palette = LIGHT, prompt: str = QA) -> go.Figure | None:
    """As Figure 2, on the questions of mastery level 4: what the base knew best."""
    return _over_n(*accuracy_rows(study, 4, prompt=prompt), palette)


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


def restoration_figure(
    study: Study, size: str | None = None, palette: Palette = LIGHT, prompt: str = QA
) -> go.Figure | None:
    """Accuracy over k by train level at one N (None: the largest), under one prompt: what Table 4 prints.

    The k stand at equal distances, because most of the curve happens below 20%. Line across: the base under the same
    prompt; after five exemplars it is as far as knowledge the base had can lift a model.
    """
    size = size or next(iter(reversed(study.sizes())), None)
    rows = curve_rows(study, size, prompt=prompt)
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
        traces: list[go.Scatter | None] = [*references(here, _ends(ks), palette, _REFERENCES)]
        for place, level in enumerate(levels):
            shift = 0.09 * (place - (len(levels) - 1) / 2)
            traces.append(_curve(here[here["train_level"] == level], level, ks, shift, palette))
        add(figure, column, traces)
    _k_axis(figure, ks)
    return styled(figure, palette, height=420, bottom=62)


def _curve(
    rows: pd.DataFrame, level: str, ks: Sequence[float], shift: float, palette: Palette
) -> go.Scatter | None:
    if rows.empty:
        return None
    colour, name = level_colour(level, palette), train_level_name(level)
    bars = arms(rows["accuracy"], rows["low"], rows["high"], colour, thickness=1.2, opacity=0.5)
    xs = [ks.index(k) + shift for k in rows["k_percent"]]
    return curve(
        xs, rows["accuracy"], name, colour, symbol=level_symbol(level), width=1.8, error_y=bars,
        **texts(_said(rows, name)),
    )  # fmt: skip


def _said(rows: pd.DataFrame, name: str) -> list[str]:
    said = []
    for row in rows.to_dict("records"):
        text = f"{name}, k = {row['k_percent']:g}%: <b>{row['accuracy']:.1%}</b>{_interval(row['low'], row['high'])}"
        if pd.notna(row["gain"]):
            text += f"<br>{100 * row['gain']:+.1f} pp vs. fine-tuned"
        text += f"<br>{row['n_seeds']} seeds, {row['n']:,} questions"
        said.append(text + (f"<br>chosen on dev by {row['n_chosen']} seeds" if row["n_chosen"] else ""))
    return said


def knowledge_figure(study: Study, cell: Cell, palette: Palette = LIGHT) -> go.Figure | None:
    """Knowledge or format: correct answers, gold first tokens and answers that end, over k, against the base.

    Where restoring lifts questions but neither questions after five examples nor completion prompts, it gives back a
    format rather than knowledge. Each curve has the base under its own prompt as its line.
    """
    rows = format_rows(study, cell)
    curves = rows[rows["k_percent"].notna()]
    if curves.empty:
        return None
    ks = sorted(curves["k_percent"].unique())
    looks = {
        "questions, right": ("questions, correct", palette.restored, "circle", "solid"),
        "after five examples, right": ("5-shot, correct", palette.ceiling, "hexagon", "dot"),
        "completion prompts, right": ("completion prompts, correct", palette.levels[2], "diamond", "dashdot"),
        "right token among the ten": ("gold first token in the top 10", palette.levels[4], "square", "dash"),
        "answers that end": ("answers that end", palette.tuned, "triangle-up", "dot"),
    }
    lines = {
        "base": ("base, zero-shot", palette.restored, "dash"),
        "base after five examples": ("base, 5-shot", palette.ceiling, "dash"),
        "base, completion prompts": ("base, completion prompts", palette.levels[2], "longdash"),
    }
    figure = go.Figure()
    for measure, look in looks.items():
        of = curves[curves["measure"] == measure]
        if len(of):
            figure.add_trace(_measured(of, ks, *look))
    for measure, (name, colour, dash) in lines.items():
        for value in rows.loc[rows["measure"] == measure, "share"]:
            figure.add_trace(reference(_ends(ks), value, name, colour, dash))
    figure.update_yaxes(range=[-0.03, 1.06], tickformat=".0%", title_text="share of test questions")
    _k_axis(figure, ks)
    return styled(figure, palette, height=380, bottom=62)


def _measured(
    rows: pd.DataFrame, ks: Sequence[float], name: str, colour: str, symbol: str, dash: str
) -> go.Scatter:
    said = [
        f"{name}, k = {row['k_percent']:g}%: <b>{row['share']:.1%}</b>{_interval(row['low'], row['high'])}<br>"
        f"{row['n_seeds']} seeds, {row['n']:,} questions"
        for row in rows.to_dict("records")
    ]
    bars = arms(rows["share"], rows["low"], rows["high"], colour, thickness=1.2, opacity=0.5)
    xs = [ks.index(k) for k in rows["k_percent"]]
    return curve(xs, rows["share"], name, colour, symbol=symbol, dash=dash, error_y=bars, **texts(said))


def energy_figure(study: Study, cell: Cell, palette: Palette = LIGHT) -> go.Figure | None:
    """All strategies the study restored with, over the projection they take back; one cell, mean of seeds.

    Studies of earlier versions have no projection of interpolations: they are drawn over the energy taken back.
    """
    rows = energy_rows(study, cell)
    lines = rows[rows["line"] != ""]
    if lines.empty:
        return None
    axis = "projection" if lines["projection_taken_back"].notna().all() else "update"
    drawn = rows.assign(**{end: rows[end].fillna(rows["accuracy"]) for end in ("low", "high")})
    return strategies_figure(drawn.astype({"n": "int64"}), axis, palette)


def recovered_figure(
    study: Study, size: str | None = None, palette: Palette = LIGHT, prompt: str = QA
) -> go.Figure | None:
    """Questions that restoring recovers and breaks, by level; one panel a training level, counts of all seeds."""
    size = size or next(iter(reversed(study.sizes())), None)
    rows = recovered_rows(study, size, prompt=prompt)
    if size is None or not len(rows):
        return None
    levels = list(dict.fromkeys(rows["train_level"]))
    titles = [f"<b>{train_level_name(level)}</b>" for level in levels]
    figure = make_subplots(1, len(levels), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.015)
    for column, level in enumerate(levels, start=1):
        of = rows[rows["train_level"] == level]
        sides = ((True, palette.restored), (False, palette.tuned))
        add(figure, column, [_bars(of, gained, colour) for gained, colour in sides])
    figure.update_xaxes(tickvals=list(range(5)), range=[-0.6, 4.6])
    figure.update_yaxes(zeroline=True, zerolinecolor=palette.faint)
    most = max(1, int(rows[["n_healed", "n_broken"]].max().max()))
    step = max(1, round(most / 3))
    ticks = [*range(-step * 3, step * 4, step)]
    figure.update_yaxes(
        range=[-1.25 * most, 1.25 * most], tickvals=ticks, ticktext=[f"{abs(t):,}" for t in ticks]
    )
    figure.update_yaxes(title_text="← broken   questions   recovered →", col=1)
    figure.update_xaxes(title_text="mastery level", title_standoff=4)
    figure.update_layout(barmode="relative", bargap=0.25)
    return styled(figure, palette, height=360, bottom=62).update_yaxes(zeroline=True)


def _bars(rows: pd.DataFrame, gained: bool, colour: str) -> go.Bar:
    """Upwards the recovered questions, downwards (hatched) the broken ones."""
    name, column, of = (
        ("recovered", "healed", "of incorrect") if gained else ("broken", "broken", "of correct")
    )
    counts, shares = rows[f"n_{column}"], rows[f"share_{column}"]
    among = rows["n_wrong"] if gained else rows["n"] - rows["n_wrong"]
    said = [
        f"level {level}: <b>{count:,} {name}</b> {of} {n:,}" + (f" ({share:.1%})" if pd.notna(share) else "")
        for level, count, n, share in zip(rows["level"], counts, among, shares, strict=True)
    ]
    return go.Bar(
        x=rows["level"].tolist(),
        y=(counts if gained else -counts).tolist(),
        name=f"{name} ({of})",
        marker={"color": faded(colour, 0.85), "pattern": {"shape": "" if gained else "/"}},
        text=[f"{share:.0%}" if pd.notna(share) and count else "" for share, count in zip(shares, counts, strict=True)],
        textposition="outside",
        textangle=0,
        cliponaxis=False,
        **texts(said),
    )  # fmt: skip


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
    return {unit: _verdict_figure(by_unit[unit], unit, palette) for unit in ordered}


def _k_axis(figure: go.Figure, ks: Sequence[float]) -> None:
    figure.update_xaxes(
        tickvals=list(range(len(ks))),
        ticktext=[K_ENDS.get(k, f"{k:g}") for k in ks],
        range=_ends(ks),
        title_text="weights reverted, k (%), not to scale",
        title_standoff=4,
    )


def _ends(ks: Sequence[float]) -> list[float]:
    """The ends of an axis on which the k stand at equal distances."""
    return [-0.5, len(ks) - 0.5]


def _interval(low: float, high: float) -> str:
    return "" if pd.isna(low) else f"<br>{interval_text(low, high)}"


def _most(rows: pd.DataFrame, by: str, value: str) -> dict[str, int]:
    return {str(name): int(n) for name, n in rows.groupby(by)[value].max().items()}


def _verdict_figure(verdicts: Sequence[Verdict], unit: str, palette: Palette) -> go.Figure:
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
            figure.add_trace(_effects(of, status, unit, palette))
    figure.update_yaxes(
        tickvals=[y for y, _ in ticks],
        ticktext=[name for _, name in ticks],
        range=[place - _CLAIM_GAP + 0.4, -1],
        showgrid=False,
    )
    title = f"effect, {UNITS.get(unit, unit)}; right of 0: as claimed"
    figure.update_xaxes(title_text=title, title_standoff=4)
    height = max(150, round(_PART_PIXELS * (place + 2)))
    styled(figure, palette, height=height, top=12, bottom=62)
    return figure.update_layout(showlegend=True)


def _effects(
    points: Sequence[tuple[float, Part, Verdict]], status: Status, unit: str, palette: Palette
) -> go.Scatter:
    colour = status_colour(status, palette)
    parts = pd.DataFrame([(part.effect, part.low, part.high) for _, part, _ in points], dtype=float)
    effects, low, high = (parts[column] for column in range(3))
    return go.Scatter(
        x=effects.tolist(),
        y=[y for y, _, _ in points],
        error_x=arms(effects, low, high, colour, opacity=0.6),
        mode="markers",
        marker={"symbol": _SYMBOLS[status], "size": 9, "color": colour, "line": {"width": 2, "color": colour}},
        name=str(status),
        **texts(_said_of_verdict(part, verdict, unit) for _, part, verdict in points),
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
