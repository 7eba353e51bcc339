"""The rule from effect and interval to verdict, case by case."""

from dataclasses import replace

import pytest

from sftknow_core.analysis.verdict import Part, Rule, Status, conclude


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


def test_the_number_shown_is_that_of_a_part_with_the_verdict():
    """-1.5 [-2.5, -0.5] contradicts; +5 [-10, 20] reaches lower and decides nothing, so it is not the one shown."""
    bad = Part("bad", -1.5, -2.5, -0.5, 0.001, None, 500, 100, 3, 1.0)
    wide = replace(bad, label="wide", effect=5, low=-10, high=20, p=0.6)
    found = conclude("X", "x", [wide, bad], Rule())
    assert (found.verdict, found.effect, found.low, found.high) == (Status.CONTRADICTED, -1.5, -2.5, -0.5)
    assert found.sentence == (
        "The data show the opposite for at least one part. 0 of 2 parts are shown. "
        "bad: -1.5 pp [-2.5, -0.5], 3 seeds, n = 500."
    )
    small = replace(bad, label="small", effect=0.2, low=-0.4, high=0.8, p=0.5)
    found = conclude("X", "x", [wide, small], Rule())
    assert (found.verdict, found.effect) == (Status.NOT_SHOWN, 0.2)
    assert "it: at least one part is smaller than the margin. 0 of 2" in found.sentence
    none = conclude(
        "X", "x", [small, replace(small, label="smaller", effect=0.1, low=-0.5)], Rule(), needs="any"
    )
    assert (none.verdict, none.effect) == (Status.NOT_SHOWN, 0.2)
    assert "every part is smaller than the margin" in none.sentence
    # a part is open where one is shown and the other undecided: the undecided one is why
    good = replace(bad, label="good", effect=2, low=0.5, high=3)
    assert conclude("X", "x", [good, wide], Rule()).effect == 5


def test_worse_by_more_than_the_margin_is_said_so():
    """-3 [-4, -1.5] against -1: an effect that is too large, not one that is too small."""
    worse = Part("test", -3, -4, -1.5, 0.001, None, 500, 100, 3, 0.0, -1.0)
    kept = replace(worse, label="train", effect=0.1, low=-0.5, high=0.7)
    alone = conclude("X", "x", [worse], Rule())
    assert alone.verdict is Status.CONTRADICTED
    assert "show the opposite: below -1 pp, the most that is tolerated. test: -3.0" in alone.sentence
    both = conclude("X", "x", [worse, kept], Rule())
    assert "opposite for at least one part: below -1 pp, the most that is tolerated" in both.sentence
    unsure = conclude("X", "x", [replace(worse, p=0.04), replace(kept, p=0.03)], Rule())  # Holm: 0.06 both
    assert unsure.verdict is Status.NOT_SHOWN
    assert (
        "at least one part lies below -1 pp, the most that is tolerated, though not with p" in unsure.sentence
    )


@pytest.mark.parametrize("null", [0.0, -1.0])
def test_verdicts_flip_with_the_sign(null):
    """Mirrored at the null, what was shown is contradicted."""
    part = Part("a", null + 2, null + 1, null + 3, 0.001, None, 500, 100, 3, 0.0, null)
    turned = replace(part, effect=null - 2, low=null - 3, high=null - 1)
    assert conclude("X", "x", [part], Rule()).verdict is Status.SHOWN
    assert conclude("X", "x", [turned], Rule()).verdict is Status.CONTRADICTED
