"""What is in the cache, in lists: base models, runs by kind and state, and studies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import streamlit as st

from pages._widgets import run_list, show, studies
from pages._widgets.reading import Key
from sftknow_core.present import columns
from sftknow_core.present.text import training
from sftknow_core.results import training as training_results

_STUDIES = Path(__file__).parents[1] / "study.py"
_MODELS = ["name", "architecture", "n_params", "dtype", "size_mb", "used_by", "model_id", "path"]
_STUDIES_SHOWN = ["name", "base_name", "n_done", "n_cells", "state", "run_id"]


def everything(key: Key) -> None:
    """A section of a page; nothing where the cache is empty."""
    runs = run_list.table(key)
    models = run_list.base_models(key)
    if runs.empty and models.empty:
        return
    st.subheader("Cache contents")
    st.caption(f"Folder `{key[0]}`. {columns.RUN_KINDS}.")
    if models.empty:
        st.caption("No base model yet.")
    else:
        sized = models.assign(size_mb=models["size_bytes"] / 1e6)[_MODELS]
        show.listed(sized, "overview.models", "Base models of this cache", columns.table("models"))
    st.caption(training.counted(Counter(runs["state"])) + ".")
    counts = training_results.state_counts(runs)
    counts = counts.assign(size_mb=counts.pop("size_bytes") / 1e6)
    show.listed(counts, "overview.runs", "Runs of this cache by kind and state", columns.table("runs"))
    _studies(key)


def _studies(key: Key) -> None:
    if not (found := studies.studies(key)):
        return
    st.markdown("**Studies**")
    table = pd.DataFrame(found)
    table["base_name"] = table["base_name"].where(table["base_name"] != "", table["base_id"])
    show.listed(table[_STUDIES_SHOWN], "overview.studies", "Studies of this cache", columns.table("studies"))
    st.page_link(_STUDIES, label="View studies", icon=":material/arrow_forward:")
