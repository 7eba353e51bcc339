"""The dashboard's frame: page config and navigation. Start it with `sftknow app`, or `streamlit run app.py`."""

import streamlit as st

from sftknow_core import __version__

st.set_page_config(
    page_title="sftknow",
    page_icon="🧠",
    layout="wide",
    menu_items={"About": f"sftknow {__version__}: what fine-tuning does to what a language model knows."},
)
st.navigation([st.Page("pages/overview.py", title="Overview", default=True)]).run()
