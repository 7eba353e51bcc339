"""What drives it: learning rate and steps, reverted weights, forgotten facts, lost or inaccessible. Reads studies."""

import streamlit as st

from pages._widgets import drives as parts
from pages._widgets import show, studies
from pages._widgets.page import head
from pages._widgets.reading import Key
from sftknow_core.present.charts.palette import Palette
from sftknow_core.present.text import drives, study


def load(key: Key, run_id: str, colours: Palette) -> None:
    """Which studies there are; the analyses of one are read when somebody looks."""
    studies.studies(key)


def draw() -> None:
    """The page."""
    key, _ = head("What drives it", drives.ABOUT)
    with show.messages():
        found = studies.studies(key)
        if not found:
            st.info(drives.EMPTY.format(root=key[0]))
            st.stop()
        about = studies.opened(key, studies.pick(found))
        if not about.info.n_done:
            st.info(study.NO_CELLS)
            st.stop()
        results = parts.read(key, about.run_id)
        parts.rates(results)
        parts.masks(results)
        parts.forgotten(results)
        parts.access(results)


if __name__ == "__main__":
    draw()
