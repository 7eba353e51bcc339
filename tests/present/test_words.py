"""Phrases that texts for readers no longer use: in no string literal of texts and pages, and in no template."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = tuple(
    path
    for path in (
        ROOT / "app.py",
        *(ROOT / "pages").rglob("*.py"),
        *(ROOT / "sftknow_core/present").rglob("*.py"),
    )
    if path.parent.name != "charts"  # their words are axes and legends
)
TEMPLATES = tuple(
    path for path in (ROOT / "sftknow_core/present/html/templates").iterdir() if path.suffix in (".j2", ".js")
)
RETIRED = (
    "a form it does not know",
    "after five examples, the fair",
    "against expected mastery",
    "against tuned's",
    "all chains at a glance",
    "always giving the topic",
    "and some seconds to start",
    "answered rightly",
    "answers are judged",
    "answers rightly",
    "are free again",
    "as many weights or fixed states",
    "asked the same base",
    "asked to stop",
    "at no measured",
    "base stands here",
    "beside the libraries",
    "by looking at the answers",
    "by lot",
    "chain compares",
    "comes back at k",
    "completed rightly",
    "dealing the changes out",
    "dealt out",
    "did best, but by",
    "do right answers come back",
    "does not survive",
    "each model answers at most",
    "end by themselves",
    "ended by itself",
    "equal k is not equal damage",
    "equal k is not equal update",
    "fine-tuned elsewhere",
    "gain of restoring",
    "given model",
    "goes back to base",
    "goes on where it",
    "had no say",
    "how far the answers",
    "how firm",
    "how much the first",
    "how often each",
    "how sure is the level",
    "in five numbers",
    "intervals speak",
    "is an anecdote",
    "is being measured. until",
    "it knows more than it can say",
    "it loads its libraries",
    "itself, on dev",
    "k put back",
    "knowledge or format",
    "left empty:",
    "left exactly as they were",
    "likeliest tokens",
    "look closer at",
    "loosen the filters",
    "makes the restored model again",
    "making it reads both",
    "most frequent answer",
    "moved further than",
    "moved most",
    "never right in",
    "not known yet",
    "nothing can be put back",
    "nothing has to come back",
    "nothing is put back",
    "nothing is shown",
    "nothing put back",
    "nothing speaks against",
    "nothing was put back",
    "nothing would go",
    "numbers of this figure",
    "of the work planned",
    "on test no k does",
    "only measured k",
    "outside tuned's ten",
    "parameters put back",
    "pass the filters",
    "passes these filters",
    "point at a cell",
    "point at one",
    "put back of each",
    "put back to base",
    "puts back",
    "putting nothing back",
    "putting them back",
    "questions that flipped",
    "restoring did harm",
    "restoring helped",
    "right answer comes back",
    "right → wrong; broken",
    "says in nats",
    "share put back",
    "shown instead",
    "speak for",
    "speaks for",
    "stands beside",
    "stands still",
    "starting. it loads",
    "stays reads",
    "survive a stricter",
    "takes back",
    "that tuning gave",
    "that tuning took",
    "the data do not decide",
    "the data give no advice",
    "the data say",
    "the engine",
    "the fair before",
    "the given model",
    "the hatched bar",
    "the hybrid",
    "the interval includes 0",
    "the list of |d|",
    "the one base does best",
    "the usual one",
    "the usual ones",
    "there is no previous k",
    "this chain",
    "too good by chance",
    "tuned and restored asked",
    "untouched fine-tuning",
    "untouched questions",
    "waiting for its turn",
    "was asked again",
    "were put back",
    "what fine-tuning took",
    "what restoring heals",
    "what that puts back",
    "what there is to do",
    "when you let go",
    "where they sit",
    "which questions does restoring",
    "which was looked at before",
    "will miss these",
    "would hardly move",
    "would have claimed",
    "wrong after fine-tuning",
    "wrote on from",
    "yet expected",
    "you are looking at test",
)
"""Lower case; each was shown on a page, in a report or in a terminal once."""


def texts(source: str) -> list[str]:
    """String literals without docstrings; of an f-string the fixed parts, with "{}" for each value."""
    tree = ast.parse(source)
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = node.values
            skipped |= {id(part) for part in parts}
            found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def retired_in(found: list[str]) -> list[str]:
    """The retired phrases, in whatever case and however the text is wrapped."""
    lines = [" ".join(text.lower().split()) for text in found]
    return [phrase for phrase in RETIRED if any(phrase in line for line in lines)]


def test_no_text_of_a_page_or_report_uses_a_retired_phrase() -> None:
    used = {str(path.relative_to(ROOT)): retired_in(texts(path.read_text("utf-8"))) for path in PYTHON}
    used |= {path.name: retired_in([path.read_text("utf-8")]) for path in TEMPLATES}
    assert {name: phrases for name, phrases in used.items() if phrases} == {}
    assert len(PYTHON) > 40 and len(TEMPLATES) >= 5


def test_a_planted_phrase_is_found_and_a_docstring_is_not() -> None:
    doc = '"""This puts back N."""\n'
    planted = doc + 'N = 3\nSAID = f"{N} weights: this " \\\n    "Puts  Back all"\n' + doc
    assert texts(planted) == ["{} weights: this Puts  Back all"]
    assert retired_in(texts(planted)) == ["puts back"]
    assert retired_in(["<p>you are\n  looking at test</p>"]) == ["you are looking at test"]
