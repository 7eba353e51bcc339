"""The warm engine, one for a whole server: its start, what was asked of it, how far that is, and its death in words.

A page keeps what it asked under a name in its session (`ask`), draws `watch` where progress belongs, and looks at
`standing` on its next run. Two sessions never share a wish; the engine answers the second from the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from pages._widgets import mode
from sftknow_core.errors import SftknowError
from sftknow_core.present.text import ask as ask_text
from sftknow_core.serve.engine.client import Answer, AnswerState, EngineClient
from sftknow_core.serve.engine.protocol import Request

_POLL_SECONDS = 0.3
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class PendingRequest:
    """A wish of one session, as requests that are done in order."""

    about: Any
    """What was wished: equal wishes are not asked twice."""
    ids: tuple[str, ...]
    names: tuple[str, ...]
    """For people, one a request."""


@dataclass(frozen=True)
class EngineStatus:
    """How far a wish is."""

    about: Any
    state: AnswerState
    share: float
    """Of all its requests, 0 to 1."""
    text: str
    """What is done now, for people."""
    results: tuple[Mapping[str, Any], ...] = ()
    """Of a done one, one a request."""
    error: str | None = None


@st.cache_resource(show_spinner=False, max_entries=4)
def client(root: str) -> EngineClient:
    """The engine over one cache, not yet started."""
    return EngineClient(root)


def warm(root: str) -> None:
    """Start the engine where none runs, without waiting; never in show mode, and not again after it died."""
    if mode.actions_allowed():
        engine = client(root)
        if engine.notice is None and not engine.running:
            _try(engine.start)


def is_dead(root: str) -> bool:
    """Whether the engine ended on its own and nobody has started another one since."""
    engine = client(root)
    return engine.notice is not None and not engine.running


def ask(slot: str, root: str, about: Any, requests: Mapping[str, Request]) -> None:
    """Hand the requests of a wish over; what the slot asked before is cancelled. requests: name -> request.

    Raises CacheError in show mode.
    """
    forget(slot, root)
    engine = client(root)
    ids = tuple(engine.submit(request) for request in requests.values())
    st.session_state[slot] = PendingRequest(about, ids, tuple(requests))


def forget(slot: str, root: str) -> None:
    """Cancel what the slot asked, and drop it."""
    asking = st.session_state.pop(slot, None)
    if isinstance(asking, PendingRequest):
        _cancel(asking, root)


def standing(slot: str, root: str) -> EngineStatus | None:
    """How far the slot's wish is; None where there is none."""
    asking = st.session_state.get(slot)
    if not isinstance(asking, PendingRequest):
        return None
    try:
        answers = [client(root).poll(request_id) for request_id in asking.ids]
    except SftknowError as error:  # this server does not know it any more
        return EngineStatus(asking.about, AnswerState.FAILED, 0.0, "", error=str(error))
    return _together(asking, answers)


def _together(asking: PendingRequest, answers: Sequence[Answer]) -> EngineStatus:
    share = sum(1.0 if a.state.ended else a.share or 0.0 for a in answers) / len(answers)
    for answer, name in zip(answers, asking.names, strict=True):
        if answer.state is not AnswerState.DONE:
            text = ask_text.doing(str(answer.state), answer.text, name)
            return EngineStatus(asking.about, answer.state, share, text, error=answer.error)
    results = tuple(answer.result or {} for answer in answers)
    return EngineStatus(asking.about, AnswerState.DONE, 1.0, "", results)


def watch(slot: str, root: str) -> None:
    """A progress bar and a button to cancel, while the slot's wish is under way; its end redraws the page."""
    now = standing(slot, root)
    if now is not None and not now.state.ended:
        _progress(slot, root)


@st.fragment(run_every=_POLL_SECONDS)
def _progress(slot: str, root: str) -> None:
    now = standing(slot, root)
    if now is None or now.state.ended:
        st.rerun()
    progress(slot, root, now)


def progress(slot: str, root: str, now: EngineStatus) -> None:
    """The bar with its words, and a button to cancel; for a fragment that draws itself again."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(now.share, 1.0), text=now.text)
        st.button("Cancel", key=f"{slot}.cancel", on_click=cancel, args=(slot, root))


def cancel(slot: str, root: str) -> None:
    """Have the slot's wish end; it stays there as cancelled."""
    if isinstance(asking := st.session_state.get(slot), PendingRequest):
        _cancel(asking, root)


def failed(slot: str, root: str, now: EngineStatus) -> None:
    """In place of a result: why there is none, and a button to try again."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if now.state is AnswerState.CANCELLED:
            st.info("Cancelled. Results so far are kept.")
        else:
            st.error(now.error or "The evaluation worker returned no result. Try again.")
        st.button("Try again", key=f"{slot}.again", on_click=forget, args=(slot, root))


def status(root: str) -> None:
    """A line about the engine: starting, ready or busy, with device and memory; its death with a button."""
    if not mode.actions_allowed():
        return
    engine = client(root)
    if is_dead(root):
        _died(engine)
    else:
        found = _last_status(engine)
        if found is None or not found["ready"]:
            _until_ready(root)
        else:
            st.caption(ask_text.line(found))


@st.fragment(run_every=_LOOK_SECONDS)
def _until_ready(root: str) -> None:
    """Looks every second, only while the engine imports what it needs; then the page is drawn without it."""
    engine = client(root)
    found = _last_status(engine)
    if is_dead(root):
        _died(engine)
        return
    if found is not None and found["ready"]:
        st.rerun()
    st.caption(ask_text.line(found))


def _died(engine: EngineClient) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.warning(engine.notice or "")
        if st.button("Restart evaluation worker", key="shared.engine_restart"):
            _try(engine.start)
            st.rerun()


def _last_status(engine: EngineClient) -> Mapping[str, Any] | None:
    """See EngineClient.status."""
    try:
        return engine.status()
    except SftknowError:  # it has just gone, and cannot be started
        return None


def _cancel(asking: PendingRequest, root: str) -> None:
    for request_id in asking.ids:
        _try(partial(_cancel_one, root, request_id))


def _cancel_one(root: str, request_id: str) -> None:
    client(root).cancel(request_id)


def _try(act: Callable[[], object]) -> None:
    """Do it; what goes wrong is said."""
    try:
        act()
    except SftknowError as error:
        st.error(str(error))
