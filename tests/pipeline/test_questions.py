from __future__ import annotations

from collections import Counter

import pytest

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import Fact
from sftknow_core.pipeline.questions import choose_questions
from sftknow_core.specs import QuestionSpec


def world() -> tuple[list[Fact], dict[str, int]]:
    facts = [
        Fact("P1", f"{split} {domain} {level} {i}?", ("x",), split=split, domain=domain)
        for split in ("train", "dev", "test")
        for domain in ("in", "out")
        for level in range(5)
        for i in range(6)
    ]
    return facts, {fact.fact_id: int(fact.question.split()[2]) for fact in facts}


def test_so_many_of_each_level_in_each_group() -> None:
    facts, levels = world()
    chosen = choose_questions(facts, levels, QuestionSpec(per_level=2))
    counts = Counter((f.split, f.domain, levels[f.fact_id]) for f in chosen)
    groups = (("dev", "in"), ("test", "in"), ("test", "out"))
    assert counts == {(*group, level): 2 for group in groups for level in range(5)}


def test_a_larger_sample_holds_the_smaller_and_none_means_all() -> None:
    facts, levels = world()
    small = choose_questions(facts, levels, QuestionSpec(per_level=2))
    large = choose_questions(facts[::-1], levels, QuestionSpec(per_level=4))
    assert set(small) < set(large)
    assert len(choose_questions(facts, levels, QuestionSpec())) == 3 * 5 * 6


def test_other_seed_other_questions_and_unknown_levels_left_out() -> None:
    facts, levels = world()
    assert set(choose_questions(facts, levels, QuestionSpec(per_level=2, seed=1))) != set(
        choose_questions(facts, levels, QuestionSpec(per_level=2, seed=0))
    )
    del levels[facts[-1].fact_id]
    assert facts[-1] not in choose_questions(facts, levels, QuestionSpec())


def test_zero_questions_are_refused() -> None:
    with pytest.raises(SpecError, match="at least 1"):
        QuestionSpec(per_level=0)
