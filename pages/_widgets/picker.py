"""Which run a page shows: a list of those there are, and `run` in the page's address.

Going to another page by the bar at the top drops `run` from the address and forgets the list: what was chosen last is
kept in the session beside them, and put back.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

PARAMETER = "run"


def pick_chain(finished: pd.DataFrame) -> str:
    """The run id of the chosen chain. finished: Survey.finished, not empty; see `pick_one`."""
    labels = dict(zip(finished["run_id"], finished["label"], strict=True))
    wanted = st.query_params.get(PARAMETER)
    return pick_one("Fine-tuning run", "shared.run", labels, wanted, "finished chain")


def pick_one(
    label: str,
    key: str,
    labels: Mapping[str, str],
    wanted: str | None,
    kind: str,
    also_drops: str | None = None,
) -> str:
    """The run id that the address wants, else the one chosen last in this session, else the first.

    labels: run id -> what people read, newest first, not empty. also_drops: a parameter of the address that belongs to
    the run shown before. A run id that is not there is said so, and stays in the address until another one is chosen.
    """
    last = f"{key}.last"
    if wanted and wanted not in labels:
        st.warning(f"There is no {kind} {wanted!r} in this cache. Shown instead: the one chosen below.")
    # The address decides: links, and the browser's back. Set each time, for the list of another page has the same key,
    # whose value is still there, yet is not taken over.
    asked_for = (wanted, st.session_state.get(last), next(iter(labels)))
    st.session_state[key] = next(run_id for run_id in asked_for if run_id in labels)
    runs, name = list(labels), labels.__getitem__
    chosen = str(
        st.selectbox(label, runs, format_func=name, key=key, on_change=_to_address, args=(key, also_drops))
    )
    st.session_state[last] = chosen
    if wanted is None:  # whoever copies the address means this run, not whichever is the newest by then
        st.query_params[PARAMETER] = chosen
    return chosen


def _to_address(key: str, also_drops: str | None) -> None:
    st.query_params[PARAMETER] = st.session_state[key]
    if also_drops is not None:
        st.query_params.pop(also_drops, None)
