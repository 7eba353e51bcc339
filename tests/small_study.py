"""A study small enough to be repeated: the small chain's model and facts, two sizes and two seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sftknow_core.facts.dataset import FactsRef
from sftknow_core.specs import EvaluateSpec, StudySpec

TRAINING = {"lr": 1e-2, "batch_size": 2, "compute_dtype": "float32"}


def small_study(model: Path, facts: Path, **changes: Any) -> StudySpec:
    """Level 0, sizes 4 and 6, seeds 0 and 1: four cells of a fraction of a second each."""
    given = {
        "name": "small",
        "base": str(model),
        "data": FactsRef(str(facts)),
        "levels": ("0",),
        "sizes": (4, 6),
        "seeds": (0, 1),
        "training": TRAINING,
        "ks": ("20",),
        "evaluate": EvaluateSpec(max_new_tokens=3),
        "train_questions": 2,
        "baselines": False,
        "completions": False,
        "five_shot": False,
        "controls": (),
        "equal_energy": (),
        "equal_projection": (),
    }
    return StudySpec(**{**given, **changes})


STUDY_TOML = """
name = "small"
base = "{base}"

[data]
data = "{facts}"

[grid]
levels = [0]
sizes = [4, 6]
seeds = [0]

[training]
lr = 1e-2
batch_size = 2
compute_dtype = "float32"

[restoring]
k = [20]
controls = []
equal_energy = []
equal_projection = []

[evaluation]
max_new_tokens = 3
train_questions = 2
baselines = false
completions = false
five_shot = false
{more}
"""


def write_study(folder: Path, model: Path, facts: Path, more: str = "") -> Path:
    """The same as a file, with one seed; more: further lines, at first of [evaluation]."""
    path = folder / "study.toml"
    path.write_text(STUDY_TOML.format(base=model, facts=facts, more=more), encoding="utf-8")
    return path
