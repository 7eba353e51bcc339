"""The template of a topic is chosen on dev level-4 facts alone."""

import pandas as pd
import pytest

from sftknow_core.measure.asking import choose_templates


@pytest.fixture
def facts(make_fact):
    return [
        make_fact("Ann", "Oslo", split="dev"),
        make_fact("Bob", "Oslo", split="dev"),
        make_fact("Cid", "Oslo", split="test"),
    ]


def counts(fact, *n_correct):
    return [
        {"fact_id": fact.fact_id, "template": template, "n_correct": n, "n_samples": 10}
        for template, n in enumerate(n_correct)
    ]


def chosen(facts, levels, rows):
    return choose_templates(["P19"], facts, levels, pd.DataFrame(rows))["P19"]


def test_most_successes_on_dev_level_4(facts):
    """Ann (level 4) says template 1, with 9 of 10; Bob (level 3) and Cid (test) would say others."""
    ann, bob, cid = facts
    rows = [*counts(ann, 5, 9, 7), *counts(bob, 10, 0, 0), *counts(cid, 0, 0, 10)]
    levels = {ann.fact_id: 4, bob.fact_id: 3, cid.fact_id: 4}
    choice = chosen(facts, levels, rows)
    assert (choice.template, choice.basis, choice.n_facts) == (1, "dev level 4", 1)
    assert (choice.n_correct, choice.n_samples) == (9, 10)


def test_equal_templates_take_the_smaller_number(facts):
    rows = list(reversed(counts(facts[0], 3, 8, 8)))
    assert chosen(facts, {facts[0].fact_id: 4}, rows).template == 1


def test_without_level_4_all_dev_facts_count(facts):
    rows = [*counts(facts[0], 0, 0, 3), *counts(facts[1], 0, 2, 0)]
    choice = chosen(facts, {}, rows)
    assert (choice.template, choice.basis, choice.n_facts, choice.n_samples) == (2, "dev", 2, 20)


def test_without_dev_facts_template_0_is_untried(facts):
    choice = chosen(facts, {}, counts(facts[2], 0, 9, 0))
    assert (choice.template, choice.basis, choice.n_samples) == (0, "none", 0)
