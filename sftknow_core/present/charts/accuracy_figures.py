"""Table of one chain's changes (results/accuracy_views.py) -> figures: differences with intervals, and flips.

Tuning is amber with diamonds, restoring teal with circles; lost answers lie left of zero and gained ones right.
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

    changes: see accuracy_views.changes.
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

    changes: see accuracy_views.changes.
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
