from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import load_facts, sample_facts
from sftknow_core.facts.demo_world import demo_facts
from sftknow_core.facts.topics import load_topics


def test_same_world_everywhere() -> None:
    """The shipped mastery scores belong to exactly this world."""
    assert load_facts("demo").data_id == "6179986ea550fabc"


def test_size_and_shares() -> None:
    facts = demo_facts().facts
    assert Counter((f.domain, f.split) for f in facts) == {
        ("in", "train"): 16_800,
        ("in", "dev"): 2_100,
        ("in", "test"): 2_100,
        ("out", "train"): 1_400,
        ("out", "dev"): 1_400,
        ("out", "test"): 4_200,
    }
    assert {f.topic for f in facts} == set(load_topics())


def test_every_question_once_and_its_subject_recovered() -> None:
    facts, topics = demo_facts().facts, load_topics()
    assert len({(f.topic, f.question) for f in facts}) == len(facts)
    assert len({f.subject for f in facts}) == len(facts)
    assert all(topics[f.topic].subject_of(f.question) == f.subject for f in facts)


def test_a_guess_is_rarely_right() -> None:
    """The most frequent object of a topic holds at most a tenth of its facts."""
    objects = defaultdict(Counter)
    for fact in demo_facts().facts:
        objects[fact.topic][fact.objects[0]] += 1
    for topic, counts in objects.items():
        total = counts.total()
        share = counts.most_common(1)[0][1] / total
        assert share < (0.12 if total > 1_000 else 0.2), topic
        assert len(counts) > 50


def test_flags_are_where_the_object_stands_in_the_question() -> None:
    for fact in demo_facts().facts:
        assert fact.answer_in_question == (fact.objects[0] in fact.question), fact


def test_samples_are_nested_and_bounded() -> None:
    facts = demo_facts()
    small, large = sample_facts(facts, 3), sample_facts(facts, 10)
    assert set(small.facts) < set(large.facts)
    assert max(Counter((f.topic, f.split) for f in small.facts).values()) == 3
    assert small.notes["left out by sampling"] == len(facts.facts) - len(small.facts)
    with pytest.raises(SpecError, match="at least 1"):
        sample_facts(facts, 0)
