"""Accuracy: before and after, by level, train level and N, with paired tests and flips. Reads finished chains."""

import streamlit as st

from pages._widgets import accuracy, audit, reading, show
from pages._widgets import questions as browser
from pages._widgets.page import open_chain
from pages._widgets.reading import Key
from sftknow_core.analysis import published
from sftknow_core.present import columns
from sftknow_core.present.charts import accuracy as accuracy_charts
from sftknow_core.present.charts import chain as chain_charts
from sftknow_core.present.charts.across import ACCURACY
from sftknow_core.present.charts.palette import Palette
from sftknow_core.present.text import accuracy as accuracy_text
from sftknow_core.results import accuracy as accuracy_results
from sftknow_core.results.questions import ASKED, FIVE_SHOT


def load(key: Key, run_id: str, colours: Palette) -> None:
    """What the page reads and computes first."""
    details = reading.chain_details(key, run_id)
    asked, stamp = browser.asked_in(key, run_id)
    base = FIVE_SHOT if asked.has_five_shot else ASKED
    accuracy.changes(key[0], run_id, stamp, details.best_k, base)
    group = accuracy.group_of(key, run_id)
    if group.run_ids and details.train_set:
        accuracy.accuracies(key, group)
        accuracy.accuracy_over_n(key, group, None, accuracy.STATES["tuned"], colours, None)


def draw() -> None:
    """The page."""
    key, found, run_id, details = open_chain(
        "Accuracy before and after",
        "**Base**, **fine-tuned** and **restored** models on the same test questions: first the selected run, then "
        "all runs comparable with it.",
    )
    with show.messages():
        asked, stamp = browser.asked_in(key, run_id)
        k = details.best_k
        base = accuracy.pick_base(asked)
        chain = accuracy.changes(key[0], run_id, stamp, k, base)
        show.numbers(accuracy_text.cards(chain["changes"], k, base))
        st.caption(accuracy_text.which_base(base, details.chosen))
        with st.expander("Glossary"):
            st.markdown(accuracy_text.DEFINITIONS)

        st.subheader("Accuracy by question level")
        st.caption("From base through fine-tuned to restored; thin lines: 95% CI.")
        alt = "Accuracy on test questions of each mastery level: base, tuned and restored"
        drawn = chain_charts.levels_figure(chain["levels"], show.palette())
        show.figure(drawn, chain["levels"], "accuracy.levels", alt)
        st.caption(
            "Change on the same questions (after minus before) with paired 95% CI; p-values in the table. No interval: "
            "no answers changed."
        )
        alt = (
            "Change of accuracy by tuning and by restoring, by mastery level and for their mean, with 95% CI"
        )
        drawn = accuracy_charts.change_figure(chain["changes"], show.palette())
        show.figure(drawn, chain["changes"], "accuracy.changes", alt, columns.table("changes"))

        st.subheader("Changed answers")
        st.markdown(accuracy_text.flipped(chain["changes"]))
        alt = "Number of answers that became incorrect and that became correct, by question level"
        drawn = accuracy_charts.flips_figure(chain["changes"], show.palette())
        show.figure_alone(drawn, "accuracy.flips", alt)
        st.caption("Select a count to list its questions.")
        accuracy.links(chain["changes"], run_id, k, base)

        if opened := show.shut("Audit of the matcher", "accuracy.audit"):
            with opened:
                audit.section(key[0], run_id)

        st.subheader("All runs by N and training level")
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
        alt = "Accuracy on test questions by N, one line per training level, with 95% CI and the base"
        show.figure(drawn, cells, "accuracy.over_n", alt, columns.table("across"))

        st.subheader("Accuracy by question and training level")
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
        show.figure(drawn, cells, "accuracy.heat", alt, columns.table("across"))
        if paper:
            with st.expander(f"The paper's numbers: {paper}"):
                st.markdown(f"{published.ACCURACY_CITATION}.\n\n{published.CAVEATS}")
                alt = f"The paper's accuracies of {paper} by training level, domain and question level, N = 1,920"
                table = published.by_test_level(paper)
                show.listed(table, "accuracy.paper", alt, columns.table("across"))

    show.unfinished(found.unfinished)


if __name__ == "__main__":
    draw()
