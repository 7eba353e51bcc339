"""The numbers that Ye et al. (2025) print, as tidy tables to lay beside ours: other models, other questions.

Source: Ye, Yang, Nan, Li, Zhang, Gui, Huang, Wang, Shi and Fan, "Analyzing the Effects of Supervised Fine-Tuning on
Model Knowledge from Token and Parameter Levels", EMNLP 2025, arXiv 2509.16596; the files in `paper/` are its tables.
Percentages become shares. Nothing here is ever subtracted from, averaged with or joined by a line to our numbers.

    mastery levels   facts of EntityQuestions with exactly one answer; no dev set, no train facts out-of-domain
    table 2          N = 1,920, means with standard deviations; the only numbers that have a spread
    table 3          ten fine-tunings of LLaMA-3-8B (32 layers): N = 240 and 1,920, levels 0 to 4
    table 4          means over test levels at N = 240 and 1,920; its 0% rows are before restoring
    table 6          single runs, it seems: every value is a count over 240 or 1,920
    table 7          "divided" and "restored" are one run of table 4 (level 2, N = 1,920), picked on test
    tables 9, 10     name no N, level or k
    table 11         names neither N nor domain: they are inferred
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

from sftknow_core.errors import SpecError

CITATION = "Ye et al., EMNLP 2025, arXiv 2509.16596"
ACCURACY_CITATION = (
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
MODEL = "LLaMA-3-8B"
"""The model of its tables 3 to 11."""
MODELS = (MODEL, "LLaMA-3-70B")
"""Whose accuracies it prints."""
N_LAYERS = 32
"""Layers of MODEL."""
TABLE2_N = 1920
SETS = {"train": ("train", "in"), "test": ("test", "in"), "testood": ("test", "out")}
"""The paper's sets -> our split and domain."""
SET_NAMES = {"train": "train, in-domain", "test": "test, in-domain", "testood": "test, out-of-domain"}
STRATEGIES = {
    "LLaMA-3-8B-Instruct": "instruct",
    "SFT (mixed)": "mixed",
    "SFT (divided by mastery)": "divided",
    "LoRA": "LoRA",
    "Parameter restoration": "restored",
}
"""Table 7's names -> ours."""


@cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(Path(__file__).parent / "paper" / f"{name}.csv")


# -- mastery levels


def mastery_models() -> list[str]:
    """The models whose mastery the paper counted, in its order."""
    return list(_read("mastery_distribution")["model"].unique())


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
    counts = _read("mastery_distribution")
    some = counts[counts["split"].isin(sets_of(split, domain))]
    found = some.groupby(["model", "level"], sort=False)["count"].sum().rename("n_facts").reset_index()
    return found.assign(share=found["n_facts"] / found.groupby("model")["n_facts"].transform("sum"))


# -- accuracies


def by_test_level(model: str) -> pd.DataFrame:
    """Its Table 2: train_level (text), n_train, domain, level (<NA>: mean over levels), accuracy, sd (shares).

    SpecError for another model.
    """
    if model not in MODELS:
        raise SpecError(f"paper: got the model {model!r}; allowed: {', '.join(MODELS)}")
    table = _read("table2_accuracy_1920")
    rows = table[table["model"] == model]
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
    printed = _read("table4_restoration")
    if model in set(printed["model"]):
        rows = printed[(printed["model"] == model) & (printed["restored_percent"] == 0)]
        rows = rows.astype({"train_level": str})
        rows = rows.assign(accuracy=rows["accuracy_percent"] / 100, source="Table 4")
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
    of_level = rows.loc[(rows["level"] == level).fillna(False), kept]
    return of_level.assign(source="Table 2").reset_index(drop=True)


@cache
def restoration() -> pd.DataFrame:
    """Table 4: train_level (text), size (text), k_percent, domain, accuracy (mean over test levels, share)."""
    kept = ["train_level", "size", "k_percent", "domain", "accuracy"]
    return _tidy("table4_restoration", accuracy="accuracy_percent", k_percent="restored_percent")[kept]


@cache
def train_accuracy() -> pd.DataFrame:
    """Table 6: train_level, size, k_percent, accuracy on the train set (share)."""
    kept = ["train_level", "size", "k_percent", "accuracy"]
    return _tidy("table6_train_accuracy", accuracy="train_accuracy_percent", k_percent="restored_percent")[
        kept
    ]


@cache
def strategies() -> pd.DataFrame:
    """Table 7: strategy (ours: a value of STRATEGIES), domain, accuracy (share)."""
    rows = _read("table7_strategies")
    named = rows.assign(strategy=rows["strategy"].map(STRATEGIES))
    named = named.rename(columns={"in_domain_percent": "in", "out_of_domain_percent": "out"})
    long = named.melt("strategy", ["in", "out"], "domain", "accuracy")
    return long.assign(accuracy=long["accuracy"] / 100)


@cache
def layer_blocks() -> pd.DataFrame:
    """Table 11: train_level, layers (e.g. "0-3", of 32), accuracy (share); N = 240 and in-domain are inferred."""
    rows = _tidy("table11_layer_blocks", accuracy="accuracy_percent", layers="restored_layers")
    return rows[["train_level", "layers", "accuracy"]]


# -- where the weights changed


@cache
def concentration() -> pd.DataFrame:
    """n_train, train_level, k_percent, share (0 to 1): the paper's table 3, one row a fine-tuning and k."""
    rows = _read("table3_concentration").rename(columns={"top_percent": "k_percent"})
    rows = rows.assign(share=rows["share_of_total_relative_change_percent"] / 100)
    return rows[["n_train", "train_level", "k_percent", "share"]]


def concentration_range() -> pd.DataFrame:
    """k_percent, paper_low, paper_high (0 to 1): the lowest and highest of the ten fine-tunings."""
    grouped = concentration().groupby("k_percent")["share"]
    return grouped.agg(paper_low="min", paper_high="max").reset_index()


@cache
def module_shares() -> pd.DataFrame:
    """module (named as ours), paper_share (0 to 1; rounded, the sum is nearly 1): table 10."""
    rows = _read("table10_modules")
    return rows.assign(paper_share=rows["share_percent"] / 100)[["module", "paper_share"]]


def layer_shares(n_layers: int) -> pd.DataFrame:
    """The paper's table 9, its 32 layers brought together to `n_layers` groups of the same depth.

    Columns: layer, paper_layers ("0-7"), paper_share (0 to 1). A model of more layers than the paper's has some
    without a counterpart: they have no row.
    """
    rows = _read("table9_layers")
    rows = rows.assign(share=rows["share_percent"] / 100, group=rows["layer"] * n_layers // N_LAYERS)
    of = rows.groupby("group").agg(first=("layer", "min"), last=("layer", "max"), share=("share", "sum"))
    names = [
        f"{first}-{last}" if last > first else f"{first}"
        for first, last in zip(of["first"], of["last"], strict=True)
    ]
    return pd.DataFrame({"layer": of.index, "paper_layers": names, "paper_share": of["share"].to_numpy()})


def _tidy(name: str, **columns: str) -> pd.DataFrame:
    """A table with our column names (`columns`: ours = printed), accuracy as a share; train_level and size as text."""
    rows = _read(name).rename(
        columns={"n_train": "size", **{theirs: ours for ours, theirs in columns.items()}}
    )
    kinds = {"train_level": str, "size": str, "k_percent": float}
    rows = rows.astype({column: kind for column, kind in kinds.items() if column in rows})
    return rows.assign(accuracy=rows["accuracy"] / 100)
