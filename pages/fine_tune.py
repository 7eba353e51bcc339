"""Fine-tune: choose facts, see what would be trained on, start, watch the loss; and make room again."""

import streamlit as st

from pages._widgets import jobs, mode, run_list, show, training
from pages._widgets.page import head
from sftknow_core.errors import SftknowError
from sftknow_core.present.text import training as training_text
from sftknow_core.store.cache import Cache

key, _ = head(
    "Fine-tune a model and watch it",
    "A base model is fine-tuned on N facts that it knows to one degree. Then the most changed weights are put back, k% "
    "at a time, and every state is asked the same questions. This runs beside the dashboard and goes on without it.",
)
with show.messages():
    cache = Cache(key[0])
    running = jobs.panel(cache, "fine_tune")

if mode.actions_allowed():
    label = "Start another fine-tuning" if running else "Start a fine-tuning"
    with st.expander(label, expanded=not running):
        wish: training.TrainingForm | None = None
        try:
            wish = training.ask(key)
            refused = training.problem(wish)
            st.caption(training_text.settings(wish.preset(), wish.job.lora))
            drawn, facts, levels = training.show_train_set(key, wish)
            needs = training.estimated(key, wish, drawn, facts, levels)
            st.markdown(
                f"**Time:** {training_text.time_needed(needs)} **Memory:** {training_text.memory_needed(needs)}"
            )
            st.caption(training_text.basis(needs))
        except SftknowError as error:
            refused = str(error)
        if refused:
            st.error(refused)
        st.button(
            "Start", type="primary", key="fine_tune.start", disabled=bool(refused), on_click=jobs.start,
            args=(cache, wish and wish.job),
        )  # fmt: skip
        with st.expander("Definitions and units"):
            st.markdown(training_text.DEFINITIONS)
else:
    mode.explain_read_only()

st.subheader("Runs")
with show.messages():
    run_list.runs(key)
