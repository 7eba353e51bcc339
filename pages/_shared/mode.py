"""Show mode: everything measured can be browsed, and nothing is started, written or exported on the server."""

from __future__ import annotations

import streamlit as st

from sftknow_core.store.cache import read_only

WHY = "Show mode: here results are browsed and nothing is started. `sftknow app` without `--read-only` can do more."


def may_act() -> bool:
    """Whether this page may offer to start, write, delete or export something on the server."""
    return not read_only()


def say_why() -> None:
    """In place of what show mode leaves out."""
    st.caption(WHY)
