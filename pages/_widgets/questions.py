"""What the question browser shares: its cached reads, its filters, and which question is opened.

The opened question is `question` in the page's address, the kind of change `token_shifts.change`; k, the other filters,
sorting and page are bound to it by their keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from pages._widgets import addresses, show, slider
from pages._widgets.browsing import Browser, config_of
from pages._widgets.reading import Key
from sftknow_core.present import columns
from sftknow_core.present.charts import tokens as tokens_charts
from sftknow_core.present.text import tokens as tokens_text
from sftknow_core.present.text.tokens import SentPrompt, topic_name
from sftknow_core.results import question_detail, questions
from sftknow_core.results.question_detail import Questions
from sftknow_core.results.questions import (
    FLIPS,
    PAGE_SIZE,
    SORTS,
    Filters,
    Page,
    QuestionTable,
)
from sftknow_core.store.cache import Cache

# The list of the question browser: which columns, the page's rows, one of which can be opened, and a download.
#
# The columns are `token_shifts.columns` in the page's address.

_NAME = "token_shifts"
QUESTION = "question"
"""The opened question in the address."""
_COLUMNS = columns.of(
    "question", "outcome", "kl", "gold", "base_said", "tuned_said", "restored_said", "level", "gold_p_base",
    "gold_p_tuned", "gold_p_restored", "gold_rank_base", "gold_rank_tuned", "gold_rank_restored", "back_at_k", "topic",
    "domain", "split",
)  # fmt: skip
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
    headers = {name: column.header for name, column in _COLUMNS.items()}
    addresses.warn_each({f"{_NAME}.columns": list(headers.values())})
    with st.popover("Columns", help="Which columns the list has, in which order"):
        chosen = st.multiselect(
            "Columns of the list",
            list(_COLUMNS),
            default=list(_FIRST_COLUMNS),
            format_func=headers.__getitem__,
            key=f"{_NAME}.columns",
            bind="query-params",
            placeholder="default columns",
        )
    return chosen or list(_FIRST_COLUMNS)


def listed(
    asked: QuestionTable,
    filters: Filters,
    page: Page,
    opened: Mapping[str, Any] | None,
    columns: Sequence[str],
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


_WIDGET_NAME = "token_shifts"
_K, _CHANGE, _CHIPS = f"{_WIDGET_NAME}.k", f"{_WIDGET_NAME}.change", f"{_WIDGET_NAME}.chips"
_ANY = "all"
STYLE = """<style>
.st-key-token_shifts_beside > div {flex: 1 1 470px !important; min-width: min(470px, 100%)}
.st-key-token_shifts_filters > div, .st-key-token_shifts_more > div {min-width: 120px}
</style>"""
"""List and detail share a row where both have 470 px, else stand below each other."""


@st.cache_resource(show_spinner="Reading answers …", max_entries=4)
def gathered(root: str, run_id: str, stamp: str) -> QuestionTable:
    """See Questions.table; nobody changes it. stamp: of the chain."""
    return Questions(Cache(root), run_id).table


@st.cache_data(show_spinner=False, max_entries=64)
def first_token(
    root: str, run_id: str, stamp: str, fact_id: str, k: float
) -> question_detail.FirstToken | None:
    """See Questions.first_token."""
    return Questions(Cache(root), run_id).first_token(fact_id, k)


SPREAD_COLUMNS = {"low": "bin_from", "high": "bin_to", "n_restored": "n_restored_in_bin"}
"""Names of the histogram's columns in a table, where low and high are the ends of intervals."""


@st.cache_data(show_spinner=False, max_entries=64)
def spread(root: str, run_id: str, stamp: str, population: Filters) -> pd.DataFrame:
    """See Questions.spread."""
    return question_detail.spread(gathered(root, run_id, stamp), population)


@st.cache_data(show_spinner=False, max_entries=64)
def by_level(root: str, run_id: str, stamp: str, population: Filters) -> pd.DataFrame:
    """See Questions.by_level."""
    return question_detail.by_level(gathered(root, run_id, stamp), population)


def asked_in(key: Key, run_id: str) -> tuple[QuestionTable, str]:
    """The chain's questions, and the stamp that further reads are remembered under."""
    stamp = Questions(Cache(key[0]), run_id).stamp
    return gathered(key[0], run_id, stamp), stamp


def _warn_invalid_params(asked: QuestionTable) -> None:
    """What the address asks for and the filters do not offer."""
    addresses.warn_each(
        {
            f"{_WIDGET_NAME}.levels": [*map(str, range(5))],
            f"{_WIDGET_NAME}.topics": [topic_name(topic) for topic in asked.topics],
        }
    )
    offers = {
        "prompt": list(asked.prompts),
        "domain": [_ANY, "in", "out"],
        "split": [_ANY, *asked.splits],
        "sort": list(SORTS),
    }
    offers["descending"] = list(reversed(addresses.ON_OFF))
    addresses.warn({f"{_WIDGET_NAME}.{name}": choices for name, choices in offers.items()})
    for name in ("kl_from", "kl_to"):
        addresses.warn_number(f"{_WIDGET_NAME}.{name}", 0, float("inf"), "any")


def pick_k(asked: QuestionTable, chosen: float) -> float:
    """One of the measured k; where the address names none the one last looked at, else the one chosen on dev.

    The address is written by hand: Streamlit takes a slider's default out of it, and each reader's is another.
    """
    wanted = st.query_params.get(_K)
    named = {f"{k:g}": k for k in asked.ks}
    last = st.session_state.get(slider.SHARED_K)
    usual = next(k for k in (last, chosen, *asked.ks) if k in asked.ks)
    addresses.warn({_K: list(named)}, {_K: f"{usual:g}"})
    if wanted in named:
        st.session_state[_K] = named[wanted]
    elif st.session_state.get(_K) not in asked.ks:
        st.session_state[_K] = usual
    picked = st.select_slider(
        "Restored: share of weights reverted, k (%)",
        list(asked.ks),
        format_func=lambda k: f"{k:g}",
        key=_K,
        on_change=_k_to_address,
        width=420,
        help="Evaluated k only; 100: layers = base. Add more on the Restore page.",
    )
    if wanted is None:
        st.query_params[_K] = f"{picked:g}"
    return float(picked)


def _k_to_address() -> None:
    k = st.session_state[slider.SHARED_K] = st.session_state[_K]
    st.query_params[_K] = f"{k:g}"


class Picked(NamedTuple):
    """What the reader wants to see."""

    filters: Filters
    counts: dict[str, int]
    """Kind of change -> how many questions pass the other filters."""


def pick_filters(asked: QuestionTable, k: float) -> Picked:
    """The widgets above the list. Raises SpecError for a KL range the wrong way round."""
    chips = st.container()
    wanted = _pick_others(asked, k)
    counts = questions.flip_counts(asked, wanted)
    with chips:
        return Picked(replace(wanted, flip=_pick_flip(counts)), counts)


def _pick_flip(counts: Mapping[str, int]) -> str:
    """A chip for each kind of change with its count; in the address without it, as a count is no name."""
    wanted = st.query_params.get(_CHANGE, _ANY)
    if wanted not in FLIPS:
        st.warning(f'Outcome "{wanted}" not found. Showing all.')
    st.session_state[_CHIPS] = wanted if wanted in FLIPS else _ANY
    return str(
        st.pills(
            "Outcome",
            list(FLIPS),
            format_func=lambda flip: f"{tokens_text.OUTCOMES.get(flip, flip)} · {counts[flip]:,}",
            required=True,
            key=_CHIPS,
            on_change=_change_to_address,
        )
    )


def _change_to_address() -> None:
    if (flip := st.session_state[_CHIPS]) == _ANY:
        st.query_params.pop(_CHANGE, None)
    else:
        st.query_params[_CHANGE] = flip
    BROWSER.first_page()


def _pick_others(asked: QuestionTable, k: float) -> Filters:
    """All filters but the kind of change."""
    _warn_invalid_params(asked)
    with st.container(horizontal=True, key="token_shifts_filters", vertical_alignment="bottom"):
        search = _widget(st.text_input, "Search", "search", placeholder="question or answer", width=220)
        levels = _widget(
            st.multiselect, "Mastery level", "levels", list(range(5)), placeholder="all", width=230
        )
        prompt = _widget(
            st.selectbox, "Prompt", "prompt", list(asked.prompts), width=200, help=tokens_text.PROMPT_HELP
        )
    with st.container(horizontal=True, key="token_shifts_more", vertical_alignment="bottom"):
        topics = _widget(
            st.multiselect,
            "Topic",
            "topics",
            asked.topics,
            placeholder="all",
            width=230,
            format_func=topic_name,
        )
        domain = _widget(st.selectbox, "Domain", "domain", [_ANY, "in", "out"], width=100)
        split = _widget(st.selectbox, "Split", "split", [_ANY, *asked.splits], width=110)
        low, high = (_kl_bound(name) for name in ("from", "to"))
        sort = _widget(st.selectbox, "Sort by", "sort", list(SORTS), width=190)
        descending = _widget(st.toggle, "largest first", "descending", True)
    return Filters(
        k, prompt, levels=tuple(levels), topics=tuple(topics), domain=None if domain == _ANY else domain,
        split=None if split == _ANY else split, kl_from=low, kl_to=high, search=search, sort=sort,
        descending=descending,
    )  # fmt: skip


def _widget(widget: Any, label: str, name: str, *options: Any, **how: Any) -> Any:
    """A widget in the address that leads back to the first page when it changes."""
    return widget(
        label,
        *options,
        key=f"{_WIDGET_NAME}.{name}",
        bind="query-params",
        on_change=BROWSER.first_page,
        **how,
    )


def _kl_bound(name: str) -> float | None:
    how = {"min_value": 0.0, "value": None, "step": 0.1, "width": 110, "placeholder": "any"}
    return _widget(st.number_input, f"KL {name} (nats)", f"kl_{name}", **how)  # type: ignore[no-any-return]


def opened_in(asked: QuestionTable, filters: Filters) -> dict[str, Any] | None:
    """The question that the address names, as a row of QuestionTable.questions; else the first of the list, if any.

    A question that the chain did not ask is said so.
    """
    wanted = st.query_params.get(QUESTION)
    found = questions.one(asked, wanted) if wanted else None
    if wanted and found is None:
        st.warning(f'Question "{wanted}" not found in this run. Showing the first of the list.')
    if found is None and len(first := questions.browse(asked, filters).rows):
        return questions.one(asked, first["fact_id"].iloc[0])
    return found


def pick_page(asked: QuestionTable, filters: Filters, n: int, opened: Mapping[str, Any] | None) -> Page:
    """The page of the list that is turned to, with the choice of it. n: questions that pass."""
    fact_id = opened["fact_id"] if opened else None
    number = BROWSER.pick_number(questions.n_pages(n))
    return questions.browse(asked, filters, number, fact_id)


def prompt(sent: SentPrompt) -> None:
    """One prompt, or why it is unknown."""
    st.markdown(f"**{sent.to}**: {sent.note}")
    if sent.text is not None:
        st.code(sent.text, language=None, wrap_lines=True)


def tokens(found: question_detail.FirstToken | None, k: float) -> None:
    """The first token of the opened question: bars, what they leave out, and the table."""
    if found is None:
        st.caption("No first tokens are stored for this question.")
        return
    st.markdown("**Next-token probabilities** (★: gold first token; ␣: space)")
    alt = "Probabilities of tuned's top 10 first tokens and of the gold first token, in base, tuned and restored"
    name = f"{_WIDGET_NAME}.tokens"
    drawn = tokens_charts.tokens_figure(found.tokens, k, show.palette())
    show.figure_alone(drawn, name, alt)
    st.caption(tokens_text.outside(found, k))
    if numbers := show.shut("Probabilities and ranks", f"{name}.numbers"):
        with numbers:
            table = tokens_text.token_table(found.tokens)
            st.dataframe(table, hide_index=True, key=f"{name}.table", alt=alt, placeholder="–")
            show.downloads(found.tokens, name)
