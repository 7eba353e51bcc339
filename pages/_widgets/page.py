"""How a page about a chain begins: title, what the numbers are, which chain, and what to do where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from pages._widgets import jobs, reading, show
from pages._widgets.addresses import pick_chain
from pages._widgets.reading import Key
from sftknow_core.results.chain import Chain
from sftknow_core.results.chains import Survey


class Opened(NamedTuple):
    """What a page works with."""

    key: Key
    found: Survey
    run_id: str
    details: Chain


def head(title: str, about: str) -> tuple[Key, Survey]:
    """Title and caption, and what the cache holds. Where it cannot be read: the message, and the page ends."""
    _within_the_app()
    show.style()
    st.title(title)
    st.write(about)
    with show.messages():
        key = reading.key_of_cache()
        reading.catch_up(key)
        return key, reading.survey(key)


def open_chain(title: str, about: str, *, else_shown: Callable[[Key], None] | None = None) -> Opened:
    """The head of a page that shows one finished chain. Without any: what to do next, and the page ends.

    else_shown: what that page shows below, even so.
    """
    key, found = head(title, about)
    if found.finished.empty:
        empty_state(key[0], found.unfinished)
        if else_shown is not None:
            with show.messages():
                else_shown(key)
        st.stop()
    run_id = pick_chain(found.finished)
    with show.messages():
        return Opened(key, found, run_id, reading.chain_details(key, run_id))


def _within_the_app() -> None:
    """A new server whose first visitor follows a link runs the page's file alone: start again, through app.py.

    Streamlit takes a folder named pages/ for an app without `st.navigation` until it has seen that called once.
    """
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()


def empty_state(root: str, runs: pd.DataFrame) -> None:
    """In a cache without a finished chain: what to do next, and what is under way."""
    st.info(
        f"No finished run in `{root}` yet. Start the demo: ten runs of the shipped small model (minutes, no GPU). In "
        "a terminal: `sftknow demo`, or for your own model `sftknow run --base MODEL --data FACTS --level 2 --n 240`."
    )
    jobs.offer_demo(root)
    show.unfinished(runs)
