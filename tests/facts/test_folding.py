"""Folding, words for the matcher, and offsets back into the text."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftknow_core.facts.folding import fold, fold_with_offsets, match_words, match_words_with_offsets

# A busy machine makes no property false.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)
# What composes, decomposes, folds to two letters or reorders; numbers, initials, signs; scripts without spaces.
AWKWARD = st.text(
    alphabet="aA é ßﬁ½‼Σςᾳ한&\u1112\u1161\u11ab\u0301\u0323\u0345\u0344\uff76\uff9e\u09c7\u09be…\xa0"
    "12.,.,-−+#' 東か\u3099ガกิาالوİıø",
    max_size=14,
)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("São TOMÉ", "sao tome"),
        ("STRAẞE", "strasse"),
        ("İIıi", "iiii"),
        ("Øre Łódź Þór Ærø", "ore lodz thor aero"),
        ("ΆΣΟΣ", "ασοσ"),
        ("Ёлка Йод", "елка йод"),
        ("が ガ ｶﾞ か\u3099", "が ガ ガ が"),
        ("कि", "कि"),
        ("กิ", "กิ"),
        ("محـمد مُحَمَّد أحمد مدرسة", "محمد محمد احمد مدرسه"),
        ("שָׁלוֹם", "שלום"),
        ("١٩٩٠ ๑๒", "1990 12"),
        ("co\u00adop a\u200db", "coop ab"),
        ("❤️", "❤"),
    ],
)
def test_fold(text: str, folded: str) -> None:
    assert fold(text) == folded


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("St. Louis", "st louis"),
        ("U.S. and I. B. M. and a.m.", "us and ibm and am"),
        ("A. The first", "a the first"),  # one letter is an enumeration
        ("George W. Bush", "george w bush"),
        ("1,000 1 000 1.000.000", "1000 1000 1000000"),
        ("1,2,3 and 1.2.3", "1 2 3 and 1 2 3"),
        ("1914-1918, 10:30, 1/2", "1914 1918 10 30 1 2"),
        ("5km, 3.5mm", "5km 3 5mm"),
        ("東京は1990年", "東 京 は 1990 年"),
        ("ローマ帝国", "ローマ 帝 国"),
        ("!!!", ""),
    ],
)
def test_match_words(text: str, words: str) -> None:
    assert match_words(fold(text)).split() == words.split()


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("3.14", "3,14", True),
        ("3.14", "314", False),
        ("-5", "−5", True),
        ("-5", "5", False),
        ("1,234.5", "1 234,5", True),
        ("1.000", "1000", False),  # a fraction, as long as no second point says otherwise
        ("C++", "C", False),
        ("C#", "C", False),
        ("F#", "F", False),
        (".NET", "NET", False),
    ],
)
def test_numbers_and_signs(one: str, other: str, equal: bool) -> None:
    assert (match_words(fold(one)) == match_words(fold(other))) is equal


def test_offsets_point_into_the_raw_text() -> None:
    """ "…Ko&ßo": "…" is three dots, "&" five characters (a separator before, "and", one after), "ß" two."""
    folded, raw = fold_with_offsets("…Ko&ßo")
    text, offsets = match_words_with_offsets(folded)
    assert text == " ko and sso "
    assert [raw[offsets[i]] for i, character in enumerate(text) if character != " "] == [
        1,
        2,
        3,
        3,
        3,
        4,
        4,
        5,
    ]


def test_the_space_behind_a_word_stands_where_the_word_ends() -> None:
    """Initials and numbers are rewritten as a whole: "u.s." takes 0 to 4, "1,000" 5 to 10."""
    text, offsets = match_words_with_offsets("u.s. 1,000 東x")
    assert text == " us 1000 東 x "
    assert [offsets[i] for i, character in enumerate(text) if character == " "] == [0, 4, 10, 12, 13]


@unhurried
@given(ANY_TEXT | AWKWARD)
def test_with_offsets_is_the_same_text(text: str) -> None:
    folded, offsets = fold_with_offsets(text)
    assert folded == fold(text)
    words, word_offsets = match_words_with_offsets(folded)
    assert words == match_words(folded)
    for given_offsets, of, source in ((offsets, folded, text), (word_offsets, words, folded)):
        assert len(given_offsets) == len(of)
        assert given_offsets == sorted(given_offsets)
        assert all(0 <= offset <= len(source) for offset in given_offsets)


def test_marks_that_reorder_across_characters_keep_an_offset() -> None:
    """Half-width marks: no cut between them gives the folded text, so all belong to the letter."""
    folded, offsets = fold_with_offsets("xA\uff9e\u0323y")
    assert folded == fold("xA\uff9e\u0323y")
    assert (offsets[0], offsets[1], offsets[-1]) == (0, 1, 4)
