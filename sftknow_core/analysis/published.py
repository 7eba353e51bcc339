"""The accuracies that Ye et al. (2025) print, as tidy tables to lay beside ours: other models, other questions.

    paper/table2_accuracy_1920.csv   mean and standard deviation by train level, domain and test level, N = 1,920
    paper/table4_restoration.csv     means over test levels at N = 240 and 1,920; its 0% rows are before restoring

Accuracies become shares. Nothing here is ever subtracted from, averaged with or joined by a line to our numbers.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

from sftknow_core.errors import SpecError

_FOLDER = Path(__file__).parent / "paper"
MODELS = ("LLaMA-3-8B", "LLaMA-3-70B")
"""Whose accuracies it prints."""
TABLE2_N = 1920
CITATION = (
    "Ye, Yang, Nan, Li, Zhang, Gui, Huang, Wang, Shi, Fan: Analyzing the Effects of Supervised Fine-Tuning on Model "
    "Knowledge from Token and Parameter Levels. EMNLP 2025, pp. 471-513, arXiv 2509.16596"
)
CAVEATS = """\
- Another model, whose mastery levels are its own, was asked other questions: a level here and a level there hold
  different facts. Compare shapes, not heights; a difference between the two means nothing.
- By test level: its Table 2, N = 1,920. The ± is a standard deviation over its repetitions (it is called a variance
  there, but can only be a standard deviation). LLaMA-3-8B, level 2, in-domain, test level 4: 1.31 is read from a
  garbled print.
- Over N: for LLaMA-3-8B its Table 4 at k = 0, N = 240 and 1,920, printed without any spread; for LLaMA-3-70B the mean
  over its Table 2, N = 1,920 only. The two tables disagree for one and the same cell (level 0, out-of-domain: 49.4% and
  46.2%).
- How accurate its base models are when asked in this way is not printed.
"""


def by_test_level(model: str) -> pd.DataFrame:
    """Its Table 2: train_level (text), n_train, domain, level (<NA>: mean over levels), accuracy, sd (shares).

    SpecError for another model.
    """
    rows = _of(_read("table2_accuracy_1920.csv"), model)
    return pd.DataFrame(
        {
            "train_level": rows["train_level"].astype(str),
            "n_train": TABLE2_N,
            "domain": rows["domain"],
            "level": pd.to_numeric(rows["test_level"], errors="coerce").astype("Int64"),  # "mean" is none
            "accuracy": rows["accuracy_percent"] / 100,
            "sd": rows["std"] / 100,
        }
    ).reset_index(drop=True)


def over_n(model: str) -> pd.DataFrame:
    """Means over test levels: train_level (text), n_train, domain, accuracy (share), source ("Table 4" or "Table 2").

    One source a model, so that a line joins numbers of one table only. SpecError for another model.
    """
    printed = _read("table4_restoration.csv")
    if model in set(printed["model"]):
        rows = printed[(printed["model"] == model) & (printed["restored_percent"] == 0)]
        rows = rows.assign(train_level=rows["train_level"].astype(str), source="Table 4")
        rows = rows.assign(accuracy=rows["accuracy_percent"] / 100)
    else:
        table = by_test_level(model)
        rows = table[table["level"].isna()].assign(source="Table 2")
    kept = ["train_level", "n_train", "domain", "accuracy", "source"]
    return rows.sort_values(["domain", "train_level", "n_train"])[kept].reset_index(drop=True)


def at_level(model: str, level: int | None) -> pd.DataFrame:
    """`over_n`, or where a test level is named that level's column of Table 2, in the same columns."""
    if level is None:
        return over_n(model)
    rows = by_test_level(model)
    kept = ["train_level", "n_train", "domain", "accuracy"]
    return (
        rows.loc[(rows["level"] == level).fillna(False), kept].assign(source="Table 2").reset_index(drop=True)
    )


def _of(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    if model not in MODELS:
        raise SpecError(f"paper: got the model {model!r}; allowed: {', '.join(MODELS)}")
    return rows[rows["model"] == model]


@cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(_FOLDER / name)
