"""All measured strategies of a chain on one chart, for a page that has chosen the chain, the split and the axis."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages._widgets import reading, show
from pages._widgets.reading import Key
from sftknow_core.present import columns
from sftknow_core.present.charts.restore import AXES, strategies_figure
from sftknow_core.present.text import restore_cards
from sftknow_core.results.chain import Chain
from sftknow_core.store.cache import Cache


@st.cache_data(show_spinner=False, max_entries=64)
def measured_ways(key: Key, run_id: str, question_set: str | None) -> pd.DataFrame:
    """See Chain.ways."""
    return Chain(Cache(key[0]), run_id).ways(question_set)


def compare(key: Key, run_id: str, split: str, axis: str, question_set: str | None = None) -> None:
    """Figure, table and words: every measured strategy, on one axis; and how to measure the ones that are lacking.

    split: "dev" or "test". axis: "k", "changed" or "update". question_set: None for the chain's own. Raises
    SftknowError where the chain cannot be read: call it within show.messages().
    """
    rows = measured_ways(key, run_id, question_set)
    rows = rows[rows["split"] == split].drop(columns="split")
    if not (rows["line"] != "").any():
        st.info("No restored model was evaluated on these questions yet.")
    else:
        alt = f"Accuracy on {split} questions of every evaluated ranking over k, with 95% CI"
        drawn = strategies_figure(rows, axis, show.palette())
        st.caption(restore_cards.meanings(rows))
        show.figure(drawn, rows, "restore.compared", alt, columns.table("strategies"))
        st.markdown(restore_cards.equal_k(rows))
        if said := restore_cards.masks(rows):
            st.markdown(said)
        if said := restore_cards.left_out(rows, AXES[axis][0]):
            st.caption(said)
    if len(rows) and (missing := restore_cards.lacking(rows)):
        st.markdown(f"Not evaluated yet: {', '.join(missing)}.")
        label = "Run in a terminal (results are cached)"
        if commands := show.shut(label, "restore.commands"):
            details = reading.chain_details(key, run_id)
            commands.code(restore_cards.commands(details, rows), language=None, wrap_lines=True)
