"""Text -> words, so that two spellings of one name compare equal, and back to where in the text they stood.

A word is a run of letters, marks and digits (Unicode categories L, M, N) of the text after NFKC and case
folding. Everything else (white space, punctuation, symbols) separates words, and which separator stands there
makes no difference: "St. Louis" = "St Louis", "D.C." = "D. C.". One symbol is read: "&" is the word "and".
Accents count: "Zürich" is not "Zurich".

The word text of a string is its words with a space before, between and after: " st louis ". A run of whole
words is then a plain substring search, and " oman " is not in " the roman empire ".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator


class _Separators(dict[int, str]):
    """Translation table, filled as characters turn up: separators become spaces."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        is_word = unicodedata.category(character)[0] in "LMN"
        self[code] = character if is_word else " and " if character == "&" else " "
        return self[code]


_SEPARATORS = _Separators()


def normalise(text: str) -> str:
    """NFKC and case folding; NFKC again, since folding can undo it."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def word_text(normalised: str) -> str:
    """The words of a normalised text, a space before, between and after; no words: two spaces."""
    return f" {' '.join(normalised.translate(_SEPARATORS).split())} "


def normalise_with_offsets(text: str) -> tuple[str, list[int]]:
    """The normalised text and, for each of its characters, the offset in `text` that it comes from.

    Of characters that normalise together it is the first one's: a letter's, not its accent's.
    """
    normalised = normalise(text)
    pieces = list(_pieces(text, _stands_apart))
    if "".join(piece for _, piece in pieces) != normalised:  # marks that reorder across several characters
        pieces = list(_pieces(text, lambda _, character: character.isascii()))
    return normalised, [start for start, piece in pieces for _ in piece]


def word_text_with_offsets(text: str) -> tuple[str, list[int]]:
    """`word_text(normalise(text))` and, for each of its characters, the offset in `text` it comes from."""
    characters, offsets = [" "], [0]
    for normal, start in zip(*normalise_with_offsets(text), strict=True):
        for character in _SEPARATORS[ord(normal)]:
            if character != " " or characters[-1] != " ":
                characters.append(character)
                offsets.append(start)
    if len(characters) == 1 or characters[-1] != " ":
        characters.append(" ")
        offsets.append(len(text))
    return "".join(characters), offsets


def _pieces(text: str, stands_apart: Callable[[str, str], bool]) -> Iterator[tuple[int, str]]:
    """(offset, normalised piece), cut before each character that stands apart from the piece before it."""
    if text.isascii():
        yield from enumerate(text.lower())
        return
    start = 0
    for i in range(1, len(text) + 1):
        if i == len(text) or stands_apart(text[start:i], text[i]):
            yield start, normalise(text[start:i])
            start = i


def _stands_apart(before: str, character: str) -> bool:
    """Whether a character normalises on its own; ASCII always does."""
    if character.isascii():
        return True
    joined = normalise(before + character)
    return unicodedata.combining(character) == 0 and joined == normalise(before) + normalise(character)
