"""Show mode: everything measured can be browsed, and nothing is started, written or exported on the server."""

from __future__ import annotations

import streamlit as st

from sftknow_core.store.cache import read_only

WHY = "Read-only. Start `sftknow app` without `--read-only` to run jobs."


def actions_allowed() -> bool:
    """Whether this page may offer to start, write, delete or export something on the server."""
    return not read_only()


def badge() -> None:
    """Says on every page that this is show mode; nothing else."""
    if read_only():
        st.html("<style>.st-key-mode {margin-top: 2rem}</style>")  # else the bar of pages covers it
        with st.container(horizontal=True, vertical_alignment="center", key="mode"):
            st.badge("Read-only", icon=":material/visibility:", color="blue")
            st.caption("Results can be browsed; no job can be started.")


def explain_read_only() -> None:
    """Why an action is missing in read-only mode."""
    st.caption(WHY)
