"""The runs of a cache as a list to choose from: what they are, how they ended, what they weigh; and making room."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages._widgets import addresses, mode, reading, show
from pages._widgets.browsing import config_of
from pages._widgets.reading import Key
from sftknow_core.errors import SftknowError
from sftknow_core.pipeline.passes import size
from sftknow_core.present import columns
from sftknow_core.present.text import training
from sftknow_core.results import training as training_results
from sftknow_core.store import gc
from sftknow_core.store.cache import Cache

_NAME = "fine_tune"
_DONE = f"{_NAME}.done"
_KINDS: Mapping[str, tuple[str, ...]] = {"chains and fine-tunings": ("chain", "sft"), "all": ()}
_UNFINISHED = "not finished"


def table(key: Key) -> pd.DataFrame:
    """See results.training.run_table."""
    return _table(reading.at_work(key))


@st.cache_data(show_spinner=False, max_entries=8, ttl=10)  # a killed job leaves no trace: look again
def _table(key: Key) -> pd.DataFrame:
    return training_results.run_table(Cache(key[0]))


def would_go(key: Key) -> gc.Collected:
    """What "keep the best" would delete now."""
    return _would_go(reading.at_work(key))


@st.cache_data(show_spinner=False, max_entries=4, ttl=10)
def _would_go(key: Key) -> gc.Collected:
    return gc.gc(Cache(key[0]), dry_run=True)


@st.cache_data(show_spinner=False, max_entries=8)
def base_models(key: Key) -> pd.DataFrame:
    """See results.training.base_models."""
    return training_results.base_models(Cache(key[0]))


def runs(key: Key) -> None:
    """The list with its filter, deleting what is chosen, and keeping only the best weights."""
    if said := st.session_state.pop(_DONE, None):
        (st.success if said[0] else st.error)(said[1])
    everything = table(key)
    st.caption(training.counted(Counter(everything["state"])) + ".")
    if everything.empty:
        return
    options = [*_KINDS, _UNFINISHED]
    addresses.warn({f"{_NAME}.show": options})
    wanted = st.segmented_control(
        "Show", options, default=options[0], required=True, key=f"{_NAME}.show", bind="query-params"
    )
    chosen = _list(_matching(everything, wanted))
    if not mode.actions_allowed():
        return
    with st.container(horizontal=True):
        _deletion(key, chosen)
        _keeping(key, everything)


def _matching(rows: pd.DataFrame, wanted: str) -> pd.DataFrame:
    if wanted == _UNFINISHED:
        return rows[rows["state"] != "done"].reset_index(drop=True)
    kinds = _KINDS[wanted]
    return rows[rows["kind"].isin(kinds)].reset_index(drop=True) if kinds else rows


def _list(rows: pd.DataFrame) -> tuple[str, ...]:
    """The table; returns the run ids that are ticked."""
    shown = rows.assign(
        size=rows["with_stages_bytes"] / 1e6,
        weights=rows["has_weights"].map({True: "yes", False: "–"}),
        created_at=rows["created_at"].str[:16].str.replace("T", " "),
    )
    names = ["kind", "what", "state", "size", "weights", "seconds", "created_at", "reason", "run_id"]
    shown_as = config_of(columns.table("runs"), names, {"what": 270}, None)
    # a tick is a row's number: another list of rows must not inherit it
    stamp = hashlib.sha256("".join(rows["run_id"]).encode()).hexdigest()[:8]
    table: dict[str, Any] = {
        "hide_index": True, "column_config": shown_as, "column_order": names, "placeholder": "–",
        "key": f"{_NAME}.runs.{stamp}", "alt": "Runs of this cache, newest first",
    }  # fmt: skip
    picked: list[int] = []
    if mode.actions_allowed():
        event = st.dataframe(shown, on_select="rerun", selection_mode="multi-row", **table)
        picked = event["selection"]["rows"]
    else:
        st.dataframe(shown, **table)
    show.downloads(rows, f"{_NAME}.runs")
    return tuple(rows["run_id"].iloc[[i for i in picked if i < len(rows)]])


def _deletion(key: Key, chosen: tuple[str, ...]) -> None:
    """A button that opens what would go; a second one in it deletes."""
    label = f"Delete {len(chosen):,} selected …" if chosen else "Delete selected …"
    with st.popover(
        label, disabled=not chosen, help=None if chosen else "Select runs at the left edge of the list."
    ):
        with_stages = st.checkbox(
            "Include stages that no other run uses", True, key=f"{_NAME}.with_stages",
            help="Fine-tuned weights, answers and weight comparison. Mastery scores are kept.",
        )  # fmt: skip
        plan = training_results.plan_removal(Cache(key[0]), chosen, with_stages=with_stages)
        st.markdown(training.what_goes(plan))
        st.button(
            "Delete permanently",
            type="primary",
            key=f"{_NAME}.delete",
            on_click=_delete,
            args=(key[0], plan.run_ids),
        )


def _delete(root: str, run_ids: tuple[str, ...]) -> None:
    try:
        freed = gc.remove_runs(Cache(root), run_ids)
    except SftknowError as error:
        st.session_state[_DONE] = (False, f"Nothing was deleted: {error}")
        return
    st.session_state[_DONE] = (True, f"Deleted {len(run_ids):,} runs; {size(freed)} freed.")


def _keeping(key: Key, everything: pd.DataFrame) -> None:
    with st.popover("Free disk space …"):
        st.markdown(
            "Keeps, for each base model, the weights of the fine-tuned model with the highest in-domain dev accuracy "
            "and deletes the others. All results are kept. To evaluate a new k on a deleted model, repeat its command."
        )
        plan = would_go(key)
        if not plan.removed:
            st.caption("Nothing to delete: no other finished fine-tuning has weights.")
            return
        names = everything.set_index("run_id")["what"]
        st.markdown(
            f"**{len(plan.removed):,} checkpoints would be deleted**, which frees **{size(plan.freed_bytes)}**:"
        )
        st.dataframe(
            pd.DataFrame({"what": [names.get(i, i) for i in plan.removed], "run id": plan.removed}),
            hide_index=True, height=160, key=f"{_NAME}.goes", alt="Runs whose weights would be deleted",
        )  # fmt: skip
        kept = "; ".join(f"{names.get(run_id, run_id)} ({why})" for run_id, why in plan.kept)
        st.caption(f"Kept: {kept or 'none'}.")
        st.button(
            "Delete these weights", type="primary", key=f"{_NAME}.collect", on_click=_collect, args=(key[0],)
        )


def _collect(root: str) -> None:
    try:
        gone = gc.gc(Cache(root))
    except SftknowError as error:
        st.session_state[_DONE] = (False, f"Not all weights were deleted: {error}")
        return
    said = f"Deleted the weights of {len(gone.removed):,} runs; {size(gone.freed_bytes)} freed."
    st.session_state[_DONE] = (True, said)
