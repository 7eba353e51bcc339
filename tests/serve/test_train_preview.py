"""Before a fine-tuning: the facts it would get, and what it would take. Numbers worked by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pandas as pd
import pytest

from sftknow_core.errors import CacheError, SpecError
from sftknow_core.facts.demo_world import demo_facts
from sftknow_core.facts.fact import Fact, FactSet
from sftknow_core.pipeline.estimate import estimate, n_states, parameters_of
from sftknow_core.results.training import Speed
from sftknow_core.serve import jobs
from sftknow_core.serve.job_specs import ChainJob
from sftknow_core.serve.train_preview import (
    available,
    demo_id,
    find_base,
    known_levels,
    n_questions,
    preview,
    shipped_scores,
)
from sftknow_core.store.cache import READ_ONLY_VARIABLE, Cache
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_spec import RunSpec

FACTS = FactSet(
    tuple(
        Fact(topic, f"Where is {topic} {split} {i}?", (f"answer {i}",), split=split)
        for topic in ("P17", "P19")
        for split in ("train", "dev", "test")
        for i in range({"P17": 4, "P19": 2}[topic] if split == "train" else 1)
    ),
    source="",
)
LEVELS = {fact.fact_id: 1 for fact in FACTS.facts}


def test_a_preview_counts_what_is_drawn_and_what_there_is() -> None:
    """Five of six facts: three a topic is the share, P19 has two, so P17 gives three."""
    found = preview(FACTS, LEVELS, "1", 5, seed=0)
    assert found.drawn.to_numpy().tolist() == [["P17", 1, 3], ["P19", 1, 2]]
    assert available(FACTS.facts, LEVELS).to_numpy().tolist() == [["P17", 1, 4], ["P19", 1, 2]]
    assert found.n == 5 and len(found.rows) == 5 and set(found.rows["topic"]) == {"P17", "P19"}
    assert preview(FACTS, LEVELS, "1", 6, seed=0).shortages == {"P19": 1}
    assert n_questions(FACTS, LEVELS, 1) == 2 and n_questions(FACTS, LEVELS, None) == 4


def test_a_level_without_facts_is_refused() -> None:
    with pytest.raises(SpecError, match="only 6 in-domain train facts"):
        preview(FACTS, LEVELS, "1", 7, seed=0)
    with pytest.raises(SpecError, match="no in-domain train fact"):
        preview(FACTS, LEVELS, "3", None, seed=0)


def test_levels_are_those_of_this_base_and_these_facts(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert known_levels(cache, "b", FACTS) is None and known_levels(cache, None, FACTS) is None
    scored = {"n_templates": 1, "n_samples": 10, "n_correct": 3}
    rows = [
        {
            "fact_id": f.fact_id,
            "topic": f.topic,
            "split": f.split,
            "domain": f.domain,
            "level": level,
            **scored,
        }
        for f, level in zip(FACTS.facts, (4, None, *[1] * 20), strict=False)
    ]
    for model, facts in (("b", FACTS.data_id), ("b", "other"), ("c", FACTS.data_id)):
        with open_run(cache, RunSpec("mastery", {"model": model, "facts": facts})) as run:
            run.write_part("mastery", 0, rows if (model, facts) == ("b", FACTS.data_id) else [])
            run.finish()
    found = known_levels(cache, "b", FACTS)
    assert found is not None and not found.shipped
    assert found.by_fact[FACTS.facts[0].fact_id] == 4 and FACTS.facts[1].fact_id not in found.by_fact


def test_the_demo_comes_with_its_scores(tmp_path: Path) -> None:
    facts = demo_facts()
    found = known_levels(Cache(tmp_path / "cache"), demo_id(), facts)
    assert found is not None and found.shipped and found.run_id == shipped_scores()["run_id"]
    assert len(found.by_fact) == len(facts.facts)


def test_a_base_is_found_by_name_path_and_id(tmp_path: Path) -> None:
    models = pd.DataFrame({"model_id": ["abcd1234"], "name": ["org/name"], "path": [str(tmp_path)]})
    for ref in ("org/name", str(tmp_path), "abcd"):
        assert find_base(models, ref) == "abcd1234"
    assert find_base(models, "abc") is None and find_base(models, "org/other") is None
    assert find_base(models, "demo") == demo_id()


def test_time_is_pieces_times_their_speed() -> None:
    """States: base, tuned, 5, 20, hybrid = 5; 5 x (30 + 10) + 30 after five examples = 230 answers of 0.1 s."""
    speeds = {"sft": Speed(0.5, 3), "evaluate": Speed(0.1, 1), "delta": Speed(2.0, 1)}
    common = {
        "epochs": 2.0,
        "lora": False,
        "n_questions": 30,
        "n_unscored": 0,
        "n_params": 10,
        "dtype": "bfloat16",
    }
    found = estimate(speeds, n_train=10, ks=("5", "20", "100", "0"), **common)  # type: ignore[arg-type]
    assert [(p.amount, p.seconds) for p in found.pieces] == [
        (20, 10.0), (1, 2.0), (230, pytest.approx(23.0)),
    ]  # fmt: skip
    assert found.seconds == pytest.approx(35.0)
    assert found.memory_bytes == 160  # training 16 bytes each, asking 3 x 2
    only = estimate(speeds, n_train=10, ks=None, **(common | {"lora": True}))  # type: ignore[arg-type]
    assert len(only.pieces) == 1 and only.memory_bytes == 40
    unknown = estimate({}, n_train=None, ks=("5",), **(common | {"n_unscored": 7, "n_params": None}))  # type: ignore[arg-type]
    assert unknown.seconds is None and unknown.memory_bytes is None and unknown.pieces[0].amount == 7


def test_states_of_a_chain() -> None:
    assert n_states(("5", "5.0", "100")) == 4 and n_states(("0",)) == 3 and n_states(("five",)) == 4


def test_parameters_come_from_the_headers(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {}, "a": {"shape": [3, 4]}, "b": {"shape": [5]}}).encode()
    (tmp_path / "one.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert parameters_of(tmp_path) == (17, 8 + len(header))
    (tmp_path / "two.safetensors").write_bytes(b"no header")
    assert parameters_of(tmp_path) is None and parameters_of(tmp_path / "none") is None


def test_show_mode_starts_stops_and_dismisses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    with pytest.raises(CacheError, match="show mode"):
        jobs.start(cache, ChainJob())
    for act in (jobs.stop, jobs.dismiss):
        with pytest.raises(CacheError, match="show mode"):
            act(cache, "any")
    assert jobs.jobs(cache) == []
