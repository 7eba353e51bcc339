"""The dashboard's frame: page config and navigation. Start it with `sftknow app`, or `streamlit run app.py`."""

import streamlit as st

from sftknow_core import __version__

st.set_page_config(
    page_title="sftknow",
    page_icon="🧠",
    layout="wide",
    menu_items={"About": f"sftknow {__version__}: what fine-tuning does to what a language model knows."},
)
# An address must not be the name of a file in pages/: opened first on a new server, Streamlit would run that file
# alone, without this one.
st.navigation(
    [
        st.Page("pages/overview.py", title="Overview", default=True),
        st.Page("pages/token_shifts.py", title="Token shifts", url_path="shifts"),
        st.Page("pages/restore.py", title="Restore", url_path="restoration"),
    ],
    position="top",  # a sidebar would take a quarter of a narrow window
).run()
