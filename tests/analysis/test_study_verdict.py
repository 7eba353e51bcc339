"""The rule from effect and interval to verdict, case by case."""

from dataclasses import replace

import pytest

from sftknow_core.analysis.verdict import Part, Rule, Status, conclude, weakest


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


def test_holm_runs_where_one_part_is_enough():
    """Up, all have to be shown and each is tested alone; down, one is enough to contradict, and 0.02 x 3 is 0.06."""
    up = [Part(str(i), 2, 0.5, 3, p, None, 500, 100, 3, 1.0) for i, p in enumerate((0.02, 0.03, 0.025))]
    all_up = conclude("X", "x", up, Rule())
    assert (all_up.verdict, [part.p_holm for part in all_up.parts]) == (Status.SHOWN, [0.02, 0.03, 0.025])
    some_up = conclude("X", "x", up, Rule(), needs="any")
    assert some_up.verdict is Status.UNDECIDED
    assert [part.p_holm for part in some_up.parts] == pytest.approx([0.06, 0.06, 0.06])
    down = [replace(part, effect=-2, low=-3, high=-0.5) for part in up]
    assert conclude("X", "x", down, Rule()).verdict is Status.UNDECIDED
    assert conclude("X", "x", down, Rule(), needs="any").verdict is Status.CONTRADICTED
    # two of three: those on the other side stay in the family, and can't be what decides
    mixed = conclude("X", "x", [*up[:2], replace(down[2], p=0.01)], Rule())
    assert (mixed.verdict, mixed.parts[2].p_holm) == (Status.CONTRADICTED, pytest.approx(0.03))


def test_not_shown_of_a_conjunction_is_adjusted():
    """Each interval ends just below the margin: alone that is enough, of five parts it is what chance gives."""
    close = Part("a", 0.1, -0.8, 0.99, 0.8, None, 500, 100, 3, 1.0, p_margin=0.045)
    assert conclude("X", "x", [close], Rule()).verdict is Status.NOT_SHOWN
    five = [replace(close, label=str(number)) for number in range(5)]
    assert conclude("X", "x", five, Rule()).verdict is Status.UNDECIDED
    assert conclude("X", "x", five, Rule(), needs="any").verdict is Status.NOT_SHOWN
    sure = [replace(five[0], p_margin=0.009), *five[1:]]
    assert conclude("X", "x", sure, Rule()).verdict is Status.NOT_SHOWN  # 0.045


def test_a_conjunction_among_others_counts_as_its_weakest_part():
    sure = Part("test", 2, 1, 3, 0.001, None, 500, 100, 3, 0.0, -1.0)
    weak = replace(sure, label="train", effect=0.2, low=-0.9, high=1.3, p=0.04)
    one = weakest("k = 20%", [sure, weak], Rule())
    assert (one.label, one.effect, one.p) == ("k = 20%, train", 0.2, 0.04)
    assert conclude("U", "u", [one], Rule(), needs="any").verdict is Status.SHOWN
    other = replace(one, label="k = 40%", effect=-1.2, low=-3, high=0.6, p=0.7)
    assert conclude("U", "u", [one, other], Rule(), needs="any").verdict is Status.UNDECIDED  # 0.08
    harmed = replace(weak, effect=-3, low=-4, high=-1.5, p=0.02, p_margin=0.02)
    found = weakest("k = 60%", [sure, harmed], Rule())
    assert (found.effect, found.p) == (-3, 0.04)  # one of two parts is enough
    assert conclude("U", "u", [found], Rule(), needs="any").verdict is Status.CONTRADICTED
    missing = weakest("k = 5%", [sure, Part("train", reason="not run")], Rule())
    assert (missing.p, missing.reason) == (1.0, "not measured: train")
    assert conclude("U", "u", [missing], Rule(), needs="any").verdict is Status.UNDECIDED


def test_shown_says_where_it_is_at_least_the_margin():
    part = Part("a", 2, 0.5, 3.5, 0.001, None, 500, 100, 3, 1.0)
    assert conclude("X", "x", [part], Rule()).sentence.startswith("The data show it. a:")
    above = replace(part, low=1.0)
    assert conclude("X", "x", [above], Rule()).sentence.startswith(
        "The data show it, at least the margin. a:"
    )
    assert "at least" not in conclude("X", "x", [above, part], Rule()).sentence


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
    small = replace(bad, label="small", effect=0.2, low=-0.4, high=0.8, p=0.5, p_margin=0.01)
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
    unsure = conclude("X", "x", [replace(worse, p=0.04), replace(kept, p=0.03)], Rule())  # Holm: 0.08
    assert unsure.verdict is Status.UNDECIDED


@pytest.mark.parametrize("null", [0.0, -1.0])
def test_verdicts_flip_with_the_sign(null):
    """Mirrored at the null, what was shown is contradicted."""
    part = Part("a", null + 2, null + 1, null + 3, 0.001, None, 500, 100, 3, 0.0, null)
    turned = replace(part, effect=null - 2, low=null - 3, high=null - 1)
    assert conclude("X", "x", [part], Rule()).verdict is Status.SHOWN
    assert conclude("X", "x", [turned], Rule()).verdict is Status.CONTRADICTED
