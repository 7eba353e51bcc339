"""A cache of finished chains with plausible numbers: written through the store, without any model.

Every question has a difficulty of its own; a state answers it rightly when that is below the state's chance for
questions of that mastery level. So states share most of their right answers, as real ones do, and the summaries
are computed from the answers by the same code as those of real chains.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sftknow_core.facts.fact import Fact, FactSet, question_set_id
from sftknow_core.facts.matcher import Matcher
from sftknow_core.facts.train_set import TrainSet
from sftknow_core.runs.chain_summary import summarise_chain
from sftknow_core.runs.workspace import ModelHandle
from sftknow_core.stats.intervals import level_balanced, wilson
from sftknow_core.store.cache import Cache
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_spec import RunSpec

GROUPS = (("dev", "in"), ("test", "in"), ("test", "out"))
KNOWN = (0.03, 0.25, 0.5, 0.7, 0.92)
"""Chance that an undamaged model answers a question of level 0 to 4."""
DAMAGE = {"0": 0.9, "1": 0.75, "2": 0.55, "3": 0.5, "4": 0.45, "mixed": 0.6}
"""Share of it that fine-tuning on 1,920 facts of a level destroys."""
BACK = {0: 0.0, 1: 0.1, 3: 0.2, 5: 0.25, 10: 0.4, 20: 0.6, 40: 0.85, 60: 0.9, 100: 0.7}
"""k -> share of the damage that restoring k% repairs."""
DEMO = tuple((level, n, 0) for level in ("0", "2", "4", "mixed") for n in (240, 1920))
BASE = ModelHandle(Path("demo"), "ba5e" * 4, "demo")


@dataclass(frozen=True)
class FakeState:
    """What summarise_chain asks of a state."""

    state_id: str
    kind: str
    k: int | None

    @property
    def label(self) -> str:
        if self.kind in ("base", "tuned"):
            return self.kind
        return f"restored {self.k}%" if self.kind == "restored" else "hybrid (100%)"

    @property
    def spec(self) -> Any:
        return SimpleNamespace(k_percent=self.k) if self.kind in ("restored", "hybrid") else None


def make_chains(
    root: Path,
    chains: Sequence[tuple[str, int, int]] = (("2", 1920, 0),),
    *,
    per_level: int = 10,
    ks: Sequence[int] = (5, 20, 60),
) -> list[str]:
    """Finish a chain for each (train level, N, seed); returns their run ids, in this order."""
    cache, questions = Cache(root), list(_questions(per_level))
    return [_chain(cache, questions, level, n, seed, (*ks, 100)) for level, n, seed in chains]


def leave_chain(root: Path, level: str, error: Exception) -> str:
    """A chain that ends with an error; returns its run id."""
    try:
        with open_run(
            Cache(root),
            RunSpec("chain", {"base": BASE.model_id}, {"level": level}),
            about=_about(level, 60, 0),
        ) as run:
            run.progress(1, 4, "tuned")
            raise error
    except type(error):
        return run.run_id


def _chance(state: FakeState, level: int, train_level: str, n: int) -> float:
    if state.kind == "base":
        return 0.12 * KNOWN[level]
    damage = DAMAGE[train_level] * (0.6 if n < 1000 else 1.0)
    return KNOWN[level] * (1 - damage * (1 - BACK[state.k or 0]))


def _questions(per_level: int) -> Iterator[tuple[Fact, int]]:
    """(fact, mastery level) of all groups."""
    for split, domain in GROUPS:
        for level in range(5):
            for i in range(per_level):
                name = _name(f"{split}{domain}{level}{i}")
                question = (
                    f"Where was {name} {_name(name)} born?"
                    if domain == "in"
                    else f"Who made The {name} Song?"
                )
                yield (
                    Fact(
                        "P19" if domain == "in" else "P50",
                        question,
                        (_name(name + "!"),),
                        name,
                        split,
                        domain,
                    ),
                    level,
                )


def _name(seed: str) -> str:
    rng = random.Random(seed)
    return "".join(
        rng.choice("bdfgklmnrstv") + rng.choice(("a", "ei", "i", "ou")) for _ in range(4)
    ).capitalize()


def _draw(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:13], 16) / 16**13


def _chain(
    cache: Cache, questions: list[tuple[Fact, int]], level: str, n: int, seed: int, ks: Sequence[int]
) -> str:
    tuned = ModelHandle(Path("tuned"), _id("tuned", level, n, seed), f"demo, {level} x {n}, seed {seed}")
    states = [FakeState(BASE.model_id, "base", None), FakeState(tuned.model_id, "tuned", 0)]
    states += [FakeState(_id(tuned.model_id, k), "hybrid" if k == 100 else "restored", k) for k in ks]
    stages: dict[str, Any] = {"delta": _delta(cache, tuned), "evaluate_train": {}}
    stages["evaluate"] = {s.state_id: _evaluation(cache, s, questions, level, n, seed, tuned) for s in states}
    stages["five_shot"] = _five_shot(cache, questions)
    facts = tuple(fact for fact, _ in questions)
    train = tuple(Fact("P19", f"train {i}", ("Kamirou",), split="train") for i in range(4))
    train += (Fact("P50", "train", ("Feidre",), split="train"),)
    inputs = {"base": BASE.model_id, "mastery": "m", "questions": FactSet(facts, "").data_id}
    restore = [{"strategy": "top", "region": "transformer", "layers": None, "k_percent": str(k)} for k in ks]
    asked = {"prompt": "paper", "matcher": "words", "max_new_tokens": 16}
    spec = RunSpec(
        "chain", inputs, {"level": level, "n": n, "seed": seed, "restore": restore, "evaluate": asked}
    )
    with open_run(cache, spec, about=_about(level, n, seed)) as run:
        run.finish(
            summarise_chain(
                cache, BASE, tuned, states, stages, TrainSet(train, level, n, seed, {}),
                Matcher.WORDS, FactSet((*train, *facts), ""), facts,
            )
        )  # fmt: skip
    return run.run_id


def _about(level: str, n: int, seed: int) -> dict[str, Any]:
    title = f"demo, level {level}, N = {n:,}, seed {seed}"
    return {"base": "demo", "level": level, "n": n, "seed": seed, "title": title}


def _id(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _evaluation(
    cache: Cache,
    state: FakeState,
    questions: list[tuple[Fact, int]],
    level: str,
    n: int,
    seed: int,
    tuned: ModelHandle,
) -> str:
    right = [_is_right(state, fact, of_level, level, n, seed) for fact, of_level in questions]
    inputs = {"state": state.state_id, "questions": FactSet(tuple(f for f, _ in questions), "").data_id}
    with open_run(cache, RunSpec("evaluate", inputs)) as run:
        if run.done:
            return run.run_id
        answers = [_answer(state, i, *asked, right[i]) for i, asked in enumerate(questions)]
        tokens = [_first_token(state, *asked, _chance(state, asked[1], level, n)) for asked in questions]
        tables = {
            "answers": answers,
            "first_token": tokens,
            "accuracies": _accuracies(answers, "paper"),
            "states": [{"state_id": state.state_id, "kind": state.kind, "base_id": BASE.model_id}],
            "shifts": [
                _shift(
                    state, [t for t, a in zip(tokens, answers, strict=True) if _place(a) == ("test", "in", 4)]
                )
            ],
        }
        if state.spec is not None:
            tables["restorations"] = [_restoration(state, tuned)]
        run.write_chunk(0, tables)
        run.finish({"state_id": state.state_id})
    return run.run_id


def _is_right(state: FakeState, fact: Fact, of_level: int, level: str, n: int, seed: int) -> bool:
    own, noise = _draw(fact.fact_id), _draw(fact.fact_id, state.state_id, seed)
    return 0.85 * own + 0.15 * noise < _chance(state, of_level, level, n)


def _place(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["split"], row["domain"], row["level"]


def _answer(state: FakeState, number: int, fact: Fact, level: int, right: bool) -> dict[str, Any]:
    scores = dict.fromkeys(("words", "substring", "exact"), right)
    said = fact.objects[0] if right else _name(fact.fact_id + state.state_id)
    row = {
        "state_id": state.state_id,
        "fact_id": fact.fact_id,
        "row": number,
        "topic": fact.topic,
        "level": level,
    }
    row |= {"split": fact.split, "domain": fact.domain, "question": fact.question, "gold": fact.objects[0]}
    return row | scores | {"completion": said, "stopped": True, "n_tokens": 3, "answer_in_question": False}


def _first_token(state: FakeState, fact: Fact, level: int, chance: float) -> dict[str, Any]:
    kept = level >= 3 and _draw("kept", fact.fact_id) < 0.9
    kl = 4 * (1 - chance) * _draw(fact.fact_id, "kl") ** 2 if kept else None
    row = {
        "state_id": state.state_id,
        "fact_id": fact.fact_id,
        "topic": fact.topic,
        "level": level,
        "template": 2,
    }
    row |= {
        "kept": kept,
        "kept_within3": kept,
        "kl_nats": kl,
        "kl_aligned_nats": kl,
        "gold_p_base": 0.9 if kept else 0.1,
    }
    return row | {"gold_p_state": chance * (1 - (kl or 0) / 8), "reason": None if kept else "base lacks it"}


def _shift(state: FakeState, tokens: list[dict[str, Any]]) -> dict[str, Any]:
    values = [t["kl_aligned_nats"] for t in tokens if t["kl_aligned_nats"] is not None]
    mean = sum(values) / len(values)
    row = {"state_id": state.state_id, "split": "test", "domain": "in", "level": 4, "measure": "aligned"}
    return row | {
        "n": len(values),
        "n_questions": len(tokens),
        "mean_nats": mean,
        "low_nats": mean * 0.8,
        "high_nats": mean * 1.2,
    }


def _accuracies(answers: list[dict[str, Any]], prompt: str) -> list[dict[str, Any]]:
    rows = []
    for split, domain in GROUPS:
        group = [a for a in answers if (a["split"], a["domain"]) == (split, domain)]
        parts: list[tuple[int | None, list[dict[str, Any]]]] = [
            (level, [a for a in group if a["level"] == level]) for level in range(5)
        ]
        n_right = [sum(a["words"] for a in part) for _, part in parts]
        total = level_balanced(n_right, [len(part) for _, part in parts])
        found = [
            (n_right[i] / len(part), *wilson(n_right[i], len(part))) for i, (_, part) in enumerate(parts)
        ]
        for (level, part), numbers in zip(
            [*parts, (None, group)], [*found, (total.value, total.low, total.high)], strict=True
        ):
            row = {
                "state_id": group[0]["state_id"],
                "question_set_id": question_set_id(a["fact_id"] for a in part),
            }
            row |= {
                "prompt": prompt,
                "matcher": "words",
                "split": split,
                "domain": domain,
                "level": level,
                "subset": "all",
            }
            row |= {"n": len(part), "n_right": sum(a["words"] for a in part)}
            rows.append(row | dict(zip(("accuracy", "low", "high"), numbers, strict=True)))
    return rows


def _five_shot(cache: Cache, questions: list[tuple[Fact, int]]) -> str:
    with open_run(cache, RunSpec("evaluate", {"state": BASE.model_id}, {"prompt": "five-shot"})) as run:
        if not run.done:
            able = FakeState(BASE.model_id, "five", 100)
            right = [_draw(f.fact_id) < 0.8 * KNOWN[level] for f, level in questions]
            answers = [_answer(able, i, *asked, right[i]) for i, asked in enumerate(questions)]
            run.write_chunk(0, {"answers": answers, "accuracies": _accuracies(answers, "five-shot")})
            run.finish()
    return run.run_id


def _restoration(state: FakeState, tuned: ModelHandle) -> dict[str, Any]:
    k = float(state.k or 0)
    row = {
        "base_id": BASE.model_id,
        "tuned_id": tuned.model_id,
        "state_id": state.state_id,
        "strategy": "top",
    }
    row |= {
        "params": {},
        "region": "transformer",
        "k_percent": k,
        "n_region": 800_000,
        "n_restored": int(8000 * k),
    }
    taken = 1 - (1 - k / 100) ** 1.4
    return row | {
        "share_of_r": min(1.0, 0.8 + k / 500),
        "energy_taken_back": taken,
        "k_of_changed_percent": k,
    }


def _delta(cache: Cache, tuned: ModelHandle) -> str:
    ids = {"base_id": BASE.model_id, "tuned_id": tuned.model_id}
    with open_run(cache, RunSpec("delta", {"base": BASE.model_id, "tuned": tuned.model_id})) as run:
        if not run.done:
            sizes = {"transformer": (800_000, 799_000), "all": (1_200_000, 1_150_000)}
            deltas = [
                ids | {"region": r, "n_params": n, "n_changed": c, "sum_r": 9e4, "energy": 12.0}
                for r, (n, c) in sizes.items()
            ]
            shares = {1.0: 0.75, 20.0: 0.93}
            held = [
                {"region": "transformer", "eps": 1e-8, "k_percent": k, "share": s} for k, s in shares.items()
            ]
            run.write_chunk(0, {"deltas": deltas, "concentration": held})
            run.finish()
    return run.run_id
