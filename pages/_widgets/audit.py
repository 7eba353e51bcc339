"""The matcher's audit on a page: one stored completion after another, judged by keys and kept in a CSV of the cache."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import streamlit as st

from pages._widgets import mode, show
from sftknow_core.present.terminal import audit_lines
from sftknow_core.results.audit import DEFAULT_N, RIGHT, UNSURE, WRONG, Audit, draw, read_audit
from sftknow_core.store.cache import Cache, check_may_write

_SHOWN = "audit.shown"
_BUTTONS = ((RIGHT, "Right", "Y"), (WRONG, "Wrong", "N"), (UNSURE, "Unsure", "U"))
ABOUT = (
    "How often is the matcher wrong? Judge completions drawn at random, half of them called right and half called "
    "wrong; which, is not shown. Judgements change no stored verdict and no accuracy."
)


def file_of(root: str, run_id: str) -> Path:
    """Where a run's judged completions are kept; `sftknow audit-matcher --judged` reads the same file."""
    return Path(root) / "audits" / f"{run_id}.csv"


@st.fragment
def section(root: str, run_id: str) -> None:
    """Draw a sample of a chain's completions, judge it, and say what the judgements show so far."""
    st.caption(ABOUT)
    path = file_of(root, run_id)
    if not path.exists():
        allowed = mode.actions_allowed()
        if not st.button(f"Draw {DEFAULT_N} completions", key="audit.draw", disabled=not allowed):
            return
        with show.messages():
            check_may_write("draw completions to judge")
            draw(Cache(root), [run_id]).save(path)
    with show.messages():
        audit = read_audit(path)
    _one(audit, path)
    st.markdown("\n".join(f"- {line}" for line in audit_lines(asdict(audit.rates()))))
    st.caption(f"Kept in `{path}`. In brackets: 95% CI.")


def _one(audit: Audit, path: Path) -> None:
    """The completion to judge, with its question and answers."""
    n = len(audit.rows)
    number = st.session_state.get(_SHOWN, {}).get(str(path), audit.next_open)
    if number is None or not 0 <= number < n:
        st.success(f"All {n:,} completions are judged.")
        number = n
    else:
        row = audit.rows[number]
        st.markdown(
            f"**Completion {number + 1:,} of {n:,}**" + (f", judged {row.judged}" if row.judged else "")
        )
        with st.container(border=True):
            for name, text in (
                ("Question", row.question),
                ("Correct answers", row.objects.replace("|", ", ")),
                ("Completion", row.completion.strip() or "(nothing)"),
            ):
                st.caption(name)
                st.text(text)
    with st.container(horizontal=True):
        for judged, label, key in _BUTTONS:
            st.button(
                label,
                key=f"audit.{judged}",
                shortcut=key,
                disabled=number == n or not mode.actions_allowed(),
                on_click=_judge,
                args=(path, number, judged),
            )
        st.button(
            "← Previous", key="audit.previous", disabled=number == 0, on_click=_show, args=(path, number - 1)
        )
        at_end = number >= n - 1
        st.button("Next →", key="audit.next", disabled=at_end, on_click=_show, args=(path, number + 1))


def _judge(path: Path, number: int, judged: str) -> None:
    """Into the file as it is now: another reader may have judged others since."""
    with show.messages():
        check_may_write("keep judgements")
        read_audit(path).judge(number, judged).save(path)
    _show(path, None)


def _show(path: Path, number: int | None) -> None:
    """None: the first that is not judged."""
    chosen = st.session_state.setdefault(_SHOWN, {})
    chosen.pop(str(path), None)
    if number is not None:
        chosen[str(path)] = number
