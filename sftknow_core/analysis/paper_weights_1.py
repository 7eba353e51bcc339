"""The paper's own numbers on where its models changed, to lie beside ours: its tables 3, 9 and 10.

Source: Ye, Yang, Nan, Li, Zhang, Gui, Huang, Wang, Shi and Fan, "Analyzing the Effects of Supervised Fine-Tuning on
Model Knowledge from Token and Parameter Levels", EMNLP 2025, arXiv 2509.16596. The model is LLaMA-3-8B (32 layers).
Table 3 is of ten fine-tunings (N = 240 and 1,920; levels 0 to 4); tables 9 and 10 name no N, level or k.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

CITATION = "Ye et al., EMNLP 2025, arXiv 2509.16596"
N_LAYERS = 32
"""Layers of the paper's model."""
_FOLDER = Path(__file__).parent / "paper"


@cache
def concentration() -> pd.DataFrame:
    """n_train, train_level, k_percent, share (0 to 1): the paper's table 3, one row a fine-tuning and k."""
    rows = pd.read_csv(_FOLDER / "table3_concentration.csv")
    share = rows["share_of_total_relative_change_percent"] / 100
    rows = rows.rename(columns={"top_percent": "k_percent"}).assign(share=share)
    return rows[["n_train", "train_level", "k_percent", "share"]]


def concentration_range() -> pd.DataFrame:
    """k_percent, paper_low, paper_high (0 to 1): the lowest and highest of the ten fine-tunings."""
    grouped = concentration().groupby("k_percent")["share"]
    return grouped.agg(paper_low="min", paper_high="max").reset_index()


@cache
def module_shares() -> pd.DataFrame:
    """module (named as ours), paper_share (0 to 1; rounded, the sum is nearly 1): table 10."""
    rows = pd.read_csv(_FOLDER / "table10_modules.csv")
    return rows.assign(paper_share=rows["share_percent"] / 100)[["module", "paper_share"]]


@cache
def _layers() -> pd.Series[float]:
    return pd.read_csv(_FOLDER / "table9_layers.csv").set_index("layer")["share_percent"] / 100


def layer_shares(n_layers: int) -> pd.DataFrame:
    """The paper's table 9, its 32 layers brought together to `n_layers` groups of the same depth.

    Columns: layer, paper_layers ("0-7"), paper_share (0 to 1). A model of more layers than the paper's has some
    without a counterpart: they have no row.
    """
    shares = _layers()
    group = shares.index.to_series().map(lambda layer: int(layer) * n_layers // N_LAYERS)
    layers = shares.index.to_series().groupby(group)
    names = [
        f"{first}-{last}" if last > first else f"{first}" for first, last in layers.agg(["min", "max"]).values
    ]
    summed = shares.groupby(group).sum()
    return pd.DataFrame(
        {"layer": summed.index.astype(int), "paper_layers": names, "paper_share": summed.to_numpy()}
    )
