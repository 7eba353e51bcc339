"""Facts and mastery levels -> the questions one run is evaluated on.

Three groups are asked: in-domain dev (to choose k on), in-domain test and out-of-domain test (to report); the
train set is a fourth. Each group takes at most `per_level` questions of every mastery level, in the order of
a seeded hash, so that a larger sample contains the smaller one and the sample does not depend on the fine-tuned model.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

from sftknow_core.facts.fact import Fact
from sftknow_core.specs import QuestionSpec

GROUPS = (("dev", "in"), ("test", "in"), ("test", "out"))


def choose_questions(
    facts: Iterable[Fact], levels: Mapping[str, int], spec: QuestionSpec
) -> tuple[Fact, ...]:
    """The questions of all three groups: by group, then by level, then in the seed's order.

    Facts without a mastery level are passed over: without a level an answer has no place in the accuracy.
    """
    known = [f for f in facts if f.fact_id in levels and (f.split, f.domain) in GROUPS]
    known.sort(key=lambda f: (GROUPS.index((f.split, f.domain)), levels[f.fact_id], _rank(f, spec.seed)))
    taken: Counter[tuple[str, str, int]] = Counter()
    chosen = []
    for fact in known:
        place = (fact.split, fact.domain, levels[fact.fact_id])
        if spec.per_level is None or taken[place] < spec.per_level:
            taken[place] += 1
            chosen.append(fact)
    return tuple(chosen)


def _rank(fact: Fact, seed: int) -> bytes:
    return hashlib.blake2b(f"questions:{seed}:{fact.fact_id}".encode(), digest_size=16).digest()
