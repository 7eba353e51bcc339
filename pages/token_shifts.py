"""Token shifts: how far each answer moved, and at which k it comes back. Reads one finished chain."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages._widgets import accuracy, show
from pages._widgets import questions as questions__widgets
from pages._widgets.page import open_chain
from sftknow_core.present.charts import tokens as tokens_charts
from sftknow_core.present.text import accuracy as accuracy_text
from sftknow_core.present.text import tokens as tokens_text
from sftknow_core.results import Questions, question_detail, questions
from sftknow_core.results.accuracy import KL_LEVEL
from sftknow_core.results.questions import Filters, QuestionTable
from sftknow_core.store.cache import Cache

st.html(questions__widgets.STYLE)
key, found, run_id, details = open_chain(
    "Token shifts, question by question",
    "Fine-tuning moves the probability of each answer's first token. **KL**, in nats, says how far: 0 is not at all. "
    "Here is every question, with what the model answered before (base), after (tuned), and with k% of the weights put "
    "back (restored).",
)


@st.fragment  # a filter, an order or another question redraws this part only
def browse() -> None:
    """The questions, one of them opened, and how far those of its split and domain moved."""
    with show.messages():
        asked, stamp = questions__widgets.asked_in(key, run_id)
        k = questions__widgets.pick_k(asked, details.best_k)
        filters, counts = questions__widgets.pick_filters(asked, k)
        with st.expander("Definitions and units"):
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
                st.info("No question is open. Loosen the filters, or follow a link to one.")
            else:
                open_question(asked, stamp, filters, page, opened)
        moved(asked, stamp, filters, opened)


def open_question(
    asked: QuestionTable, stamp: str, filters: Filters, page: questions.Page, opened: Mapping[str, Any]
) -> None:
    """One question: what was answered, its first token, its course over k, and the prompts."""
    k = filters.k_percent
    st.subheader(tokens_text.plain(opened["question"]), anchor=False)
    st.caption(tokens_text.about(opened, page.place, page.n))
    course = questions.course(asked, opened["fact_id"])
    st.markdown(tokens_text.answers(opened, course, k, filters.base))
    st.markdown(f"**{tokens_text.comes_back(opened)}**")
    tokens = questions__widgets.first_token(key[0], run_id, stamp, opened["fact_id"], k)
    questions__widgets.tokens(tokens, k)
    st.markdown("**Gold's first token over k**")
    alt = "Probability of the right answer's first token at each measured k, and whether the answer is right"
    figure = tokens_charts.course_figure(course, k, show.palette())
    show.figure(figure, course, "token_shifts.course", alt)
    if prompts := show.shut("The prompts as they were sent", "token_shifts.prompts"):
        sent_as = Questions(Cache(key[0]), run_id).sent_as
        with prompts:
            for sent in tokens_text.sent_prompts(details, sent_as, opened):
                questions__widgets.prompt(sent)


def moved(asked: QuestionTable, stamp: str, filters: Filters, opened: Mapping[str, Any] | None) -> None:
    """How far the questions of the chosen split and domain moved, and what that goes with."""
    k = filters.k_percent
    st.subheader("How far all questions moved")
    population = filters.without_details()
    spread = questions__widgets.spread(key[0], run_id, stamp, population)
    here = opened["kl"] if opened else None
    rank = tokens_text.ranked(*question_detail.moved_less(asked, filters, here), here)
    st.caption(rank + tokens_text.about_spread(spread))
    alt = "Histogram of KL over the questions, tuned and restored, with the opened question"
    figure = tokens_charts.spread_figure(spread, here, k, show.palette())
    table = spread.rename(columns=questions__widgets.SPREAD_COLUMNS)
    show.figure(figure, table, "token_shifts.spread", alt, questions__widgets.BEYOND)

    st.subheader("KL against accuracy, by mastery level")
    st.caption(
        "One point a mastery level (its number beside it), over the split and domain chosen above. Accuracy: share of "
        "all its questions answered rightly; KL: mean over those that were scored. Bars: 95% intervals, which speak "
        "for the questions and not for other seeds."
    )
    levels = questions__widgets.by_level(key[0], run_id, stamp, population)
    alt = "Accuracy against mean KL for each mastery level, tuned and restored"
    show.figure(tokens_charts.by_level_figure(levels, k, show.palette()), levels, "token_shifts.levels", alt)


browse()
with show.messages():
    st.subheader("Across fine-tunings: N and train level")
    group = accuracy.group_of(key, run_id)
    if not group.run_ids or not details.train_set:
        st.info(accuracy_text.NO_CELL)
        st.stop()
    accuracy.warn_invalid_params("token_shifts")
    states = accuracy.pick_states("token_shifts")
    drawn, cells, rows = accuracy.kl_over_n(key, group, states, show.palette())
    st.caption(accuracy_text.who_is_shown(group, cells))
    st.markdown("**Mean KL on level-4 test questions**, those that base knows best")
    st.caption(tokens_text.about_kl_over_n(rows))
    alt = "Mean KL in nats on level-4 test questions against N, one line a train level, with 95% intervals"
    show.figure(drawn, cells, "token_shifts.kl_over_n", alt, accuracy_text.CELL_COLUMNS)
    st.markdown("**Accuracy on the same level**")
    st.caption("All test questions of level 4, scored by KL or not; base as lines across.")
    drawn, cells, _ = accuracy.accuracy_over_n(key, group, KL_LEVEL, states, show.palette())
    alt = "Accuracy on level-4 test questions against N, one line a train level, with 95% intervals and the base"
    show.figure(drawn, cells, "token_shifts.accuracy_over_n", alt, accuracy_text.CELL_COLUMNS)
