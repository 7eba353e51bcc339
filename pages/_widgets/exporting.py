"""Taking the selection along: data and recipe to the browser, folder and patch to the server's disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pandas as pd
import streamlit as st

from pages._widgets import engine, jobs, mode
from pages._widgets.reading import Key
from sftknow_core.errors import SftknowError
from sftknow_core.present.text import restore, restore_cards
from sftknow_core.results.chain import Chain
from sftknow_core.serve.engine.client import AnswerState
from sftknow_core.serve.engine.protocol import Models, RecipeRequest
from sftknow_core.serve.job_specs import ExportJob
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import RestoreSpec

_SLOT = "restore.recipe"


def section(
    key: Key,
    details: Chain,
    spec: RestoreSpec,
    tables: Callable[[], Mapping[str, pd.DataFrame]],
) -> None:
    """All ways to take the selection along. tables: makes the figures' tables, only when they are asked for."""
    st.subheader(f"Take it along: k = {spec.k_percent:f}%")
    name = f"{details.tuned_id}-{spec.strategy}-{spec.k_percent:f}"
    about = restore_cards.selection(details, spec)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Figures' data (zip of CSV)",
            lambda: restore_cards.data_zip(tables(), about),
            f"restore-{name}.zip",
            "application/zip",
            key="restore.data",
            on_click="ignore",
            help="Every measured row of this strategy, region and layers, and the curves and places of this page.",
        )
        st.download_button(
            "Selection (JSON)",
            json.dumps(about, indent=1, ensure_ascii=False) + "\n",
            f"selection-{name}.json",
            "application/json",
            key="restore.selection",
            on_click="ignore",
            help="Which weights of which two models go back, and the command that makes the model.",
        )
        if mode.actions_allowed() and not _zero(spec):
            _recipe(key[0], details, spec, name)
    st.caption(restore.EXPORTS)
    if not mode.actions_allowed():
        mode.explain_read_only()
    elif _zero(spec):
        st.caption("k = 0% puts nothing back: that is the tuned model as it is.")
    else:
        _to_disk(key[0], details, spec)


def _zero(spec: RestoreSpec) -> bool:
    return not spec.k_percent


def _models(details: Chain) -> Models:
    base = details.base_name if details.base_name == "demo" else details.base_id
    return Models(base, details.tuned_id, details.base_id, details.tuned_id)


def _recipe(root: str, details: Chain, spec: RestoreSpec, name: str) -> None:
    """A button that has the engine make the recipe, and then one that downloads it."""
    wish = (details.tuned_id, json.dumps(spec.to_json()))
    now = engine.standing(_SLOT, root)
    if now is not None and now.about == wish and now.state is AnswerState.DONE:
        st.download_button(
            "Download the recipe (JSON)", now.results[0]["recipe"], f"recipe-{name}.json", "application/json",
            key="restore.recipe_download", on_click="ignore", help=restore.RECIPE_HELP,
        )  # fmt: skip
    elif now is not None and now.about == wish and not now.state.ended:
        engine.watch(_SLOT, root)
    else:
        if now is not None and now.about == wish:
            engine.failed(_SLOT, root, now)
        elif st.button("Make the recipe", key="restore.recipe_make", help=restore.RECIPE_HELP):
            try:
                engine.ask(_SLOT, root, wish, {"recipe": RecipeRequest(_models(details), spec)})
            except SftknowError as error:
                st.error(str(error))
            else:
                engine.watch(_SLOT, root)


def _to_disk(root: str, details: Chain, spec: RestoreSpec) -> None:
    """A form for a path on the server's disk; never filled from the address."""
    with st.form("restore.export", border=True):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            kind = st.selectbox("Write", list(restore.EXPORT_KINDS), key="restore.export_kind", width=230)
            path = st.text_input(
                "New path on the server's disk",
                key="restore.export_path",
                placeholder="full path of a folder or file that does not exist yet",
                width="stretch",
            )
            asked = st.form_submit_button("Write it")
        st.caption(restore.EXPORT_KINDS[kind])
    if asked:
        option = "out" if kind.startswith("Hugging") else "patch"
        models = _models(details)
        job = ExportJob(
            base=models.base,
            tuned=str(models.tuned),
            k=f"{spec.k_percent:f}",
            strategy=str(spec.strategy),
            region=spec.region,
            layers=spec.layers,
            **{option: path.strip()},
        )
        jobs.start(Cache(root), job)
    jobs.panel(Cache(root), "restore", command="restore")
