"""Text -> words."""

from __future__ import annotations

import pytest

from sftknow_core.facts.words import normalise, word_text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("St. Louis", " st louis "),
        ("  Washington,\n D.C.", " washington d c "),
        ("ＫＯＲＯ\u3000ﬁeld", " koro field "),  # full width and a ligature
        ("STRAẞE", " strasse "),
        ("São Torvald", " são torvald "),
        ("Sa\u0303o", " são "),  # a combining tilde
        ("Vint & Sons", " vint and sons "),
        ("R&B", " r and b "),
        ("Koro's_capital–Dubrov", " koro s capital dubrov "),
        ("H₂O", " h2o "),
        ("!!!", "  "),
        ("", "  "),
    ],
)
def test_word_text(text: str, words: str) -> None:
    assert word_text(normalise(text)) == words
