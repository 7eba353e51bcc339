"""Asking the engine for what a slider position lacks: which questions, when it is asked, and how far it is."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from pages._widgets import engine, mode, restoring, show
from pages._widgets.reading import Key
from sftknow_core.errors import SftknowError, SpecError
from sftknow_core.present.text import restore, restore_cards
from sftknow_core.results import measured
from sftknow_core.results.chain import Chain
from sftknow_core.serve.engine import chain_request
from sftknow_core.serve.engine.chain_request import ChainRequests
from sftknow_core.serve.engine.client import AnswerState
from sftknow_core.serve.engine.protocol import Request
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.update.spec import NOTHING, Percent, RestoreSpec

OWN = "same as run"
_SIZES = (10, 50, 100, 200)
_MOST = 10_000
_SLOT, _PREPARED, _AT_ONCE = "restore.asking", "restore.prepared", "restore.at_once"
_POLL_SECONDS = 0.25
_SMALL_BYTES = 2e9
"""The side of the base that all states share is computed unasked for models up to this size."""


class Questions(NamedTuple):
    """What a reader chose to ask."""

    per_level: int | None
    """Of a mastery level in each group; None: the chain's own."""
    set_id: str | None
    """Of another set than the chain's own (results/measured.py)."""


class Place(NamedTuple):
    """Where the reader stands: all that the figures depend on."""

    run_id: str
    spec: RestoreSpec
    questions: Questions
    split: str

    @property
    def k(self) -> Percent:
        """In percent."""
        return self.spec.k_percent or NOTHING


@st.cache_data(show_spinner=False, max_entries=64)
def _asked_chain(root: str, run_id: str) -> ChainRequests:
    return chain_request.chain_requests(Cache(root), run_id)


@st.cache_data(show_spinner="Selecting questions …", max_entries=64)
def _set_id(root: str, run_id: str, per_level: int) -> str:
    return chain_request.question_set(Cache(root), _asked_chain(root, run_id), per_level)


@st.cache_data(show_spinner=False, max_entries=64)
def question_sets_of(key: Key, run_id: str) -> pd.DataFrame:
    return Chain(Cache(key[0]), run_id).question_sets()


def pick_questions(key: Key, run_id: str) -> Questions:
    """The chain's own questions, or a stratified set of another size. Raises SpecError for a size that is none."""
    known = question_sets_of(key, run_id)
    others = known.loc[~known["own"], "n_level"].tolist()
    sizes = sorted({*others, *(_SIZES if mode.actions_allowed() else ())})
    picked = st.selectbox(
        "Questions per level",
        [OWN, *map(str, sizes)],
        key="restore.questions",
        bind="query-params",
        accept_new_options=mode.actions_allowed(),
        width=190,
        help=restore.QUESTIONS_HELP,
    )
    if picked in (None, OWN):
        return Questions(None, None)
    size = _size(str(picked))
    own = _asked_chain(key[0], run_id)
    found = _set_id(key[0], run_id, size)
    return Questions(None, None) if found == own.own_set else Questions(size, found)


def _size(text: str) -> int:
    try:
        size = int(text)
    except ValueError:
        size = 0
    if not 1 <= size <= _MOST:
        raise SpecError(f"questions per level: got {text!r}; allowed: {OWN}, or 1 to {_MOST:,}")
    return size


def answers(opened: Key, details: Chain, place: Place, taken: Any) -> bool:
    """Accuracy at the position, and what the engine does about one that was not measured; whether one waits for it."""
    _ask_for(opened, details, place)
    now = engine.standing(_SLOT, opened[0])
    busy = now is not None and not now.state.ended
    waiting = busy and bool(_lacking(restoring.as_it_is_now(opened), place))
    every = _POLL_SECONDS if busy else None
    st.fragment(_answers, run_every=every)(opened, details, place, taken, busy, waiting)
    return waiting


def _answers(opened: Key, details: Chain, place: Place, taken: Any, busy: bool, waited: bool) -> None:
    """The part that is drawn again while the engine works; the whole page is once k is measured, and at the end."""
    with show.messages():
        key = restoring.as_it_is_now(opened)
        now = engine.standing(_SLOT, opened[0])
        over = now is None or now.state.ended
        rows = _rows(key, place)
        shown = measured.shown_state(rows, place.k, place.split)
        if shown is not None:
            tuned = measured.tuned_state(rows, place.split)
            changes = restoring.changes(key, place.run_id, shown, place.split, tuned)
            cards = restore_cards.accuracy_cards(rows, shown, place.split, changes)
            show.numbers(cards, "restore.cards", 330)
            st.markdown(restore.which_is_shown(place.k, shown, place.split))
        else:
            st.info("No k is evaluated yet for this ranking, region, layers and questions.")
        if taken is not None:
            st.markdown(restore.in_a_line(taken))
        there = waited and not _lacking(key, place)
        if there or (busy and over):
            time.sleep(restoring.SENT_SECONDS)
            st.rerun()
        _below(key, details, place, rows)


def _rows(key: Key, place: Place) -> pd.DataFrame:
    return restoring.measured(
        key, place.run_id, restoring.frozen(place.spec, k=False), place.questions.set_id
    )


def _lacking(key: Key, place: Place) -> tuple[str, ...]:
    """See measured.missing."""
    return measured.missing(_rows(key, place), place.k)


def _below(key: Key, details: Chain, place: Place, rows: pd.DataFrame) -> None:
    """Under the cards: the engine, and which questions these are."""
    root, lacking = key[0], _lacking(key, place)
    now = engine.standing(_SLOT, root)
    if now is not None and not now.state.ended:
        engine.progress(_SLOT, root, now)
    elif lacking:
        _not_asked(key, details, place, rows, lacking, now)
    with st.container(horizontal=True, vertical_alignment="center"):
        if mode.actions_allowed():
            st.toggle("Evaluate automatically", value=True, key=_AT_ONCE, help=restore.AT_ONCE_HELP)
            engine.status(root)
    st.caption(restore.SPLITS[place.split])
    sets, questions = question_sets_of(key, place.run_id), place.questions
    st.caption(restore.which_set(sets, questions.per_level, questions.set_id))


def _ask_for(opened: Key, details: Chain, place: Place) -> None:
    """Ask the engine for what the position lacks, once; cancel what another position lacked."""
    root = opened[0]
    lacking = _lacking(restoring.as_it_is_now(opened), place)
    now = engine.standing(_SLOT, root)
    if now is not None and (not lacking or now.about != _wish(place)):
        engine.forget(_SLOT, root)
        now = None
    if not mode.actions_allowed() or not st.session_state.get(_AT_ONCE, True) or now is not None:
        return
    if not lacking:
        _prepare(root, details, place)
        return
    with suppress(SftknowError):  # an older chain: said below the cards
        chain = _asked_chain(root, place.run_id)
        engine.ask(_SLOT, root, _wish(place), _requests(chain, lacking, place))


def _wish(place: Place) -> tuple[Any, ...]:
    return place.run_id, restoring.frozen(place.spec), place.questions


def _not_asked(
    key: Key,
    details: Chain,
    place: Place,
    rows: pd.DataFrame,
    lacking: tuple[str, ...],
    now: engine.EngineStatus | None,
) -> None:
    """Why the position has no measurement of its own, and how to get one."""
    root = key[0]
    try:
        chain = _asked_chain(root, place.run_id)
    except SftknowError as error:
        st.info(f"{str(error)[0].upper()}{str(error)[1:]}.")
    else:
        if not mode.actions_allowed():
            mode.explain_read_only()
        elif now is None and (st.session_state.get(_AT_ONCE, True) or _button(lacking, place.k)):
            engine.ask(_SLOT, root, _wish(place), _requests(chain, lacking, place))
            st.rerun()
        elif now is not None and now.state is AnswerState.DONE:
            st.warning(
                "Evaluation finished, but no question has a mastery level, so nothing could be scored."
            )
        elif now is not None:
            engine.failed(_SLOT, root, now)
            return
    _by_hand(details, place.spec, rows)


def _button(lacking: tuple[str, ...], k: Percent) -> bool:
    return st.button(restore.measure_label(lacking, k), key="restore.measure", type="primary")


def _requests(chain: ChainRequests, lacking: tuple[str, ...], place: Place) -> dict[str, Request]:
    """The current k first: it is what the reader waits for."""
    found: dict[str, Request] = {}
    per_level = place.questions.per_level
    if "restored" in lacking:
        found[f"k = {place.k}%"] = chain.evaluation(place.spec, per_level)
    if "tuned" in lacking:
        found["tuned"] = chain.evaluation("tuned", per_level)
    if "base" in lacking:
        found["base"] = chain.evaluation("base", per_level)
    return found


def _by_hand(details: Chain, spec: RestoreSpec, rows: pd.DataFrame) -> None:
    if command := show.shut("Command to evaluate this k", "restore.command"):
        n_level = measured.n_level(rows, "test") or measured.n_level(rows, "dev") or 60
        command.code(restore.command(details, spec, n_level), language=None, wrap_lines=True)


def _prepare(root: str, details: Chain, place: Place) -> None:
    """Have the engine compute what all states share, so that the first new k does not wait for it."""
    wish = (place.run_id, place.questions)
    if st.session_state.get(_PREPARED) == wish or _base_bytes(root, details.base_id) > _SMALL_BYTES:
        return
    if engine.is_dead(root):  # a reader is told so, and decides
        return
    st.session_state[_PREPARED] = wish
    with suppress(SftknowError):  # an older chain, or no engine: said where a new k is wanted
        chain = _asked_chain(root, place.run_id)
        engine.client(root).submit(chain.evaluation("tuned", place.questions.per_level, only_prepare=True))


@st.cache_data(show_spinner=False, max_entries=64)
def _base_bytes(root: str, model_id: str) -> float:
    rows = read_table(Cache(root), "models", columns=["size_bytes"], where={"model_id": model_id})
    sizes = rows["size_bytes"].dropna()
    return float(sizes.max()) if len(sizes) else float("inf")
