"""What a page's address asks for and no widget offers: said above the widgets, which show something else instead.

Streamlit lets such a value fall back without a word. `say` and `say_number` come before the widgets they speak of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import streamlit as st

_SAID = "shared.wrong_in_address"
_SECONDS_TO_READ = 30.0
"""A widget takes its wrong value out of the address; a page that redraws itself must not take the message too."""
_MOST_LISTED = 15
ON_OFF = ("false", "true")
NOTHING = "nothing: it is left out"


def warn(offers: Mapping[str, Sequence[str]], instead: Mapping[str, str] | None = None) -> None:
    """A warning for each value that is not offered.

    offers: parameter -> what its widget offers, as it stands in the address. instead: parameter -> what is shown, for
    people; without it the first that is offered.
    """
    for name, choices in offers.items():
        listed = ", ".join(choices[:_MOST_LISTED]) + (", …" if len(choices) > _MOST_LISTED else "")
        shown = (instead or {}).get(name) or next(iter(choices), NOTHING)
        _check(name, choices.__contains__, listed or "nothing here", shown)


def warn_each(offers: Mapping[str, Sequence[str]]) -> None:
    """The same for widgets in which several can be chosen, which leave out what is wrong."""
    warn(offers, dict.fromkeys(offers, NOTHING))


def warn_number(name: str, low: float, high: float, instead: str, *, is_new: bool = True) -> None:
    """A warning where the parameter is no number from low to high; high may be infinite.

    is_new: whether the address is looked at; without, only what was said before is said again.
    """

    def fits(value: str) -> bool:
        try:
            return low <= float(value) <= high
        except ValueError:
            return False

    allowed = f"{low:g} to {high:g}" if high < float("inf") else f"a number, {low:g} or more"
    _check(name, fits, allowed, instead, is_new)


def _check(
    name: str, is_good: Callable[[str], bool], allowed: str, instead: str, is_new: bool = True
) -> None:
    said: dict[str, tuple[float, list[str]]] = st.session_state.setdefault(_SAID, {})
    given = st.query_params.get_all(name) if is_new else []
    wrong = [value for value in given if value and not is_good(value)]  # empty: cleared by the reader
    if wrong:
        said[name] = (time.monotonic(), wrong)
    elif given or (name in said and time.monotonic() - said[name][0] > _SECONDS_TO_READ):
        said.pop(name, None)
    for value in said[name][1] if name in said else []:
        st.warning(f"{name} = {value!r} isn't available (allowed: {allowed}). Showing {instead}.")


def named_choice(label: str, key: str, names: Mapping[str, str]) -> str:
    """One of a few, side by side; the first where the address has none of them. names: value in the address -> shown.

    A bound widget would have the shown names in the address, which are free to change; links are not.
    """
    wanted, first = st.query_params.get(key), next(iter(names))
    if wanted is not None and wanted not in names:
        del st.query_params[key]
    shown = f"{key}.shown"
    st.session_state[shown] = wanted if wanted in names else first

    def to_address() -> None:
        if (chosen := str(st.session_state[shown])) == first:
            st.query_params.pop(key, None)
        else:
            st.query_params[key] = chosen

    return str(
        st.segmented_control(
            label,
            list(names),
            format_func=names.__getitem__,
            required=True,
            key=shown,
            on_change=to_address,
        )
    )


# Which run a page shows: a list of those there are, and `run` in the page's address.
#
# Going to another page by the bar at the top drops `run` from the address and forgets the list: what was chosen last is
# kept in the session beside them, and put back.

PARAMETER = "run"


def pick_chain(finished: pd.DataFrame) -> str:
    """The run id of the chosen chain. finished: Survey.finished, not empty; see `pick_one`."""
    labels = dict(zip(finished["run_id"], finished["label"], strict=True))
    wanted = st.query_params.get(PARAMETER)
    return pick_one("Fine-tuning run", "shared.run", labels, wanted, "Run")


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
        st.warning(f'{kind} "{wanted}" not found. Showing the one selected below.')
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
