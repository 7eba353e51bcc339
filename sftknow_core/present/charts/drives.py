"""The figures of what drives a study: rates and N, update norms, masks, forgotten facts, lost or inaccessible.

Rows come from analysis/{rates,masks,forgetting,accessibility}.py. A figure without data is None. Tuned and restored
keep their colours and symbols; learning rates are told apart by shade and by their name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sftknow_core.analysis.accessibility import FLIPPED, KEPT
from sftknow_core.analysis.masks import SEEDS, SMALLEST
from sftknow_core.present.charts.marks import add, arms, curve, interval_text, laid_out, styled, texts
from sftknow_core.present.charts.palette import LIGHT, Palette, ink, mixed
from sftknow_core.present.text.drives import STATES, level_name, size_name

_CELL_PIXELS, _ROW_PIXELS = 44, 24
_PALEST = 0.12
_MOST_PP = 10.0
"""R of this size has the full colour, and larger ones too."""


def rate_figure(
    accuracies: pd.DataFrame, gains: pd.DataFrame, level: str, palette: Palette = LIGHT
) -> go.Figure | None:
    """Three heat maps of one training level: accuracy fine-tuned and restored, and R, by learning rate (columns) and N
    with its passes (rows). accuracies, gains: of analysis.rates.Rates."""
    shown = accuracies[(accuracies["train_level"] == level) & accuracies["accuracy"].notna()]
    differences = gains[(gains["train_level"] == level) & gains["effect"].notna()]
    if shown.empty:
        return None
    rates = sorted(shown["rate"].unique())
    places = list(dict.fromkeys(zip(shown["size"], shown["repeats"], strict=True)))
    titles = [f"<b>{STATES['tuned']}</b>", f"<b>{STATES['restored']}</b>", "<b>R</b> (pp)"]
    figure = make_subplots(1, 3, shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.04)
    for column, (name, colour) in enumerate(
        (("tuned", palette.tuned), ("restored", palette.restored)), start=1
    ):
        of = _by_place(shown[shown["state"] == name])
        grid = [[of.get((*place, rate)) for rate in rates] for place in places]
        add(figure, column, _heat(grid, colour, palette, "accuracy"))
    of = _by_place(differences)
    grid = [[of.get((*place, rate)) for rate in rates] for place in places]
    add(figure, 3, _heat(grid, "", palette, "effect"))
    names = [size_name(str(size), float(repeats)) for size, repeats in places]
    figure.update_xaxes(
        tickvals=list(range(len(rates))), ticktext=[f"× {rate:g}" for rate in rates], showgrid=False,
        range=[-0.55, len(rates) - 0.45],
    )  # fmt: skip
    figure.update_xaxes(title_text="learning rate", title_standoff=6, col=2)
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, showgrid=False, range=[len(names) - 0.45, -0.55]
    )
    height = 96 + len(places) * _CELL_PIXELS
    styled(figure, palette, height=height)
    laid_out(figure, {"height": height, "margin": {"b": 60}}, axes={"ticks": ""}, xaxes={"showline": False})
    return figure


def _by_place(rows: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, Any]]:
    named = ({str(name): value for name, value in row.items()} for row in rows.to_dict("records"))
    return {(row["size"], row["repeats"], row["rate"]): row for row in named}


def _heat(
    grid: list[list[dict[str, Any] | None]], colour: str, palette: Palette, value: str
) -> list[go.Heatmap | go.Scatter]:
    """A heat map and its numbers; colour "": a difference, restored's colour above 0 and tuned's below."""
    difference = not colour
    scale = 100 if difference else 1
    z = [[None if cell is None else scale * cell[value] for cell in row] for row in grid]
    low, high = (-_MOST_PP, _MOST_PP) if difference else (0, 1)
    ends = (
        (palette.tuned, palette.restored)
        if difference
        else (mixed(colour, palette.background, _PALEST), colour)
    )
    middle = [[0.5, palette.background]] if difference else []
    said = [[_cell_said(cell, value) for cell in row] for row in grid]
    heat = go.Heatmap(
        z=z, zmin=low, zmax=high, colorscale=[[0, ends[0]], *middle, [1, ends[1]]], showscale=False, xgap=3, ygap=3,
        customdata=said, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    written = []
    for y, row in enumerate(z):
        for x, number in enumerate(row):
            if number is None or number != number:
                continue
            share = min(1.0, abs(number) / _MOST_PP) if difference else _PALEST + (1 - _PALEST) * number
            own = (palette.restored if number > 0 else palette.tuned) if difference else colour
            ground = mixed(own, palette.background, share)
            text = f"{number:+.1f}" if difference else f"{100 * number:.1f}"
            written.append((x, y, text, ink(ground, palette.text, palette.background)))
    xs, ys, numbers_of, inks = ([one[i] for one in written] for i in range(4))
    numbers = go.Scatter(
        x=xs, y=ys, text=numbers_of, mode="text", textfont={"size": 13, "color": inks},
        hoverinfo="skip", showlegend=False, cliponaxis=False,
    )  # fmt: skip
    return [heat, numbers]


def _cell_said(cell: dict[str, Any] | None, value: str) -> str:
    if cell is None:
        return "not run"
    where = f"{size_name(str(cell['size']), float(cell['repeats']))}, learning rate × {cell['rate']:g}"
    counts = f"{cell['n']:,} questions, {cell['n_seeds']} seeds"
    if value == "accuracy":
        k = "" if pd.isna(cell["mean_k"]) else f"<br>mean k = {cell['mean_k']:.1f}%"
        return (
            f"{where}: <b>{cell[value]:.1%}</b><br>{interval_text(cell['low'], cell['high'])}<br>{counts}{k}"
        )
    interval = _pp_interval(cell["low"], cell["high"])
    best = f"<br>best untouched rate: × {cell['best_rate']}"
    return f"{where}: <b>{100 * cell[value]:+.1f} pp</b><br>{interval}{best}<br>{counts}"


def _pp_interval(low: Any, high: Any) -> str:
    if pd.isna(low):
        return "no interval: too few seeds"
    return f"95% CI {100 * low:+.1f} to {100 * high:+.1f} pp"


def norm_figure(norms: pd.DataFrame, level: str, palette: Palette = LIGHT) -> go.Figure | None:
    """Accuracy over the relative norm of the update: fine-tuned models and those restored at the k chosen on dev."""
    own = norms if level not in set(norms["train_level"]) else norms[norms["train_level"] == level]
    own = own[own["update_norm"].notna() & (own["update_norm"] > 0)]
    tuned, restored = own[own["k_percent"] == 0], own[own["chosen"] & (own["k_percent"] > 0)]
    if tuned.empty:
        return None
    figure = go.Figure()
    rates = sorted(own["rate"].unique())
    for place, rate in enumerate(rates):
        share = 0.35 + 0.65 * (place + 1) / len(rates)
        for rows, colour, symbol, name in (
            (tuned, palette.tuned, "diamond", STATES["tuned"]),
            (restored, palette.restored, "circle", STATES["restored"]),
        ):
            of = rows[rows["rate"] == rate]
            if of.empty:
                continue
            label = f"{name}, rate × {rate:g}" if len(rates) > 1 else name
            figure.add_trace(
                go.Scatter(
                    x=of["update_norm"].tolist(), y=of["accuracy"].tolist(), mode="markers", name=label,
                    marker={"symbol": symbol, "size": 9, "color": mixed(colour, palette.background, share),
                            "line": {"width": 1, "color": colour}},
                    **texts(_norm_said(of, label)),
                )
            )  # fmt: skip
    figure.update_xaxes(type="log", title_text="update norm / base norm (log scale)", title_standoff=4)
    figure.update_yaxes(tickformat=".0%", title_text="accuracy")
    return styled(figure, palette, height=380, bottom=62)


def _norm_said(rows: pd.DataFrame, name: str) -> list[str]:
    return [
        f"{name}: <b>{row['accuracy']:.1%}</b><br>update norm {row['update_norm']:.3g}<br>"
        f"{level_name(row['train_level'])}, {size_name(row['size'], row['repeats'])}, seed {row['seed']}, "
        f"k = {row['k_percent']:g}%"
        for row in rows.to_dict("records")
    ]


def overlap_figure(overlaps: pd.DataFrame, cell: str, palette: Palette = LIGHT) -> go.Figure | None:
    """Jaccard index of masks over k: between seeds (with the range over pairs), with the smallest base weights, and by
    chance or |p| alone. overlaps: masks.overlap_rows."""
    own = overlaps[(overlaps["cell"] == cell) & overlaps["jaccard"].notna()].sort_values("k_percent")
    if own.empty:
        return None
    ks = sorted(own["k_percent"].unique())
    between, smallest = own[own["with"] == SEEDS], own[own["with"] == SMALLEST]
    figure = go.Figure()
    looks: list[tuple[pd.DataFrame, str, str, str, str, str]] = [
        (between, "jaccard", "between seeds", palette.restored, "circle", "solid"),
        (between, "expected_jaccard", "from |p|", palette.ceiling, "diamond-open", "dash"),
        (smallest, "jaccard", "with the smallest base weights", palette.tuned, "square", "dashdot"),
        (between, "chance_jaccard", "chance", palette.base, "line-ew-open", "dot"),
    ]
    for rows, value, name, colour, symbol, dash in looks:
        if rows.empty or rows[value].isna().all():
            continue
        bars: dict[str, Any] = {}
        if value == "jaccard" and name == "between seeds":
            bars = {"error_y": arms(rows["jaccard"], rows["lowest"], rows["highest"], colour)}
        xs = [ks.index(k) for k in rows["k_percent"]]
        figure.add_trace(
            curve(
                xs,
                rows[value],
                name,
                colour,
                symbol=symbol,
                dash=dash,
                **bars,
                **texts(_overlap_said(rows, value, name)),
            )
        )
    figure.update_xaxes(
        tickvals=list(range(len(ks))), ticktext=[f"{k:g}" for k in ks], range=[-0.5, len(ks) - 0.5],
        title_text="weights reverted, k (%), not to scale", title_standoff=4,
    )  # fmt: skip
    figure.update_yaxes(range=[0, 1.03], title_text="Jaccard index")
    return styled(figure, palette, height=380, bottom=62)


def _overlap_said(rows: pd.DataFrame, value: str, name: str) -> list[str]:
    return [
        f"{name}, k = {row['k_percent']:g}%: <b>{row[value]:.2f}</b>"
        + (
            f"<br>range {row['lowest']:.2f} to {row['highest']:.2f}, {row['n_pairs']} pairs"
            if value == "jaccard"
            else ""
        )
        for row in rows.to_dict("records")
    ]


def step_figure(steps: pd.DataFrame, level: str, palette: Palette = LIGHT) -> go.Figure | None:
    """Few facts repeated, against many facts once and against the same facts once: differences with 95% CI."""
    rows = steps[(steps["train_level"] == level) & steps["effect"].notna()]
    if rows.empty:
        return None
    rows = rows.assign(
        name=[
            f"{size_name(r['size'], r['repeats'])} vs. {size_name(r['other_size'])}, rate × {r['rate']:g}"
            for r in rows.to_dict("records")
        ]
    )
    looks = {"tuned": (palette.tuned, "diamond"), "restored": (palette.restored, "circle")}
    figure = _forest(rows, "effect", "state", looks, palette, scale=100, form="+.1f", unit=" pp")
    figure.update_xaxes(title_text="difference of accuracy (pp)", title_standoff=4)
    return figure


def forgotten_figure(coefficients: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure | None:
    """Forest plot of the models of forgetting: log-odds with 95% CI, by model. coefficients: drives.named_terms."""
    rows = coefficients[coefficients["value"].notna()]
    if rows.empty:
        return None
    rows = rows.assign(name=rows["term"])
    models = list(dict.fromkeys(rows["model"]))
    colours = (palette.restored, palette.ceiling, palette.tuned)
    looks = {
        model: (colours[i % 3], ("circle", "square", "diamond")[i % 3]) for i, model in enumerate(models)
    }
    figure = _forest(rows, "value", "model", looks, palette, form="+.2f")
    figure.update_xaxes(
        title_text="log-odds of an incorrect answer; right of 0: forgotten more", title_standoff=4
    )
    return figure


def probability_figure(probabilities: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure | None:
    """P(forgotten) and P(recovered) minus seed churn, with 95% CI, by training level and N."""
    rows = probabilities[probabilities["net"].notna()]
    if rows.empty:
        return None
    rows = rows.assign(
        low=rows["net_low"], high=rows["net_high"],
        name=[f"{level_name(r['train_level'])}, {size_name(r['size'])}" for r in rows.to_dict("records")],
    )  # fmt: skip
    looks = {"forgotten": (palette.tuned, "diamond"), "recovered": (palette.restored, "circle")}
    figure = _forest(rows, "net", "outcome", looks, palette, scale=100, form="+.1f", unit=" pp")
    figure.update_xaxes(title_text="share of known facts minus seed churn (pp)", title_standoff=4)
    return figure


def access_figure(
    rows: pd.DataFrame, train_level: str, size: str, way: str, palette: Palette = LIGHT
) -> go.Figure | None:
    """Share correct in another way of asking by question level: flipped questions fine-tuned and restored, and those
    still correct. rows: Accessibility.rows."""
    own = rows[
        (rows["train_level"] == train_level) & (rows["size"] == size) & (rows["way"] == way)
        & rows["share"].notna() & rows["level"].notna()
    ]  # fmt: skip
    looks = [
        (KEPT, "tuned", "still correct, fine-tuned", palette.base, "line-ew-open"),
        (FLIPPED, "tuned", "flipped, fine-tuned", palette.tuned, "diamond"),
        (FLIPPED, "restored", "flipped, restored", palette.restored, "circle"),
    ]
    figure = go.Figure()
    for place, (questions, state, name, colour, symbol) in enumerate(looks):
        of = own[(own["questions"] == questions) & (own["state"] == state)].sort_values("level")
        if of.empty:
            continue
        said = [
            f"{name}, question level {row['level']:g}: <b>{row['share']:.1%}</b><br>"
            f"{interval_text(row['low'], row['high'])}<br>{row['n_right']:,} of {row['n']:,}"
            for row in of.to_dict("records")
        ]
        xs = [level + 0.12 * (place - 1) for level in of["level"]]
        bars = arms(of["share"], of["low"], of["high"], colour)
        marker = {"symbol": symbol, "size": 10, "color": colour, "line": {"width": 2, "color": colour}}
        figure.add_trace(
            go.Scatter(
                x=xs,
                y=of["share"].tolist(),
                mode="markers",
                name=name,
                marker=marker,
                error_y=bars,
                **texts(said),
            )
        )
    if not figure.data:
        return None
    figure.update_xaxes(
        tickvals=list(range(5)), range=[-0.5, 4.5], title_text="question level", title_standoff=4
    )
    figure.update_yaxes(range=[-0.03, 1.03], tickformat=".0%", title_text="correct in this way")
    return styled(figure, palette, height=360, bottom=62)


def _forest(
    rows: pd.DataFrame,
    value: str,
    by: str,
    looks: dict[str, tuple[str, str]],
    palette: Palette,
    *,
    form: str,
    scale: float = 1,
    unit: str = "",
) -> go.Figure:
    """Effects with their intervals, one line a `name`; several of one name lie close to each other, by the column `by`.

    rows: with name, low and high.
    """
    names: Sequence[str] = list(dict.fromkeys(rows["name"]))
    figure = go.Figure()
    figure.add_vline(x=0, line={"color": palette.faint, "width": 1.4}, layer="below")
    for place, (key, (colour, symbol)) in enumerate(looks.items()):
        of = rows[rows[by] == key]
        if of.empty:
            continue
        shift = 0.16 * (place - (len(looks) - 1) / 2)
        low, high = scale * of["low"], scale * of["high"]
        values = scale * of[value]
        said = [
            f"{name}, {key}: <b>{v:{form}}{unit}</b><br>"
            + ("no interval" if pd.isna(a) else f"95% CI {a:{form}} to {b:{form}}{unit}")
            + f"<br>n = {n:,}"
            for name, v, a, b, n in zip(of["name"], values, low, high, of["n"], strict=True)
        ]
        figure.add_trace(
            go.Scatter(
                x=values.tolist(), y=[names.index(name) + shift for name in of["name"]], mode="markers",
                name=STATES.get(key, key), marker={"symbol": symbol, "size": 10, "color": colour},
                error_x=arms(values, low, high, colour), **texts(said),
            )
        )  # fmt: skip
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=list(names), range=[len(names) - 0.4, -0.6], showgrid=False
    )
    return styled(
        figure, palette, height=70 + _ROW_PIXELS * max(2, len(names)), top=12, bottom=62
    ).update_layout(showlegend=True)
