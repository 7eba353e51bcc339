"""The figure of a fine-tuning: its loss, step by step."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from sftknow_core.present.charts.marks import styled
from sftknow_core.present.charts.palette import LIGHT, Palette, faded


def loss_figure(curve: pd.DataFrame, n_steps: float | None = None, palette: Palette = LIGHT) -> go.Figure:
    """Loss of each step as points, the mean over the steps just before as a line.

    curve: see training_views.loss_curve. n_steps: all there will be, so that the axis stands still; None: not known.
    """
    figure = go.Figure()
    said = "step %{x:,}: <b>%{y:.3f} nats</b> a token<extra></extra>"
    figure.add_scatter(
        x=curve["step"].tolist(), y=curve["loss_nats"].tolist(), mode="markers", name="one step",
        marker={"color": faded(palette.tuned, 0.45), "size": 4, "symbol": "diamond"}, hovertemplate=said,
    )  # fmt: skip
    figure.add_scatter(
        x=curve["step"].tolist(), y=curve["smooth_nats"].tolist(), mode="lines", name="mean over the last steps",
        line={"color": palette.tuned, "width": 2.5}, hovertemplate=f"mean, {said}",
    )  # fmt: skip
    end = max(n_steps or 0, curve["step"].max() if len(curve) else 1)
    figure.update_xaxes(title_text="training step", title_standoff=4, range=[0, 1.02 * end])
    figure.update_yaxes(title_text="training loss (nats per token)", rangemode="tozero")
    return styled(figure, palette, height=240, top=10)
