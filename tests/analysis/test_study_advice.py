"""Advice: what is said in a study where it is plain, and that nothing is said where nothing is shown."""

import pytest
from fake_study import make, mean_of

from sftknow_core.analysis.advice import advice
from sftknow_core.analysis.context import Study


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
