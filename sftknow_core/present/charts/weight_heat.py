"""Where the first k% sit (results/weights.py, `Heat`) -> a heat map whose cells hold their numbers."""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sftknow_core.present.charts.marks import styled
from sftknow_core.present.charts.palette import LIGHT, Palette, faded

_PIXELS_A_ROW = 30
_MOST_COLUMNS = 9
"""Of a heat map with two numbers in a cell and names that lie flat."""


def heat_figure(
    cells: pd.DataFrame, layers: pd.DataFrame, modules: pd.DataFrame, palette: Palette = LIGHT
) -> go.Figure:
    """Layer x module: the share of what k% puts back that sits there, and its enrichment, as numbers.

    See weight_views.Heat. The last row and column are all layers and all modules; the shade is the enrichment.
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
        go.Heatmap(
            z=np.nan_to_num(enrichment),  # where nothing is put back plotly would drop rows and columns
            x=names if len(names) > _MOST_COLUMNS else [_wrapped(name) for name in names],
            y=order,
            zmin=0,
            zmax=max(2.0, float(np.nanmax(enrichment, initial=0))),
            colorscale=[[0, faded(palette.restored, 0)], [1, faded(palette.restored, 0.5)]],
            showscale=False,
            text=text,
            texttemplate="%{text}",
            textfont={"color": palette.text, "size": 13 if len(names) <= _MOST_COLUMNS else 11},
            customdata=said,
            xgap=2,
            ygap=2,
            hovertemplate="layer %{y}, %{x}<br><b>%{customdata[0]:.2%}</b> of all that is put back; "
            "%{customdata[2]:.2%} of the region's weights<br>enrichment %{customdata[1]:.2f}<extra></extra>",
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


_CELL = ("share", "enrichment", "weight_share")


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
