"""Text -> words and offsets."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftknow_core.facts.words import normalise, normalise_with_offsets, word_text, word_text_with_offsets

# A busy machine makes no property false.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)
# What composes, decomposes, folds to two letters or reorders; single letters and spaces between.
AWKWARD = st.text(
    alphabet="aA é ßﬁ½‼Σςᾳ한&\u1112\u1161\u11ab\u0301\u0323\u0345\u0344\uff76\uff9e\u09c7\u09be…\xa0",
    max_size=12,
)


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


def test_offsets_point_into_the_raw_text() -> None:
    """ "…Ko&ßo": "…" is three dots, "&" five characters (a separator before, "and", one after), "ß" two."""
    text, offsets = word_text_with_offsets("…Ko&ßo")
    assert text == " ko and sso "
    assert [offsets[i] for i, character in enumerate(text) if character != " "] == [1, 2, 3, 3, 3, 4, 4, 5]


@unhurried
@given(ANY_TEXT | AWKWARD)
def test_with_offsets_is_the_same_text(text: str) -> None:
    normalised, offsets = normalise_with_offsets(text)
    assert normalised == normalise(text)
    words, word_offsets = word_text_with_offsets(text)
    assert words == word_text(normalise(text))
    for given_offsets, of in ((offsets, normalised), (word_offsets, words)):
        assert len(given_offsets) == len(of)
        assert given_offsets == sorted(given_offsets)
        assert all(0 <= offset <= len(text) for offset in given_offsets)


def test_marks_that_reorder_across_characters_keep_an_offset() -> None:
    """Half-width marks: no cut between them gives the normalised text, so all belong to the letter."""
    normalised, offsets = normalise_with_offsets("xA\uff9e\u0323y")
    assert normalised == normalise("xA\uff9e\u0323y")
    assert (offsets[0], offsets[1], offsets[-1]) == (0, 1, 4)
