"""The names there are, so that a longer one is not taken for a shorter one that it contains.

"North Korea" contains "Korea" and "Guinea-Bissau" contains "Guinea", and each is another object. Known are all objects
of a set of facts with their synonyms, and known_names.txt: names, mostly of countries, states and cities, that hold
another frequent name. Of a name that differs by an article alone ("The Beatles") nothing longer is known, nor of two
names that are answers to one and the same question: those may be spellings of one object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from sftknow_core.facts.fact import Fact
from sftknow_core.facts.folding import SPACELESS, fold, match_words
from sftknow_core.facts.synonyms import answers_of, load_synonyms

_NAMES_FILE = Path(__file__).with_name("known_names.txt")
_ARTICLES = frozenset({"the", "a", "an"})


class KnownNames:
    """Names as word texts, with an index by word; made once for a set of facts and shared by its matchers."""

    def __init__(self, names: Iterable[str] = (), together: Iterable[tuple[str, ...]] = ()) -> None:
        """together: the answers to one question, for each question that has several."""
        words = (match_words(fold(name)) for name in names)
        self.names = tuple(dict.fromkeys(name for name in words if " " in name.strip()))
        """The word texts of those of two words or more; no other name can be longer than an answer."""
        self._holding: dict[str, list[int]] = defaultdict(list)
        self._ending: dict[str, list[int]] = defaultdict(list)
        for i, name in enumerate(self.names):
            parts = name.split()
            for word in dict.fromkeys(parts):
                self._holding[word].append(i)
            self._ending[parts[-1]].append(i)
        self._together: dict[str, set[int]] = defaultdict(set)
        for number, several in enumerate(together):
            for name in several:
                self._together[match_words(fold(name))].add(number)
        self._found: dict[str, tuple[str, ...]] = {}

    @classmethod
    def of(cls, facts: Iterable[Fact], synonyms: Mapping[str, tuple[str, ...]]) -> KnownNames:
        """All objects of these facts with their synonyms, and the shipped names."""
        names: dict[str, None] = dict.fromkeys(_shipped_names())
        together = []
        for fact in facts:
            answers = answers_of(fact, synonyms)
            names.update(dict.fromkeys(answers))
            if len(answers) > 1:
                together.append(answers)
        return cls(names, together)

    def rivals(self, answer: str) -> tuple[str, ...]:
        """The known names that are another object where they stand and this answer within them; word texts.

        Those that contain the answer's word text, and of scripts without spaces also those that end where the answer
        has begun: 東京 takes the 京 from 京都 in 東京都.
        """
        if answer not in self._found:
            parts = answer.split()
            rarest = min((self._holding.get(word, []) for word in parts), key=len, default=[])
            longer = [self.names[i] for i in rarest if self._is_longer(self.names[i], answer)]
            self._found[answer] = tuple(dict.fromkeys(longer + self._overlapping(parts)))
        return self._found[answer]

    def _is_longer(self, name: str, answer: str) -> bool:
        if answer not in name or name == answer:
            return False
        before, _, after = name.partition(answer)
        if not after.strip() and set(before.split()) <= _ARTICLES:
            return False
        return not self._together.get(name, set()) & self._together.get(answer, set())

    def _overlapping(self, parts: list[str]) -> list[str]:
        if not all(SPACELESS.fullmatch(word) for word in parts):
            return []
        found = []
        for n in range(1, len(parts)):
            for i in self._ending.get(parts[n - 1], []):
                name = self.names[i].split()
                if len(name) > n and name[-n:] == parts[:n]:
                    found.append(self.names[i])
        return found


@cache
def shipped_names() -> KnownNames:
    """Those known whatever the facts are: known_names.txt and the shipped synonyms."""
    return KnownNames(_shipped_names())


@cache
def _shipped_names() -> tuple[str, ...]:
    lines = _NAMES_FILE.read_text(encoding="utf-8").splitlines()
    names = dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    for obj, others in load_synonyms().items():
        names.update(dict.fromkeys((obj, *others)))
    return tuple(names)
