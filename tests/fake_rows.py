"""Made-up questions, states and the rows a run of each would hold; fake_chain.py makes chains of them.

Every question has a difficulty of its own; a state answers it rightly when that is below the state's chance for
questions of that mastery level. So states share most of their right answers, as real ones do.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from sftknow_core.facts.fact import Fact, question_set_id
from sftknow_core.stats.intervals import level_balanced, wilson

GROUPS = (("dev", "in"), ("test", "in"), ("test", "out"))
KNOWN = (0.03, 0.25, 0.5, 0.7, 0.92)
"""Chance that an undamaged model answers a question of level 0 to 4."""
DAMAGE = {"0": 0.9, "1": 0.75, "2": 0.55, "3": 0.5, "4": 0.45, "mixed": 0.6}
"""Share of it that fine-tuning on 1,920 facts of a level destroys."""
BACK = {0: 0.0, 1: 0.1, 3: 0.2, 5: 0.25, 10: 0.4, 20: 0.6, 40: 0.85, 60: 0.9, 100: 0.7}
"""k -> share of the damage that restoring k% repairs."""
Row = dict[str, Any]
Asked = tuple[Fact, int]
"""A question and its mastery level."""


@dataclass(frozen=True)
class Training:
    """What a chain was fine-tuned on."""

    level: str
    n: int
    seed: int


@dataclass(frozen=True)
class FakeState:
    """What summarise_chain asks of a state."""

    state_id: str
    kind: str
    k: int | None = None
    five_shot: bool = False
    """Whether it is asked after five exemplars."""

    @property
    def label(self) -> str:
        names = {"restored": f"restored {self.k}%", "hybrid": "hybrid (100%)"}
        return names.get(self.kind, self.kind)

    @property
    def spec(self) -> Any:
        return SimpleNamespace(k_percent=self.k, seed=None) if self.kind in ("restored", "hybrid") else None


def make_questions(per_level: int) -> Iterator[Asked]:
    """`per_level` questions of each group and level."""
    for split, domain in GROUPS:
        for level in range(5):
            for i in range(per_level):
                name = _name(f"{split}{domain}{level}{i}")
                born, made = f"Where was {name} {_name(name)} born?", f"Who made The {name} Song?"
                topic, question = ("P19", born) if domain == "in" else ("P50", made)
                yield Fact(topic, question, (_name(name + "!"),), name, split, domain), level


def answer_rows(state: FakeState, questions: Sequence[Asked], training: Training) -> list[Row]:
    """Rows of `answers`."""
    chances = [_chance(state, level, training) for _, level in questions]
    rows = []
    for number, ((fact, level), chance) in enumerate(zip(questions, chances, strict=True)):
        noise = _draw(fact.fact_id, state.state_id, training.seed)
        right = 0.85 * _draw(fact.fact_id) + 0.15 * noise < chance
        said = fact.objects[0] if right else _name(fact.fact_id + state.state_id)
        row = {"state_id": state.state_id, "fact_id": fact.fact_id, "row": number, "topic": fact.topic}
        row |= {"level": level, "split": fact.split, "domain": fact.domain}
        row |= {"question": fact.question, "gold": fact.objects[0], "completion": f" {said}"}
        row |= dict.fromkeys(("words", "substring", "exact"), right)
        rows.append(row | {"stopped": True, "n_tokens": 3, "answer_in_question": False})
    return rows


def first_token_rows(state: FakeState, questions: Sequence[Asked], training: Training) -> list[Row]:
    """Rows of `first_token`: only questions of level 3 and 4 are kept."""
    rows = []
    for fact, level in questions:
        chance = _chance(state, level, training)
        kept = level >= 3 and _draw("kept", fact.fact_id) < 0.9
        kl = 4 * (1 - chance) * _draw(fact.fact_id, "kl") ** 2 if kept else None
        row = {"state_id": state.state_id, "fact_id": fact.fact_id, "topic": fact.topic, "level": level}
        row |= {"template": 2, "kept": kept, "kept_within3": kept, "kl_nats": kl, "kl_aligned_nats": kl}
        row |= {"gold_p_base": 0.8 + 0.2 * _draw(fact.fact_id), "gold_p_state": chance * (1 - (kl or 0) / 8)}
        rows.append(row | {"reason": None if kept else "base lacks it"})
    return rows


def shift_row(tokens: Sequence[Row], answers: Sequence[Row]) -> Row:
    """The row of `shifts` that a chain's summary reads: in-domain test, level 4, aligned."""
    where = ("test", "in", 4)
    pairs = zip(tokens, answers, strict=True)
    of_level = [t["kl_aligned_nats"] for t, a in pairs if (a["split"], a["domain"], a["level"]) == where]
    values = [value for value in of_level if value is not None]
    mean = sum(values) / len(values)
    row = {
        "state_id": tokens[0]["state_id"],
        "split": "test",
        "domain": "in",
        "level": 4,
        "measure": "aligned",
    }
    row |= {"n": len(values), "n_questions": len(of_level)}
    return row | {"mean_nats": mean, "low_nats": mean * 0.8, "high_nats": mean * 1.2}


def accuracy_rows(answers: Sequence[Row], prompt: str) -> list[Row]:
    """Rows of `accuracies` under the matcher "words", by level and level-balanced."""
    rows = []
    for split, domain in GROUPS:
        group = [a for a in answers if (a["split"], a["domain"]) == (split, domain)]
        if not group:
            continue
        parts = [[a for a in group if a["level"] == level] for level in range(5)]
        n_right = [sum(a["words"] for a in part) for part in parts]
        for level, part in enumerate(parts):
            numbers = (n_right[level] / len(part), *wilson(n_right[level], len(part)))
            rows.append(_accuracy_row(part, level, prompt, numbers))
        mean = level_balanced(n_right, [len(part) for part in parts])
        rows.append(_accuracy_row(group, None, prompt, (mean.value, mean.low, mean.high)))
    return rows


def restoration_row(state: FakeState, base_id: str, tuned_id: str) -> Row:
    """The row of `restorations` of a restored state."""
    k = float(state.k or 0)
    row: Row = {"base_id": base_id, "tuned_id": tuned_id, "state_id": state.state_id, "params": {}}
    row |= {"strategy": "top", "region": "transformer", "k_percent": k}
    row |= {"n_region": 800_000, "n_restored": int(8000 * k), "share_of_r": min(1.0, 0.8 + k / 500)}
    return row | {"energy_taken_back": 1 - (1 - k / 100) ** 1.4, "k_of_changed_percent": k}


def hashed(*parts: object) -> str:
    """16 hex digits that depend on the parts alone."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _accuracy_row(part: Sequence[Row], level: int | None, prompt: str, numbers: tuple[float, ...]) -> Row:
    row = {name: part[0][name] for name in ("state_id", "split", "domain")}
    row |= {"question_set_id": question_set_id(a["fact_id"] for a in part), "prompt": prompt}
    row |= {"matcher": "words", "level": level, "subset": "all", "n": len(part)}
    row |= {"n_right": sum(a["words"] for a in part)}
    return row | dict(zip(("accuracy", "low", "high"), numbers, strict=True))


def _chance(state: FakeState, level: int, training: Training) -> float:
    if state.kind == "base":
        return (0.8 if state.five_shot else 0.12) * KNOWN[level]
    damage = DAMAGE[training.level] * (0.6 if training.n < 1000 else 1.0)
    left = KNOWN[level] * (1 - damage * (1 - BACK[state.k or 0]))
    return 0.7 * left if state.five_shot else left


def _name(seed: str) -> str:
    rng = random.Random(seed)
    syllables = (rng.choice("bdfgklmnrstv") + rng.choice(("a", "ei", "i", "ou")) for _ in range(4))
    return "".join(syllables).capitalize()


def _draw(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    return int(hashed(*parts)[:13], 16) / 16**13
