"""Before a fine-tuning: which facts it would be given, from scores of mastery that are there already. No torch.

The draw is the one the job makes (facts/train_set.py), so that what is shown is what is trained on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import Fact, FactSet
from sftknow_core.facts.train_set import draw_train_set
from sftknow_core.pipeline.questions import choose_questions
from sftknow_core.pipeline.workspace import DEMO, DEMO_FOLDER
from sftknow_core.specs import QuestionSpec
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import list_runs
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_state import RunState

N_FIRST_ROWS = 20
_COUNTS = ["topic", "level", "n"]
_ROWS = ["question", "gold", "topic", "level"]


@dataclass(frozen=True)
class Levels:
    """How well a base knows each fact, as far as it was measured."""

    by_fact: Mapping[str, int]
    """fact_id -> mastery level 0 to 4."""
    run_id: str
    """The run that measured it."""
    shipped: bool
    """Whether it comes with the package and is in no run of this cache yet."""


@dataclass(frozen=True)
class Preview:
    """The train set of one fine-tuning."""

    drawn: pd.DataFrame
    """topic, level, n: facts that are trained on."""
    rows: pd.DataFrame
    """The first of them, in training's order before shuffling: question, gold, topic, level."""
    n: int
    shortages: Mapping[str, int]
    """Topic -> how many facts it lacked for its share; others filled up."""


def known_levels(cache: Cache, base_id: str | None, facts: FactSet) -> Levels | None:
    """The newest finished scores of exactly these facts by this base; the shipped ones of the demo; else None."""
    for info in list_runs(cache, "mastery"):
        inputs = info.spec.inputs
        same = (inputs.get("model"), inputs.get("facts")) == (base_id, facts.data_id)
        if same and info.status.state is RunState.DONE:
            rows = RunFolder(cache, info.run_id).read("mastery").select(["fact_id", "level"]).to_pandas()
            return Levels(_by_fact(rows), info.run_id, shipped=False)
    shipped = shipped_scores()
    if (shipped.get("model_id"), (shipped.get("inputs") or {}).get("facts")) == (base_id, facts.data_id):
        return Levels(_shipped_levels(), str(shipped["run_id"]), shipped=True)
    return None


@remembered
def shipped_scores() -> Mapping[str, Any]:
    """Which run of which model the package ships the scores of; {} where it ships none."""
    path = DEMO_FOLDER / "mastery.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def demo_id() -> str | None:
    """The shipped model's id, as its scores name it."""
    found = shipped_scores().get("model_id")
    return str(found) if found else None


def find_base(models: pd.DataFrame, ref: str) -> str | None:
    """The model_id of what a user names, where the cache knows it. models: results.training.base_models.

    ref: demo, a folder, a hub id, or the start of a model_id. No weights are read, so a folder whose weights were
    replaced since is taken for the former; the job itself looks.
    """
    if ref == DEMO:
        return demo_id()
    folder = Path(ref).expanduser()
    if folder.is_dir():
        hits = models[models["path"] == str(folder.resolve())]
    else:
        hits = models[(models["name"] == ref) | ((len(ref) >= 4) & models["model_id"].str.startswith(ref))]
    return str(hits["model_id"].iloc[0]) if len(hits) else None


def available(facts: Iterable[Fact], levels: Mapping[str, int]) -> pd.DataFrame:
    """In-domain train facts that have a level: topic, level, n."""
    pool = [f for f in facts if f.split == "train" and f.domain == "in" and f.fact_id in levels]
    return _counted(pool, levels)


def preview(facts: FactSet, levels: Mapping[str, int], level: str, n: int | None, seed: int) -> Preview:
    """The train set as the job draws it. Raises SpecError where the level holds too few facts."""
    drawn = draw_train_set(facts.facts, levels, level, n, seed)
    if not drawn.facts:
        raise SpecError(f"level: got {level!r}; no in-domain train fact of these data has it")
    rows = [(f.question, f.objects[0], f.topic, levels[f.fact_id]) for f in drawn.facts[:N_FIRST_ROWS]]
    return Preview(_counted(drawn.facts, levels), pd.DataFrame(rows, columns=_ROWS), drawn.n, drawn.shortages)


def n_questions(facts: FactSet, levels: Mapping[str, int], per_level: int | None) -> int:
    """How many questions a chain asks each state, apart from those of its train set."""
    return len(choose_questions(facts.facts, dict(levels), QuestionSpec(per_level=per_level)))


def _counted(facts: Iterable[Fact], levels: Mapping[str, int]) -> pd.DataFrame:
    counts = Counter((fact.topic, levels[fact.fact_id]) for fact in facts)
    rows = [(topic, level, n) for (topic, level), n in sorted(counts.items())]
    return pd.DataFrame(rows, columns=_COUNTS)


def _by_fact(rows: pd.DataFrame) -> dict[str, int]:
    scored = rows.dropna(subset=["level"])
    return dict(zip(scored["fact_id"], scored["level"].astype(int), strict=True))


@remembered
def _shipped_levels() -> dict[str, int]:
    rows = pq.read_table(DEMO_FOLDER / "mastery.parquet", columns=["fact_id", "level"]).to_pandas()
    return _by_fact(rows)
