"""Token shifts: how far each answer moved, and at which k it comes back. Reads one finished chain."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages._widgets import accuracy, reading, show
from pages._widgets import questions as questions__widgets
from pages._widgets.page import Opened, open_chain
from pages._widgets.reading import Key
from sftknow_core.present import columns
from sftknow_core.present.charts import tokens as tokens_charts
from sftknow_core.present.charts.palette import Palette
from sftknow_core.present.text import accuracy as accuracy_text
from sftknow_core.present.text import tokens as tokens_text
from sftknow_core.results import Questions, question_detail, questions
from sftknow_core.results.measured import ZERO_SHOT
from sftknow_core.results.questions import Filters, QuestionTable
from sftknow_core.results.states import KL_LEVEL
from sftknow_core.store.cache import Cache


def load(key: Key, run_id: str, colours: Palette) -> None:
    """What the page reads and computes first."""
    details = reading.chain_details(key, run_id)
    asked, stamp = questions__widgets.asked_in(key, run_id)
    if not asked.ks:
        return
    best = details.best_k
    k = best if best in asked.ks else asked.ks[0]
    filters = Filters(k, asked.prompts[0])
    which = key[0], run_id, stamp
    questions__widgets.spread(*which, filters.without_details())
    questions__widgets.by_level(*which, filters.without_details())
    first = questions.browse(asked, filters).rows
    if len(first):
        questions__widgets.first_token(*which, first["fact_id"].iloc[0], k)
    group = accuracy.group_of(key, run_id)
    if group.run_ids and details.train_set:
        states = accuracy.STATES["tuned"]
        accuracy.kl_over_n(key, group, states, colours)
        accuracy.accuracy_over_n(key, group, KL_LEVEL, states, colours)


def draw() -> None:
    """The page."""
    st.html(questions__widgets.STYLE)
    chosen = open_chain(
        "Token shifts",
        "Fine-tuning shifts the probability of each answer's first token, by **KL(tuned || base)** in nats. Each "
        "question with the answers of the base, fine-tuned and restored (k% of weights reverted) model.",
    )
    browse(chosen)
    with show.messages():
        st.subheader("All runs by N and training level")
        key = chosen.key
        group = accuracy.group_of(key, chosen.run_id)
        if not group.run_ids or not chosen.details.train_set:
            st.info(accuracy_text.NO_CELL)
            st.stop()
        accuracy.warn_invalid_params("token_shifts")
        states = accuracy.pick_states("token_shifts")
        drawn, cells, rows = accuracy.kl_over_n(key, group, states, show.palette())
        st.caption(accuracy_text.who_is_shown(group, cells, ZERO_SHOT))
        st.markdown("**Mean KL on level-4 test questions**")
        st.caption(tokens_text.about_kl_over_n(rows))
        alt = "Mean KL in nats on level-4 test questions by N, one line per training level, with 95% CI"
        show.figure(drawn, cells, "token_shifts.kl_over_n", alt, columns.table("across"))
        st.markdown("**Accuracy on the same level**")
        st.caption("All level-4 test questions, with or without KL, zero-shot; horizontal line: base.")
        drawn, cells, _ = accuracy.accuracy_over_n(key, group, KL_LEVEL, states, show.palette())
        alt = "Accuracy on level-4 test questions by N, one line per training level, with 95% CI and the base"
        show.figure(drawn, cells, "token_shifts.accuracy_over_n", alt, columns.table("across"))


@st.fragment  # a filter, an order or another question redraws this part only
def browse(chosen: Opened) -> None:
    """The questions, one of them opened, and how far those of its split and domain moved."""
    with show.messages():
        asked, stamp = questions__widgets.asked_in(chosen.key, chosen.run_id)
        k = questions__widgets.pick_k(asked, chosen.details.best_k)
        filters, counts = questions__widgets.pick_filters(asked, k)
        with st.expander("Glossary"):
            st.markdown(tokens_text.DEFINITIONS)
        opened = questions__widgets.opened_in(asked, filters)
        with st.container(horizontal=True, vertical_alignment="center"):
            columns = questions__widgets.pick_columns()
            st.caption(tokens_text.counted(counts[filters.flip], len(asked.questions), k))

        with st.container(horizontal=True, key="token_shifts_beside", gap="medium"):
            left, right = st.container(key="token_shifts_left"), st.container(key="token_shifts_right")
        with left:
            page = questions__widgets.pick_page(asked, filters, counts[filters.flip], opened)
            questions__widgets.listed(asked, filters, page, opened, columns)
        with right:
            questions__widgets.BROWSER.turn(page)
            if opened is None:
                st.info("No matching questions. Clear filters.")
            else:
                open_question(chosen, asked, stamp, filters, page, opened)
        moved(chosen, asked, stamp, filters, opened)


def open_question(
    chosen: Opened,
    asked: QuestionTable,
    stamp: str,
    filters: Filters,
    page: questions.Page,
    opened: Mapping[str, Any],
) -> None:
    """One question: what was answered, its first token, its course over k, and the prompts."""
    k = filters.k_percent
    st.subheader(tokens_text.plain(opened["question"]), anchor=False)
    st.caption(tokens_text.about(opened, page.place, page.n))
    course = questions.course(asked, opened["fact_id"])
    st.markdown(tokens_text.answers(opened, course, k, filters.prompt))
    st.markdown(f"**{tokens_text.comes_back(opened, filters.prompt)}**")
    tokens = questions__widgets.first_token(chosen.key[0], chosen.run_id, stamp, opened["fact_id"], k)
    questions__widgets.tokens(tokens, k)
    st.markdown("**P(gold first token) over k**, zero-shot")
    alt = (
        "Probability of the gold answer's first token at each evaluated k, and whether the answer is correct"
    )
    figure = tokens_charts.course_figure(course, k, show.palette())
    show.figure(figure, course, "token_shifts.course", alt)
    if prompts := show.shut("Prompts", "token_shifts.prompts"):
        sent_as = Questions(Cache(chosen.key[0]), chosen.run_id).sent_as
        with prompts:
            for sent in tokens_text.sent_prompts(chosen.details, sent_as, opened):
                questions__widgets.prompt(sent)


def moved(
    chosen: Opened, asked: QuestionTable, stamp: str, filters: Filters, opened: Mapping[str, Any] | None
) -> None:
    """How far the questions of the chosen split and domain moved, and what that goes with."""
    k = filters.k_percent
    st.subheader("KL distribution")
    population = filters.without_details()
    spread = questions__widgets.spread(chosen.key[0], chosen.run_id, stamp, population)
    here = opened["kl"] if opened else None
    rank = tokens_text.ranked(*question_detail.moved_less(asked, filters, here), here)
    st.caption(rank + tokens_text.about_spread(spread))
    alt = "Histogram of KL over the questions, tuned and restored, with the opened question"
    figure = tokens_charts.spread_figure(spread, here, k, show.palette())
    table = spread.rename(columns=questions__widgets.SPREAD_COLUMNS)
    show.figure(figure, table, "token_shifts.spread", alt)

    st.subheader("KL and accuracy by question level")
    st.caption(
        "One point per question level, for the split and domain above. Accuracy: zero-shot, all questions of the "
        "level; KL: mean over those scored. Bars: 95% CI over questions, for this run only."
    )
    levels = questions__widgets.by_level(chosen.key[0], chosen.run_id, stamp, population)
    alt = "Accuracy against mean KL for each mastery level, tuned and restored"
    show.figure(tokens_charts.by_level_figure(levels, k, show.palette()), levels, "token_shifts.levels", alt)


if __name__ == "__main__":
    draw()
