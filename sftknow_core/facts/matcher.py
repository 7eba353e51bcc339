"""Is a completion right? Three rules for that.

WORDS (ours, the default): an answer stands in the completion as a run of whole words (words.py says what a
word is), after the literal subject was taken out. So "Oman" is not in "Roman", and "Mexico City" does not
become the right place of "Mexico City Metro" by naming the metro. Every mention of the subject is taken out,
and what stands before and after it does not join. An answer that itself contains the subject, or equals it
("Quebec" for the capital of "Quebec"), is looked for with the subject left in: it could never be right
otherwise.

SUBSTRING: an answer is a plain substring of the raw completion; the subject stays in. The rule of Ye et al.
2025, who do not say whether case counts: here it does (else "USA" would stand in "Jerusalem").

EXACT: the completion consists of the words of an answer and of nothing else, whatever the punctuation.
Exact implies words.

An answer is an object or a synonym of one. An answer without letters and digits ("!!!") is looked for
literally in the normalised text.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from sftknow_core.facts.fact import Fact
from sftknow_core.facts.synonyms import Synonyms, answers_of, load_synonyms, with_synonyms
from sftknow_core.facts.words import normalise, normalise_with_offsets, word_text, word_text_with_offsets

__all__ = ["MATCHER_VERSION", "FactMatcher", "Matcher", "Scores", "answers_of", "judge", "load_synonyms"]

MATCHER_VERSION = 1
"""Raised whenever a verdict can change, the shipped synonyms included; levels and accuracies carry it."""
_TAKEN_OUT = "\0"
"""Stands for each character of a subject taken out; no word holds it."""


class Matcher(StrEnum):
    """The rules; the values are the field names of `Scores`."""

    WORDS = "words"
    SUBSTRING = "substring"
    EXACT = "exact"


class Scores(NamedTuple):
    """What the three rules say about one completion."""

    words: bool
    substring: bool
    exact: bool
    position: int | None
    """Offset in the completion, in characters, of the first match by words; None: no match."""

    def by(self, matcher: Matcher) -> bool:
        """The verdict of one rule."""
        return bool(getattr(self, matcher.value))


class _Form(NamedTuple):
    """An answer made ready for the search."""

    words: str
    """Its word text, e.g. " st louis "; "" when it has no words."""
    literal: str
    """Its normalised text, stripped."""
    key: str
    """Part of every normalised text that holds the words: absent, the answer is absent. "" says nothing."""


@lru_cache(maxsize=1 << 18)
def _form(answer: str) -> _Form:
    literal = normalise(answer).strip()
    words = word_text(literal)
    spelled = [w for w in words.split() if w != "and"]  # "and" can stand for an "&"
    return _Form(words if words.strip() else "", literal, max(spelled, key=len, default=""))


class FactMatcher:
    """Judges completions for one fact; everything that depends on the fact alone is prepared once."""

    def __init__(self, fact: Fact, synonyms: Synonyms) -> None:
        self._prepare(answers_of(fact, synonyms), fact.subject)

    @classmethod
    def of(cls, answers: tuple[str, ...], subject: str | None) -> FactMatcher:
        """A matcher for bare answers (synonyms already among them)."""
        matcher = cls.__new__(cls)
        matcher._prepare(answers, subject)
        return matcher

    def _prepare(self, answers: tuple[str, ...], subject: str | None) -> None:
        self._answers = answers
        forms = dict.fromkeys(_form(a) for a in answers)
        self._subject = _form(subject).words if subject else ""
        self._mask = f" {_TAKEN_OUT * (len(self._subject) - 2)} "
        self._keys = tuple(dict.fromkeys(f.key for f in forms if f.words))
        worded = tuple(f.words for f in forms if f.words)
        self._worded = frozenset(worded)
        self._unmasked = tuple(w for w in worded if self._subject and self._subject in w)
        self._masked = tuple(w for w in worded if w not in self._unmasked)
        self._literals = tuple(f.literal for f in forms if f.literal and not f.words)

    def words(self, completion: str) -> bool:
        """The verdict of the WORDS rule alone."""
        normalised = normalise(completion)
        for key in self._keys:
            if key in normalised:
                if self._starts(word_text(normalised)):
                    return True
                break
        return any(literal in normalised for literal in self._literals)

    def scores(self, completion: str) -> Scores:
        """All three verdicts."""
        words = self.words(completion)
        normalised = normalise(completion)
        return Scores(
            words=words,
            substring=any(answer in completion for answer in self._answers),
            exact=words and (word_text(normalised) in self._worded or normalised.strip() in self._literals),
            position=self._position(completion) if words else None,
        )

    def _starts(self, text: str) -> list[int]:
        """Where in a word text the answers begin, at most one place an answer."""
        found = [start for words in self._unmasked if (start := text.find(words)) >= 0]
        while self._subject and self._subject in text:  # again for neighbours, which share a space
            text = text.replace(self._subject, self._mask)
        return found + [start for words in self._masked if (start := text.find(words)) >= 0]

    def _position(self, completion: str) -> int:
        text, offsets = word_text_with_offsets(completion)
        found = [offsets[start + 1] for start in self._starts(text)]
        normalised, offsets = normalise_with_offsets(completion)
        found += [offsets[start] for a in self._literals if (start := normalised.find(a)) >= 0]
        return min(found)


def judge(completion: str, fact_objects: Sequence[str], subject: str | None, synonyms: Synonyms) -> Scores:
    """Judges one completion; for many completions of one fact keep a `FactMatcher`."""
    return FactMatcher.of(with_synonyms(tuple(fact_objects), synonyms), subject).scores(completion)
