"""The rule from effect and interval to verdict, case by case."""

from dataclasses import replace

import pytest

from sftknow_core.report.study_verdict import Part, Rule, Status, conclude


def test_rule_by_hand():
    """Margin 1: what is shown, too small, contradicted, open; p is Holm-adjusted over the parts."""
    rule = Rule()

    def status(effect, low, high, p, null=0.0, margin=1.0, seeds=3):
        part = Part("x", effect, low, high, p, None, 500, 100, seeds, margin, null)
        return conclude("X", "x", [part], rule).verdict

    assert status(2, 1, 3, 0.001) is Status.SHOWN
    assert status(0.5, 0.2, 0.8, 0.001) is Status.NOT_SHOWN
    assert status(0.5, 0.2, 1.8, 0.001) is Status.UNDECIDED  # below the margin, but could be above
    assert status(-2, -3, -1, 0.001) is Status.CONTRADICTED
    assert status(-2, -5, 1.5, 0.4) is Status.UNDECIDED
    assert status(2, 0.1, 3, 0.06) is Status.UNDECIDED  # Holm took it away
    assert status(2, 1, 3, 0.001, seeds=2) is Status.UNDECIDED
    assert status(-0.5, -0.8, 0.2, 0.001, null=-1, margin=0) is Status.SHOWN  # not worse by more than 1
    assert status(-2, -3, -1.5, 0.001, null=-1, margin=0) is Status.CONTRADICTED


def test_holm_runs_over_the_parts_of_a_claim():
    parts = [Part(str(i), 2, 0.5, 3, p, None, 500, 100, 3, 1.0) for i, p in enumerate((0.02, 0.03))]
    verdict = conclude("X", "x", parts, Rule())
    assert [part.p_holm for part in verdict.parts] == pytest.approx([0.04, 0.04])
    third = [*parts, replace(parts[0], p=0.025)]
    assert conclude("X", "x", third, Rule()).verdict is Status.UNDECIDED  # 0.02 * 3 = 0.06


def test_a_conjunction_needs_all_parts_and_a_choice_one():
    good = Part("a", 2, 1, 3, 0.001, None, 500, 100, 3, 1.0)
    bad = replace(good, label="b", effect=-2, low=-3, high=-1)
    absent = Part("c", reason="not run: c")
    assert conclude("X", "x", [good, bad], Rule()).verdict is Status.CONTRADICTED
    assert conclude("X", "x", [good, bad], Rule(), needs="any").verdict is Status.SHOWN
    assert conclude("X", "x", [good, absent], Rule()).verdict is Status.UNDECIDED
    assert conclude("X", "x", [absent, absent], Rule()).sentence == "Not tested: not run: c."


@pytest.mark.parametrize("null", [0.0, -1.0])
def test_verdicts_flip_with_the_sign(null):
    """Mirrored at the null, what was shown is contradicted."""
    part = Part("a", null + 2, null + 1, null + 3, 0.001, None, 500, 100, 3, 0.0, null)
    turned = replace(part, effect=null - 2, low=null - 3, high=null - 1)
    assert conclude("X", "x", [part], Rule()).verdict is Status.SHOWN
    assert conclude("X", "x", [turned], Rule()).verdict is Status.CONTRADICTED
