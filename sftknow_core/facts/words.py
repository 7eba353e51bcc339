"""Text -> words, so that two questions or texts compare equal whatever their case, spaces and punctuation.

A word is a run of letters, marks and digits (Unicode categories L, M, N) of the text after NFKC and case
folding. Everything else (white space, punctuation, symbols) separates words, and which separator stands there
makes no difference: "St. Louis" = "St Louis", "D.C." = "D. C.". One symbol is read: "&" is the word "and".
Accents count: "Zürich" is not "Zurich". (Answers are looked for by a rule of their own, folding.py. This one divides
facts into splits, so it stays as it is.)

The word text of a string is its words with a space before, between and after: " st louis ". A run of whole
words is then a plain substring search, and " oman " is not in " the roman empire ".
"""

from __future__ import annotations

import unicodedata


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
