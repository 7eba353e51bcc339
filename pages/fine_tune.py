"""Fine-tune: choose facts, see what would be trained on, start, watch the loss; and make room again."""

import streamlit as st

from pages._widgets import jobs, mode, run_list, show, training
from pages._widgets.page import head
from pages._widgets.reading import Key
from sftknow_core.errors import SftknowError
from sftknow_core.facts.dataset import DEMO
from sftknow_core.present.charts.palette import Palette
from sftknow_core.present.text import training as training_text
from sftknow_core.serve import train_preview
from sftknow_core.store.cache import Cache


def load(key: Key, run_id: str, colours: Palette) -> None:
    """What the page reads first: the facts of the demo, how well its model knows them, and how fast it was trained."""
    base_id = train_preview.find_base(run_list.base_models(key), DEMO)
    training.facts_of(DEMO, 0)
    training.levels_of(key, base_id, DEMO, 0)
    if base_id:
        training.speeds(key, base_id, False)


def draw() -> None:
    """The page."""
    key, _ = head(
        "Fine-tune a model",
        "Fine-tune a base model on N facts of one mastery level. Then its most changed weights are reverted, k% at a "
        "time, and every model is evaluated on the same questions. Runs in the background.",
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
            with st.expander("Glossary"):
                st.markdown(training_text.DEFINITIONS)
    else:
        mode.explain_read_only()

    st.subheader("Runs")
    with show.messages():
        run_list.runs(key)


if __name__ == "__main__":
    draw()
