"""Advice: what is said in a study where it is plain, and that nothing is said where nothing is shown."""

import pytest
from fake_study import make, mean_of

from sftknow_core.analysis.advice import advice, answers, no_advice
from sftknow_core.analysis.context import Plan, Study
from sftknow_core.specs import Rule


@pytest.fixture(scope="module")
def given():
    return advice(Study(make(mean_of, ks=(0.0, 20.0, 60.0))))


def of(found, topic):
    return [one for one in found if one.topic == topic]


def test_size_is_advised_with_its_evidence(given):
    """N = 240 is 6 to 9 pp better than the others at level 2."""
    (one,) = of(given, "size")
    assert one.text.startswith(
        "Train on N = 240 rather than N = 60, N = 1920 (with facts of level 2; chosen on dev)"
    )
    assert {part.label: round(part.effect) for part in one.parts} == {"N = 60": 6, "N = 1920": 8}
    assert "3 seeds, n = 600" in one.evidence


def test_k_is_advised_where_the_gain_is_certain(given):
    (one,) = of(given, "k")
    assert "level 0, N = 1920: k = 20%" in one.text
    assert all(part.low > 0 for part in one.parts)


def test_where_restoring_stops_helping(given):
    limits = of(given, "limit")
    assert len(limits) == 15  # every cell collapses at 60%
    assert all("do not restore 60% or more" in one.text for one in limits)


def test_harm_by_the_chosen_k_is_said():
    found = advice(
        Study(make(lambda level, size, k, test, s: 0.6 - (0.1 if k else 0), levels=("2",), sizes=("60",)))
    )
    assert of(found, "limit")[0].text.startswith("Do not restore after training on level 2, N = 60")


def test_silent_where_nothing_is_shown():
    """Equal cells, and seeds that differ: no interval excludes zero."""
    assert advice(Study(make(lambda *_: 0.5, noise=0.05, levels=("1", "2"), sizes=("60", "240")))) == []


def test_silent_with_too_few_seeds():
    assert advice(Study(make(mean_of, seeds=(3, 4), levels=("2",)))) == []


def judged(tables, **rule):
    return Study(tables, Plan(rule=Rule(**rule)))


def test_advice_asks_for_the_margin_as_a_verdict_does():
    """At level 2 N = 240 leads by 6 pp over N = 60 and by 8 over 1,920: of a margin of 7 only the second is left."""
    (one,) = of(advice(judged(make(mean_of, levels=("2",)), margin_pp=7.0)), "size")
    assert [part.label for part in one.parts] == ["N = 1920"]
    assert of(advice(judged(make(mean_of, levels=("2",)), margin_pp=9.0)), "size") == []


def test_harm_smaller_than_the_margin_is_no_advice():
    """Restoring costs 10 pp at every k: harm with a margin of 9, none that matters with one of 11."""
    tables = make(lambda level, size, k, test, s: 0.6 - (0.1 if k else 0), levels=("2",), sizes=("60",))
    assert of(advice(judged(tables, margin_pp=9.0)), "limit")
    assert advice(judged(tables, margin_pp=11.0)) == []


def test_too_few_questions_give_no_advice_and_are_named():
    """90 questions a level: nothing of the advice that 120 give; with a rule that asks for 90 it is there again."""
    tables = make(mean_of, per_level=90)
    study = Study(tables)
    assert advice(study) == []
    reason = no_advice(study)
    assert reason == "only 90 questions in the smallest level or set were asked, and 100 are needed"
    (*_, said) = answers([], [], study.plan, reason)
    assert (said.short, said.text) == ("UNDECIDED", f"No advice: {reason}.")
    assert of(advice(judged(tables, min_questions=90)), "size")


def test_too_few_seeds_are_named():
    assert no_advice(Study(make(mean_of, seeds=(3, 4), levels=("2",)))) == (
        "only 2 of the 3 seeds that are needed have run"
    )
    four = judged(make(mean_of, seeds=(3, 4, 5), levels=("2",)), min_seeds=4)
    assert advice(four) == [] and "only 3 of the 4 seeds" in no_advice(four)


def test_why_there_is_none_where_nothing_is_shown():
    study = Study(make(lambda *_: 0.5, noise=0.05, levels=("1", "2"), sizes=("60", "240")))
    assert no_advice(study).startswith("no level, N or k differs from the others by 1 pp")
