"""The paper's own numbers, to lie beside ours: how many facts of each mastery level its models had.

Source: Ye, Yang, Nan, Li, Zhang, Gui, Huang, Wang, Shi and Fan, "Analyzing the Effects of Supervised Fine-Tuning on
Model Knowledge from Token and Parameter Levels", EMNLP 2025, arXiv 2509.16596. Its facts are those of
EntityQuestions with exactly one answer; it has no dev set, and no train facts out-of-domain.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

CITATION = "Ye et al., EMNLP 2025, arXiv 2509.16596"
_FILE = Path(__file__).parent / "paper" / "mastery_distribution.csv"
SETS = {"train": ("train", "in"), "test": ("test", "in"), "testood": ("test", "out")}
"""The paper's sets -> our split and domain."""
SET_NAMES = {"train": "train, in-domain", "test": "test, in-domain", "testood": "test, out-of-domain"}


@cache
def _counts() -> pd.DataFrame:
    """model, split (a name in SETS), level, count."""
    return pd.read_csv(_FILE)


def mastery_models() -> list[str]:
    """The models whose mastery the paper counted, in its order."""
    return list(_counts()["model"].unique())


def sets_of(split: str | None, domain: str | None) -> list[str]:
    """The paper's sets that lie in our split and domain (None: any); empty where it has none, as for dev."""
    return [
        name
        for name, (its_split, its_domain) in SETS.items()
        if split in (None, its_split) and domain in (None, its_domain)
    ]


def mastery_distribution(split: str | None = None, domain: str | None = None) -> pd.DataFrame:
    """model, level (0 to 4), n_facts, share (of the model's facts in these sets); five rows a model.

    The paper's sets that lie in this split and domain, added up; empty where it has none.
    """
    counts = _counts()
    some = counts[counts["split"].isin(sets_of(split, domain))]
    found = some.groupby(["model", "level"], sort=False)["count"].sum().rename("n_facts").reset_index()
    return found.assign(share=found["n_facts"] / found.groupby("model")["n_facts"].transform("sum"))
