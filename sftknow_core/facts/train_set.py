"""Mastery levels -> the facts one fine-tuning sees (method: Ye et al. 2025, section 3).

N train facts of one mastery level, N / topics from each topic. Within a seed the sets are nested (60 in 240 in
1,920), so that sizes can be compared in pairs: every topic's facts are put into one seeded order and a larger set
takes a longer head of it. A topic too small for its share gives what it has; the others fill up, in topic order,
one fact a turn, and the shortage is recorded.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import Fact

LEVELS = ("0", "1", "2", "3", "4", "mixed", "natural")
TRAIN_SET_VERSION = 1


@dataclass(frozen=True)
class TrainSet:
    """The facts of one fine-tuning, in the order they were drawn."""

    facts: tuple[Fact, ...]
    level: str
    n: int
    seed: int
    shortages: dict[str, int]
    """Topic -> how many facts it lacked for its share."""
    parts: tuple[int, ...]
    """Facts of each level that was drawn from, in the order of `facts`; one part unless the level is "mixed"."""

    def head(self, n: int | None) -> tuple[Fact, ...]:
        """`n` of the facts (None, or more than there are: all), an equal share of every part, the first of each.

        The remainder goes to the first parts; what a part lacks is not made up for.
        """
        if n is None or n >= len(self.facts):
            return self.facts
        share, more = divmod(n, len(self.parts))
        chosen: list[Fact] = []
        start = 0
        for number, size in enumerate(self.parts):
            chosen += self.facts[start : start + min(size, share + (number < more))]
            start += size
        return tuple(chosen)


def draw_train_set(
    facts: Iterable[Fact], levels: Mapping[str, int], level: str, n: int | None, seed: int
) -> TrainSet:
    """Draws `n` facts (None: all there are) of mastery `level` from the in-domain train facts.

    `level`: "0".."4"; "mixed" takes n / 5 of each level; "natural" takes levels as they occur. `levels` maps fact_id
    to mastery level; facts without one are passed over. Raises SpecError when the level holds fewer than n.
    """
    if level not in LEVELS:
        raise SpecError(f"level: got {level!r}; allowed: {', '.join(LEVELS)}")
    if n is not None and n < 1:
        raise SpecError(f"n: got {n}; allowed: at least 1, or 'all'")
    pool = [f for f in facts if f.split == "train" and f.domain == "in" and f.fact_id in levels]
    if level != "mixed":
        wanted = [f for f in pool if level == "natural" or levels[f.fact_id] == int(level)]
        chosen, shortages = _draw(wanted, n, seed, level)
        return TrainSet(tuple(chosen), level, len(chosen), seed, shortages, (len(chosen),))
    if n is not None and n % 5:
        raise SpecError(
            f"n: got {n}; level 'mixed' takes a fifth of each level, so n must be a multiple of 5"
        )
    chosen, shortages, parts = [], {}, []
    for one in range(5):
        part, short = _draw([f for f in pool if levels[f.fact_id] == one], n and n // 5, seed, str(one))
        chosen += part
        parts.append(len(part))
        shortages |= {f"level {one}, {topic}": lack for topic, lack in short.items()}
    return TrainSet(tuple(chosen), level, len(chosen), seed, shortages, tuple(parts))


def _draw(pool: list[Fact], n: int | None, seed: int, level: str) -> tuple[list[Fact], dict[str, int]]:
    """`n` facts in equal shares of the topics; a share's remainder goes to the first topics."""
    if n is None:
        return sorted(pool, key=lambda f: _rank(f, seed)), {}
    if n > len(pool):
        raise SpecError(
            f"n: got {n}, but only {len(pool)} in-domain train facts have mastery level {level}; "
            f"choose n <= {len(pool)} or another level"
        )
    by_topic: dict[str, list[Fact]] = defaultdict(list)
    for fact in sorted(pool, key=lambda f: _rank(f, seed)):
        by_topic[fact.topic].append(fact)
    topics = sorted(by_topic)
    turns = [t for turn in range(n) for t in topics if turn < len(by_topic[t])] if n else []
    takes: dict[str, int] = defaultdict(int)
    chosen = []
    for topic in turns[:n]:
        chosen.append(by_topic[topic][takes[topic]])
        takes[topic] += 1
    share = n // len(topics)
    return chosen, {t: share - takes[t] for t in topics if takes[t] < share}


def _rank(fact: Fact, seed: int) -> bytes:
    """The fact's place in the seed's order: a hash, so that it does not depend on the other facts."""
    return hashlib.blake2b(f"{seed}:{fact.fact_id}".encode(), digest_size=16).digest()
