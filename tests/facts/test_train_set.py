from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.train_set import draw_train_set


def world(sizes: dict[str, int], level: int = 2) -> tuple[list[Fact], dict[str, int]]:
    """Topic -> number of in-domain train facts, all of one level."""
    facts = [
        Fact(topic, f"Where is {topic}-{i}?", ("there",), split="train", domain="in")
        for topic, n in sizes.items()
        for i in range(n)
    ]
    return facts, {fact.fact_id: level for fact in facts}


def test_equal_shares_of_the_topics() -> None:
    facts, levels = world({"P1": 50, "P2": 50, "P3": 50})
    drawn = draw_train_set(facts, levels, "2", 30, seed=1)
    assert Counter(fact.topic for fact in drawn.facts) == {"P1": 10, "P2": 10, "P3": 10}
    assert drawn.shortages == {}


def test_small_topic_gives_what_it_has_and_the_others_fill_up() -> None:
    """30 from three topics is 10 each; P2 has 4, so P1 and P3 take its 6 in turn: 13 and 13."""
    facts, levels = world({"P1": 50, "P2": 4, "P3": 50})
    drawn = draw_train_set(facts, levels, "2", 30, seed=1)
    assert Counter(fact.topic for fact in drawn.facts) == {"P1": 13, "P2": 4, "P3": 13}
    assert drawn.shortages == {"P2": 6}


@given(st.integers(0, 50), st.integers(1, 60), st.integers(1, 60))
def test_nested_within_a_seed(seed: int, one: int, other: int) -> None:
    facts, levels = world({"P1": 40, "P2": 9, "P3": 40})
    small, large = sorted((one, other))
    part = draw_train_set(facts, levels, "2", small, seed).facts
    whole = draw_train_set(facts, levels, "2", large, seed).facts
    assert whole[: len(part)] == part
    assert len({fact.fact_id for fact in whole}) == large


def test_seeds_differ_and_order_of_the_facts_does_not_matter() -> None:
    facts, levels = world({"P1": 40, "P2": 40})
    assert draw_train_set(facts, levels, "2", 10, 0) == draw_train_set(facts[::-1], levels, "2", 10, 0)
    assert draw_train_set(facts, levels, "2", 10, 0).facts != draw_train_set(facts, levels, "2", 10, 1).facts


def test_mixed_takes_a_fifth_of_each_level() -> None:
    facts, levels = [], {}
    for level in range(5):
        some, known = world({f"P{level}": 20}, level)
        facts, levels = facts + some, levels | known
    drawn = draw_train_set(facts, levels, "mixed", 25, 0)
    assert Counter(levels[fact.fact_id] for fact in drawn.facts) == dict.fromkeys(range(5), 5)


def test_all_takes_everything_of_the_level_and_only_train_in_domain() -> None:
    facts, levels = world({"P1": 7})
    others = [
        Fact("P1", "Where is dev?", ("there",), split="dev"),
        Fact("P9", "Where is out?", ("there",), split="train", domain="out"),
        Fact("P1", "Where is level 3?", ("there",), split="train"),
    ]
    levels |= {others[0].fact_id: 2, others[1].fact_id: 2, others[2].fact_id: 3}
    assert set(draw_train_set([*facts, *others], levels, "2", None, 0).facts) == set(facts)
    assert len(draw_train_set([*facts, *others], levels, "natural", None, 0).facts) == 8


@pytest.mark.parametrize(
    ("level", "n", "message"),
    [
        ("7", 5, "level: got '7'; allowed: 0, 1, 2, 3, 4, mixed, natural"),
        ("2", 11, "only 10 in-domain train facts have mastery level 2"),
        ("2", 0, "n: got 0"),
        ("mixed", 12, "multiple of 5"),
    ],
)
def test_impossible_wishes(level: str, n: int, message: str) -> None:
    facts, levels = world({"P1": 10})
    with pytest.raises(SpecError, match=message):
        draw_train_set(facts, levels, level, n, 0)


def test_the_head_of_a_mixed_set_has_as_many_of_each_level() -> None:
    """Levels of 5 facts each: 12 is 3, 3, 2, 2, 2, the first of each, and a single level gives its first 12."""
    facts, levels = [], {}
    for level in range(5):
        some, known = world({f"P{level}": 20}, level)
        facts, levels = facts + some, levels | known
    drawn = draw_train_set(facts, levels, "mixed", 25, 0)
    assert drawn.parts == (5, 5, 5, 5, 5)
    head = drawn.head(12)
    assert Counter(levels[fact.fact_id] for fact in head) == {0: 3, 1: 3, 2: 2, 3: 2, 4: 2}
    assert head[:3] == drawn.facts[:3] and head[3:6] == drawn.facts[5:8]
    assert drawn.head(None) == drawn.head(25) == drawn.head(99) == drawn.facts
    one = draw_train_set(facts, levels, "3", 15, 0)
    assert one.head(12) == one.facts[:12]
    assert one.head(0) == ()


def test_a_part_with_too_few_facts_gives_what_it_has() -> None:
    """ "All" of two levels with 1 and 4 facts: 4 of them would be one of levels 0 to 3, and two of these have none."""
    some, known = world({"P1": 1}, 0)
    more, others = world({"P2": 4}, 1)
    drawn = draw_train_set(some + more, known | others, "mixed", None, 0)
    assert drawn.parts == (1, 4, 0, 0, 0)
    assert Counter((known | others)[fact.fact_id] for fact in drawn.head(4)) == {0: 1, 1: 1}
