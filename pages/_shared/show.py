"""How pages show things: figures with their table, tables with units, messages instead of tracebacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from sftknow_core.errors import SftknowError
from sftknow_core.report.palette import THEMES, Palette
from sftknow_core.report.story import KeyNumber

_SHARE = {"format": "percent", "min_value": 0, "max_value": 1}
COLUMNS = {
    "domain": st.column_config.TextColumn("domain", help="in: topics that were trained on; out: others"),
    "state": st.column_config.TextColumn("state", help="base, tuned, restored, hybrid (k = 100%) or five-shot"),
    "k_percent": st.column_config.NumberColumn("k (%)", format="%g", help="share of the region's weights put back"),
    "accuracy": st.column_config.NumberColumn("accuracy", **_SHARE),
    "low": st.column_config.NumberColumn("95% low", **_SHARE),
    "high": st.column_config.NumberColumn("95% high", **_SHARE),
    "n": st.column_config.NumberColumn("questions", format="localized"),
    "chosen": st.column_config.CheckboxColumn("chosen on dev"),
    "energy_taken_back": st.column_config.NumberColumn(
        "update taken back", **_SHARE, help="share of the squared change"
    ),
    "question_set_id": st.column_config.TextColumn("question set", help="only equal sets may be compared"),
    "level": st.column_config.NumberColumn("level", format="%d", help="mastery level of the question, 0 to 4"),
    "label": st.column_config.TextColumn("run", width="medium"),
    "train_level": st.column_config.TextColumn("train level"),
    "n_train": st.column_config.NumberColumn("N", format="localized", help="facts fine-tuned on"),
    "question": st.column_config.TextColumn("question", width="large"),
    "tuned_answer": st.column_config.TextColumn("tuned answer", help="✓ right, ✗ wrong"),
    "kl_aligned_nats": st.column_config.ProgressColumn("KL (nats)", format="%.2f", min_value=0, max_value=None),
    "gold_p_base": st.column_config.NumberColumn("gold, base", **_SHARE, help="probability of the right first token"),
    "gold_p_state": st.column_config.NumberColumn("gold, tuned", **_SHARE, help="the same after tuning"),
    "progress": st.column_config.ProgressColumn("progress", format="percent", min_value=0, max_value=1),
}
STYLE = """<style>
.block-container {padding-top: 1.5rem; padding-bottom: 3rem}
</style>"""


@contextmanager
def messages() -> Iterator[None]:
    """Errors that are the cache's or the user's become a message, and the rest of the page is left out."""
    try:
        yield
    except SftknowError as error:
        st.error(str(error))
        st.stop()


def palette() -> Palette:
    """The colours for the theme the reader has chosen."""
    return THEMES.get(st.context.theme.type or "light", THEMES["light"])


def numbers(found: tuple[KeyNumber, ...]) -> None:
    """Cards side by side, as many in a row as there is room for."""
    with st.container(horizontal=True, key="numbers"):
        for number in found:
            with st.container(border=True, width=252, height="stretch"):
                st.markdown(f"**{number.name}**")
                for part, column in zip(number.parts, st.columns(len(number.parts)), strict=True):
                    column.metric(part.label, part.value)
                    column.caption(part.interval)
                st.caption(number.sentence)


def figure(drawn: go.Figure, table: pd.DataFrame, name: str, alt: str) -> None:
    """A figure, and below it its table to open and to download."""
    st.plotly_chart(drawn, theme=None, key=f"{name}.figure", config={"displayModeBar": False}, alt=alt)
    with st.expander("The numbers of this figure"):
        listed(table, name, alt)


def listed(table: pd.DataFrame, name: str, alt: str, height: int | str = "auto") -> None:
    """A table with units in its header, and a button to download just what it shows."""
    st.dataframe(table, hide_index=True, column_config=COLUMNS, key=f"{name}.table", height=height, alt=alt)
    st.download_button("Download CSV", table.to_csv(index=False), f"{name}.csv", "text/csv", key=f"{name}.csv", on_click="ignore")
