"""A user's four questions over made-up verdicts and studies: no answer says more, or other, than its verdict."""

from dataclasses import replace

import pytest
from fake_study import make

from sftknow_core.analysis.advice import answers, evidence, why
from sftknow_core.analysis.claims import all_claims
from sftknow_core.analysis.claims_size import hardly_known
from sftknow_core.analysis.context import Plan, Study
from sftknow_core.analysis.verdict import Part, Rule, Status, conclude

GOOD = Part("level 0", 3, 2, 4, 1e-6, None, 500, 100, 3, 1.0)


def levels_of(*kinds):
    """Parts of levels 0, 1, ...: + shown, - contradicted, 0 not shown, ? undecided, . not run."""
    made = {
        "+": GOOD,
        "-": replace(GOOD, effect=-3, low=-4, high=-2),
        "0": replace(GOOD, effect=0, low=-0.5, high=0.5, p=1.0, p_margin=1e-6),
        "?": replace(GOOD, effect=1, low=-5, high=7, p=0.7),
    }
    return [
        replace(made[kind], label=f"level {level}", level=str(level))
        if kind in made
        else Part(f"level {level}", reason=f"not run: level {level}", level=str(level))
        for level, kind in enumerate(kinds)
    ]


def more_data(*kinds):
    verdict = conclude("P1b", "Accuracy falls", levels_of(*kinds), Rule(), domain="in")
    return answers([verdict], [], Plan())[0]


@pytest.mark.parametrize(
    ("kinds", "short", "said"),
    [
        ("+++++", "Yes", "whatever the train level."),
        ("+++-+", "At 4 of 5 levels: 0, 1, 2, 4", "SHOWN at level 0, 1, 2, 4; CONTRADICTED at level 3."),
        ("+++0+", "At 4 of 5 levels: 0, 1, 2, 4", "SHOWN at level 0, 1, 2, 4; NOT SHOWN at level 3."),
        ("+?+.+", "At 3 of 5 levels: 0, 2, 4", "UNDECIDED at level 1; NOT TESTED at level 3."),
        (
            "??-??",
            "The opposite at 1 of 5 levels: 2",
            "CONTRADICTED at level 2; UNDECIDED at level 0, 1, 3, 4.",
        ),
        ("-----", "No, the opposite", "leaves more accuracy"),
        ("00000", "Not shown", "costs less than 1 pp."),
        ("?????", "UNDECIDED", "Accuracy falls: UNDECIDED"),
        (".....", "NOT TESTED", "because not run: level 0"),
    ],
)
def test_levels_that_differ_are_named(kinds, short, said):
    found = more_data(*kinds)
    assert found.short == short
    assert said in found.text


@pytest.mark.parametrize(
    ("kinds", "because"),
    [
        ("++.++", "because not run: level 2."),
        ("++?++", "because the interval holds both no effect and one that would matter."),
        ("++?.+", "because the interval holds both no effect and one that would matter."),
    ],
)
def test_why_speaks_of_parts_that_are_not_shown(kinds, because):
    assert because in more_data(*kinds).text


def test_why_tells_holm_from_the_margin():
    """0.5 to 5.5 lies clear of zero: where one of two parts is enough it is Holm, 0.06, that keeps it open. 0.1 to 1.8
    around 0.6 is less than the margin of 1, and could be more."""
    part = replace(GOOD, effect=3, low=0.5, high=5.5, p=0.03)
    found = conclude("P1b", "x", [part, replace(part, label="level 1")], Rule(), domain="in", needs="any")
    assert why(found) == "the interval lies above 0, but p, adjusted for all parts, is 0.06"
    small = conclude("P1b", "x", [replace(GOOD, effect=0.6, low=0.1, high=1.8)], Rule(), domain="in")
    assert why(small).startswith(
        "the interval lies above 0, but the effect is smaller than one that would matter"
    )
    few = conclude("P1b", "x", [replace(GOOD, seeds=2)], Rule(), domain="in")
    assert why(few) == "only 2 of the 3 seeds that are needed have run"


def falls_most_and_stays_best(level, size, k, test, strategy):
    """Level 0: 0.90 at N = 240 and 0.80 at 1,920; all others 0.60 and 0.59."""
    if level == "0":
        return {"60": 0.85, "240": 0.90, "1920": 0.80}[size]
    return {"60": 0.58, "240": 0.60, "1920": 0.59}[size]


def test_a_level_0_that_falls_most_and_is_best_does_not_hurt():
    """It falls by 10 points, the others by 1: P2b is shown. At N = 1,920 it leads by 21 points all the same."""
    study = Study(make(falls_most_and_stays_best, ks=(0.0,)))
    verdicts = [*all_claims(study.tables), *hardly_known(study)]
    found = answers(verdicts, [], study.plan)[1]
    assert found.question == "Does it hurt to train on facts the base hardly knows?"
    assert found.short == "No, the opposite"
    assert "one other level at least leaves less accuracy than level 0" in found.text
    assert "facts of level 0 cost more than those of any other" in found.text  # P2b, the second sentence
    assert [part.effect for part in verdicts[-1].parts] == pytest.approx([-21] * 4, abs=1.5)
    assert found.evidence[0].startswith("level 0, in-domain: CONTRADICTED. level ")


def test_evidence_is_the_deciding_part():
    parts = levels_of("?", "-")
    parts = [replace(parts[0], effect=-3), parts[1]]  # the same effect, another interval
    verdict = conclude("P1b", "x", parts, Rule(), domain="in")
    assert verdict.verdict is Status.CONTRADICTED
    assert "level 1: -3.0 pp [-4.0, -2.0]" in evidence(verdict)


def test_tolerated_k_is_said_of_the_largest_size():
    """k = 20 costs nothing at N = 1,920 and 30 points at N = 60."""

    def dearer_when_small(level, size, k, test, strategy):
        return 0.5 - (0.3 if k and size == "60" else 0)

    tables = make(dearer_when_small, levels=("0", "2"), sizes=("60", "1920"), ks=(0.0, 20.0), per_level=200)
    found = answers(all_claims(tables), [], Plan())[2]
    assert (
        "(N = 1920): level 0 up to 20% (shown: up to 20%); level 2 up to 20% (shown: up to 20%)."
        in found.text
    )
