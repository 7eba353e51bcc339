"""The paper's tables 4, 6, 7 and 11 (LLaMA-3-8B), to lie beside a study's; never subtracted from ours.

Source: Ye, Yang, Nan, Li, Zhang, Gui, Huang, Wang, Shi and Fan, "Analyzing the Effects of Supervised Fine-Tuning on
Model Knowledge from Token and Parameter Levels", EMNLP 2025, arXiv 2509.16596. None of them carries a spread. Table 6
reads as single runs: every value is a count over 240 or 1,920. Table 7's "divided" and "restored" are one run of table
4 (level 2, N = 1,920), whose level and k were picked on test. Table 11 names neither N nor domain: they are inferred.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

MODEL = "LLaMA-3-8B"
CITATION = "Ye et al., EMNLP 2025, arXiv 2509.16596"
_FOLDER = Path(__file__).parent / "paper"
STRATEGIES = {
    "LLaMA-3-8B-Instruct": "instruct",
    "SFT (mixed)": "mixed",
    "SFT (divided by mastery)": "divided",
    "LoRA": "LoRA",
    "Parameter restoration": "restored",
}
"""Table 7's names -> ours."""


@cache
def restoration() -> pd.DataFrame:
    """Table 4: train_level (text), size (text), k_percent, domain, accuracy (mean over test levels, share)."""
    rows = pd.read_csv(_FOLDER / "table4_restoration.csv")
    return _named(rows, "accuracy_percent")[["train_level", "size", "k_percent", "domain", "accuracy"]]


@cache
def train_accuracy() -> pd.DataFrame:
    """Table 6: train_level, size, k_percent, accuracy on the train set (share)."""
    rows = pd.read_csv(_FOLDER / "table6_train_accuracy.csv")
    return _named(rows, "train_accuracy_percent")[["train_level", "size", "k_percent", "accuracy"]]


@cache
def strategies() -> pd.DataFrame:
    """Table 7: strategy (ours: a value of STRATEGIES), domain, accuracy (share)."""
    rows = pd.read_csv(_FOLDER / "table7_strategies.csv")
    named = rows.assign(strategy=rows["strategy"].map(STRATEGIES))
    named = named.rename(columns={"in_domain_percent": "in", "out_of_domain_percent": "out"})
    long = named.melt("strategy", ["in", "out"], "domain", "accuracy")
    return long.assign(accuracy=long["accuracy"] / 100)


@cache
def layer_blocks() -> pd.DataFrame:
    """Table 11: train_level, layers (e.g. "0-3", of 32), accuracy (share); N = 240 and in-domain are inferred."""
    rows = pd.read_csv(_FOLDER / "table11_layer_blocks.csv")
    rows = rows.assign(train_level=rows["train_level"].astype(str), accuracy=rows["accuracy_percent"] / 100)
    return rows.rename(columns={"restored_layers": "layers"})[["train_level", "layers", "accuracy"]]


def _named(rows: pd.DataFrame, accuracy: str) -> pd.DataFrame:
    return rows.assign(
        train_level=rows["train_level"].astype(str),
        size=rows["n_train"].astype(str),
        k_percent=rows["restored_percent"].astype(float),
        accuracy=rows[accuracy] / 100,
    )
