"""Studies: which claims of the paper hold for a model, and what its user should do. Reads studies, finished or not."""

import streamlit as st

from pages._widgets import jobs, show, studies, study_parts
from pages._widgets.page import head
from pages._widgets.reading import Key
from sftknow_core.present.charts.palette import Palette
from sftknow_core.present.text import study
from sftknow_core.store.cache import Cache


def load(key: Key, run_id: str, colours: Palette) -> None:
    """Which studies there are; the results of one are tens of MB, and read when somebody looks."""
    studies.studies(key)


def draw() -> None:
    """The page."""
    key, _ = head("Studies", study.ABOUT)
    with show.messages():
        cache = Cache(key[0])
        found = studies.studies(key)
        running = jobs.panel(cache, "study", ended=not found)
        if not found:
            studies.empty_state(cache, running)
            st.stop()
        about = studies.opened(key, studies.pick(found))
        st.markdown(study.progress(about.info))
        if not about.info.n_done:
            st.info(study.NO_CELLS)
            studies.coverage(about)
            studies.offer(cache, running)
            st.stop()
        results = studies.results(about)

        st.subheader("Answers")
        study_parts.answers(results)
        with st.expander("Glossary"):
            st.markdown(study.definitions(results.plan))

        st.subheader("Progress")
        studies.coverage(about)
        studies.offer(cache, running)

        st.subheader("Claims and verdicts")
        st.markdown(study.rule_said(results.about.fixed))
        st.markdown(study.joint(results.verdicts, results.plan.rule.alpha))
        study_parts.claims(results)

        st.subheader("Tables and figures of the paper")
        study_parts.paper(results)

        st.subheader("Balanced score")
        st.caption(study.SCORECARD)
        cell = study_parts.scorecard(results)

        st.subheader("Beyond the paper")
        study_parts.beyond(results, cell)
        study_parts.flips(results)

        st.subheader("Runs of this study")
        st.caption("Open a run on its own pages.")
        studies.links(about)


if __name__ == "__main__":
    draw()
