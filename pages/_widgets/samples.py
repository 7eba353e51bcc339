"""The completions behind one fact's mastery, sampled again by the evaluation worker, since no run stores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages._widgets import engine, mode, show
from sftknow_core.present.text import mastery
from sftknow_core.serve.engine.client import AnswerState
from sftknow_core.serve.engine.protocol import Models, SampleRequest

_SLOT = "facts.samples"


def drawn_again(root: str, details: Mapping[str, Any], fact: Mapping[str, Any]) -> None:
    """A button, progress, and then the completions by template; words where the prompts are not known."""
    prompts, _ = mastery.prompts_of(fact, details["inputs"].get("topics"))
    if prompts is None or not mode.actions_allowed():
        return
    wish = (details["run_id"], fact["fact_id"])
    now = engine.standing(_SLOT, root)
    if now is None or now.about != wish:
        st.button(
            "Sample again",
            key="facts.draw",
            on_click=_ask,
            args=(root, wish, details, prompts),
            help="Samples the same completions with the base model (seconds for a small model).",
        )
    elif not now.state.ended:
        engine.watch(_SLOT, root)
    elif now.state is AnswerState.DONE:
        table = mastery.sample_table(prompts, now.results[0]["completions"])
        show.listed(table, "facts.samples", "Completions of this fact by template")
    else:
        engine.failed(_SLOT, root, now)


def _ask(root: str, wish: tuple[str, str], details: Mapping[str, Any], prompts: list[str]) -> None:
    base = details["model"] if details["model"] == "demo" else details["model_id"]
    params = details["params"]
    request = SampleRequest(
        models=Models(base=base, base_id=details["model_id"]),
        fact_id=wish[1],
        texts=tuple(prompts),
        n_samples=params["n_samples"],
        temperature=params["temperature"],
        max_new_tokens=params["max_new_tokens"],
        seed=params["seed"],
    )
    engine.ask(_SLOT, root, wish, {"drawing samples": request})
