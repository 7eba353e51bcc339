"""The settings of a study that were fixed before it ran, in words."""

from __future__ import annotations

from typing import Any

from sftknow_core.present.text.study import fixed_before
from sftknow_core.results.studies import StudyInfo

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
