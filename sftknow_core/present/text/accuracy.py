"""What the page of accuracies says: five numbers of a chain with sentences, and what stands beside a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sftknow_core.analysis.published import TABLE2_N
from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.present import glossary
from sftknow_core.present.terminal import points
from sftknow_core.present.text.story import KeyNumber, Part, nothing_put_back
from sftknow_core.results.accuracy import Group
from sftknow_core.results.questions import FIVE_SHOT
from sftknow_core.results.states import Chosen

DEFINITIONS = glossary.bullets(
    "accuracy",
    "mastery level",
    "training level",
    "base prompt",
    "models",
    "pp",
    "interval",
    "p level",
    "flips",
)
OFF = "off"


def cards(changes: pd.DataFrame, k_percent: float, base: str) -> tuple[KeyNumber, ...]:
    """Means before and after in both domains, and how many answers flipped. changes: results.accuracy.changes."""
    mean = changes[changes["level"].isna()]
    tuning, restoring = (mean[mean["step"] == step] for step in ("tuning", "restoring"))
    said = "after five examples" if base == FIVE_SHOT else "asked with the question alone"
    found = [
        KeyNumber("Change by tuning, points", _differences(tuning), f"Tuned minus base {said}."),
        KeyNumber("Right → wrong by tuning", _counts(tuning, "n_lost", "n"), "Answers that tuning took."),
        KeyNumber("Wrong → right by tuning", _counts(tuning, "n_gained", "n"), "Answers that tuning gave."),
    ]
    if k_percent:
        about = f"Restored, k = {k_percent:g}%, minus tuned."
        healed = "Answers that putting weights back healed, and (in brackets) broke."
        found += [
            KeyNumber("Change by restoring, points", _differences(restoring), about),
            KeyNumber("Wrong → right by restoring", _healed(restoring), healed),
        ]
    return tuple(found)


def which_base(base: str, chosen: Chosen) -> str:
    """What "before" and "restored" are on this page."""
    fair = (
        "Base stands here **after five examples**, the fair before"
        if base == FIVE_SHOT
        else "Base stands here **asked with the question alone**, a form it does not know: what looks learnt may be "
        "the form alone"
    )
    restored = (
        f"restored is k = {chosen.k_percent:g}%, chosen on dev"
        if chosen.k_percent
        else f"{nothing_put_back(chosen)}, so there is no restored state"
    )
    return f"{fair}; {restored}. Test questions only."


def flipped(changes: pd.DataFrame) -> str:
    """How many flipped by tuning, and how surprising that is, by domain, as Markdown."""
    lines = []
    for row in changes[changes["level"].isna() & (changes["step"] != "both")].to_dict("records"):
        p = f"p = {row['p_value']:.2g}" if row["p_value"] > 1e-4 else "p ≤ 0.0001"
        lines.append(
            f"- {DOMAIN_NAMES.get(row['domain'], row['domain'])}, by {row['step']}: **{row['n_lost']:,}** right → "
            f"wrong, **{row['n_gained']:,}** wrong → right, of {row['n']:,}; change of the mean "
            f"{_signed(row['difference'])} points ({p})"
        )
    return "\n".join(lines)


def who_is_shown(group: Group, cells: pd.DataFrame) -> str:
    """Which chains are in a figure of many, and what its intervals are."""
    one = (
        "seeds are replicates: their mean, with each seed's point; from three seeds on the interval (Student t) speaks "
        "for other seeds on these questions; two seeds have none"
        if (cells["n_seeds"] > 1).any()
        else "one seed a point, so a difference between points includes the one between seeds; the interval speaks for "
        "other questions"
    )
    others = (
        f" {group.n_other_ways:,} more chains asked the same but were tuned or restored in another way."
        if group.n_other_ways
        else ""
    )
    n = len(group.run_ids)
    chains = "1 chain" if n == 1 else f"{n:,} chains"
    return (
        f"{chains} that asked the same base the same questions, tuned and restored in the same way: {one}. 95% "
        f"intervals.{others}"
    )


def about_heat(state: str, n_train: int, paper: str | None) -> str:
    """What the heat map's cells are."""
    how = " by its own k, chosen on dev" if state == "restored" else ""
    said = (
        f"Accuracy in percent on test questions of each level (rows), {state}{how} after fine-tuning on {n_train:,} "
        "facts of each level (columns); bottom: the mean over levels. Grey: base after five examples (5 ex.) and "
        "asked with the question alone. Point at a cell for its interval and n."
    )
    if paper and n_train == TABLE2_N:
        said += f" In brackets: the paper's {paper}, another model and other questions."
    elif paper:
        said += f" The paper prints such a table for N = {TABLE2_N:,} only."
    return said


def about_paper(paper: str | None) -> str:
    """What the paper's numbers in a figure are; nothing where they are off."""
    if paper is None:
        return ""
    return (
        f" Faint: {paper} as printed by Ye et al. (2025), another model asked other questions. Compare shapes; a "
        "difference from ours means nothing. Source and caveats are at the end of the page."
    )


NO_CELL = (
    "This chain compares two given models: nothing was fine-tuned here, so it has no train level and no N, and stands "
    "beside no other."
)


def _differences(rows: pd.DataFrame) -> tuple[Part, ...]:
    parts = []
    for row in rows.to_dict("records"):
        interval = "no spread" if pd.isna(row["low"]) else f"{_signed(row['low'])} to {_signed(row['high'])}"
        parts.append(Part(_domain(row), _signed(row["difference"]), interval))
    return tuple(parts)


def _signed(share: float) -> str:
    """A difference in points, with a minus sign as wide as the plus."""
    return points(share).replace("-", "−")


def _counts(rows: pd.DataFrame, column: str, of: str) -> tuple[Part, ...]:
    return tuple(
        Part(_domain(row), f"{row[column]:,}", f"of {row[of]:,} questions") for row in rows.to_dict("records")
    )


def _healed(rows: pd.DataFrame) -> tuple[Part, ...]:
    return tuple(
        Part(_domain(row), f"{row['n_gained']:,}", f"({row['n_lost']:,} broken) of {row['n']:,}")
        for row in rows.to_dict("records")
    )


def _domain(row: Mapping[Any, Any]) -> str:
    return DOMAIN_NAMES.get(str(row["domain"]), str(row["domain"]))
