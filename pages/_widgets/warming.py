"""What the other pages import and read first, done in the background while a reader looks at the first one.

A page's first visit would wait for it: more than half of what the server does then. The thread gives way, and does
nothing while a page is being drawn. It calls the `load` of each page, which reads what the page shows without anything
in the address; what that does not foresee `draw` reads itself, by the same cached functions.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import streamlit as st

from pages._widgets import reading, show
from pages._widgets.reading import Key
from sftknow_core.errors import SftknowError
from sftknow_core.present.charts.palette import Palette

_RUN = "shared.run.last"
"""In the session: the chain that addresses.pick_one gave."""
_BEGUN = "warming.begun"
"""In the session: for which chosen chain it was begun."""
QUIET_SECONDS = 0.1
"""After a page: its last parts are still on their way to the browser."""
_turn = threading.Condition()
_pages_being_drawn = 0
PAGES = {
    "overview": "Overview",
    "facts": "Facts and mastery",
    "fine_tune": "Fine-tune",
    "accuracy": "Accuracy",
    "token_shifts": "Token shifts",
    "parameters": "Parameters",
    "restore": "Restore",
    "study": "Studies",
    "what_drives_it": "What drives it",
    "ask": "Ask",
}
"""Files in pages/ -> title, in the order of the navigation bar."""


@contextmanager
def drawing() -> Iterator[None]:
    """Around the drawing of a page: nothing is read for others meanwhile."""
    global _pages_being_drawn
    with _turn:
        _pages_being_drawn += 1
    try:
        yield
    finally:
        with _turn:
            _pages_being_drawn -= 1
            _turn.notify_all()


def begin() -> None:
    """Read for the chosen chain, else the newest, once in a server; nothing where the cache has none."""
    chosen = st.session_state.get(_RUN)
    if st.session_state.get(_BEGUN, "") == chosen:
        return
    with suppress(SftknowError):  # a page says what is wrong with the cache
        key = reading.key_of_cache()
        finished = reading.survey(key).finished["run_id"]
        if len(finished):
            _once(key[0], chosen or finished.iloc[0], show.palette(), key)
            st.session_state[_BEGUN] = chosen


@st.cache_resource(show_spinner=False, max_entries=64)
def _once(root: str, run_id: str, colours: Palette, _key: Key) -> threading.Thread:
    """The thread that reads for a chain. _key: no part of what tells chains apart; the cache may have grown since."""
    reader = threading.Thread(
        target=read_ahead, args=(_key, run_id, colours), name=f"warming-{run_id}", daemon=True
    )
    reader.start()
    return reader


def read_ahead(key: Key, run_id: str, colours: Palette, pages: Iterable[str] = PAGES) -> None:
    """Import each page and have it load, one after the other."""
    for page in pages:
        _wait_for_a_turn()
        with suppress(SftknowError):  # the page says it, to whoever opens it
            _unseen(page, key, run_id, colours)


def _wait_for_a_turn() -> None:
    while True:
        with _turn:
            _turn.wait_for(lambda: not _pages_being_drawn)
        time.sleep(QUIET_SECONDS)
        if not _pages_being_drawn:
            return


@st.cache_resource(show_spinner=False, max_entries=1)
def _unseen(page: str, key: Key, run_id: str, colours: Palette) -> None:
    """Load one page. Within a cached function no other shows its spinner, which has no page to stand on here."""
    importlib.import_module(f"pages.{page}").load(key, run_id, colours)
