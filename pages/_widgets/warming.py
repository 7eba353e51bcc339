"""What the other pages import and read first, done in the background while a reader looks at the first one.

A page's first visit would wait for it: more than half of what the server does then. The thread gives way, and does
nothing while a page is being drawn. It reads what the pages read as they are without anything in the address, by the
same cached functions with the same arguments; what it does not foresee a page reads itself, as ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import streamlit as st

from pages._widgets import reading, show
from pages._widgets.reading import Key
from sftknow_core.errors import SftknowError
from sftknow_core.present.charts.palette import Palette

_RUN = "shared.run.last"
"""In the session: the chain that picker.py chose."""
_BEGUN = "warming.begun"
"""In the session: for which chosen chain it was begun."""
QUIET_SECONDS = 0.1
"""After a page: its last parts are still on their way to the browser."""
_turn = threading.Condition()
_pages_being_drawn = 0
Step = Callable[[Key, str, Palette], None]


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


def read_ahead(key: Key, run_id: str, colours: Palette) -> None:
    """All pages, in the order in which they stand in the bar."""
    for step in (_facts, _fine_tune, _accuracy, _token_shifts, _parameters, _restore, _ask, _overview):
        _wait_for_a_turn()
        with suppress(SftknowError):  # the page says it, to whoever opens it
            _unseen(step.__name__, step, key, run_id, colours)


def _wait_for_a_turn() -> None:
    while True:
        with _turn:
            _turn.wait_for(lambda: not _pages_being_drawn)
        time.sleep(QUIET_SECONDS)
        if not _pages_being_drawn:
            return


@st.cache_resource(show_spinner=False, max_entries=1)
def _unseen(name: str, _step: Step, key: Key, run_id: str, colours: Palette) -> None:
    """A step. Within a cached function no other shows its spinner, which has no page to stand on here."""
    _step(key, run_id, colours)


# -- a page each; imports are here, as they are a part of what its first visit would wait for


def _facts(key: Key, run_id: str, colours: Palette) -> None:
    from pages._widgets import facts as reads
    from pages._widgets import samples  # noqa: F401
    from sftknow_core.results.mastery import Population, mastery_stamp
    from sftknow_core.store.cache import Cache

    runs = reads.finished(key)
    if runs.empty:
        return
    mastery = str(runs["run_id"].iloc[0])
    reads.details(key, mastery)
    which = key[0], mastery, mastery_stamp(Cache(key[0]), mastery), Population()
    reads.numbers(*which)
    for view in ("by_level", "by_topic", "histogram", "against_expected"):
        reads.table(view, *which)


def _fine_tune(key: Key, run_id: str, colours: Palette) -> None:
    from pages._widgets import run_list, training
    from sftknow_core.facts.dataset import DEMO
    from sftknow_core.serve import train_preview

    base_id = train_preview.find_base(run_list.base_models(key), DEMO)
    training.facts_of(DEMO, 0)
    training.levels_of(key, base_id, DEMO, 0)
    if base_id:
        training.speeds(key, base_id, False)


def _accuracy(key: Key, run_id: str, colours: Palette) -> None:
    from pages._widgets import accuracy, questions
    from sftknow_core.present.charts import accuracy as accuracy_charts  # noqa: F401
    from sftknow_core.results.questions import ASKED, FIVE_SHOT

    details = reading.chain_details(key, run_id)
    asked, stamp = questions.asked_in(key, run_id)
    base = FIVE_SHOT if asked.has_five_shot else ASKED
    accuracy.changes(key[0], run_id, stamp, details.best_k, base)
    group = accuracy.group_of(key, run_id)
    if group.run_ids and details.train_set:
        accuracy.accuracies(key, group)
        accuracy.accuracy_over_n(key, group, None, accuracy.STATES["tuned"], colours, None)


def _token_shifts(key: Key, run_id: str, colours: Palette) -> None:
    from pages._widgets import accuracy, questions
    from sftknow_core.present.charts import tokens  # noqa: F401
    from sftknow_core.results import questions as asked_questions
    from sftknow_core.results.accuracy import KL_LEVEL
    from sftknow_core.results.questions import ASKED, FIVE_SHOT, Filters

    details = reading.chain_details(key, run_id)
    asked, stamp = questions.asked_in(key, run_id)
    if not asked.ks:
        return
    chosen = details.best_k
    k = chosen if chosen in asked.ks else asked.ks[0]
    filters = Filters(k, FIVE_SHOT if asked.has_five_shot else ASKED)
    which = key[0], run_id, stamp
    questions.spread(*which, filters.without_details())
    questions.by_level(*which, filters.without_details())
    first = asked_questions.browse(asked, filters).rows
    if len(first):
        questions.first_token(*which, first["fact_id"].iloc[0], k)
    group = accuracy.group_of(key, run_id)
    if group.run_ids and details.train_set:
        states = accuracy.STATES["tuned"]
        accuracy.kl_over_n(key, group, states, colours)
        accuracy.accuracy_over_n(key, group, KL_LEVEL, states, colours)


def _parameters(key: Key, run_id: str, colours: Palette) -> None:
    from pages._widgets import restoring, slider, weights
    from sftknow_core.present.charts import weights as weights_charts  # noqa: F401
    from sftknow_core.update.spec import RestoreSpec, percent

    details = reading.chain_details(key, run_id)
    delta_id = restoring.delta_run(key, details.base_id, details.tuned_id)
    if delta_id is None:
        return
    spec = RestoreSpec(k_percent=percent(f"{slider.FIRST_K:.4f}"))
    weights.overview(key[0], delta_id, restoring.frozen(spec))
    weights.changed_shares(key[0], delta_id, "all", None)
    weights.spread(key[0], delta_id, restoring.frozen(spec))
    weights.concentration(key[0], delta_id, spec.region, spec.layers)
    weights.heat(key[0], delta_id, restoring.frozen(spec))


def _restore(key: Key, run_id: str, colours: Palette) -> None:
    from pages._widgets import comparing, exporting, measuring, restoring, slider  # noqa: F401
    from sftknow_core.present.charts import restore  # noqa: F401
    from sftknow_core.update.spec import RestoreSpec, percent

    details, now = reading.chain_details(key, run_id), restoring.as_it_is_now(key)
    spec = RestoreSpec(k_percent=percent(f"{slider.FIRST_K:.4f}"))
    measuring.question_sets_of(now, run_id)
    restoring.measured(now, run_id, restoring.frozen(spec, k=False), None)
    comparing.measured_ways(now, run_id, None)
    delta_id = restoring.delta_run(key, details.base_id, details.tuned_id)
    if delta_id is not None:
        restoring.reverted(delta_id, restoring.frozen(spec), key[0])
        restoring.reverted_by_place(delta_id, restoring.frozen(spec), key[0])
        restoring.reverted_curve(delta_id, restoring.frozen(spec, k=False), key[0])


def _ask(key: Key, run_id: str, colours: Palette) -> None:
    from pages._widgets import asking, restoring

    asking.changed(restoring.as_it_is_now(key), run_id)


def _overview(key: Key, run_id: str, colours: Palette) -> None:
    from pages._widgets import contents, jobs  # noqa: F401
    from sftknow_core.present.text import story  # noqa: F401

    reading.curve(key, run_id, "dev")
    reading.levels(key, run_id)
    reading.shifted_questions(key, run_id, "")
