"""Is a completion right? Three rules for that, and those of plugins; each is declared beside its function.

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

    @matcher("my-rule", title="...")
    def my_rule(fact, completion): ...                whether it is right; fact.answers, fact.subject
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from sftknow_core.errors import PluginError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.synonyms import Synonyms, answers_of, load_synonyms, with_synonyms
from sftknow_core.facts.words import normalise, normalise_with_offsets, word_text, word_text_with_offsets
from sftknow_core.registry import Entry, Registry, plugin_of, plugin_text

__all__ = [
    "MATCHERS", "MATCHER_VERSION", "FactMatcher", "Matcher", "Scores", "answers_of", "judge", "load_synonyms",
    "matcher", "matcher_named", "verdict_column",
]  # fmt: skip

MATCHER_VERSION = 1
"""Raised whenever a verdict can change, the shipped synonyms included; levels and accuracies carry it."""
_TAKEN_OUT = "\0"
"""Stands for each character of a subject taken out; no word holds it."""


class Scores(NamedTuple):
    """What the three rules of this package say about one completion; the first fields are their names."""

    words: bool
    substring: bool
    exact: bool
    position: int | None
    """Offset in the completion, in characters, of the first match by words; None: no match."""


STORED_RULES = ("words", "substring", "exact")
"""Rules whose verdict on every answer is stored, whichever one the headline takes."""
OWN_RULE = "own_matcher"
"""Column of table `answers` for the verdict of the evaluation's matcher, where it is none of these."""


@dataclass(frozen=True, kw_only=True)
class Matcher(Entry):
    """A rule that says whether a completion is right."""

    function: Callable[[FactMatcher, str], bool]


MATCHERS: Registry[Matcher] = Registry("matcher", takes_plugins=True)

Rule = Callable[["FactMatcher", str], bool]


def matcher(name: str, *, title: str = "", source: str = "") -> Callable[[Rule], Rule]:
    """Register the decorated function (fact, completion) -> bool as a rule that answers can be judged by.

    Args:
        name: what a user types, e.g. "my-rule".
        title: a few words for a list of choices; the name when left out.
        source: paper and section, or reference code.

    Raises PluginError for a name that is taken.
    """

    def register(function: Rule) -> Rule:
        MATCHERS.add(
            Matcher(
                name=name, title=title or name, source=source, version=MATCHER_VERSION, plugin=plugin_of(function),
                function=function,
            )
        )  # fmt: skip
        return function

    return register


def matcher_named(text: str) -> Matcher:
    """The rule of a name as typed or as stored. Raises SpecError for an unknown one, PluginError where a stored name
    is of code that is not loaded, or of another version of it."""
    name, _, digits = str(text).partition("@")
    if digits and name not in MATCHERS:
        raise PluginError(
            f"matcher {name} is code of a plugin (sha256 {digits}), which is not loaded; give it by --plugin FILE"
        )
    found = MATCHERS.get(name)
    if digits and found.stored_name != text:
        here = "sftknow itself" if found.plugin is None else f"the plugin {plugin_text(found.plugin)}"
        raise PluginError(
            f"matcher {name} is needed from a plugin with sha256 {digits}, but here it is of {here}; give the same "
            "file by --plugin FILE"
        )
    return found


def verdict_column(text: str) -> str:
    """The column of table `answers` that holds the verdicts of a matcher, by its name as stored."""
    if text in STORED_RULES:
        return text
    if "@" not in text:
        MATCHERS.get(text)
    return OWN_RULE


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
        self.answers = answers
        """All that count as right, synonyms among them."""
        self.subject = subject
        forms = dict.fromkeys(_form(a) for a in answers)
        self._subject = _form(subject).words if subject else ""
        self._mask = f" {_TAKEN_OUT * (len(self._subject) - 2)} "
        self._keys = tuple(dict.fromkeys(f.key for f in forms if f.words))
        worded = tuple(f.words for f in forms if f.words)
        self._worded = frozenset(worded)
        self._unmasked = tuple(w for w in worded if self._subject and self._subject in w)
        self._masked = tuple(w for w in worded if w not in self._unmasked)
        self._literals = tuple(f.literal for f in forms if f.literal and not f.words)

    @matcher("words", title="an answer stands in it as whole words", source="the default; see facts/words.py")
    def words(self, completion: str) -> bool:
        """The verdict of the WORDS rule alone."""
        normalised = normalise(completion)
        for key in self._keys:
            if key in normalised:
                if self._starts(word_text(normalised)):
                    return True
                break
        return any(literal in normalised for literal in self._literals)

    @matcher("substring", title="an answer stands anywhere in it", source="Ye et al. 2025")
    def substring(self, completion: str) -> bool:
        """The verdict of the SUBSTRING rule alone."""
        return any(answer in completion for answer in self.answers)

    @matcher("exact", title="it consists of an answer", source="implies words")
    def exact(self, completion: str) -> bool:
        """The verdict of the EXACT rule alone."""
        return self.words(completion) and self._is_whole(completion)

    def scores(self, completion: str) -> Scores:
        """The verdicts of all three."""
        words = self.words(completion)
        return Scores(
            words=words,
            substring=self.substring(completion),
            exact=words and self._is_whole(completion),
            position=self._position(completion) if words else None,
        )

    def is_correct(self, completion: str, rule: str) -> bool:
        """The verdict of any matcher, by its name as typed or stored. Raises PluginError where a plugin's fails."""
        found = matcher_named(rule)
        if found.plugin is None:
            return found.function(self, completion)
        try:
            verdict = found.function(self, completion)
        except Exception as error:
            raise PluginError(
                f"matcher {found.name} failed on {completion!r}: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(verdict, bool):
            raise PluginError(
                f"matcher {found.name} gave {verdict!r} for {completion!r}; allowed: True or False"
            )
        return verdict

    def _is_whole(self, completion: str) -> bool:
        normalised = normalise(completion)
        return word_text(normalised) in self._worded or normalised.strip() in self._literals

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
