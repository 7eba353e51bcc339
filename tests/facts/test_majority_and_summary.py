"""The majority floor and the summary table, by hand."""

from __future__ import annotations

from sftknow_core.facts.fact import Dropped, Fact, FactSet
from sftknow_core.facts.summary import majority_answers, summarise


def fact(topic: str, *objects: str, split: str = "train", domain: str = "in", flagged: bool = False) -> Fact:
    return Fact(topic, "q", objects, None, split, domain, flagged)


TRAIN = [fact("A", "Koro"), fact("A", "Koro", "Bel"), fact("A", "Bel"), fact("B", "Vint"), fact("B", "Dov")]


def test_the_most_frequent_main_object_ties_alphabetically() -> None:
    assert majority_answers(TRAIN) == {"A": "Koro", "B": "Dov"}


def test_summary_rows() -> None:
    facts = FactSet(
        facts=(
            fact("B", "x", flagged=True),
            fact("B", "x"),
            fact("A", "x", split="test", domain="out"),
            fact("B", "x", split="test"),
        ),
        source="here",
        dropped=(
            Dropped("twice", "B", "train", 2),
            Dropped("leak", "B", "train", 1),
            Dropped("twice", "B", "dev", 4),
            Dropped("twice", "Z", "dev", 5),
        ),
    )
    rows = [(r.topic, r.domain, r.split, r.n, r.n_flagged, dict(r.dropped)) for r in summarise(facts)]
    assert rows == [
        ("B", "in", "train", 2, 1, {"leak": 1, "twice": 2}),
        ("B", "in", "dev", 0, 0, {"twice": 4}),
        ("B", "in", "test", 1, 0, {}),
        ("A", "out", "test", 1, 0, {}),
        ("Z", None, "dev", 0, 0, {"twice": 5}),
    ]
    assert [r.n_dropped for r in summarise(facts)] == [3, 4, 0, 0, 5]
    assert list(summarise(facts)[0].dropped) == ["leak", "twice"]
