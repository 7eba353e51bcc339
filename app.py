"""The dashboard's frame: page config and navigation. Start it with `sftknow app`, or `streamlit run app.py`."""

import streamlit as st

from pages._widgets import mode, warming
from sftknow_core import __version__
from sftknow_core.registry import load_plugins

load_plugins()  # what `sftknow --plugin FILE app` handed on
st.set_page_config(
    page_title="sftknow",
    page_icon="🧠",
    layout="wide",
    menu_items={"About": f"sftknow {__version__}: what fine-tuning does to what a language model knows."},
)
# The address of a page is the name of its file: a new server's first visitor may be sent to the file alone, which
# then starts again through this one (pages/_widgets/page.py).
opened = st.navigation(
    [
        st.Page("pages/overview.py", title="Overview", default=True),
        st.Page("pages/facts.py", title="Facts and mastery"),
        st.Page("pages/fine_tune.py", title="Fine-tune"),
        st.Page("pages/accuracy.py", title="Accuracy"),
        st.Page("pages/token_shifts.py", title="Token shifts"),
        st.Page("pages/parameters.py", title="Parameters"),
        st.Page("pages/restore.py", title="Restore"),
        st.Page("pages/study.py", title="Studies"),
        st.Page("pages/ask.py", title="Ask"),
    ],
    position="top",  # a sidebar would take a quarter of a narrow window
)
mode.badge()
with warming.drawing():
    opened.run()
warming.begin()
