"""Spellings of an answer, and which of their mentions in a text are mentions of it.

Beside the answer as it is written count: without the apostrophes within words (Cote dIvoire, Hawaii); ä, ö, ü, ø, å as
ae, oe, ue, oe, aa; its dotted initials apart (J R R Tolkien). An answer of capitals that is also a common word (US,
WHO) counts in capitals only.

Of scripts without spaces a mention may stand anywhere, but where it is part of another word: a single Han character
beside others, what follows 東西南北新 at the head of a run of Han characters (東大阪 is not 大阪), what 人, 語 or 系
makes a people, a language or a descent of, Hangul that begins no word or is followed by more than a particle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from sftknow_core.facts.folding import (
    HAN,
    HANGUL,
    SPACELESS,
    capitals,
    fold,
    fold_with_offsets,
    match_words,
    unprotected,
)

_LONGEST_INITIALS = 6
_COMMON_WORDS = frozenset(
    fold(
        "us it who is or in me he hi oh ok pa ma la id al de as am an at be by do go if no of on so to up we my can "
        "all may will and the not el en es et il le im um er da du ja ne se si un"
    ).split()
)
"""Written in capitals they can be names (US, WHO, OR), otherwise they are words of a sentence."""
_WORDED = re.compile(r"[^\W_]")
_INNER_APOSTROPHE = re.compile(r"(?<=[^\W\d_])'(?=[^\W\d_])")
_CHARACTER_WORDS = re.compile(f"[{HAN}{HANGUL}]")
_TRANSCRIBED = str.maketrans(
    {
        "ä": "ae",
        "ö": "oe",
        "ü": "ue",
        "Ä": "Ae",
        "Ö": "Oe",
        "Ü": "Ue",
        "ø": "oe",
        "Ø": "Oe",
        "å": "aa",
        "Å": "Aa",
    }
)


class Form(NamedTuple):
    """A spelling of an answer, made ready for the search."""

    words: str
    """Its word text, e.g. " st louis "; "" when it has no words."""
    literal: str
    """The answer's folded text, stripped."""
    keys: tuple[str, ...]
    """One of them is part of every folded text that holds the words."""
    capitals: bool
    """Whether it counts in capitals only: US is not "us"."""
    careful: bool
    """Whether each mention is to be looked at: of capitals, and where characters are words."""


@lru_cache(maxsize=1 << 18)
def forms_of(answer: str) -> tuple[Form, ...]:
    """The spellings of an answer, the one it is written in first."""
    literal = fold(answer).strip()
    as_written = match_words(literal)
    if not _WORDED.search(as_written):
        return (Form("", literal, (literal,), False, False),)
    upper = capitals(answer)
    initials = "." in literal or any(map(capitals, answer.split()))
    is_common = upper and as_written.strip() in _COMMON_WORDS
    careful = is_common or _CHARACTER_WORDS.search(literal) is not None
    keys = {as_written: _keys(as_written, literal, initials)}
    others = []
    if "'" in literal:
        others.append(_INNER_APOSTROPHE.sub("", literal))
    if not answer.isascii():
        others.append(fold(answer.translate(_TRANSCRIBED)).strip())
    if "." in literal and not any(map(str.isdigit, literal)) and max(map(len, as_written.split())) > 1:
        others.append(literal.replace(".", " "))
    for text in others:
        words = match_words(text)
        keys.setdefault(words, _keys(words, text, initials))
    return tuple(Form(words, literal, its, is_common, careful) for words, its in keys.items())


def _keys(words: str, text: str, initials: bool) -> tuple[str, ...]:
    """Parts of which every folded text that holds the words has one; initials: whether dots can divide letters."""
    if units := SPACELESS.findall(text):  # others may be written apart: 東京Korea, 東京 Korea
        return (max(units, key=len),)
    spelled = [unprotected(word) for word in words.split() if word != "and"]  # "and" can stand for an "&"
    key = max(spelled, key=lambda word: (not word[-1].isdigit(), len(word)), default="")
    if key[-1:].isdigit():
        return (key[len(key.rstrip("0123456789")) :][-3:],)  # 1,000 holds 000
    return (key, ".".join(key), ". ".join(key)) if initials and 1 < len(key) <= _LONGEST_INITIALS else (key,)


class Mention(NamedTuple):
    """Where words stand in a word text."""

    start: int
    """Of the space before them."""
    end: int
    """Behind the space after them."""


def mentions(words: str, text: str) -> Iterator[Mention]:
    """All places of a run of words, from left to right."""
    start = text.find(words)
    while start >= 0:
        yield Mention(start, start + len(words))
        start = text.find(words, start + 1)


def takes(rival: Mention, mention: Mention) -> bool:
    """Whether a longer name contains the mention, or has taken its beginning."""
    if rival.start <= mention.start and rival.end >= mention.end:
        return rival != mention
    return rival.start < mention.start and mention.start + 1 < rival.end < mention.end


def in_capitals(completion: str, start: int, end: int) -> bool:
    """Whether a mention is written in capitals; start, end: offsets in the folded text."""
    _, offsets = fold_with_offsets(completion)
    last = offsets[end] if end < len(offsets) else len(completion)
    return capitals(completion[offsets[start] : last])


_IS_HAN, _IS_HANGUL = re.compile(f"[{HAN}]"), re.compile(f"[{HANGUL}]")
_PARTICLES = re.compile(
    r"(?:은|는|이|가|을|를|의|에|에서|에게|로|으로|와|과|도|만|까지|부터|이다|입니다|이며|이고|였다|이었다|에서는|에는|라고|이라고)?"
    f"(?![{HANGUL}])"
)
_DERIVED = re.compile("語|语|系|人(?![口工民気气们类類物生員员])")
_DIRECTIONS = "東西南北新东"


def stands_alone(folded: str, start: int, end: int) -> bool:
    """Whether folded[start:end] is no part of another word, where characters are words."""
    before, first, last = folded[start - 1 : start] if start else "", folded[start], folded[end - 1]
    if _IS_HANGUL.match(first) and _IS_HANGUL.match(before):
        return False
    if _IS_HANGUL.match(last) and not _PARTICLES.match(folded, end):
        return False
    if _IS_HAN.match(last) and _DERIVED.match(folded, end):
        return False
    if not _IS_HAN.match(first):
        return True
    if end - start == 1 and (_IS_HAN.match(before) or _IS_HAN.match(folded, end)):
        return False
    return not (before and before in _DIRECTIONS and not (start > 1 and _IS_HAN.match(folded[start - 2])))
