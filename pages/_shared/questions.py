"""What the question browser shares: its cached reads, its filters, its list, and which question is opened.

The opened question is `question` in the page's address; k, filters, sorting and page are bound to it by their keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages._shared import show
from pages._shared.reading import Key
from sftknow_core.report import token_figures, token_words
from sftknow_core.report.token_words import SentPrompt, topic_name
from sftknow_core.store import question_tokens, questions
from sftknow_core.store.cache import Cache
from sftknow_core.store.question_filters import ASKED, FIVE_SHOT, FLIPS, PAGE_SIZE, SORTS, Filters
from sftknow_core.store.questions import Asked, Page

_NAME = "token_shifts"
_QUESTION = "question"
_PAGE = f"{_NAME}.page"
_ANY = "all"
STYLE = """<style>
.st-key-token_shifts_beside > div {flex: 1 1 470px !important; min-width: min(470px, 100%)}
.st-key-token_shifts_filters > div, .st-key-token_shifts_more > div {min-width: 120px}
</style>"""
"""List and detail share a row where both have 470 px, else stand below each other."""
_SHARE, _RANK, _KL = "percent", "%d", "%.2f"
_COLUMNS: dict[str, tuple[str, str, str | None]] = {
    "question": ("question", "as asked", None),
    "outcome": ("right?", "base, tuned, restored, in this order: ✓ right, ✗ wrong, – not asked", None),
    "kl": ("KL (nats)", "aligned KL, tuned against base; empty: not scored", _KL),
    "gold": ("gold", "the right answer", None),
    "base_said": ("base answer", "before fine-tuning; ✓ right, ✗ wrong", None),
    "tuned_said": ("tuned answer", "✓ right, ✗ wrong", None),
    "restored_said": ("restored answer", "at the chosen k; ✓ right, ✗ wrong", None),
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
_ROWS = 24
"""Of the list in sight; the others by scrolling."""
_MARKS = {True: "✓", False: "✗"}


@st.cache_resource(show_spinner="Reading the answers of all states …", max_entries=4)
def gathered(root: str, run_id: str, stamp: str) -> Asked:
    """See questions.gather; nobody changes it. stamp: questions.stages_stamp."""
    return questions.gather(Cache(root), run_id)


@st.cache_data(show_spinner=False, max_entries=64)
def first_token(
    root: str, run_id: str, stamp: str, fact_id: str, k: float
) -> question_tokens.FirstToken | None:
    """See question_tokens.first_token."""
    return question_tokens.first_token(Cache(root), run_id, fact_id, k)


SPREAD_COLUMNS = {"low": "bin_from", "high": "bin_to", "n_restored": "n_restored_in_bin"}
"""Names of the histogram's columns in a table, where low and high are the ends of intervals."""


@st.cache_data(show_spinner=False, max_entries=64)
def spread(root: str, run_id: str, stamp: str, population: Filters) -> pd.DataFrame:
    """See questions.spread."""
    return questions.spread(gathered(root, run_id, stamp), population)


@st.cache_data(show_spinner=False, max_entries=64)
def by_level(root: str, run_id: str, stamp: str, population: Filters) -> pd.DataFrame:
    """See questions.by_level."""
    return questions.by_level(gathered(root, run_id, stamp), population)


def asked_in(key: Key, run_id: str) -> tuple[Asked, str]:
    """The chain's questions, and the stamp that further reads are remembered under."""
    stamp = questions.stages_stamp(Cache(key[0]), run_id)
    return gathered(key[0], run_id, stamp), stamp


def pick_k(asked: Asked, chosen: float) -> float:
    """One of the measured k; the one chosen on dev where the address names none."""
    usual = chosen if chosen in asked.ks else asked.ks[0]
    picked = st.select_slider(
        "Restored: share of weights put back, k (%)",
        list(asked.ks),
        value=usual,
        format_func=lambda k: f"{k:g}",
        key=f"{_NAME}.k",
        bind="query-params",
        width=420,
        help="Only measured k. 100 is the hybrid.",
    )
    return float(picked)


def pick_filters(asked: Asked, k: float) -> Filters:
    """The widgets above the list. Raises SpecError for a KL range the wrong way round."""
    with st.container(horizontal=True, key="token_shifts_filters", vertical_alignment="bottom"):
        search = _widget(st.text_input, "Search", "search", placeholder="question or answer", width=220)
        flip = _widget(st.selectbox, "What became of the answer", "change", list(FLIPS), width=230)
        levels = _widget(
            st.multiselect, "Mastery level", "levels", list(range(5)), placeholder="all", width=230
        )
        bases = [FIVE_SHOT, ASKED] if asked.has_five_shot else [ASKED]
        base = _widget(st.selectbox, "Base answers", "base", bases, width=200, help="How base was asked.")
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
    wanted = {"domain": domain, "split": split}
    return Filters(
        k, base, flip, tuple(levels), tuple(topics), kl_from=low, kl_to=high, search=search, sort=sort,
        descending=descending, **{name: None if value == _ANY else value for name, value in wanted.items()},
    )  # fmt: skip


def _widget(widget: Any, label: str, name: str, *options: Any, **how: Any) -> Any:
    """A widget in the address that leads back to the first page when it changes."""
    return widget(label, *options, key=f"{_NAME}.{name}", bind="query-params", on_change=_first_page, **how)


def _kl_bound(name: str) -> float | None:
    how = {"min_value": 0.0, "value": None, "step": 0.1, "width": 110, "placeholder": "any"}
    return _widget(st.number_input, f"KL {name} (nats)", f"kl_{name}", **how)  # type: ignore[no-any-return]


def _first_page() -> None:
    _turn_to(1)


def _turn_to(page: int) -> None:
    if st.session_state.get(_PAGE, 1) != page:  # Streamlit logs every setting of a widget that has a default
        st.session_state[_PAGE] = page


def opened_in(asked: Asked, filters: Filters) -> dict[str, Any] | None:
    """The question that the address names, as a row of Asked.questions; else the first of the list, if any.

    A question that the chain did not ask is said so.
    """
    wanted = st.query_params.get(_QUESTION)
    found = questions.one(asked, wanted) if wanted else None
    if wanted and found is None:
        st.warning(f"This chain did not ask a question {wanted!r}. Shown instead: the first of the list.")
    if found is None and len(first := questions.browse(asked, filters).rows):
        return questions.one(asked, first["fact_id"].iloc[0])
    return found


def pick_page(asked: Asked, filters: Filters, n: int, opened: Mapping[str, Any] | None) -> Page:
    """The page of the list that is turned to, with the choice of it. n: questions that pass."""
    fact_id = opened["fact_id"] if opened else None
    n_pages = questions.n_pages(n)
    _turn_to(min(st.session_state.get(_PAGE, 1), n_pages))
    number = st.pagination(n_pages, key=_PAGE, bind="query-params") if n_pages > 1 else 1
    return questions.browse(asked, filters, number, fact_id)


def listed(asked: Asked, filters: Filters, page: Page, opened: Mapping[str, Any] | None) -> None:
    """The page's rows, of which one can be opened (the opened one is ticked), and a download of all that pass."""
    ids = tuple(page.rows["fact_id"])
    if not ids:
        st.info("No question passes these filters.")
        return
    ticked = [ids.index(opened["fact_id"])] if opened and opened["fact_id"] in ids else []
    key = f"{_NAME}.list.{hash((ids, *ticked))}"
    st.dataframe(
        _shown(page.rows),
        hide_index=True,
        column_config=_config(),
        key=key,
        on_select=_open_selected,
        selection_mode="single-row",
        selection_default={"selection": {"rows": ticked}},
        height=38 + 35 * min(max(len(ids), 1), _ROWS),
        alt="Questions with the answers of base, tuned and restored, KL and the gold token's probability and rank",
        placeholder="–",
    )
    st.session_state[f"{_NAME}.ids"] = (key, ids)
    st.download_button(
        f"Download CSV ({page.n:,} rows)",
        lambda: questions.all_passing(asked, filters).to_csv(index=False),
        f"{_NAME}.csv",
        "text/csv",
        key=f"{_NAME}.csv",
        on_click="ignore",
    )


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of the list, answers with their marks."""
    marks = {who: rows[f"{who}_right"].map(_MARKS).fillna("–") for who in ("base", "tuned", "restored")}
    said = {f"{who}_said": mark + " " + rows[f"{who}_answer"].fillna("") for who, mark in marks.items()}
    outcome = marks["base"] + " " + marks["tuned"] + " " + marks["restored"]
    topics = rows["topic"].map(topic_name)
    return rows.assign(outcome=outcome, **said, topic=topics)[list(_COLUMNS)]


def _config() -> dict[str, Any]:
    """Header, meaning and number format of each column."""
    wide = {"question": 290, "outcome": 60, "kl": 78}
    return {
        name: (st.column_config.NumberColumn if form else st.column_config.TextColumn)(
            header,
            help=meaning or None,
            width=wide.get(name, "small"),
            pinned=None,
            **({"format": form} if form else {}),
        )
        for name, (header, meaning, form) in _COLUMNS.items()
    }


def _open_selected() -> None:
    """Open the row that was clicked."""
    key, ids = st.session_state[f"{_NAME}.ids"]
    rows = st.session_state[key]["selection"]["rows"]
    if rows:
        st.query_params[_QUESTION] = ids[rows[0]]


def turn(page: Page) -> None:
    """Buttons (and keys) to the questions before and after the opened one; the list turns along."""
    with st.container(horizontal=True):
        for label, fact_id, step, shortcut in (
            ("← Previous", page.previous_id, -1, "K"),
            ("Next →", page.next_id, 1, "J"),
        ):
            st.button(
                label,
                key=f"{_NAME}.{label}",
                disabled=fact_id is None,
                shortcut=shortcut,
                on_click=_open,
                args=(fact_id, (page.place or 0) + step),
            )


def _open(fact_id: str, place: int) -> None:
    st.query_params[_QUESTION] = fact_id
    _turn_to((place - 1) // PAGE_SIZE + 1)


def prompt(sent: SentPrompt) -> None:
    """One prompt, or why it is not known."""
    st.markdown(f"**{sent.to}**: {sent.note}")
    if sent.text is not None:
        st.code(sent.text, language=None, wrap_lines=True)


def tokens(found: question_tokens.FirstToken | None, k: float) -> None:
    """The first token of the opened question: bars, what they leave out, and the table."""
    if found is None:
        st.caption("No first tokens were measured for this question.")
        return
    st.markdown("**The answer's first token** (★: the right answer's; ␣: a space)")
    alt = "Probabilities of the ten tokens likeliest after tuning and of the right one, in base, tuned and restored"
    name = f"{_NAME}.tokens"
    drawn = token_figures.tokens_figure(found.tokens, k, show.palette())
    st.plotly_chart(drawn, theme=None, key=f"{name}.figure", config={"displayModeBar": False}, alt=alt)
    st.caption(token_words.outside(found, k))
    with st.expander("Probabilities and ranks"):
        table = token_words.token_table(found.tokens)
        st.dataframe(table, hide_index=True, key=f"{name}.table", alt=alt, placeholder="–")
        csv = found.tokens.to_csv(index=False)
        st.download_button(
            "Download CSV", csv, f"{name}.csv", "text/csv", key=f"{name}.csv", on_click="ignore"
        )
