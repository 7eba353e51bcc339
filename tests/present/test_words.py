"""Phrases that texts for readers no longer use: in no string literal of texts and pages, and in no template."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = (ROOT / "app.py", *(ROOT / "pages").rglob("*.py"), *(ROOT / "sftknow_core/present").rglob("*.py"))
TEMPLATES = tuple(
    path for path in (ROOT / "sftknow_core/present/html/templates").iterdir() if path.suffix in (".j2", ".js")
)
RETIRED = (
    "costs that",
    "dealing the changes out",
    "equal k is not equal update",
    "had no say",
    "intervals speak",
    "is being measured. until",
    "itself, on dev",
    "makes the restored model again",
    "nothing can be put back",
    "put back to base",
    "stands still",
    "takes back",
    "there is no previous k",
    "this puts back",
    "too good by chance",
    "when you let go",
    "which was looked at before",
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
    assert len(PYTHON) > 50 and len(TEMPLATES) >= 5


def test_a_planted_phrase_is_found_and_a_docstring_is_not() -> None:
    doc = '"""This puts back N."""\n'
    planted = doc + 'N = 3\nSAID = f"{N} weights: this " \\\n    "Puts  Back all"\n' + doc
    assert texts(planted) == ["{} weights: this Puts  Back all"]
    assert retired_in(texts(planted)) == ["this puts back"]
    assert retired_in(["<p>you are\n  looking at test</p>"]) == ["you are looking at test"]
