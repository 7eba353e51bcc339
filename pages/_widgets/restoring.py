"""What the page "Restore" needs of its own: the selection in linked widgets, and its reads, remembered."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from pages._widgets import addresses, slider
from pages._widgets.reading import Key
from sftknow_core.errors import SftknowError, SpecError
from sftknow_core.present.text import restore
from sftknow_core.results import cube
from sftknow_core.results import measured as measured_results
from sftknow_core.results.chain import Chain
from sftknow_core.results.measured import MeasuredState
from sftknow_core.results.run import finished_stamp
from sftknow_core.results.weights import Cube, Places, Selection
from sftknow_core.store.cache import Cache
from sftknow_core.update.region import REGIONS
from sftknow_core.update.spec import NOTHING, Percent, RestoreSpec, percent, rounded_percent

WHOLE, PLACE, ANSWERED = "restore.whole", "restore.place", "restore.answered"
"""In the session: whether the whole page is being drawn, the position, and the one the figures of answers are about."""
SENT_SECONDS = 0.05
"""What was drawn so far reaches the browser before the page is drawn anew."""
_remembered = st.cache_data(show_spinner=False, max_entries=512)
Frozen = tuple[tuple[str, Any], ...]
"""A mapping that st.cache_data can tell apart."""


@contextmanager
def said(*, quietly: bool = False) -> Iterator[None]:
    """Errors become a message, and what follows on the page is still shown. quietly: it was said already."""
    try:
        yield
    except SftknowError as error:
        if not quietly:
            st.error(str(error))


def draw_the_rest(place: Any, waiting: bool) -> None:
    """Once accuracy stands: remember the position, and have the figures drawn for it.

    waiting: its accuracy is being measured. What is counted from the weights follows at once all the same; only the
    figures of answers stay where they were, as long as nothing but k differs. The whole page draws them by itself.
    """
    whole = st.session_state.pop(WHOLE, False)
    moved = st.session_state.get(PLACE) != place
    st.session_state[PLACE] = place
    if not waiting or not _only_k_differs(st.session_state.get(ANSWERED), place):
        st.session_state[ANSWERED] = place
    if moved and not whole:
        time.sleep(SENT_SECONDS)
        st.rerun()


def _only_k_differs(answered: Any, place: Any) -> bool:
    if answered is None:
        return False
    at_k = replace(answered.spec, k_percent=place.spec.k_percent)
    return bool(answered._replace(spec=at_k) == place)


def warn_invalid_params(strategies: Mapping[str, str]) -> None:
    """What the address asks of the selection, and no widget offers; k and layers are said where they are read."""
    addresses.warn({"restore.strategy": list(strategies), "restore.region": list(REGIONS)})


def warn_invalid_flip_params() -> None:
    """The same of the questions that flipped."""
    names = {
        "before": restore.COMPARED_WITH,
        "flip": dict(zip(restore.OUTCOMES, restore.OUTCOMES, strict=True)),
        "domain": restore.DOMAIN_CHOICES,
    }
    addresses.warn({f"restore.{name}": list(offered.values()) for name, offered in names.items()})


def pick_ranking(strategies: Mapping[str, str]) -> RestoreSpec:
    """Strategy, region and layers, in the page's address; k is 0. Raises SpecError for layers that are none.

    strategies: RestoreSpec's name -> what people read.
    """
    strategy = st.selectbox(
        "Ranking",
        list(strategies),
        key="restore.strategy",
        help=_strategy_help(strategies),
        bind="query-params",
        width=150,
    )
    region = st.selectbox(
        "Region", list(REGIONS), key="restore.region", bind="query-params", width=160, help=_REGION_HELP
    )
    layers = st.text_input(
        "Layers", key="restore.layers", bind="query-params", placeholder="all, or e.g. 0-1", width=150
    )
    return RestoreSpec(strategy, region, layers.strip() or None, NOTHING)


def with_k(ranking: RestoreSpec) -> RestoreSpec:
    """The same weights, and k from its three widgets."""
    return replace(ranking, k_percent=slider.pick_k())


_REGION_HELP = (
    "transformer: attention and MLP of all layers, without norms; embedding: input and output embeddings; all: every "
    "weight of the model"
)


def _strategy_help(strategies: Mapping[str, str]) -> str:
    meant = "; ".join(f"{name}: {order}" for name, order in strategies.items())
    return f"{meant}. r: change relative to the base weight; |d|: absolute change."


@_remembered
def delta_run(key: Key, base_id: str, tuned_id: str) -> str | None:
    """See cube.delta_run."""
    return cube.delta_run(Cache(key[0]), base_id, tuned_id)


@_remembered
def reverted(delta_id: str, spec: Frozen, root: str) -> Selection:
    """See Cube.selection; a delta run never changes."""
    return Cube(Cache(root), delta_id).selection(RestoreSpec.from_json(dict(spec)))


@_remembered
def reverted_by_place(delta_id: str, spec: Frozen, root: str) -> Places:
    """See Cube.places."""
    return Cube(Cache(root), delta_id).places(RestoreSpec.from_json(dict(spec)))


@_remembered
def reverted_curve(delta_id: str, spec: Frozen, root: str) -> pd.DataFrame:
    """See Cube.curve."""
    return Cube(Cache(root), delta_id).curve(RestoreSpec.from_json(dict(spec)))


def taken_if_compared(key: Key, details: Chain, spec: RestoreSpec) -> Selection | None:
    """What the selection amounts to; None where the two models were not compared in this cache."""
    delta_id = delta_run(key, details.base_id, details.tuned_id)
    return None if delta_id is None else reverted(delta_id, frozen(spec), key[0])


def tables_of_changes(key: Key, details: Chain, spec: RestoreSpec) -> dict[str, pd.DataFrame]:
    """The tables behind the figures of the changes; none where the models were not compared or cannot be counted."""
    try:
        delta_id = delta_run(key, details.base_id, details.tuned_id)
        if delta_id is None:
            return {}
        curve = reverted_curve(delta_id, frozen(spec, k=False), key[0])
        found = reverted_by_place(delta_id, frozen(spec), key[0])
    except SftknowError:
        return {}
    return {"changes_over_k": curve, "layers": found.layers, "modules": found.modules}


def as_it_is_now(key: Key) -> Key:
    """The key as it is now: a part of the page that draws itself again has an old one."""
    return key[0], finished_stamp(Cache(key[0]))


@_remembered
def measured(key: Key, run_id: str, spec: Frozen, question_set: str | None) -> pd.DataFrame:
    """See Chain.measured."""
    return Chain(Cache(key[0]), run_id).measured(RestoreSpec.from_json(dict(spec)), question_set)


@_remembered
def flip_counts(
    key: Key, run_id: str, shown: MeasuredState, split: str, before: MeasuredState
) -> pd.DataFrame:
    """See Chain.flip_counts."""
    return Chain(Cache(key[0]), run_id).flip_counts(shown, split, before)


@_remembered
def flipped(
    key: Key,
    run_id: str,
    shown: MeasuredState,
    split: str,
    before: MeasuredState,
    flip: str,
    domain: str,
    search: str,
) -> pd.DataFrame:
    """See Chain.flipped; domain "both" is no limit."""
    return Chain(Cache(key[0]), run_id).flipped(
        shown,
        split,
        flips=(flip,),
        domains=("in", "out") if domain == "both" else (domain,),
        search=search,
        before=before,
    )


def changes(
    key: Key, run_id: str, shown: MeasuredState, split: str, tuned: MeasuredState | None
) -> pd.DataFrame:
    """Chain.flip_counts of the shown state against tuned; empty where there is nothing to compare."""
    if tuned is None or tuned.state_id == shown.state_id:
        return pd.DataFrame()
    return flip_counts(key, run_id, shown, split, tuned)


def frozen(spec: RestoreSpec, k: bool = True) -> Frozen:
    """A spec as a key; without its k for what does not depend on it."""
    return tuple({**spec.to_json(), **({} if k else {"k_percent": "0"})}.items())


def choice(label: str, key: str, names: Mapping[str, str], meaning: str | None = None) -> str:
    """One of a few, side by side, its name in the address; the first where that names none. names: value -> name."""
    labels = {name: value for value, name in names.items()}
    chosen = str(
        st.segmented_control(
            label,
            list(labels),
            default=next(iter(labels)),
            required=True,
            key=key,
            bind="query-params",
            help=meaning,
        )
    )
    return labels[chosen]


# With which state flips are counted: tuned, or the k looked at before, which the address names as restore.from.

_FROM, _TRAIL = "restore.from", "restore.trail"
Step = tuple[Any, Percent]
"""What the reader looked at but for its k, and the k."""


def pick_before(rows: pd.DataFrame, shown: MeasuredState, place: Any) -> tuple[MeasuredState | None, str]:
    """With which state the shown one is compared, and its name; None where it is none, or not measured.

    rows: Chain.measured. shown: one of them. place: measuring.Place.
    """
    addresses.warn_number(_FROM, 0, 100, "the k looked at before, if any")
    wanted = choice("Compared with", "restore.before", restore.COMPARED_WITH)
    about = place.run_id, place.questions, frozen(place.spec, k=False)
    trail = walked(st.session_state.get(_TRAIL, []), (about, rounded_percent(shown.k_percent)), _linked())
    st.session_state[_TRAIL] = trail
    if wanted == "tuned":
        _to_address(None)
        return measured_results.tuned_state(rows, place.split), "tuned"
    if len(trail) < 2:
        _to_address(None)
        return None, ""
    k = trail[0][1]
    _to_address(k)
    found = measured_results.shown_state(rows, k, place.split)
    there = found is not None and rounded_percent(found.k_percent) == k
    return found if there else None, f"k = {k}%"


def walked(trail: Sequence[Step], here: Step, linked: Percent | None) -> list[Step]:
    """The last two steps, `here` being the last; those about something else are no previous k of it.

    linked: the k before that the address names, for a reader who has not walked yet.
    """
    steps = [one for one in trail if one[0] == here[0]]
    if not trail and linked is not None:
        steps = [(here[0], linked)]
    return [*steps] if steps and steps[-1][1] == here[1] else [*steps[-1:], here]


def _linked() -> Percent | None:
    try:
        return percent(st.query_params[_FROM])
    except (KeyError, SpecError):
        return None


def _to_address(k: Percent | None) -> None:
    """Written only where it changes: each writing is a step in the browser's history."""
    text = None if k is None else str(k)
    if text is None and _FROM in st.query_params:
        del st.query_params[_FROM]
    elif text is not None and st.query_params.get(_FROM) != text:
        st.query_params[_FROM] = text
