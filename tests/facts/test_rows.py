"""Which questions stay, under both filters; every number by hand."""

from __future__ import annotations

import pytest

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.rows import MOVED_NOTE, Row, answer_in_question, facts_of


def row(topic: str, question: str, *answers: str, split: str = "train", domain: str = "in") -> Row:
    return Row(topic, question, answers or ("Ako",), None, split, domain)


def kept(facts: FactSet) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [(f.split, f.topic, f.question, f.objects) for f in facts.facts]


def dropped(facts: FactSet) -> dict[tuple[str, str, str], int]:
    return {(d.reason, d.topic, d.split): d.n for d in facts.dropped}


def test_paper_keeps_questions_with_one_answer_once_a_set() -> None:
    """q1 twice in A, once in B of the same template; q2 has two answers; out-of-domain q1 is apart."""
    rows = [
        row("A", "q1"),
        row("A", "q1", "Bel"),
        row("A", "q2", "Ako", "Bel"),
        row("B", "q1"),
        row("B", "q3"),
        row("O", "q1", domain="out"),
    ]
    facts = facts_of(rows, "here")
    assert kept(facts) == [
        ("train", "A", "q1", ("Ako",)),
        ("train", "B", "q3", ("Ako",)),
        ("train", "O", "q1", ("Ako",)),
    ]
    assert dropped(facts) == {
        ("question repeated in its set", "A", "train"): 1,
        ("more than one answer", "A", "train"): 1,
        ("question repeated in its set", "B", "train"): 1,
    }
    assert facts.source == "here"


LEAKY = [
    row("A", "q1"),
    row("A", "q1", split="dev"),  # also in test and train
    row("A", "q1", split="test"),  # also in train: leaves test
    row("B", "q2", split="dev"),  # also in test
    row("A", "q2", split="test"),
    row("A", "q4", "Ako", "Bel"),  # not a train fact, so the next one does not leak
    row("A", "q4", split="test"),
    row("O", "q5", domain="out"),
    row("O", "q5", split="dev", domain="out"),  # train facts of the domain are never trained on
    row("O", "q5", split="test", domain="out"),
    row("O", "q6", split="dev", domain="out"),
]


def test_paper_lets_no_question_stand_in_two_places() -> None:
    facts = facts_of(LEAKY, "here")
    assert [(f.split, f.topic, f.question) for f in facts.facts] == [
        ("train", "A", "q1"),
        ("train", "O", "q5"),
        ("dev", "O", "q6"),
        ("test", "A", "q2"),
        ("test", "A", "q4"),
        ("test", "O", "q5"),
    ]
    assert dropped(facts) == {
        ("question also in test", "A", "dev"): 1,
        ("question also in train", "A", "test"): 1,
        ("question also in test", "B", "dev"): 1,
        ("more than one answer", "A", "train"): 1,
        ("question also in test", "O", "dev"): 1,
    }


def test_leaks_can_be_kept() -> None:
    facts = facts_of(LEAKY, "here", keep_leaks=True)
    assert len(facts.facts) == 10
    assert dropped(facts) == {("more than one answer", "A", "train"): 1}


def test_all_unites_the_answers_of_a_repeated_question() -> None:
    rows = [row("A", "q1", "Ako"), row("A", "q1", "Bel", "Ako"), row("A", "q2", "Cid", "Dov")]
    facts = facts_of(rows, "here", filter="all")
    assert kept(facts) == [("train", "A", "q1", ("Ako", "Bel")), ("train", "A", "q2", ("Cid", "Dov"))]
    assert dropped(facts) == {("merged with the same question", "A", "train"): 1}


def test_all_puts_a_question_into_its_most_protected_split() -> None:
    """q1: train, test, dev -> test, whose answer leads. q2: train and dev -> dev."""
    rows = [
        row("A", "q1", "Ako"),
        row("A", "q1", "Bel", split="test"),
        row("A", "q1", "Cid", split="dev"),
        row("A", "q2", "Ako"),
        row("A", "q2", "Ako", split="dev"),
    ]
    facts = facts_of(rows, "here", filter="all")
    assert kept(facts) == [("dev", "A", "q2", ("Ako",)), ("test", "A", "q1", ("Bel", "Cid", "Ako"))]
    assert dropped(facts) == {
        ("merged with the same question in a more protected split", "A", "train"): 2,
        ("merged with the same question in a more protected split", "A", "dev"): 1,
    }
    assert facts.notes == {}


def test_all_accepts_a_question_of_two_topics_in_either() -> None:
    """The same text: B's train question would give away A's test question, so it moves to test."""
    rows = [row("B", "q1", "Bel"), row("B", "q2", "Cid"), row("A", "q1", "Ako", split="test")]
    facts = facts_of(rows, "here", filter="all")
    assert kept(facts) == [
        ("train", "B", "q2", ("Cid",)),
        ("test", "B", "q1", ("Bel", "Ako")),
        ("test", "A", "q1", ("Ako", "Bel")),
    ]
    assert dropped(facts) == {}
    assert facts.notes == {MOVED_NOTE: 1}


@pytest.mark.parametrize(("filter", "keep_leaks"), [("paper", False), ("paper", True), ("all", False)])
def test_facts_and_dropped_add_up_to_the_rows(filter: str, keep_leaks: bool) -> None:
    facts = facts_of(LEAKY, "here", filter=filter, keep_leaks=keep_leaks)
    assert len(facts.facts) + sum(d.n for d in facts.dropped) == len(LEAKY)


def test_questions_that_give_their_answer_away_are_flagged() -> None:
    rows = [row("A", "Where is Bank of Koro?", "KORO"), row("A", "Where is Bel?", "Koro")]
    assert [f.answer_in_question for f in facts_of(rows, "here").facts] == [True, False]
    assert answer_in_question("Where is the Koroan Bank?", ["Bel", "Koro"])  # part of a word counts
    assert not answer_in_question("Where is the Bank?", ["Koro"])


def test_an_unknown_filter_and_a_contradiction_are_refused() -> None:
    with pytest.raises(SpecError, match="filter: got 'papers'; allowed: paper, all"):
        facts_of([], "here", filter="papers")
    with pytest.raises(SpecError, match='keep_leaks goes with filter "paper"'):
        facts_of([], "here", filter="all", keep_leaks=True)
