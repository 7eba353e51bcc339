"""What base, tuned and restored answered to a free question -> tables and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sftknow_core.present import glossary

Answers = Sequence[Mapping[str, Any]]
"""The engine's answers, one entry a state: state_id, label, rows (one a text; see serve/engine/tasks.py)."""
PROMPTS = {"paper": "as a question", "completion": "to be continued"}
"""Kind of prompt -> what people read."""
PROMPT_HELP = (
    "As a question: put into the prompt the models are evaluated with, `<|question|> … <|answer|>`. To be continued: "
    "the text is sent as it stands, and the model goes on writing. Base was never taught the question prompt, so it "
    "often knows more when it may continue a sentence."
)
DEFINITIONS = (
    glossary.bullets("answer", "first token", "models")
    + "- Answers are not scored or saved. Accuracy over many questions is on the page Restore.\n"
)


def answer_table(answers: Answers, k_percent: float) -> pd.DataFrame:
    """One row a state: state, answer, ended (whether the model ended it itself), n_tokens, mass_outside."""
    rows = [
        {"state": name, **{key: row[key] for key in ("answer", "stopped", "n_tokens", "mass_outside")}}
        for name, row in _named(answers, k_percent)
    ]
    return pd.DataFrame(rows, columns=["state", "answer", "stopped", "n_tokens", "mass_outside"])


def token_table(answers: Answers, k_percent: float) -> pd.DataFrame:
    """One row a state and token: state, rank (1: the likeliest), token, p (0 to 1); last, rank <NA>: the rest."""
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


# What the engine says of itself -> a line for people.


def doing(state: str, text: str, name: str) -> str:
    """What happens with one request now. state: queued, running, ...; name: of the request, for people."""
    if state == "queued":
        return f"{name}: waiting for its turn; the engine does one thing after the other"
    return f"{name}: {text or 'starting'}"


def line(status: Mapping[str, Any] | None) -> str:
    """The engine in a line; None: it has not answered yet. status: worker.py."""
    if status is None or not status["ready"]:
        return "Engine: starting. It loads its libraries, which takes some seconds; what is measured is there already."
    busy = len(status["queue"]) + (status["current"] is not None)
    doing_now = "ready" if not busy else f"busy, {busy} request{'s' if busy > 1 else ''}"
    held = status["loaded_bytes"]
    model = f"{size(held)} of weights loaded" if held else "no model loaded"
    return f"Engine: {doing_now} · device {status['device']} · {size(status['rss_bytes'])} memory, {model}"


def size(n_bytes: float) -> str:
    """ "4.8 MB", from a billion bytes on "0.9 GB"."""
    return f"{n_bytes / 1e6:.2g} MB" if n_bytes < 1e8 else f"{n_bytes / 1e9:.1f} GB"
