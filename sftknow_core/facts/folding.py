"""Text -> the form in which answers are looked for, and back to where in the text it stood.

    raw text --fold--> folded text --match_words--> word text, e.g. " st louis "

Folded: NFKC, case folding, accents dropped. Accents are dropped of Latin and Greek letters and, but for й and ў, of
Cyrillic ones ("São Paulo" = "Sao Paulo"); ø, ł, đ, ð, þ, æ, œ, ı are written as o, l, d, d, th, ae, oe, i.
Arabic vowel signs, tatweel and the hamza of alef go, so do Hebrew points. Marks that make another letter stay: か is
not が, and Indic and Thai vowel signs stay. Digits of any script become 0 to 9; invisible joiners go.

Words: runs of letters, marks and digits. Everything else separates words and makes no difference, except what belongs
to a name or a number:

    &                     is the word "and"
    U.S., I. B. M.        dotted initials are one word: us, ibm
    C++, C#, A+           + and # directly after a word and not before one belong to it; .NET keeps its dot
    1,000  1 000          one number, 1000, as is 1.000.000; a single 1.000 stays a decimal fraction
    3.14  3,14            one number each, the same one: neither 3 nor 14; 1.2.3 and 12.05.1990 are several
    -5, minus 5           a number with its sign, where the hyphen stands after no letter or digit

Scripts without spaces (Han, Hiragana, Thai, Lao, Khmer, Myanmar) and Hangul, whose words take endings: each character,
with the marks on it, is a word of its own, so a run of words is a substring. Katakana runs are words. Of an Arabic word
the article and what is written together with it (و ب ف ك) are not part. A change of script ends a word there.

Word text has a space before, between and after its words, so a run of whole words is a plain substring search.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

_WRITTEN_AS = {
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŧ": "t",
    "ى": "ي", "ی": "ي", "ة": "ه", "ک": "ك", "ٱ": "ا", "أ": "ا", "إ": "ا", "آ": "ا", "ـ": "",
    "−": "-", "‐": "-", "‑": "-", "’": "'", "‘": "'", "ʼ": "'", "ʻ": "'", "ʾ": "'", "ʿ": "'",
    "\u00ad": "", "\u200c": "", "\u200d": "", "\u200e": "", "\u200f": "", "\u2060": "", "\ufeff": "", "\u200b": " ",
}  # fmt: skip
_STAY = frozenset("йў")
_DROPPED_MARKS = (
    (0x300, 0x36F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE00, 0xFE0F), (0xFE20, 0xFE2F),
    (0xE0100, 0xE01EF), (0x591, 0x5BD), (0x5BF, 0x5BF), (0x5C1, 0x5C2), (0x5C4, 0x5C5), (0x5C7, 0x5C7),
    (0x610, 0x61A), (0x64B, 0x653), (0x655, 0x65F), (0x670, 0x670), (0x6D6, 0x6DC), (0x6DF, 0x6E8), (0x6EA, 0x6ED),
)  # fmt: skip
"""First and last code of marks that only say how a letter is spoken; the hamza above (654) makes another letter."""

# Symbols that belong to a word, while the separators are taken out: private characters, which no text may hold.
_PLUS, _SHARP, _POINT, _MINUS, _DOT = "\ue0f1\ue0f2\ue0f3\ue0f4\ue0f5"
_SYMBOLS = {_PLUS: "+", _SHARP: "#", _POINT: ".", _MINUS: "-", _DOT: "."}
_PROTECTED = str.maketrans({symbol: private for private, symbol in _SYMBOLS.items() if private != _DOT})
_UNPROTECTED = str.maketrans(_SYMBOLS)


class _Folds(dict[int, str]):
    """Translation table of single characters after NFKC and case folding, filled as they turn up."""

    def __missing__(self, code: int) -> str:
        self[code] = _folded_character(chr(code))
        return self[code]


def _folded_character(character: str) -> str:
    code = ord(character)
    if character in _WRITTEN_AS:
        return _WRITTEN_AS[character]
    if any(first <= code <= last for first, last in _DROPPED_MARKS):
        return ""
    if character in _SYMBOLS:
        return " "
    if unicodedata.category(character) == "Nd":
        return str(unicodedata.decimal(character))
    base = unicodedata.normalize("NFD", character)[0]
    if base == character or character in _STAY:
        return character
    if unicodedata.name(base, "").startswith(("LATIN", "GREEK", "CYRILLIC")):
        return _WRITTEN_AS.get(base, base)
    return character


_FOLDS = _Folds()


def fold(text: str) -> str:
    """A text without case and accents, in one spelling of each character."""
    if text.isascii():
        return text.lower()
    cased = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return cased.translate(_FOLDS)


# What the table of separators alone cannot say: a pattern whose matches are rewritten before it is applied.


def _class(ranges: Iterable[tuple[int, int]], kinds: str) -> str:
    """The characters of these ranges whose Unicode category begins with one of `kinds`, for a character class."""
    codes = (code for first, last in ranges for code in range(first, last + 1))
    return "".join(re.escape(chr(code)) for code in codes if unicodedata.category(chr(code))[0] in kinds)


HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
HANGUL = "\uac00-\ud7a3"
_SOUTH_EAST = ((0xE00, 0xEFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F))
_LETTERS, _MARKS = _class(_SOUTH_EAST, "L"), _class(_SOUTH_EAST, "M")
_STACKERS = "\u17d2\u1039"
"""Khmer coeng and Myanmar virama: the consonant after them is written below and belongs to the same character."""
_UNIT = (
    f"[{HAN}{HANGUL}]|[\u3041-\u3096\u309d-\u309f][\u3099\u309a]?"
    f"|[{_LETTERS}](?:[{_STACKERS}][{_LETTERS}]|[{_MARKS}])*"
)
_GROUPED = (
    r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:[ ']\d{3})+(?:[.,]\d+)?|\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?)"
)
_DECIMAL = r"\d+[.,]\d+"
_LETTER = r"[^\W\d_]"
_ASCII_SPECIAL = (
    rf"(?P<number>(?<!\w)(?<!\d[.,])(?:(?:(?<![)\]])-|(?<!\d )minus )?(?:{_GROUPED}|{_DECIMAL})"
    rf"|(?:(?<![)\]])-|(?<!\d )minus )\d+)(?!\w)(?![.,]\d))"
    rf"|(?P<initials>(?<![\w.']){_LETTER}(?:(?:\.{_LETTER})+(?!\w)\.?|\.(?: {_LETTER}\.)+(?!\w)))"
    r"|(?P<signs>(?<=\w)(?:\+\+|[+#]+(?!\w)))"
    r"|(?P<net>(?<![\w.])\.net(?!\w))"
)
_SPECIAL = {
    True: re.compile(_ASCII_SPECIAL),
    False: re.compile(
        rf"{_ASCII_SPECIAL}|(?P<unit>{_UNIT})|(?P<article>(?<![\u0621-\u064a])(?:[وفبك]?ال|لل)(?=[\u0621-\u064a]{{2}}))"
    ),
}
"""By whether the text is ASCII."""
SPACELESS = re.compile(_UNIT)
"""A character that is a word of its own, with its marks."""
_DIGIT_OR_SIGN = re.compile(r"[0-9+#]")
_DOTTED = re.compile(r"\.(?: ?[a-z](?![a-z])|net)")
"""One of these two is found in every ASCII text that holds something special."""


def _rewritten(match: re.Match[str]) -> str:
    text = match[0]
    if match.lastgroup == "unit":
        return f" {text} "
    if match.lastgroup == "initials":
        return f" {text.replace('.', '').replace(' ', '')} "
    if match.lastgroup == "number":
        return f" {_number(text)} "
    if match.lastgroup == "signs":
        return f"{text.translate(_PROTECTED)} "
    return f" {_DOT}net " if match.lastgroup == "net" else ""


def _number(text: str) -> str:
    """A number in one spelling: its sign, digits, and a point before the fraction."""
    negative = text.startswith(("-", "minus "))
    digits = text.removeprefix("minus ").removeprefix("-")
    whole, fraction = digits, ""
    if re.fullmatch(_GROUPED, digits):
        separator = re.search(r"\D", digits)
        mark = separator[0] if separator else ""
        parts = re.split(r"[.,]" if mark in " '" else r"\." if mark == "," else ",", digits)
        whole, fraction = re.sub(r"\D", "", parts[0]), "".join(parts[1:])
    else:
        whole, _, fraction = digits.replace(",", ".").partition(".")
    return f"{_MINUS if negative else ''}{whole}{_POINT + fraction if fraction else ''}"


class _Separators(dict[int, str]):
    """Translation table, filled as characters turn up: separators become spaces."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        is_word = character in _SYMBOLS or unicodedata.category(character)[0] in "LMN"
        self[code] = character if is_word else " and " if character == "&" else " "
        return self[code]


_SEPARATORS = _Separators()


def match_words(folded: str) -> str:
    """The words of a folded text, a space before, between and after; no words: two spaces."""
    is_ascii = folded.isascii()
    if not is_ascii or _DIGIT_OR_SIGN.search(folded) or _DOTTED.search(folded):
        folded = _SPECIAL[is_ascii].sub(_rewritten, folded)
    return f" {' '.join(folded.translate(_SEPARATORS).split())} "


def unprotected(word: str) -> str:
    """A word as a folded text holds it, its symbols as they are written."""
    return word.translate(_UNPROTECTED)


def match_words_with_offsets(folded: str) -> tuple[str, list[int]]:
    """`match_words(folded)` and, for each of its characters, the offset in `folded` that it comes from."""
    characters, offsets = [" "], [0]
    for piece, start, end in _rewritten_pieces(folded):
        for i, written in enumerate(piece):
            for character in _SEPARATORS[ord(written)]:
                if character != " " or characters[-1] != " ":
                    characters.append(character)
                    offsets.append(start + i if end is None else end if i and character == " " else start)
    if len(characters) == 1 or characters[-1] != " ":
        characters.append(" ")
        offsets.append(len(folded))
    return "".join(characters), offsets


def _rewritten_pieces(folded: str) -> Iterator[tuple[str, int, int | None]]:
    """(text, offset, end): of what was rewritten where it ends, of the rest None: it stands there as it is."""
    done = 0
    for match in _SPECIAL[folded.isascii()].finditer(folded):
        yield folded[done : match.start()], done, None
        yield _rewritten(match), match.start(), match.end()
        done = match.end()
    yield folded[done:], done, None


def fold_with_offsets(text: str) -> tuple[str, list[int]]:
    """`fold(text)` and, for each of its characters, the offset in `text` that it comes from.

    Of characters that fold together it is the first one's: a letter's, not its accent's.
    """
    folded = fold(text)
    pieces = list(_pieces(text, _stands_apart))
    if "".join(piece for _, piece in pieces) != folded:  # marks that reorder across several characters
        pieces = list(_pieces(text, lambda _, character: character.isascii()))
    return folded, [start for start, piece in pieces for _ in piece]


def _pieces(text: str, stands_apart: Callable[[str, str], bool]) -> Iterator[tuple[int, str]]:
    """(offset, folded piece), cut before each character that stands apart from the piece before it."""
    if text.isascii():
        yield from enumerate(text.lower())
        return
    start = 0
    for i in range(1, len(text) + 1):
        if i == len(text) or stands_apart(text[start:i], text[i]):
            yield start, fold(text[start:i])
            start = i


def _stands_apart(before: str, character: str) -> bool:
    """Whether a character folds on its own; ASCII always does."""
    if character.isascii():
        return True
    return unicodedata.combining(character) == 0 and fold(before + character) == fold(before) + fold(
        character
    )


def capitals(text: str) -> bool:
    """Whether all of a text's letters, two or more, are capitals."""
    letters = [character for character in text if character.isalpha()]
    return len(letters) > 1 and all(character.isupper() for character in letters)
