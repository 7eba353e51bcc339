"""What is in the cache, in lists: base models, runs by kind and state, and studies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import streamlit as st

from pages._widgets import run_list, show, studies
from pages._widgets.reading import Key
from sftknow_core.present.text import training
from sftknow_core.results import training as training_results

_STUDIES = Path(__file__).parents[1] / "study.py"
KINDS = (
    "chain: all about one fine-tuned model, made of the others; mastery: how well base knows each fact; sft: a "
    "fine-tuning; delta: its weights against base; evaluate: one state's answers; study: chains over a grid of mastery "
    "levels and N, with what they say of the paper's claims"
)
COUNT_COLUMNS = {
    "kind": (
        "kind", f"{KINDS}.", None,
    ),
    "state": ("state", "done, running, stopped, failed, or interrupted (killed)", None),
    "n_runs": ("runs", "", "{:,.0f}"),
    "size_mb": ("size (MB)", "on disk", "{:,.2f}"),
}  # fmt: skip
MODEL_COLUMNS = {
    "name": ("model", "as it was named when it was used first", None),
    "architecture": ("architecture", "", None),
    "n_params": ("parameters", "tied ones once", "{:,.0f}"),
    "dtype": ("dtype", "of the stored weights", None),
    "size_mb": ("size (MB)", "of its folder", "{:,.2f}"),
    "used_by": ("used by", "finished runs that started from it, by kind", None),
    "model_id": ("model id", "hash of weights, config and tokenizer", None),
    "path": ("folder", "", None),
}
STUDY_COLUMNS = {
    "name": ("study", "its file's name, or that of a shipped one", None),
    "base_name": ("base model", "", None),
    "n_done": ("cells done", "a cell: one mastery level and N, with all its seeds", "{:,.0f}"),
    "n_cells": ("of", "cells in all", "{:,.0f}"),
    "state": ("state", "done, running, stopped, failed, or interrupted (killed)", None),
    "run_id": ("run id", "", None),
}


def everything(key: Key) -> None:
    """A section of a page; nothing where the cache is empty."""
    runs = run_list.table(key)
    models = run_list.base_models(key)
    if runs.empty and models.empty:
        return
    st.subheader("Cache contents")
    st.caption(
        f"Folder `{key[0]}`. Base models are what runs started from; runs are what was computed. {KINDS}."
    )
    if models.empty:
        st.caption("No base model is on record yet.")
    else:
        sized = models.assign(size_mb=models["size_bytes"] / 1e6)[list(MODEL_COLUMNS)]
        show.listed(sized, "overview.models", "Base models of this cache", MODEL_COLUMNS)
    st.caption(training.counted(Counter(runs["state"])) + ".")
    counts = training_results.state_counts(runs)
    counts = counts.assign(size_mb=counts.pop("size_bytes") / 1e6)
    show.listed(counts, "overview.runs", "Runs of this cache by kind and state", COUNT_COLUMNS)
    _studies(key)


def _studies(key: Key) -> None:
    if not (found := studies.studies(key)):
        return
    st.markdown("**Studies**")
    table = pd.DataFrame(found)
    table["base_name"] = table["base_name"].where(table["base_name"] != "", table["base_id"])
    show.listed(table[list(STUDY_COLUMNS)], "overview.studies", "Studies of this cache", STUDY_COLUMNS)
    st.page_link(_STUDIES, label="View studies", icon=":material/arrow_forward:")
