"""With which state flips are counted: tuned, or the k looked at before, which the address names as restore.from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages._widgets import addresses, restoring
from sftknow_core.present.text import restore
from sftknow_core.results import restored

_FROM, _TRAIL = "restore.from", "restore.trail"
_SAME_K = 1e-9
Step = tuple[Any, float]
"""What the reader looked at but for its k, and the k in percent."""


def pick_before(
    rows: pd.DataFrame, shown: Mapping[str, Any], place: Any
) -> tuple[Mapping[str, Any] | None, str]:
    """With which state the shown one is compared, and its name; None where it is none, or not measured.

    rows: restore_views.measured. shown: one of them. place: measuring.Place.
    """
    addresses.say_number(_FROM, 0, 100, "the k looked at before, if any")
    wanted = restoring.choice("Compared with", "restore.before", restore.COMPARED_WITH)
    about = place.run_id, place.questions, restoring.frozen(place.spec, k=False)
    trail = walked(st.session_state.get(_TRAIL, []), (about, float(shown["k_percent"])), _linked())
    st.session_state[_TRAIL] = trail
    if wanted == "tuned":
        _to_address(None)
        return restored.tuned_state(rows, place.split), "tuned"
    if len(trail) < 2:
        _to_address(None)
        return None, ""
    k = trail[0][1]
    _to_address(k)
    found = restored.shown_state(rows, k, place.split)
    there = found is not None and abs(found["k_percent"] - k) < _SAME_K
    return found if there else None, f"k = {k:g}%"


def walked(trail: Sequence[Step], here: Step, linked: float | None) -> list[Step]:
    """The last two steps, `here` being the last; those about something else are no previous k of it.

    linked: the k before that the address names, for a reader who has not walked yet.
    """
    steps = [one for one in trail if one[0] == here[0]]
    if not trail and linked is not None:
        steps = [(here[0], linked)]
    return [*steps] if steps and abs(steps[-1][1] - here[1]) < _SAME_K else [*steps[-1:], here]


def _linked() -> float | None:
    try:
        k = float(st.query_params[_FROM])
    except (KeyError, ValueError):
        return None
    return k if 0 <= k <= 100 else None


def _to_address(k: float | None) -> None:
    """Written only where it changes: each writing is a step in the browser's history."""
    text = None if k is None else f"{k:g}"
    if text is None and _FROM in st.query_params:
        del st.query_params[_FROM]
    elif text is not None and st.query_params.get(_FROM) != text:
        st.query_params[_FROM] = text
