"""The table of measured ways (results/strategies.py) -> sentences that compare them fairly, and what to run next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import pandas as pd

from sftknow_core.present.terminal_1 import percent

OTHERS = ("top", "largest", "random")
"""What is worth measuring first: the paper's order, the one that takes back most of the update, and chance."""
MEANINGS = {
    "top": "largest r first (the paper's order)",
    "bottom": "smallest r first",
    "largest": "largest |d| first",
    "smallest": "smallest |d| first",
    "random": "drawn by lot",
    "random-reference": "drawn by lot as in the reference code",
    "interpolation": "base + α (tuned − base) for all weights",
    "block": "whole parts of the region",
    "all-but-block": "all of the region but one part",
}
"""Strategy -> which weights go back."""
COLUMNS = {
    "line": ("line", "strategy, with region, layers and seed where they are not the usual ones", None),
    "strategy": ("strategy", "which weights go back first", None),
    "region": ("region", "", None),
    "layers": ("layers", "empty: all", None),
    "block": ("block", "whole part of the region that goes back", None),
    "alpha": ("α", "interpolation: base + α (tuned − base)", "{:g}"),
    "n_level": ("per level", "questions of a mastery level, the most of any", "{:,.0f}"),
    "seed": ("seed", "of random strategies", "{:.0f}"),
    "run_id": ("run id", "which run asked it", None),
}
"""Columns that only this table has: header, meaning, format."""
EQUAL_K = (
    "**Equal k is not equal update.** The strategies take back very different parts of the squared change at the same "
    "k: choose the axis “update taken back” to compare them at equal parts of it. Intervals speak for the questions of "
    "this one fine-tuning, and the best of many points is too good by chance."
)


def meanings(rows: pd.DataFrame) -> str:
    """What the strategies of the figure are."""
    there = [name for name in MEANINGS if (rows["strategy"] == name).any()]
    said = "; ".join(f"{name}: {MEANINGS[name]}" for name in there)
    return f"{said}. r: change relative to the base weight; |d|: absolute change. Bars: 95% intervals."


def equal_k(rows: pd.DataFrame) -> str:
    """EQUAL_K, with the example of a k that at least two strategies were measured at."""
    restored = rows[(rows["state"] == "restored") & rows["k_percent"].notna()].drop_duplicates("state_id")
    lines = restored.groupby("k_percent")["line"].nunique()
    shared = lines[lines == lines.max()] if len(lines) else lines
    if shared.empty or shared.iloc[0] < 2:
        return EQUAL_K
    k = min(shared.index, key=lambda value: abs(value - 20))
    at_k = restored[restored["k_percent"] == k].sort_values("energy_taken_back", ascending=False)
    parts = [f"{row['line']} {percent(row['energy_taken_back'])}%" for row in at_k.to_dict("records")]
    return f"{EQUAL_K} At k = {k:g}%: {', '.join(parts)}."


def left_out(rows: pd.DataFrame, column: str) -> str | None:
    """Which measured states have no place on the axis; None where all have."""
    missing = rows[(rows["line"] != "") & rows[column].isna()]
    if missing.empty:
        return None
    return f"Not on this axis: {', '.join(dict.fromkeys(missing['line']))}. Choose “update taken back” to see it."


def lacking(rows: pd.DataFrame) -> list[str]:
    """Of OTHERS, those that were not measured in the whole transformer region."""
    there = set(rows["line"])
    return [name for name in OTHERS if name not in there]


def commands(details: Mapping[str, Any], rows: pd.DataFrame) -> str:
    """The commands that measure what is lacking, at the k that were measured, for the same models and questions.

    details: chain_views.chain_details. rows: not empty.
    """
    ks = rows.loc[(rows["state"] == "restored") & rows["k_percent"].notna(), "k_percent"]
    wanted = ",".join(f"{k:g}" for k in sorted(set(ks))) or "5,20,40,60"
    base, asked = str(details["base_name"]), details["params"]["evaluate"]
    n_level = int(rows["n_level"].max())
    words = ["sftknow", "run", "--base", base, "--tuned", str(details["tuned_id"])]
    words += ["--data", "demo" if base == "demo" else "FACTS", "--questions", str(n_level), "--k", wanted]
    for name, value in (("prompt", "paper"), ("matcher", "words")):
        if asked.get(name, value) != value:
            words += [f"--{name}", str(asked[name])]
    return "\n".join(shlex.join([*words, "--strategy", name]) for name in lacking(rows))
