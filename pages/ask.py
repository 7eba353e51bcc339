"""Ask: a free question to base, tuned and restored, side by side. Nothing is stored."""

import streamlit as st

from pages._widgets import asking, engine, mode, restoring, show
from pages._widgets.page import open_chain
from pages._widgets.reading import Key
from sftknow_core.present.charts.palette import Palette
from sftknow_core.present.text import ask


def load(key: Key, run_id: str, colours: Palette) -> None:
    """What the page reads first: the questions to click."""
    asking.changed(restoring.as_it_is_now(key), run_id)


def draw() -> None:
    """The page."""
    key, _, run_id, details = open_chain(
        "Ask base, tuned and restored",
        "One prompt to the **base**, the **fine-tuned** and the **restored** (k% of weights reverted) model: their "
        "answers and next-token probabilities.",
    )
    engine.warm(key[0])
    if not mode.actions_allowed():
        mode.explain_read_only()
    with show.messages():
        question = asking.pick(key, run_id, details)
    engine.status(key[0])
    if question is not None:
        with restoring.said():
            asking.ask(key[0], run_id, details, question)
    with restoring.said():
        asking.answers(key[0], run_id)
    with st.expander("Glossary"):
        st.markdown(ask.DEFINITIONS)


if __name__ == "__main__":
    draw()
