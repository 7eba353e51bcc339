"""k in percent, in widgets that move each other; the address always names it, and other pages start from it."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import streamlit as st

from sftknow_core.results.cube import PAPER_KS
from sftknow_core.update.spec import Percent, rounded_percent

_K, _SLIDER, _QUICK = "restore.k", "restore.slider", "restore.quick"
SHARED_K = "shared.k"
"""The k last looked at, for other pages of the same session."""
FIRST_K = 20.0
"""Until a reader has chosen another."""
_MOVED = "restore.moved"
_UNHEARD_SECONDS = 3.0


class _Move(NamedTuple):
    """The reader moved one of the widgets."""

    widget: str
    before: float
    after: float
    at: float
    """time.monotonic()"""


def pick_k() -> Percent:
    """k in percent: a field (up to 4 places), a slider in halves, and the paper's seven; each moves the others."""
    _start_at()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        field, rail = st.container(width=140), st.container(width="stretch")
    with field:
        k = field_of_k("k (%)", _K, on_change=_take_over, args=(_K,))
    st.session_state[SHARED_K] = float(k)
    _follow(_SLIDER, round(2 * float(k)) / 2)
    _follow(_QUICK, str(k) if str(k) in PAPER_KS else None)
    with rail:
        st.slider(
            "Share of the region's weights reverted, k (%)",
            0.0,
            100.0,
            step=0.5,
            key=_SLIDER,
            format="%g%%",
            on_change=_take_over,
            args=(_SLIDER,),
        )
    st.pills(
        "Paper's values",
        PAPER_KS,
        format_func="{}%".format,
        key=_QUICK,
        on_change=_take_over,
        args=(_QUICK,),
    )
    return k


def field_of_k(label: str, key: str, **how: Any) -> Percent:
    """A field for k that the address always names. Call `start_k` before it.

    Streamlit takes a value out of the address when it is the widget's default: the default here is none at all, so
    that 0 stays too. Empty is then what the browser's back to an address without k leaves: k is set anew.
    """
    k = st.number_input(
        label,
        0.0,
        100.0,
        value=None,
        required=True,
        step=0.5,
        format="%g",
        key=key,
        bind="query-params",
        **how,
    )
    if k is None:
        st.rerun()
    return rounded_percent(k)


def start_k(key: str, usual: float) -> None:
    """k where neither the address nor the widget gives one: the one last looked at, else `usual`.

    It goes into the address too, so that a link copied from there shows the same to others.
    """
    k = float(st.session_state.get(SHARED_K, usual))
    if key not in st.session_state and key not in st.query_params:
        st.session_state[key] = k
        st.query_params[key] = f"{k:g}"
    elif key in st.session_state and st.session_state[key] is None:
        st.session_state[key] = k


def _follow(widget: str, value: Any) -> None:
    """Only where it changes: a value that is set takes a slider out of the hand that is just dragging it."""
    if widget not in st.session_state or st.session_state[widget] != value:
        st.session_state[widget] = value


def _take_over(widget: str) -> None:
    """The widget was moved: k goes with it.

    The browser sends the values of all widgets with whatever it asks, also when a part of the page that draws itself
    asks before the other widgets have heard of a move. Their old k is then no move back.
    """
    if (given := st.session_state[widget]) is None:
        return
    k, last = float(given), st.session_state.get(_MOVED)
    if last is not None and _is_unheard(last, widget, k):
        st.session_state[_K] = last.after
        return
    st.session_state[_MOVED] = _Move(widget, float(st.session_state.get(SHARED_K, k)), k, time.monotonic())
    st.session_state[_K] = k


def _is_unheard(last: _Move, widget: str, k: float) -> bool:
    rounding = 0.25 if widget == _SLIDER else 0.0
    recent = time.monotonic() - last.at < _UNHEARD_SECONDS
    return recent and widget != last.widget and abs(k - last.before) <= rounding


def _start_at() -> None:
    """As `start_k`; what is no k in the address is said."""
    given = st.query_params.get(_K)
    try:
        good = given is None or 0 <= float(given) <= 100
    except ValueError:
        good = False
    if not good:
        st.warning(f"k = {given!r} isn't between 0 and 100. Showing k = {FIRST_K:g}%.")
        del st.query_params[_K]
        st.session_state.pop(_K, None)
    start_k(_K, FIRST_K)
