"""Studies: which claims of the paper hold for a model, and what its user should do. Reads studies, finished or not."""

import streamlit as st

from pages._widgets import jobs, show, studies, study_parts
from pages._widgets.page import head
from sftknow_core.present.text import study
from sftknow_core.store.cache import Cache

key, _ = head("Studies: does it hold for this model?", study.ABOUT)
with show.messages():
    cache = Cache(key[0])
    found = studies.studies(key)
    running = jobs.panel(cache, "study", ended=not found)
    if not found:
        studies.empty_state(cache, running)
        st.stop()
    about = studies.overview(key, studies.pick(found))
    st.markdown(study.progress(about))
    if not about["n_done"]:
        st.info(study.NO_CELLS)
        studies.coverage(about, None)
        studies.offer(cache, running)
        st.stop()
    results = studies.results(key[0], about)
    plan = results.study.plan

    st.subheader("The answers")
    study_parts.answers(results)
    with st.expander("Definitions and units"):
        st.markdown(study.definitions(plan))

    st.subheader("What has run")
    studies.coverage(about, plan)
    studies.offer(cache, running)

    st.subheader("Every claim and its verdict")
    study_parts.claims(results)

    st.subheader("The paper's tables and figures, for this study")
    study_parts.paper(results)

    st.subheader("A score that going back to base cannot win")
    st.caption(study.SCORECARD)
    cell = study_parts.scorecard(results)

    st.subheader("Beyond the paper")
    study_parts.beyond(results, cell)
    study_parts.flips(results)

    st.subheader("One fine-tuning of this study")
    st.caption("Its own pages: every question, every k.")
    studies.links(about)
