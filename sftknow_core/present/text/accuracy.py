"""Texts and number cards of the page "Accuracy"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sftknow_core.analysis.published import TABLE2_N
from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.present import glossary
from sftknow_core.present.terminal import points
from sftknow_core.present.text.story import NOT_ASKED_5, KeyNumber, Part, nothing_reverted
from sftknow_core.present.text.tokens import PROMPTS
from sftknow_core.results.accuracy import Group
from sftknow_core.results.measured import FIVE_SHOT
from sftknow_core.results.states import Chosen

DEFINITIONS = glossary.bullets(
    "accuracy",
    "mastery level",
    "training level",
    "prompt",
    "models",
    "pp",
    "interval",
    "p level",
    "flips",
)
OFF = "off"


def cards(changes: pd.DataFrame, k_percent: float, prompt: str) -> tuple[KeyNumber, ...]:
    """Mean changes in both domains, and how many answers changed, all under one prompt.

    changes: see results/accuracy.py.
    """
    mean = changes[changes["level"].isna()]
    tuning, restoring = (mean[mean["step"] == step] for step in ("tuning", "restoring"))
    asked = PROMPTS[prompt]
    lost, gained = _counts(tuning, "n_lost", "n"), _counts(tuning, "n_gained", "n")
    found = [
        KeyNumber("Change by tuning (pp)", _differences(tuning), f"Tuned minus base, both {asked}."),
        KeyNumber("Correct → incorrect by tuning", lost, f"Lost by fine-tuning, both {asked}."),
        KeyNumber("Incorrect → correct by tuning", gained, f"Gained by fine-tuning, both {asked}."),
    ]
    if k_percent:
        about = f"Restored (k = {k_percent:g}%) minus tuned, both {asked}."
        found += [
            KeyNumber("Recovery (pp)", _differences(restoring), about),
            KeyNumber(
                "Recovered by restoring",
                _recovered(restoring),
                f"Incorrect → correct, both {asked}; in brackets: broken.",
            ),
        ]
    return tuple(found)


def which_prompt(prompt: str, prompts: tuple[str, ...], chosen: Chosen) -> str:
    """Which prompt and which k the page shows. prompts: those of the run (ChainStates.prompts)."""
    baseline = (
        "**Zero-shot**: the prompt tuned with, which base never saw, so gains may be answer format only"
    )
    if prompt == FIVE_SHOT:
        baseline = "**5-shot**: base, tuned and restored after the same five examples"
    elif FIVE_SHOT not in prompts:
        baseline += f"; tuned and restored were {NOT_ASKED_5}"
    restored = (
        f"restored: k = {chosen.k_percent:g}%, chosen on dev"
        if chosen.k_percent
        else f"no restored model: {nothing_reverted(chosen)}"
    )
    return f"{baseline}; {restored}. Test questions only."


def flipped(changes: pd.DataFrame) -> str:
    """How many answers changed by tuning and by restoring, with p, by domain, as a Markdown list."""
    lines = []
    for row in changes[changes["level"].isna() & (changes["step"] != "both")].to_dict("records"):
        p = f"p = {row['p_value']:.2g}" if row["p_value"] > 1e-4 else "p ≤ 0.0001"
        lines.append(
            f"- {DOMAIN_NAMES.get(row['domain'], row['domain'])}, by {row['step']}: **{row['n_lost']:,}** correct → "
            f"incorrect, **{row['n_gained']:,}** incorrect → correct, of {row['n']:,}; change of the mean "
            f"{_signed(row['difference'])} pp ({p})"
        )
    return "\n".join(lines)


def who_is_shown(group: Group, cells: pd.DataFrame, prompt: str) -> str:
    """Which runs are in a figure of many, under which prompt, and what its intervals cover."""
    one = (
        "mean over seeds, with each seed's point; 95% CI over seeds (Student t) from three seeds on"
        if (cells["n_seeds"] > 1).any()
        else "one seed each; 95% CIs cover questions, not seeds"
    )
    others = f" {group.n_other_ways:,} more runs use other settings." if group.n_other_ways else ""
    n = len(group.run_ids)
    runs = "1 comparable run" if n == 1 else f"{n:,} comparable runs"
    lacking = f" Runs {NOT_ASKED_5} are left out." if prompt == FIVE_SHOT else ""
    return f"{runs} (same base, questions and settings), {PROMPTS[prompt]}: {one}.{lacking}{others}"


def about_heat(state: str, n_train: int, paper: str | None, prompt: str) -> str:
    """Caption of the heat map."""
    how = " (k chosen on dev)" if state == "restored" else ""
    said = (
        f"Test accuracy (%), {state}{how}, {PROMPTS[prompt]}, N = {n_train:,}: question level (rows) by training level "
        "(columns); bottom: mean. Grey: base under the same prompt. Hover for 95% CI and n."
    )
    if paper and n_train == TABLE2_N:
        said += f" In brackets: the paper's {paper} (other model, other questions)."
    elif paper:
        said += f" The paper's table is for N = {TABLE2_N:,} only."
    return said


def about_paper(paper: str | None) -> str:
    """Caption of the paper's numbers in a figure; "" where they are off."""
    if paper is None:
        return ""
    return (
        f" Faint: {paper} as printed by Ye et al. (2025), other model and other questions. Compare shapes, not values. "
        "Source and caveats: end of page."
    )


NO_CELL = "External model: no training level or N, so it cannot be placed among other runs."


def _differences(rows: pd.DataFrame) -> tuple[Part, ...]:
    parts = []
    for row in rows.to_dict("records"):
        interval = "no spread" if pd.isna(row["low"]) else f"{_signed(row['low'])} to {_signed(row['high'])}"
        parts.append(Part(_domain(row), _signed(row["difference"]), interval))
    return tuple(parts)


def _signed(share: float) -> str:
    """A difference in pp, with a minus sign as wide as the plus."""
    return points(share).replace("-", "−")


def _counts(rows: pd.DataFrame, column: str, of: str) -> tuple[Part, ...]:
    return tuple(
        Part(_domain(row), f"{row[column]:,}", f"of {row[of]:,} questions") for row in rows.to_dict("records")
    )


def _recovered(rows: pd.DataFrame) -> tuple[Part, ...]:
    return tuple(
        Part(_domain(row), f"{row['n_gained']:,}", f"({row['n_lost']:,} broken) of {row['n']:,}")
        for row in rows.to_dict("records")
    )


def _domain(row: Mapping[Any, Any]) -> str:
    return DOMAIN_NAMES.get(str(row["domain"]), str(row["domain"]))
