"""Figures of the changes: identical weights, their spread, how concentrated they are, and where the first k% sit.

Tables come from results/weights.py. Amber is what stays tuned and teal, hatched, what is reverted to base, as on every
page.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, isnan, log10
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sftknow_core.present.charts.marks import add, curve, heat_map, histogram, mark_x, styled
from sftknow_core.present.charts.palette import LIGHT, Palette, faded

SCORES = {"relative": ("r", "no unit"), "absolute": ("|d|", "units of the weights")}
"""Score of the cube -> its name and unit."""
_PIXELS_A_BAR = 22
_HATCHED = {"shape": "/", "size": 6, "solidity": 0.5}
_CURVES = (
    ("share", "share of the summed r", "solid", 2.8),
    ("null_share", "if changes were shuffled", "dash", 1.8),
    ("share_1e-6", "r with ε = 10⁻⁶", "dot", 2.0),
    ("share_1e-4", "r with ε = 10⁻⁴", "dashdot", 2.0),
)
_K_TICKS = (0.01, 0.1, 1, 3, 10, 20, 40, 100)
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PIXELS_A_ROW = 30
_MOST_COLUMNS = 9
"""Of a heat map with two numbers in a cell and names that lie flat."""
_CELL = ("share", "enrichment", "weight_share")


def same_figure(rows: pd.DataFrame, palette: Palette = LIGHT) -> go.Figure:
    """The share of bit-identical weights, by layer and by module. rows: Cube.changed_shares."""
    found = [(name, rows[rows["by"] == name]) for name in ("layer", "module")]
    titles = [f"<b>by {name}</b>" for name, _ in found]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.3)
    for column, (name, group) in enumerate(found, start=1):
        bars = go.Bar(
            y=group["group"].tolist(),
            x=group["same_share"].tolist(),
            orientation="h",
            marker={"color": palette.base},
            text=[_same(n, share) for n, share in zip(group["n_same"], group["same_share"], strict=True)],
            textposition="outside",
            cliponaxis=False,
            textfont={"color": palette.text},
            customdata=group[["n_same", "n_weights"]].to_numpy().tolist(),
            showlegend=False,
            hovertemplate=f"{name} %{{y}}: <b>%{{x:.2%}}</b> identical<br>%{{customdata[0]:,}} of "
            "%{customdata[1]:,} weights<extra></extra>",
        )
        figure.add_trace(bars, row=1, col=column)
    figure.update_xaxes(range=[0, 1.16], tickvals=[0, 0.5, 1], tickformat=".0%")
    figure.update_xaxes(title_text="identical", title_standoff=4)
    figure.update_yaxes(type="category", autorange="reversed", ticklabelstandoff=6)
    most = max((len(group) for _, group in found), default=1)
    drawn = styled(figure, palette, height=80 + _PIXELS_A_BAR * most, bottom=8)
    return drawn.update_yaxes(showgrid=False)


def spread_figure(
    bars: pd.DataFrame, cuts: Mapping[str, float], k: float, palette: Palette = LIGHT
) -> go.Figure:
    """How the weights spread over r and |d| (logarithmic), and from where on the current k reverts them.

    bars, cuts: results.weights.Spread. The step line is each bar's share of the summed score.
    """
    titles = [f"<b>{name}</b>, {unit}" for name, unit in SCORES.values()]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.08, shared_yaxes=True)
    for column, (score, (name, _)) in enumerate(SCORES.items(), start=1):
        rows, cut = bars[bars["score"] == score], cuts[score]
        zero, others = rows.iloc[:1], rows.iloc[1:]
        edges = _edges(others)
        where: dict[str, Any] = {"row": 1, "col": column}
        bars_of = _bars(zero, others, edges, cut, name, palette)
        add(figure, column, [*bars_of, _steps(others, edges, palette)])
        mark_x(figure, log10(cut) if cut > 0 else float("nan"), f"k = {k:g}%", palette, **where)
        figure.update_xaxes(**_decades(edges), **where)
    top = max(0.02, 1.12 * float(bars[["share", "score_share"]].max().max()))
    figure.update_yaxes(range=[0, top], tickformat=".0%" if top > 0.05 else ".1%")
    figure.update_yaxes(title_text="share in the bar", col=1)
    figure.update_annotations(selector={"yref": "paper"}, yshift=18)
    return styled(figure.update_layout(bargap=0, barmode="overlay"), palette, height=340, top=52)


def concentration_figure(
    rows: pd.DataFrame, k: float, paper: pd.DataFrame | None, palette: Palette = LIGHT
) -> go.Figure:
    """The share of the summed r that the first k% hold, its null and other epsilons, over k (logarithmic).

    rows: Cube.concentration. paper: published.concentration to lie under it faintly, or None.
    """
    figure = go.Figure()
    if paper is not None:
        _add_paper(figure, paper, palette)
    colours = {"share": palette.restored, "null_share": palette.faint}
    add_null_band(figure, rows[rows["k_percent"] > 0], palette)
    for name, title, dash, width in _CURVES:
        drawn = rows[(rows["k_percent"] > 0) & rows[name].notna()]
        look: dict[str, Any] = {"color": colours.get(name, palette.ceiling), "dash": dash, "width": width}
        said = f"k = %{{x:g}}%: <b>%{{y:.1%}}</b><br>{title}<extra></extra>"
        xs, ys = drawn["k_percent"].tolist(), drawn[name].tolist()
        figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line=look, name=title, hovertemplate=said))
    dots = rows[rows["in_paper"]]
    figure.add_trace(
        go.Scatter(
            x=dots["k_percent"].tolist(),
            y=dots["share"].tolist(),
            mode="markers",
            marker={"color": palette.restored, "size": 8},
            name="at the paper's k",
            hoverinfo="skip",
        )
    )
    figure.update_yaxes(range=[-0.02, 1.05], tickformat=".0%", title_text="share of the summed r")
    ticks = {"tickvals": list(_K_TICKS), "ticktext": [f"{t:g}" for t in _K_TICKS]}
    figure.update_xaxes(type="log", range=[-2.05, 2.05], **ticks)
    figure.update_xaxes(title_text="the most changed k% of the region's weights", title_standoff=4)
    mark_x(figure, k if k >= 0.01 else float("nan"), f"k = {k:g}%", palette)
    return styled(figure, palette, height=380, top=30, bottom=84)


def add_null_band(figure: go.Figure, rows: pd.DataFrame, palette: Palette) -> None:
    """The middle 95% of the shuffles over k; nothing where their spread was not measured.

    rows: k_percent, null_low, null_high.
    """
    if "null_low" not in rows or rows["null_low"].isna().all():
        return
    band = rows.dropna(subset=["null_low", "null_high"])
    xs = [*band["k_percent"], *band["k_percent"][::-1]]
    ys = [*band["null_high"], *band["null_low"][::-1]]
    look = {"fill": "toself", "fillcolor": faded(palette.faint, 0.25), "line": {"width": 0}}
    figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", name="95% of shuffles", hoverinfo="skip", **look))


def heat_figure(
    cells: pd.DataFrame, layers: pd.DataFrame, modules: pd.DataFrame, palette: Palette = LIGHT
) -> go.Figure:
    """Layer x module: the share of the reverted weights that are there, and its enrichment, as numbers.

    See results.weights.Heat. The last row and column are all layers and all modules; the shade is the enrichment.
    """
    whole_row = modules.assign(layer="<b>all layers</b>")
    whole_column = layers.assign(layer=layers["layer"].map(_layer_name), module="<b>all modules</b>")
    parts = [cells.assign(layer=cells["layer"].map(_layer_name)), whole_column, whole_row]
    rows = pd.concat(parts, ignore_index=True)
    names = [*dict.fromkeys(cells["module"]), "<b>all modules</b>"]
    order = [*dict.fromkeys(parts[0]["layer"]), "<b>all layers</b>"]
    table = {c: rows.pivot(index="layer", columns="module", values=c).loc[order, names] for c in _CELL}
    enrichment = table["enrichment"].to_numpy(dtype=float)
    text = [
        [_cell(share, times, of, len(names)) for share, times, of in zip(*row, strict=True)]
        for row in zip(*(table[c].to_numpy(dtype=float) for c in _CELL), strict=True)
    ]
    said = np.stack([table[c].to_numpy(dtype=float) for c in _CELL], axis=-1)
    figure = go.Figure(
        heat_map(
            np.nan_to_num(enrichment),  # where nothing is reverted plotly would drop rows and columns
            (faded(palette.restored, 0), faded(palette.restored, 0.5)),
            most=max(2.0, float(np.nanmax(enrichment, initial=0))),
            gap=2,
            said=said,
            template="layer %{y}, %{x}<br><b>%{customdata[0]:.2%}</b> of all reverted weights; "
            "%{customdata[2]:.2%} of the region's weights<br>enrichment %{customdata[1]:.2f}",
            x=names if len(names) > _MOST_COLUMNS else [_wrapped(name) for name in names],
            y=order,
            text=text,
            texttemplate="%{text}",
            textfont={"color": palette.text, "size": 13 if len(names) <= _MOST_COLUMNS else 11},
        )
    )
    figure.update_yaxes(type="category", autorange="reversed", title_text="layer")
    figure.update_xaxes(side="top", type="category")
    many = len(names) > _MOST_COLUMNS
    deep = (
        7 * max(map(len, names)) if many else 18 * (1 + max(_wrapped(name).count("<br>") for name in names))
    )
    drawn = styled(figure, palette, height=30 + deep + _PIXELS_A_ROW * len(order), top=10 + deep, bottom=-24)
    return drawn.update_yaxes(showgrid=False).update_xaxes(showgrid=False, tickangle=-90 if many else 0)


def _same(n: int, share: float) -> str:
    return f"{share:.1%}" if n == 0 or share >= 0.0005 else f"{n:,} weight{'s' if n > 1 else ''}"


def _edges(rows: pd.DataFrame) -> pd.DataFrame:
    """low and high of each bar as decimal logarithms."""
    return rows[["low", "high"]].astype(float).map(log10)


def _decades(edges: pd.DataFrame) -> dict[str, Any]:
    """Range and ticks of an axis of logarithms, with room for the bar of the zeros at the left."""
    if edges.empty:
        return {"range": [-2, 1], "tickvals": [-1], "ticktext": ["0"]}
    first, last = floor(float(edges["low"].min())), float(edges["high"].max())
    step = max(1, round((last - first) / 6))
    powers = list(range(first + (first % 2 if step % 2 == 0 else 0), floor(last) + 1, step))
    ticks = [_zero_at(edges), *powers]
    names = ["0", *(f"10{str(p).translate(_SUPERSCRIPT)}" for p in powers)]
    return {"range": [_zero_at(edges) - 0.8, last + 0.2], "tickvals": ticks, "ticktext": names}


def _zero_at(edges: pd.DataFrame) -> float:
    return floor(float(edges["low"].min())) - 1.2 if len(edges) else -1.0


def _bars(
    zero: pd.DataFrame, others: pd.DataFrame, edges: pd.DataFrame, cut: float, name: str, palette: Palette
) -> list[go.Bar]:
    """The bars below the cut, which are kept, those from it on, which are reverted, and the bar of the zeros.

    The bar that the cut goes through is drawn in two parts of its height.
    """
    at = log10(cut) if cut > 0 else (float("inf") if isnan(cut) else float("-inf"))
    low, high = edges["low"].to_numpy(), edges["high"].to_numpy()
    stays = _bar(others, low, np.minimum(high, at), name, palette)
    back = _bar(others, np.maximum(low, at), high, name, palette)
    unchanged = _bar(
        zero, np.array([_zero_at(edges) - 0.3]), np.array([_zero_at(edges) + 0.3]), name, palette
    )
    return [
        stays.update(name="kept", marker_color=palette.tuned),
        back.update(name="reverted", marker={"color": palette.restored, "pattern": _HATCHED}),
        unchanged.update(name="0: unchanged", marker_color=palette.base),
    ]


def _bar(rows: pd.DataFrame, low: Any, high: Any, name: str, palette: Palette) -> go.Bar:
    kept = high > low
    said = rows.loc[kept, ["low", "high", "n_weights", "score_share"]].to_numpy(dtype=float).tolist()
    return histogram(
        low[kept],
        high[kept],
        rows.loc[kept, "share"],
        customdata=said,
        marker={"line": {"width": 0}},
        hovertemplate=f"{name} from %{{customdata[0]:.2g}} to %{{customdata[1]:.2g}}: %{{customdata[2]:,}} weights, "
        f"<b>%{{y:.2%}}</b><br>%{{customdata[3]:.2%}} of the summed {name}<extra></extra>",
    )


def _steps(rows: pd.DataFrame, edges: pd.DataFrame, palette: Palette) -> go.Scatter:
    xs = np.column_stack([edges["low"], edges["high"]]).ravel().tolist()
    ys = np.repeat(rows["score_share"].to_numpy(dtype=float), 2).tolist()
    look = {"color": palette.text, "width": 1.6, "dash": "dot"}
    return go.Scatter(x=xs, y=ys, mode="lines", line=look, name="share of total", hoverinfo="skip")


def _add_paper(figure: go.Figure, paper: pd.DataFrame, palette: Palette) -> None:
    """One faint line a fine-tuning of the paper, with one entry in the legend."""
    for number, (_, rows) in enumerate(paper.groupby(["n_train", "train_level"])):
        line = curve(
            rows["k_percent"], rows["share"], "paper, LLaMA-3-8B (ten fine-tunings)", faded(palette.text, 0.4), width=1,
            marker={"symbol": "x-thin-open", "size": 8, "color": faded(palette.text, 0.7)}, legendgroup="paper",
            showlegend=number == 0, customdata=rows[["n_train", "train_level"]].to_numpy().tolist(),
            hovertemplate="paper, N = %{customdata[0]:,}, level %{customdata[1]}<br>k = %{x:g}%: "
            "<b>%{y:.1%}</b><extra></extra>",
        )  # fmt: skip
        figure.add_trace(line)


def _cell(share: float, times: float, weight_share: float, n_columns: int) -> str:
    if isnan(share):
        return "" if isnan(weight_share) else "–"
    return f"×{times:.2f}" if n_columns > _MOST_COLUMNS else f"{_percent(share)}  ×{times:.2f}"


def _layer_name(layer: Any) -> str:
    return "outside" if pd.isna(layer) else f"{layer}"


def _wrapped(name: str) -> str:
    return name if len(name) < 12 or name.startswith("<") else name.replace(".", ".<br>").replace("_", "<br>")


def _percent(share: float) -> str:
    return "–" if isnan(share) else f"{share:.1%}" if share == 0 or share >= 0.0005 else "< 0.05%"
