"""Which chain a page shows: a list of the finished ones, and `run` in the page's address."""

from __future__ import annotations

import pandas as pd
import streamlit as st

_PARAMETER = "run"
_WIDGET = "shared.run"


def pick_chain(finished: pd.DataFrame) -> str:
    """The run id of the chosen chain; the newest where the address names none. finished: Survey.finished, not empty.

    A run id that is not there is said so, and stays in the address until another one is chosen.
    """
    labels = dict(zip(finished["run_id"], finished["label"], strict=True))
    wanted = st.query_params.get(_PARAMETER)
    if wanted in labels:
        st.session_state[_WIDGET] = wanted  # the address decides: links, and the browser's back
    elif wanted:
        st.warning(
            f"There is no finished chain {wanted!r} in this cache. Shown instead: the one chosen below."
        )
    if st.session_state.get(_WIDGET) not in labels:
        st.session_state[_WIDGET] = next(iter(labels))
    runs, name = list(labels), labels.__getitem__
    chosen = str(st.selectbox("Fine-tuning run", runs, format_func=name, key=_WIDGET, on_change=_to_address))
    if wanted is None:  # whoever copies the address means this chain, not whichever is the newest by then
        st.query_params[_PARAMETER] = chosen
    return chosen


def _to_address() -> None:
    st.query_params[_PARAMETER] = st.session_state[_WIDGET]
