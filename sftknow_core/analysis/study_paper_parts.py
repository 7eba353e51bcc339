"""What the tables of a study share: captions, words for what was not run, frames put one below the other."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sftknow_core.analysis import paper_study
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.estimates import POPULATION, Estimate

BESIDE = (
    f"Paper: {paper_study.MODEL}, other questions and levels of its own ({paper_study.CITATION}); compare shapes "
    "only."
)
"""What the paper's numbers are, for captions."""
NUMBERS = ["accuracy", "low", "high", "sd", "n", "n_seeds"]


def numbers(found: Estimate | None) -> dict[str, Any]:
    """An estimate as cells; empty where there is none."""
    if found is None:
        return {}
    ends = {"accuracy": found.value, "low": found.low, "high": found.high, "sd": found.sd}
    return {**ends, "n": found.n, "n_seeds": len(found.seeds) or None}


def stacked(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """One below the other, with these columns, and numbers as numbers."""
    kept = [part.reindex(columns=columns).astype(object) for part in parts if len(part)]
    frame = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=columns)
    text = {"source", "state", "train_level", "size", "domain"}
    whole = {"n", "n_seeds", "n_train", "n_chosen", "level"}
    kinds = {name: "Int64" if name in whole else "float64" for name in columns if name not in text}
    for name in kinds:
        frame[name] = pd.to_numeric(frame[name])
    return frame.astype(kinds)


def caption_of(study: Study, matcher: str, rows: pd.DataFrame) -> str:
    """n, seeds, split, matcher, population, and what the paper's numbers are. rows: with a column n."""
    n = (
        f"{range_said(rows['n'])} questions"
        if len(rows) and "n" in rows and rows["n"].notna().any()
        else "No question"
    )
    return f"{n} a number, {seeds_said(study)}, split test, matcher '{matcher}'. {POPULATION}. {BESIDE}"


def seeds_said(study: Study) -> str:
    """How many seeds a cell has: "3 seeds a cell"."""
    counts = study.tables.chains.groupby(["level", "size", "method"]).size()
    return "no seed" if counts.empty else f"{range_said(counts)} seeds a cell"


def range_said(numbers: pd.Series[Any]) -> str:
    """The range of whole numbers: "20" or "20 to 60"."""
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def not_run(why: str) -> str:
    """Why a table has nothing of this study."""
    return f"NOT RUN: {why}"


def level_name(level: str) -> str:
    """A header for a train level: "level 2", "mixed"."""
    return f"level {level}" if level.isdigit() else level
