"""The list of the question browser: which columns, the page's rows, one of which can be opened, and a download.

The columns are `token_shifts.columns` in the page's address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from pages._widgets import addresses
from pages._widgets.browsing import Browser, config_of
from sftknow_core.present.text.tokens import topic_name
from sftknow_core.results import questions
from sftknow_core.results.question_filters import PAGE_SIZE, Filters
from sftknow_core.results.questions import Asked, Page

_NAME = "token_shifts"
QUESTION = "question"
"""The opened question in the address."""
_SHARE, _RANK, _KL = "percent", "%d", "%.2f"
_COLUMNS: dict[str, tuple[str, str, str | None]] = {
    "question": ("question", "as asked", None),
    "outcome": ("right?", "base, tuned, restored, in this order: ✓ right, ✗ wrong, – not asked", None),
    "kl": ("KL (nats)", "aligned KL, tuned against base; empty: not scored", _KL),
    "gold": ("gold", "the right answer", None),
    "base_said": ("base says", "before fine-tuning; ✓ right, ✗ wrong", None),
    "tuned_said": ("tuned says", "✓ right, ✗ wrong", None),
    "restored_said": ("restored says", "at the chosen k; ✓ right, ✗ wrong", None),
    "level": ("level", "mastery level, 0 to 4", _RANK),
    "gold_p_base": ("gold p, base", "probability of gold's first token, base after its completion prompt", _SHARE),
    "gold_p_tuned": ("gold p, tuned", "the same, tuned after the question", _SHARE),
    "gold_p_restored": ("gold p, restored", "the same, restored at the chosen k", _SHARE),
    "gold_rank_base": ("gold rank, base", "1: the likeliest token", _RANK),
    "gold_rank_tuned": ("gold rank, tuned", "1: the likeliest token", _RANK),
    "gold_rank_restored": ("gold rank, restored", "1: the likeliest token", _RANK),
    "back_at_k": ("right again at k (%)", "smallest measured k; empty: right when tuned, or never", "%g"),
    "topic": ("topic", "", None),
    "domain": ("domain", "in: topics that were trained on; out: others", None),
    "split": ("split", "dev: k is chosen on it; test: reported", None),
}  # fmt: skip
BROWSER = Browser(_NAME, QUESTION, "question", PAGE_SIZE)
_MARKS = {True: "✓", False: "✗"}


_FIRST_COLUMNS = (
    "question", "outcome", "kl", "gold", "tuned_said", "restored_said", "level", "base_said", "gold_p_base",
    "gold_p_tuned", "topic",
)  # fmt: skip
"""Shown until the reader chooses: about six have room beside an opened question, all of them above it."""
_WIDTHS = {"question": 210, "outcome": 64, "kl": 78, "level": 52, "topic": 150}
_WIDTH = 96


def pick_columns() -> list[str]:
    """The columns of the list, in the order they were chosen; without any the first ones."""
    headers = {name: header for name, (header, _, _) in _COLUMNS.items()}
    addresses.say_several({f"{_NAME}.columns": list(headers.values())})
    with st.popover("Columns", help="Which columns the list has, in which order"):
        chosen = st.multiselect(
            "Columns of the list",
            list(_COLUMNS),
            default=list(_FIRST_COLUMNS),
            format_func=headers.__getitem__,
            key=f"{_NAME}.columns",
            bind="query-params",
            placeholder="the usual ones",
        )
    return chosen or list(_FIRST_COLUMNS)


def listed(
    asked: Asked, filters: Filters, page: Page, opened: Mapping[str, Any] | None, columns: Sequence[str]
) -> None:
    """The page's rows, of which one can be opened (the opened one is ticked), and a download of all that pass."""
    BROWSER.listed(
        page,
        _shown(page.rows, columns),
        config_of(_COLUMNS, columns, _WIDTHS, _WIDTH),
        opened,
        partial(questions.all_passing, asked, filters),
        "Questions with the answers of base, tuned and restored, KL and the gold token's probability and rank",
    )


def _shown(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The columns of the list, answers with their marks."""
    marks = {who: rows[f"{who}_right"].map(_MARKS).fillna("–") for who in ("base", "tuned", "restored")}
    said = {f"{who}_said": mark + " " + rows[f"{who}_answer"].fillna("") for who, mark in marks.items()}
    outcome = marks["base"] + " " + marks["tuned"] + " " + marks["restored"]
    topics = rows["topic"].map(topic_name)
    return rows.assign(outcome=outcome, **said, topic=topics)[list(columns)]
