"""Fine-tune: choose facts, see what would be trained on, start, watch the loss; and make room again."""

import streamlit as st

from pages._shared import fine_tuning, jobs_panel, mode, run_list, show, train_set
from pages._shared.page import head
from sftknow_core.errors import SftknowError
from sftknow_core.report import training_words
from sftknow_core.store.cache import Cache

key, _ = head(
    "Fine-tune a model and watch it",
    "A base model is fine-tuned on N facts that it knows to one degree. Then the most changed weights are put back, k% "
    "at a time, and every state is asked the same questions. This runs beside the dashboard and goes on without it.",
)
with show.messages():
    cache = Cache(key[0])
    running = jobs_panel.panel(cache, "fine_tune")

if mode.may_act():
    label = "Start another fine-tuning" if running else "Start a fine-tuning"
    with st.expander(label, expanded=not running):
        wish: fine_tuning.Wish | None = None
        try:
            wish = fine_tuning.ask(key)
            refused = fine_tuning.problem(wish)
            st.caption(training_words.settings(wish.preset(), wish.job.lora))
            drawn, facts, levels = train_set.show_train_set(key, wish)
            needs = train_set.estimated(key, wish, drawn, facts, levels)
            st.markdown(
                f"**Time:** {training_words.time_needed(needs)} **Memory:** {training_words.memory_needed(needs)}"
            )
            st.caption(training_words.basis(needs))
        except SftknowError as error:
            refused = str(error)
        if refused:
            st.error(refused)
        st.button(
            "Start", type="primary", key="fine_tune.start", disabled=bool(refused), on_click=jobs_panel.start,
            args=(cache, wish and wish.job),
        )  # fmt: skip
        with st.expander("Definitions and units"):
            st.markdown(training_words.DEFINITIONS)
else:
    mode.say_why()

st.subheader("Runs")
with show.messages():
    run_list.runs(key)
