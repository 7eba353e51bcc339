"""Accuracy: before and after, by level, train level and N, with paired tests and flips. Reads finished chains."""

import streamlit as st

from pages._widgets import accuracy, show
from pages._widgets import questions as browser
from pages._widgets.page import open_chain
from sftknow_core.analysis import published
from sftknow_core.present.charts import accuracy as accuracy_charts
from sftknow_core.present.charts import chain as chain_charts
from sftknow_core.present.charts.across import ACCURACY
from sftknow_core.present.text import accuracy as accuracy_text
from sftknow_core.results import accuracy as accuracy_results

key, found, run_id, details = open_chain(
    "Accuracy: what is answered rightly, before and after",
    "The same test questions are put to the **base** model, to the **tuned** one, and to the tuned one with part of "
    "its weights put back (**restored**). First the chosen fine-tuning, question by question; then all fine-tunings "
    "that can be compared with it.",
)
with show.messages():
    asked, stamp = browser.asked_in(key, run_id)
    k = details.best_k
    base = accuracy.pick_base(asked)
    chain = accuracy.changes(key[0], run_id, stamp, k, base)
    show.numbers(accuracy_text.cards(chain["changes"], k, base))
    st.caption(accuracy_text.which_base(base, details.chosen))
    with st.expander("Definitions and units"):
        st.markdown(accuracy_text.DEFINITIONS)

    st.subheader("Before and after, by mastery level")
    st.caption("Accuracy from base through tuned to restored; thin lines are 95% intervals.")
    alt = "Accuracy on test questions of each mastery level: base, tuned and restored"
    drawn = chain_charts.levels_figure(chain["levels"], show.palette())
    show.figure(drawn, chain["levels"], "accuracy.levels", alt)
    st.caption(
        "Change on the same questions, after minus before, with paired 95% intervals; p values are in the table. A "
        "point without a line: no answer changed, so nothing tells how much it could have."
    )
    alt = "Change of accuracy by tuning and by restoring, by mastery level and for their mean, with 95% intervals"
    drawn = accuracy_charts.change_figure(chain["changes"], show.palette())
    show.figure(drawn, chain["changes"], "accuracy.changes", alt, accuracy_text.COLUMNS)

    st.subheader("Answers that flipped")
    st.markdown(accuracy_text.flipped(chain["changes"]))
    alt = "Number of answers that became wrong and that became right, by mastery level"
    drawn = accuracy_charts.flips_figure(chain["changes"], show.palette())
    show.figure_alone(drawn, "accuracy.flips", alt)
    st.caption("Each count leads to its questions; the numbers are in the table above.")
    accuracy.links(chain["changes"], run_id, k, base)

    st.subheader("Across fine-tunings: N and train level")
    group = accuracy.group_of(key, run_id)
    if not group.run_ids or not details.train_set:
        st.info(accuracy_text.NO_CELL)
        show.unfinished(found.unfinished)
        st.stop()
    rows = accuracy.accuracies(key, group)
    accuracy.warn_invalid_params("accuracy")
    with st.container(horizontal=True):
        states = accuracy.pick_states("accuracy")
        level = accuracy.pick_level("accuracy")
        paper = accuracy.pick_paper()
    drawn, cells, _ = accuracy.accuracy_over_n(key, group, level, states, show.palette(), paper)
    st.caption(accuracy_text.who_is_shown(group, cells) + accuracy_text.about_paper(paper))
    alt = "Accuracy on test questions against N, one line a train level, with 95% intervals and the base"
    show.figure(drawn, cells, "accuracy.over_n", alt, accuracy_text.CELL_COLUMNS)

    st.subheader("Test level against train level")
    n, state = accuracy.pick_heat(rows, details.train_set)
    st.caption(accuracy_text.about_heat(state, n, paper))
    cells = accuracy_results.over_seeds(
        accuracy_results.of_size(rows, n, state), ACCURACY.numbers, clip=(0, 1)
    )
    beside = published.by_test_level(paper) if paper and n == published.TABLE2_N else None
    alt = f"Accuracy in percent by level of the test question and level of the facts fine-tuned on, N = {n:,}"
    drawn = accuracy_charts.heat_figure(
        cells, accuracy_results.base_rows(rows), state, show.palette(), beside
    )
    show.figure(drawn, cells, "accuracy.heat", alt, accuracy_text.CELL_COLUMNS)
    if paper:
        with st.expander(f"The paper's numbers: {paper}"):
            st.markdown(f"{published.ACCURACY_CITATION}.\n\n{published.CAVEATS}")
            alt = f"The paper's accuracies of {paper} by train level, domain and test level, N = 1,920"
            table = published.by_test_level(paper)
            show.listed(table, "accuracy.paper", alt, accuracy_text.CELL_COLUMNS)

show.unfinished(found.unfinished)
