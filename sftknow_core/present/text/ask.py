"""Texts and tables of the page "Ask", and of the evaluation worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sftknow_core.present import glossary

Answers = Sequence[Mapping[str, Any]]
"""The worker's answers, one entry a model: state_id, label, rows (one a text; see serve/engine/tasks.py)."""
PROMPTS = {"paper": "as a question", "completion": "to be continued"}
"""Kind of prompt -> its name, which an address holds too."""
PROMPT_HELP = (
    "As a question: in the evaluation prompt, `<|question|> … <|answer|>`. To be continued: the text alone, as a "
    "completion prompt. Base is not trained on the question prompt and is often better at completions."
)
DEFINITIONS = (
    glossary.bullets("answer", "first token", "models")
    + "- Answers are not scored or saved. Accuracy over many questions is on the page Restore.\n"
)


def answer_table(answers: Answers, k_percent: float) -> pd.DataFrame:
    """One row a model: state, answer, stopped (at EOS), n_tokens, mass_outside."""
    rows = [
        {"state": name, **{key: row[key] for key in ("answer", "stopped", "n_tokens", "mass_outside")}}
        for name, row in _named(answers, k_percent)
    ]
    return pd.DataFrame(rows, columns=["state", "answer", "stopped", "n_tokens", "mass_outside"])


def token_table(answers: Answers, k_percent: float) -> pd.DataFrame:
    """One row a model and token: state, rank (1: the most probable), token, p (0 to 1); last, rank <NA>: the rest."""
    rows: list[dict[str, Any]] = []
    for name, row in _named(answers, k_percent):
        ten = zip(row["top_tokens"], row["p"], strict=True)
        rows += [{"state": name, "rank": i, "token": t, "p": p} for i, (t, p) in enumerate(ten, start=1)]
        rows.append({"state": name, "rank": None, "token": OTHERS, "p": row["mass_outside"]})
    return pd.DataFrame(rows, columns=["state", "rank", "token", "p"]).astype({"rank": "Int64"})


OTHERS = "all others"
"""The row of `token_table` that holds what lies outside the ten."""


def _named(answers: Answers, k_percent: float) -> list[tuple[str, Mapping[str, Any]]]:
    """(base, tuned or restored, the first text's row); k = 0 and 100 keep the name "restored"."""
    names = ("base", "tuned", f"restored {k_percent:g}%")
    return [(name, answer["rows"][0]) for name, answer in zip(names, answers, strict=False)]


# Status of the evaluation worker.


def doing(state: str, text: str, name: str) -> str:
    """The status of one request. state: queued, running, ...; name: of the request."""
    if state == "queued":
        return f"{name}: queued"
    return f"{name}: {text or 'starting'}"


def line(status: Mapping[str, Any] | None) -> str:
    """The worker's status in a line; None: it has not replied yet. status: serve/engine/worker.py."""
    if status is None or not status["ready"]:
        return "Evaluation worker is starting (a few seconds). Cached results are available."
    busy = len(status["queue"]) + (status["current"] is not None)
    doing_now = "ready" if not busy else f"busy, {busy} request{'s' if busy > 1 else ''}"
    held = status["loaded_bytes"]
    model = f"{size(held)} of weights loaded" if held else "no model loaded"
    return f"Evaluation worker: {doing_now} · device {status['device']} · {size(status['rss_bytes'])} memory, {model}"


def size(n_bytes: float) -> str:
    """ "4.8 MB", from a billion bytes on "0.9 GB"."""
    return f"{n_bytes / 1e6:.2g} MB" if n_bytes < 1e8 else f"{n_bytes / 1e9:.1f} GB"
