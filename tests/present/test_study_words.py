"""The settings of a study that were fixed before it ran, in words."""

from __future__ import annotations

from typing import Any

from sftknow_core.analysis.verdict import Part, conclude
from sftknow_core.present.text.study import decision_rule, fixed_before, joint, rule_fixed
from sftknow_core.results.studies import FixedRule, StudyInfo
from sftknow_core.specs import Rule

ABOUT = StudyInfo(
    run_id="0123", name="mine", title="", base_id="abcdef", base_name="demo", state="done", reason=None,
    created_at="2026-01-01T00:00:00Z", seconds=1.0, n_cells=4, n_done=4, n_failed=0, n_impossible=0, n_todo=0,
)  # fmt: skip
SPEC: dict[str, Any] = {
    "levels": ["0", "mixed"],
    "sizes": [60, 1920],
    "seeds": [3],
    "methods": ["full"],
    "k": ["5", "20"],
    "restoring": [{"strategy": "top", "region": "transformer", "layers": None}],
    "controls": [{"strategy": "random"}, {"strategy": "random"}, {"strategy": "block"}],
    "equal_energy": ["interpolation"],
    "equal_projection": ["random", "interpolation"],
    "random_masks": 3,
    "control_sizes": [1920],
    "completions": True,
    "questions": {"per_level": 20, "seed": 1},
    "train_questions": 60,
    "evaluate": {"matcher": "words", "prompt": "paper"},
}


def said_without(*names: str) -> str:
    spec = {key: value for key, value in SPEC.items() if key not in names}
    return fixed_before(ABOUT, spec, {"dev": 100}, None)


def test_grid_questions_and_what_restoring_is_compared_with() -> None:
    said = said_without()
    assert "levels 0, mixed; N = 60, 1,920; seeds 3; full fine-tuning" in said
    assert "at most 20 questions per level and group, drawn with seed 1 (dev: 100)" in said
    assert "**Compared with** at N = 1,920: same number of weights, or fixed models: random, block; " in said
    assert (
        "same projection of the update at every k: random, interpolation; same share of squared update norm at every "
        "k: interpolation; 3 random masks for each fine-tuning; base, tuned and restored with" in said
    )
    assert "largest relative change, region transformer" in said and "evaluated on at most 60 facts" in said


def test_what_a_study_does_not_compare_is_not_said() -> None:
    assert "same number of weights" not in said_without("controls")
    assert "same share of squared" not in said_without("equal_energy")
    assert "same projection" not in said_without("equal_projection") and "masks" not in said_without(
        "random_masks"
    )
    assert "Compared with" not in said_without(
        "controls", "equal_energy", "equal_projection", "random_masks", "completions"
    )
    assert "Compared with" not in said_without("control_sizes")


RULE = Rule(margin_pp=2.0).for_study([60, 240, 1920], ())


def test_the_rule_and_when_it_was_fixed() -> None:
    said = decision_rule(RULE)
    assert "margin 2 pp (0.01 nats, enrichment 0.05, correlation 0.1), alpha 0.05, at least 3 seeds" in said
    assert "100 questions in the smallest level; small, middle and large N: 60, 240, 1920" in said
    before = FixedRule(RULE, "2026-12-01T04:30:05Z", 0, 54, True)
    assert rule_fixed(before) == "The rule was fixed on 2026-12-01 04:30 UTC, before the first cell."
    after = FixedRule(RULE, "2026-12-01T04:30:05Z", 50, 54, True)
    assert rule_fixed(after).endswith("UTC, after 50 of 54 cells had been computed.")
    assert "not on record" in rule_fixed(FixedRule(RULE, None, None, None, True))
    old = rule_fixed(FixedRule(RULE, None, None, None, False))
    assert "rule of version 1" in old and "not part of the study's identity" in old
    assert said in fixed_before(ABOUT, SPEC, {}, before)


def test_seeds_and_questions_of_one_size() -> None:
    more = {"seeds_by_size": {"1920": [3, 4]}, "per_level_by_size": {"1920": 100}}
    said = fixed_before(ABOUT, SPEC | more, {"dev": 100}, None, {"1920": {"dev": 500}})
    assert "seeds 3 (N = 1,920: 3, 4)" in said
    assert "(dev: 100); at N = 1,920 100 per level (dev: 500)" in said


def test_verdicts_that_nothing_controls_jointly() -> None:
    """p = .001 and .04, two parts in all: .002 and .04. One claim is supported with each, so both keep .05; with a
    third part of p = .9 it is .003 and .06."""
    good = Part("", 5.0, 3.0, 7.0, 0.001, seeds=3)
    first = conclude("A", "a", [good], RULE)
    second = conclude("B", "b", [Part("", 5.0, 0.5, 9.0, 0.04, seeds=3)], RULE)
    open_ = conclude("C", "c", [Part("", 0.1, -5.0, 5.0, 0.9, seeds=3)], RULE)
    absent = conclude("D", "d", [Part("", reason="not run")], RULE)
    assert "Of 2 supported or contradicted claims, 2 have p, FDR < 0.05." in joint(
        [first, second, absent], 0.05
    )
    said = joint([first, second, open_, absent], 0.05)
    assert "nothing controls the 3 tested claims jointly" in said and "all 3 tested parts" in said
    assert "Of 2 supported or contradicted claims, 1 have p, FDR < 0.05." in said
    assert "Of " not in joint([open_], 0.05)
