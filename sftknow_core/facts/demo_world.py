"""The demo world: fictional facts in the same 24 topics as EntityQuestions, from one seed.

Nothing in it is real, so a small model can only know what it was shown. Objects are drawn from pools of 150
to 700 names with a tail like 1 / (rank + 2)^0.8 (a few frequent ones, many rare ones), so that a guess is
rarely right; every topic ranks its pool in an order of its own. Each subject belongs to one fact.

Only `Random.random()` is used, whose sequence Python guarantees for a seed, so the world is the same everywhere.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Iterator
from functools import cache
from itertools import accumulate

from sftknow_core.facts.fact import Fact, FactSet
from sftknow_core.facts.topics import Topic, load_topics

_SEED = 20_250
_FACTS_PER_TOPIC = {"in": 2_100, "out": 500}
_SPLIT_SHARES = {  # cumulative: train, dev, test
    "in": (0.80, 0.90, 1.0),  # one trains on these topics
    "out": (
        0.20,
        0.40,
        1.0,
    ),  # these are mainly for testing; train serves few-shot exemplars, dev template choice
}
_OBJECT_IN_SUBJECT_SHARE = 0.03  # "Bank of Koro" with its seat in Koro: such questions must be flagged


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ONSETS = tuple("bdfghjklmnprstvz")
_VOWELS = tuple("aeiou")
_CODAS = ("", "n", "r", "l", "s")
_FIRST_NAMES = 160

_GROUPS = ("Club", "Bank", "Works", "Society", "Union", "Foundry", "Trust", "Line")
_SITES = ("Lake", "Bridge", "Valley", "Hill", "Station", "Castle", "Forest", "Mill")
_MUSEUMS = ("Museum", "Gallery", "Hall", "Palace", "Theatre")
_ADJECTIVES = _words("Silver Quiet Last Golden Broken Hidden Long Red Early Blue Cold Lost")
_NOUNS = _words(
    "River Garden Winter Road Mirror Letter Harbour Song Tower Summer Island Dance Night Star Wheel"
)
_MATERIALS = _words("glass stone silk iron paper salt bronze wool clay amber cedar copper")
_CRAFTS = _words("painter trader carver weaver poet broker tuner keeper binder smith writer judge singer")
_MOODS = _words("slow north river deep bright low free old night field steam minor")
_STYLES = _words("folk jazz swing blues choral march ballad waltz chant opera reel rock tango")
_SIDES = _words("left right front back upper lower inner outer first second third far")
_ROLES = _words("guard wing half post runner keeper anchor sweep striker hook centre tail jumper")

Maker = Callable[[], str]


class _Names:
    """Makes pronounceable names; every name it gives out is new."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._given: set[str] = set()
        self._first = [self.word() for _ in range(_FIRST_NAMES)]

    def pick(self, items: tuple[str, ...] | list[str]) -> str:
        return items[int(self._rng.random() * len(items))]

    def fresh(self, make: Maker) -> str:
        """Calls `make` until it returns a name that was not given out before."""
        while (name := make()) in self._given:
            pass
        self._given.add(name)
        return name

    def _spell(self, n_syllables: int) -> str:
        syllables = (self.pick(_ONSETS) + self.pick(_VOWELS) + self.pick(_CODAS) for _ in range(n_syllables))
        return "".join(syllables).capitalize()

    def word(self) -> str:
        return self.fresh(lambda: self._spell(2))

    def person(self) -> str:
        return self.fresh(lambda: f"{self.pick(self._first)} {self._spell(2)}")

    def with_kind(self, kinds: tuple[str, ...]) -> str:
        return self.fresh(lambda: f"{self._spell(2)} {self.pick(kinds)}")

    def work(self) -> str:
        return self.fresh(lambda: f"The {self.pick(_ADJECTIVES)} {self.pick(_NOUNS)} of {self._spell(2)}")


def _pairs(first: tuple[str, ...], second: tuple[str, ...]) -> list[str]:
    return [f"{a} {b}" for a in first for b in second]


def _object_pools(names: _Names) -> dict[str, list[str]]:
    """Topic id -> the names its objects are drawn from."""
    countries = [names.word() for _ in range(150)]
    cities = [names.word() for _ in range(700)]
    people = [names.person() for _ in range(200)]
    companies = [names.with_kind(_GROUPS) for _ in range(200)]
    return {
        **dict.fromkeys(("P17", "P495"), countries),
        **dict.fromkeys(("P19", "P20", "P36", "P159", "P740"), cities),
        **dict.fromkeys(("P26", "P40", "P50", "P112", "P170", "P175"), people),
        **dict.fromkeys(("P127", "P176"), companies),
        "P69": [f"{names.word()} University" for _ in range(250)],
        "P131": [f"{names.word()} County" for _ in range(400)],
        "P276": [names.with_kind(_MUSEUMS) for _ in range(300)],
        "P106": _pairs(_MATERIALS, _CRAFTS),
        "P136": _pairs(_MOODS, _STYLES),
        "P264": [f"{names.word()} Records" for _ in range(200)],
        "P407": [f"{names.word()}ese" for _ in range(150)],
        "P413": _pairs(_SIDES, _ROLES),
        "P800": [f"The {a} {n}" for a in _ADJECTIVES for n in _NOUNS],
    }


def _subject_makers(names: _Names) -> dict[str, Maker]:
    """Topic id -> how its subjects are named."""
    groups: Maker = lambda: names.with_kind(_GROUPS)  # noqa: E731
    sites: Maker = lambda: names.with_kind(_SITES)  # noqa: E731
    return {
        **dict.fromkeys(("P19", "P20", "P69", "P26", "P40", "P106", "P413", "P800"), names.person),
        **dict.fromkeys(("P495", "P50", "P170", "P175", "P276", "P407"), names.work),
        **dict.fromkeys(("P159", "P740", "P112", "P127"), groups),
        **dict.fromkeys(("P17", "P131"), sites),
        **dict.fromkeys(("P36",), lambda: names.with_kind(("Province",))),
        **dict.fromkeys(("P136", "P264"), lambda: f"The {names.with_kind(('Band', 'Trio', 'Singers'))}"),
        "P176": lambda: names.with_kind(("Engine", "Wagon", "Cutter", "Lamp")),
    }


def _shuffled(items: list[str], rng: random.Random) -> list[str]:
    return [item for _, item in sorted((rng.random(), item) for item in items)]


@cache
def _tail(size: int) -> tuple[float, ...]:
    """Cumulative shares of the ranks 0..size-1 with weight 1 / (rank + 2)^0.8."""
    weights = list(accumulate((rank + 2) ** -0.8 for rank in range(size)))
    return tuple(w / weights[-1] for w in weights)


def _split(share: float, domain: str) -> str:
    train, dev, _ = _SPLIT_SHARES[domain]
    return "train" if share < train else "dev" if share < dev else "test"


def _topic_facts(
    topic: Topic, pool: list[str], subject: Maker, names: _Names, rng: random.Random
) -> Iterator[Fact]:
    ranked, tail, n = _shuffled(pool, rng), _tail(len(pool)), _FACTS_PER_TOPIC[topic.domain]
    for i in range(n):
        obj = ranked[bisect(tail, rng.random())]
        name = subject()
        flagged = topic.id == "P159" and rng.random() < _OBJECT_IN_SUBJECT_SHARE
        if flagged:
            name = names.fresh(lambda obj=obj: f"{names.pick(_GROUPS)} {names.word()} of {obj}")  # type: ignore[misc]
        yield Fact(
            topic=topic.id,
            question=topic.question.format(subject=name),
            objects=(obj,),
            subject=name,
            split=_split((i + 0.5) / n, topic.domain),
            domain=topic.domain,
            answer_in_question=flagged,
        )


@cache
def demo_facts() -> FactSet:
    """All facts of the demo world, in a fixed order: 21,000 in-domain and 7,000 out-of-domain."""
    rng = random.Random(_SEED)
    names = _Names(rng)
    pools, makers = _object_pools(names), _subject_makers(names)
    facts = [
        fact
        for topic in load_topics().values()
        for fact in _topic_facts(topic, pools[topic.id], makers[topic.id], names, rng)
    ]
    return FactSet(tuple(facts), source="demo")
