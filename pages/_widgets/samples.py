"""The completions behind one fact's mastery, sampled again by the evaluation worker, since no run stores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages._widgets import engine, mode, show
from sftknow_core.present.text import mastery
from sftknow_core.results.mastery import Mastery
from sftknow_core.serve.engine.client import AnswerState
from sftknow_core.serve.engine.protocol import Models, SampleRequest

_SLOT = "facts.samples"


def drawn_again(root: str, run: Mastery, fact: Mapping[str, Any]) -> None:
    """A button, progress, and then the completions by template; words where the prompts are not known."""
    prompts, _ = mastery.prompts_of(fact, run.topics_id)
    if prompts is None or not mode.actions_allowed():
        return
    wish = (run.run_id, fact["fact_id"])
    now = engine.standing(_SLOT, root)
    if now is None or now.about != wish:
        st.button(
            "Sample again",
            key="facts.draw",
            on_click=_ask,
            args=(root, wish, run, prompts),
            help="Samples the same completions with the base model (seconds for a small model).",
        )
    elif not now.state.ended:
        engine.watch(_SLOT, root)
    elif now.state is AnswerState.DONE:
        table = mastery.sample_table(prompts, now.results[0]["completions"])
        show.listed(table, "facts.samples", "Completions of this fact by template")
    else:
        engine.failed(_SLOT, root, now)


def _ask(root: str, wish: tuple[str, str], run: Mastery, prompts: list[str]) -> None:
    base = run.model if run.model == "demo" else run.model_id
    way = run.sampling
    request = SampleRequest(
        models=Models(base=base, base_id=run.model_id),
        fact_id=wish[1],
        texts=tuple(prompts),
        n_samples=way.n_samples,
        temperature=way.temperature,
        max_new_tokens=way.max_new_tokens,
        seed=way.seed,
    )
    engine.ask(_SLOT, root, wish, {"drawing samples": request})
