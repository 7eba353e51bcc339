"""A finished mastery run with made-up counts, written through the store in chunks, without any model.

R, its interval and the level come from the code that real runs use; the counts are drawn by a seeded generator.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from sftknow_core.facts.fact import Fact
from sftknow_core.facts.topics import load_topics, topics_id
from sftknow_core.measure.levels import mastery_of, sampled_against_expected, split_half
from sftknow_core.store.cache import Cache
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_spec import RunSpec

Row = dict[str, Any]
MODEL = "ba5e" * 4
N_TEMPLATES, N_SAMPLES = 21, 10
WHY = "no completion templates, and too few train facts"
PLACES = (
    ("P19", "train", "in"),
    ("P19", "dev", "in"),
    ("P17", "test", "in"),
    ("P50", "test", "out"),
    ("P50", "train", "out"),
)
_CHANCES = (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.95, 1.0)


def make_mastery(
    root: Path, n: int = 130, *, chunk: int = 40, seed: int = 0, own_topics: bool = False
) -> str:
    """Write a run of n facts, the last of which could not be asked; returns its run id."""
    topics = load_topics()
    rng = random.Random(seed)
    rows, templates = [], []
    for i in range(n):
        topic, split, domain = PLACES[i % len(PLACES)]
        question = topics[topic].question.replace("{subject}", f"Name{i} Sur{seed}")
        fact = Fact(topic, question, (f"Gold{i}",), split=split, domain=domain)
        counts = [] if i == n - 1 else _counts(rng)
        rows.append(_row(fact, counts, rng))
        templates += _template_rows(fact, counts, rng)
    inputs = {"model": MODEL, "facts": f"facts{n}", "topics": "other" if own_topics else topics_id(topics)}
    params = {
        "n_samples": N_SAMPLES,
        "temperature": 0.7,
        "max_new_tokens": 8,
        "seed": seed,
        "matcher": "words",
    }
    with open_run(
        Cache(root), RunSpec("mastery", inputs, params), about={"model": "demo", "n_facts": n}
    ) as run:
        for number in range(-(-n // chunk)):
            some = rows[number * chunk : (number + 1) * chunk]
            ids = {row["fact_id"] for row in some}
            its = [row for row in templates if row["fact_id"] in ids]
            run.write_chunk(number, {"mastery": some, "mastery_templates": its})
        agreement = sampled_against_expected(rows)
        levels = [row["level"] for row in rows]
        run.finish(
            {
                "n_by_level": {str(level): levels.count(level) for level in range(5)},
                "n_not_scored": levels.count(None),
                "agreement": {"n": agreement.n, "confusion": agreement.confusion},
                "split_half": split_half(templates),
            }
        )
    return run.run_id


def make_chain(root: Path, mastery: str) -> str:
    """A finished chain that took its levels from a mastery run; returns its run id."""
    with open_run(Cache(root), RunSpec("chain", {"mastery": mastery}), about={"title": "a chain"}) as run:
        run.finish({"stages": {"mastery": mastery}})
    return run.run_id


def make_answers(root: Path, mastery: str, fact_id: str) -> None:
    """Two evaluations of the base that asked one fact: the question alone, and after five examples."""
    for said, inputs, right in (("Gold2.", {}, True), ("Oslo", {"exemplars": "e"}, False)):
        spec = RunSpec(
            "evaluate", {"state": MODEL, "base": MODEL, "mastery": mastery, **inputs}, {"matcher": "words"}
        )
        answer: Row = {"state_id": MODEL, "fact_id": fact_id, "topic": "P17", "split": "test", "domain": "in"}
        answer |= {"question": "q", "gold": "Gold2", "completion": f" {said}", "stopped": True, "n_tokens": 2}
        answer |= dict.fromkeys(("words", "substring", "exact"), right) | {"answer_in_question": False}
        tables = {"answers": [answer]}
        if not inputs:
            token: Row = {
                "state_id": MODEL,
                "fact_id": fact_id,
                "template": 4,
                "kept": True,
                "kept_within3": True,
            }
            tables["first_token"] = [token | {"base_completion": " Gold2, of course"}]
        with open_run(Cache(root), spec) as run:
            run.write_chunk(0, tables)
            run.finish()


def _counts(rng: random.Random) -> list[int]:
    """Right completions of each template."""
    chance = rng.choice(_CHANCES)
    return [sum(rng.random() < chance for _ in range(N_SAMPLES)) for _ in range(N_TEMPLATES)]


def _row(fact: Fact, counts: list[int], rng: random.Random) -> Row:
    row: Row = {"fact_id": fact.fact_id, "topic": fact.topic, "split": fact.split, "domain": fact.domain}
    row |= {"question": fact.question, "gold": fact.objects[0], "n_templates": len(counts)}
    row |= {"n_samples": len(counts) * N_SAMPLES, "n_correct": sum(counts)}
    names = ("r", "r_low", "r_high", "level", "borderline", "expected_mastery", "expected_level0_marked")
    if not counts:
        return row | dict.fromkeys(names) | {"reason": WHY}
    mastery = mastery_of(counts, N_SAMPLES)
    row |= {"r": mastery.r, "r_low": mastery.r_low, "r_high": mastery.r_high, "level": mastery.level}
    expected = min(1.0, max(0.0, mastery.r + rng.uniform(-0.06, 0.06)))
    row |= {"borderline": mastery.borderline, "expected_mastery": expected}
    return row | {"expected_level0_marked": mastery.level == 0 and expected > 1 / mastery.n_total}


def _template_rows(fact: Fact, counts: list[int], rng: random.Random) -> list[Row]:
    return [
        {
            "fact_id": fact.fact_id,
            "template": i,
            "n_correct": n,
            "n_samples": N_SAMPLES,
            "expected": rng.random(),
        }
        for i, n in enumerate(counts)
    ]
