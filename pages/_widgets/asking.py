"""Widgets of the page "Ask": the prompt, examples, and the evaluation worker's answers."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
import streamlit as st

from pages._widgets import addresses, engine, mode, restoring, show, slider
from pages._widgets.reading import Key
from sftknow_core.errors import SpecError
from sftknow_core.present.charts import tokens as tokens_charts
from sftknow_core.present.text import ask as ask_text
from sftknow_core.present.text.restore import OUTCOMES
from sftknow_core.results import measured
from sftknow_core.results.chain import Chain
from sftknow_core.serve.engine.client import AnswerState
from sftknow_core.serve.engine.protocol import AskRequest, Models
from sftknow_core.update.spec import NOTHING, Percent, RestoreSpec

_SLOT = "ask.asked"
_TEXT, _K, _PROMPT = "ask.text", "ask.k", "ask.prompt"
_MOST_LETTERS = 2_000
_N_EXAMPLES = 3


class Question(NamedTuple):
    """What is asked."""

    text: str
    prompt: str
    k: Percent


def pick(key: Key, run_id: str, details: Chain) -> Question | None:
    """The form; the question once its button is pressed. A link fills it in, and never asks."""
    _start(details)
    _examples(key, run_id)
    with st.form("ask.form", border=True):
        text = st.text_area(
            "Prompt",
            key=_TEXT,
            bind="query-params",
            max_chars=_MOST_LETTERS,
            height=80,
            placeholder="Where was … born?",
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            k = slider.field_of_k(
                "Restored: k (%)",
                _K,
                width=170,
                help="Share of the transformer layers' weights reverted, largest relative change first.",
            )
            prompt = restoring.choice("How it is sent", _PROMPT, ask_text.PROMPTS, ask_text.PROMPT_HELP)
            pressed = st.form_submit_button(
                "Ask base, tuned and restored", type="primary", disabled=not mode.actions_allowed()
            )
    st.session_state[slider.SHARED_K] = float(k)
    return Question(text, prompt, k) if pressed else None


def _start(details: Chain) -> None:
    """k is the one last looked at on another page, else the chosen one, unless the address says otherwise.

    Where the chosen one is 0 restored would be tuned once more: then a usual one.
    """
    chosen = details.best_k or slider.FIRST_K
    addresses.warn_number(_K, 0, 100, f"{float(st.session_state.get(slider.SHARED_K, chosen)):g}")
    addresses.warn({_PROMPT: list(ask_text.PROMPTS.values())})
    if not _is_k(st.query_params.get(_K, "0")):
        del st.query_params[_K]
    slider.start_k(_K, chosen)


def _is_k(text: str) -> bool:
    try:
        return 0 <= float(text) <= 100
    except ValueError:
        return False


def _examples(key: Key, run_id: str) -> None:
    """Questions of the chain's own set whose answer changed, to click."""
    found = changed(restoring.as_it_is_now(key), run_id)
    if found.empty:
        return
    k = float(found.k_percent.iloc[0])
    st.caption(f"Questions of this run whose answer changed at k = {k:g}%:")
    with st.container(horizontal=True):
        for number, row in enumerate(found.to_dict("records")):
            st.button(
                f"{row['question']} ({OUTCOMES[row['flip']]})",
                key=f"ask.example.{number}",
                on_click=_take,
                args=(row["question"], k),
                help=f"Gold answer: {row['gold']}. Recovered: incorrect → correct by restoring; broken: the reverse.",
            )


def _take(text: str, k: float) -> None:
    """A question as an example of the k at which its answer changed."""
    st.session_state[_TEXT] = text
    st.session_state[_K] = k


@st.cache_data(show_spinner=False, max_entries=64)
def changed(key: Key, run_id: str) -> pd.DataFrame:
    """A few recovered and broken test questions at the chosen k; where that is 0, at the k nearest to the usual one.

    k_percent: the k at which the answer changed.
    """
    rows = restoring.measured(key, run_id, restoring.frozen(RestoreSpec(k_percent=NOTHING)), None)
    chosen = rows.loc[rows["chosen"], "k_percent"]
    k = float(chosen.iloc[0]) if len(chosen) else 0.0
    shown = measured.nearest_state(rows, k or slider.FIRST_K, "test")
    tuned = measured.tuned_state(rows, "test")
    if shown is None or tuned is None:
        return pd.DataFrame()
    parts = [
        restoring.flipped(key, run_id, shown, "test", tuned, flip, "both", "").head(_N_EXAMPLES)
        for flip in ("healed", "broken")
    ]
    return pd.concat(parts, ignore_index=True).assign(k_percent=shown.k_percent)


def ask(root: str, run_id: str, details: Chain, question: Question) -> None:
    """Hand the question to the engine. Raises SpecError for an empty one."""
    if not question.text.strip():
        raise SpecError("Enter a question or pick an example.")
    base = details.base_name if details.base_name == "demo" else details.base_id
    models = Models(base=base, tuned=details.tuned_id, base_id=details.base_id, tuned_id=details.tuned_id)
    restored = RestoreSpec(k_percent=question.k)
    request = AskRequest(
        models=models,
        texts=(question.text.strip(),),
        states=("base", "tuned", restored),
        prompt=question.prompt,
    )
    engine.ask(_SLOT, root, (run_id, question), {"asking": request})


def answers(root: str, run_id: str) -> None:
    """The answers, or progress; nothing where no prompt was sent for this run."""
    now = engine.standing(_SLOT, root)
    if now is None or now.about[0] != run_id:
        return
    question: Question = now.about[1]
    if not now.state.ended:
        engine.watch(_SLOT, root)
    elif now.state is not AnswerState.DONE:
        engine.failed(_SLOT, root, now)
    else:
        _shown(question, now.results[0]["answers"])


def _shown(question: Question, found: ask_text.Answers) -> None:
    st.subheader("Answers")
    st.text(f"{question.text.strip()}  ({ask_text.PROMPTS[question.prompt]})")
    table = ask_text.answer_table(found, float(question.k))
    with st.container(horizontal=True, key="ask.answers"):
        for row in table.to_dict("records"):
            with st.container(border=True, width=255, height="stretch", gap="xsmall"):
                st.markdown(f"**{row['state']}**")
                st.text(row["answer"] or "(empty)")
                st.caption("stopped at EOS" if row["stopped"] else "cut at 16 tokens")
    show.listed(table, "ask.answers", "Answers of base, tuned and restored")
    st.subheader("Next-token probabilities")
    tokens = ask_text.token_table(found, float(question.k))
    drawn = tokens_charts.first_tokens_figure(tokens, show.palette())
    alt = "Top 10 first tokens of base, tuned and restored, with their probability, and all others"
    show.figure(drawn, tokens, "ask.tokens", alt)
