"""The majority floor and the summary table, by hand."""

from __future__ import annotations

from sftknow_core.facts.fact import Dropped, Fact, FactSet
from sftknow_core.facts.summary import Floor, majority_answers, majority_floor, summarise


def fact(topic: str, *objects: str, split: str = "train", domain: str = "in", flagged: bool = False) -> Fact:
    return Fact(topic, "q", objects, None, split, domain, flagged)


TRAIN = [fact("A", "Koro"), fact("A", "Koro", "Bel"), fact("A", "Bel"), fact("B", "Vint"), fact("B", "Dov")]


def test_the_most_frequent_main_object_ties_alphabetically() -> None:
    assert majority_answers(TRAIN) == {"A": "Koro", "B": "Dov"}


def test_the_floor_is_what_that_answer_would_score() -> None:
    """A: "Koro" is right for Koro, for (Bel, Koro) and for Old Koro's synonym, wrong for Bel: 3 of 4."""
    tests = [
        fact("A", "Koro"),
        fact("A", "Bel", "Koro"),
        fact("A", "Old Koro"),
        fact("A", "Bel"),
        fact("C", "x"),
    ]
    synonyms = {"Old Koro": ("Koro",)}
    assert majority_floor(TRAIN, tests, synonyms) == [Floor("A", "Koro", 4, 3), Floor("C", None, 1, None)]
    assert majority_floor(TRAIN, tests, {}, "substring")[0].n_right == 2
    assert [floor.accuracy for floor in majority_floor(TRAIN, tests, synonyms)] == [0.75, None]


def test_an_answer_that_only_repeats_the_subject_is_no_floor() -> None:
    asked = Fact("A", "Where is Koro Bay?", ("Koro",), "Koro Bay")
    assert majority_floor([fact("A", "Koro Bay")], [asked], {})[0].n_right == 0


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
