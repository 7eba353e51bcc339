"""Is a completion right? Three rules for that, and those of plugins; each is declared beside its function.

WORDS (ours, the default): an answer stands in the completion as a run of whole words (folding.py says what a word is
and which spellings are equal, mentions.py in which others an answer counts), and one mention of it counts at least. It
does not count

- within the literal subject. So "Mexico City" does not become the right place of "Mexico City Metro" by naming the
  metro. Every mention of the subject is taken out, and what stands before and after it does not join. An answer that
  itself contains the subject, or equals it ("Quebec" for the capital of "Quebec"), is looked for with the subject left
  in: it could never be right otherwise;
- within a longer known name that is no answer itself (names.py): "Korea" in "North Korea";
- where it is denied (negation.py): "not France but Spain" does not name France.

SUBSTRING: an answer is a plain substring of the raw completion; the subject stays in. The rule of Ye et al.
2025, who do not say whether case counts: here it does (else "USA" would stand in "Jerusalem").

EXACT: the completion consists of the words of an answer and of nothing else, whatever the punctuation.
Exact implies words.

An answer is an object or a synonym of one. An answer without letters and digits ("!!!") is looked for
literally in the folded text.

    @matcher("my-rule", title="...")
    def my_rule(fact, completion): ...                whether it is right; fact.answers, fact.subject
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sftknow_core.errors import PluginError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.folding import fold, fold_with_offsets, match_words, match_words_with_offsets
from sftknow_core.facts.mentions import forms_of, in_capitals, mentions, stands_alone, takes
from sftknow_core.facts.names import KnownNames, shipped_names
from sftknow_core.facts.negation import DENYING_WORDS, is_denied
from sftknow_core.facts.synonyms import Synonyms, answers_of, load_synonyms, with_synonyms
from sftknow_core.registry import Entry, Registry, plugin_of, plugin_text

__all__ = [
    "MATCHERS", "MATCHER_VERSION", "FactMatcher", "Matcher", "Scores", "answers_of", "judge", "load_synonyms",
    "matcher", "matcher_named", "verdict_column",
]  # fmt: skip

MATCHER_VERSION = 2
"""Raised whenever a verdict of any rule can change, the shipped synonyms and names included. Answers carry it, for they
are judged by all rules; mastery carries the version of its own rule, which is this one where its verdicts changed."""
RULES, RULES_ID = "rules", f"matcher {MATCHER_VERSION}"
"""An evaluation's input that names this version: its role, which runs judged by version 1 lack, and its value."""
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


def matcher(
    name: str, *, title: str = "", source: str = "", version: int = MATCHER_VERSION
) -> Callable[[Rule], Rule]:
    """Register the decorated function (fact, completion) -> bool as a rule that answers can be judged by.

    Args:
        name: what a user types, e.g. "my-rule".
        title: a few words for a list of choices; the name when left out.
        source: paper and section, or reference code.
        version: raised whenever a verdict of the rule can change.

    Raises PluginError for a name that is taken.
    """

    def register(function: Rule) -> Rule:
        MATCHERS.add(
            Matcher(
                name=name, title=title or name, source=source, version=version, plugin=plugin_of(function),
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


class FactMatcher:
    """Judges completions for one fact; everything that depends on the fact alone is prepared once."""

    def __init__(self, fact: Fact, synonyms: Synonyms, names: KnownNames | None = None) -> None:
        """names: of the fact's set, which no answer may be taken from; None: those known without one."""
        self._prepare(answers_of(fact, synonyms), fact.subject, names)

    @classmethod
    def of(
        cls, answers: tuple[str, ...], subject: str | None, names: KnownNames | None = None
    ) -> FactMatcher:
        """A matcher for bare answers (synonyms already among them)."""
        matcher = cls.__new__(cls)
        matcher._prepare(answers, subject, names)
        return matcher

    def _prepare(self, answers: tuple[str, ...], subject: str | None, names: KnownNames | None) -> None:
        self.answers = answers
        """All that count as right, synonyms among them."""
        self.subject = subject
        forms = tuple(dict.fromkeys(form for answer in answers for form in forms_of(answer)))
        masked = match_words(fold(subject or ""))
        self._subject = masked if masked.strip() else ""
        self._mask = f" {_TAKEN_OUT * (len(self._subject) - 2)} "
        self._forms = tuple(form for form in forms if form.words)
        self._worded = frozenset(form.words for form in self._forms)
        keys = dict.fromkeys(key for form in self._forms for key in form.keys)
        self._keys = tuple(key for key in keys if not any(k != key and k in key for k in keys))
        known = shipped_names() if names is None else names
        rivals = dict.fromkeys(name for words in self._worded for name in known.rivals(words))
        self._rivals = tuple(name for name in rivals if name not in self._worded)
        self._unmasked = tuple(f for f in self._forms if self._subject and self._subject in f.words)
        self._masked = tuple(f for f in self._forms if f not in self._unmasked)
        self._careful = any(form.careful for form in self._forms)
        self._literals = tuple(form.literal for form in forms if form.literal and not form.words)

    @matcher(
        "words", title="an answer stands in it as whole words", source="the default; see facts/matcher.py"
    )
    def words(self, completion: str) -> bool:
        """The verdict of the WORDS rule alone."""
        folded = fold(completion)
        for key in self._keys:
            if key in folded:
                if self._is_named(folded, completion):
                    return True
                break
        return any(literal in folded for literal in self._literals)

    @matcher("substring", title="an answer stands anywhere in it", source="Ye et al. 2025", version=1)
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
        folded = fold(completion)
        return match_words(folded) in self._worded or folded.strip() in self._literals

    def _is_named(self, folded: str, completion: str) -> bool:
        """Whether a mention counts; where nothing can speak against one, they are not looked at one by one."""
        text = match_words(folded)
        if not self._holds(text):
            return False
        if self._careful or not DENYING_WORDS.isdisjoint(text.split()):
            return bool(self._counted(folded, completion))
        for name in self._rivals:
            if name in text:
                return bool(self._counted(folded, completion))
        return True

    def _holds(self, text: str) -> bool:
        for form in self._unmasked:
            if form.words in text:
                return True
        text = self._without_subject(text)
        for form in self._masked:  # noqa: SIM110 called a million times, and a generator takes its time
            if form.words in text:
                return True
        return False

    def _without_subject(self, text: str) -> str:
        while self._subject and self._subject in text:  # again for neighbours, which share a space
            text = text.replace(self._subject, self._mask)
        return text

    def _counted(self, folded: str, completion: str) -> list[int]:
        """Offsets in the folded text of the mentions that count, of each spelling in order."""
        text, offsets = match_words_with_offsets(folded)
        masked = self._without_subject(text)
        hidden = list(folded)
        for i, character in enumerate(masked):  # a subject such as "Never Land" denies nothing
            if character == _TAKEN_OUT:
                hidden[offsets[i]] = _TAKEN_OUT
        clauses = "".join(hidden)
        found = []
        for forms, where in ((self._unmasked, text), (self._masked, masked)):
            rivals = [mention for name in self._rivals for mention in mentions(name, where)]
            for form in forms:
                for mention in mentions(form.words, where):
                    start = offsets[mention.start + 1]
                    end = offsets[mention.end - 1]
                    if any(takes(rival, mention) for rival in rivals) or is_denied(clauses, start, end):
                        continue
                    if form.careful and not stands_alone(folded, start, end):
                        continue
                    if form.capitals and not in_capitals(completion, start, end):
                        continue
                    found.append(start)
        return found

    def _position(self, completion: str) -> int:
        folded, offsets = fold_with_offsets(completion)
        found = [offsets[start] for start in self._counted(folded, completion)]
        found += [offsets[start] for a in self._literals if (start := folded.find(a)) >= 0]
        return min(found)


def judge(
    completion: str,
    fact_objects: Sequence[str],
    subject: str | None,
    synonyms: Synonyms,
    names: KnownNames | None = None,
) -> Scores:
    """Judges one completion; for many completions of one fact keep a `FactMatcher`."""
    return FactMatcher.of(with_synonyms(tuple(fact_objects), synonyms), subject, names).scores(completion)
