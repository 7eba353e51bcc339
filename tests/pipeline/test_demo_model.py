"""The shipped model and its mastery scores: they belong together and can be computed again."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from sftknow_core.facts.dataset import load_facts
from sftknow_core.facts.fact import Fact, FactSet
from sftknow_core.facts.names import KnownNames
from sftknow_core.facts.synonyms import load_synonyms
from sftknow_core.facts.topics import load_topics
from sftknow_core.measure.mastery import score_mastery
from sftknow_core.pipeline.mastery import Mastery, mastery_spec, score_facts
from sftknow_core.pipeline.workspace import DEMO_FOLDER, Workspace

N_CHECKED_PER_LEVEL = 30


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("cache"), device="cpu")


@pytest.fixture(scope="module")
def shipped(ws: Workspace) -> Mastery:
    """The demo's mastery as every command gets it: copied from the package, nothing computed."""
    return score_facts(ws, ws.open_model("demo"), load_facts("demo").facts, load_topics())


def test_small_enough() -> None:
    weights = DEMO_FOLDER / "model" / "model.safetensors"
    assert weights.stat().st_size <= 5_000_000
    belongs = json.loads((DEMO_FOLDER / "mastery.json").read_text())
    assert belongs["kind"] == "mastery"


def test_scores_come_from_the_package(shipped: Mastery) -> None:
    manifest = shipped.run.manifest()
    assert manifest is not None
    assert manifest.seconds < 60  # computing them takes many minutes
    assert len(shipped.rows) == len(load_facts("demo").facts)


def test_enough_facts_of_every_level(shipped: Mastery) -> None:
    counts = Counter((f.split, f.domain, shipped.levels[f.fact_id]) for f in load_facts("demo").facts)
    least = {("train", "in"): 2_000, ("dev", "in"): 200, ("test", "in"): 200, ("test", "out"): 100}
    short = {
        (*group, level): counts[(*group, level)]
        for group, n in least.items()
        for level in range(5)
        if counts[(*group, level)] < n
    }
    assert short == {}


def test_spread_over_topics(shipped: Mastery) -> None:
    counts = Counter((f.topic, shipped.levels[f.fact_id]) for f in load_facts("demo").select("train", "in"))
    assert len({topic for topic, _ in counts}) == 10
    assert all(counts[topic, level] >= 50 for topic, _ in counts for level in range(5))


def stratified(shipped: Mastery) -> tuple[Fact, ...]:
    """60 facts of each level, chosen by a hash."""
    facts = sorted(load_facts("demo").facts, key=lambda f: hashlib.sha256(f.fact_id.encode()).digest())
    taken: Counter[int] = Counter()
    chosen = []
    for fact in facts:
        level = shipped.levels[fact.fact_id]
        taken[level] += 1
        if taken[level] <= N_CHECKED_PER_LEVEL:
            chosen.append(fact)
    return tuple(chosen)


@pytest.mark.slow
def test_computed_again_they_are_the_same(ws: Workspace, shipped: Mastery) -> None:
    """Some facts in other chunks and other company than when they were shipped.

    The noise of a completion depends on (seed, fact, template, sample, step) alone; two nearly equal logits can still
    fall apart by float rounding on another machine, so one completion in ten thousand may differ.
    """
    facts = stratified(shipped)
    assert len(facts) == 5 * N_CHECKED_PER_LEVEL
    base = ws.open_model("demo")
    names = KnownNames.of(load_facts("demo").facts, load_synonyms())
    chunks = score_mastery(
        ws.load(base), facts, load_topics(), load_synonyms(), mastery_spec(base), names=names
    )
    again = {row["fact_id"]: row for chunk in chunks for row in chunk.mastery}
    before = shipped.rows.set_index("fact_id")
    n_differing = sum(
        abs(again[f.fact_id]["n_correct"] - int(before.loc[f.fact_id, "n_correct"])) for f in facts
    )
    assert n_differing <= 210 * len(facts) / 10_000
    for fact in facts:
        expected = again[fact.fact_id]["expected_mastery"]
        assert expected == pytest.approx(before.loc[fact.fact_id, "expected_mastery"], abs=1e-5)


def test_another_question_of_the_same_facts_is_another_run(ws: Workspace, shipped: Mastery) -> None:
    facts = load_facts("demo")
    assert FactSet(facts.facts[:10], source="").data_id != facts.data_id
    assert shipped.run.spec.inputs["facts"] == facts.data_id
    assert Path(shipped.run.root).is_dir()
