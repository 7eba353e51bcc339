"""Ask: a free question to base, tuned and restored, side by side. Nothing is stored."""

import streamlit as st

from pages._widgets import asking, engine, mode, restoring, show
from pages._widgets.page import open_chain
from sftknow_core.present.text import ask

key, found, run_id, details = open_chain(
    "Ask base, tuned and restored",
    "Put any question to the model before fine-tuning (**base**), after it (**tuned**), and with k% of its weights put "
    "back (**restored**): what they answer, and which token each expects first.",
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
with st.expander("Definitions and units"):
    st.markdown(ask.DEFINITIONS)
