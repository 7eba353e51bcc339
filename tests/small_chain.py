"""A whole chain small enough to be repeated many times: a random two-layer Llama and 27 own facts.

The model knows nothing, so every fact has level 0; what is tested with it is the machinery, not the effect.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tiny import make_tiny_llama

from sftknow_core.facts.fact import Fact, FactSet
from sftknow_core.facts.topics import load_topics
from sftknow_core.model.train.methods import SftSpec
from sftknow_core.pipeline.chain import ChainResult, run_chain
from sftknow_core.pipeline.mastery import score_facts
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.specs import ChainSpec, EvaluateSpec
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import list_runs
from sftknow_core.store.run_folder import RunFolder

torch.set_num_threads(1)


def small_facts() -> FactSet:
    """Two in-domain topics and one out-of-domain topic, 9 facts each over train, dev and test."""
    topics = load_topics()
    splits = ("train",) * 5 + ("dev",) * 2 + ("test",) * 2
    facts = [
        Fact(
            topic=topic,
            question=topics[topic].question.format(subject=f"Subject {topic} {i}"),
            objects=(f"Object{topic}{i}",),
            subject=f"Subject {topic} {i}",
            split=split,
            domain=topics[topic].domain,
        )
        for topic in ("P19", "P36", "P50")
        for i, split in enumerate(splits)
    ]
    return FactSet(tuple(facts), source="small")


def small_spec(**changes: Any) -> ChainSpec:
    """Level 0, six facts, one k, test questions under both prompts; no train-set questions unless asked for."""
    given = {"level": "0", "n": 6, "ks": ("20",), "train_questions": 0, "baselines": False, "five_shot": True}
    return ChainSpec(**{**given, "evaluate": EvaluateSpec(max_new_tokens=3), **changes})


def small_model(folder: Path) -> Path:
    """The random base model."""
    return make_tiny_llama(folder, layers=2, width=16)


def do_chain(cache: Path, model: Path, **changes: Any) -> ChainResult:
    """The chain in a cache, from wherever it stopped."""
    from sftknow_core.measure.mastery import MasterySpec

    ws = Workspace(cache, device="cpu")
    facts, topics, base = small_facts(), load_topics(), ws.open_model(model)
    mastery = score_facts(ws, base, facts.facts, topics, MasterySpec(n_samples=1, max_new_tokens=2))
    sft = SftSpec(lr=1e-2, batch_size=2, compute_dtype="float32")
    return run_chain(ws, base, facts, topics, small_spec(**changes), sft, mastery=mastery)


def everything(cache: Path) -> dict[str, dict[str, Any]]:
    """All results of a cache without times and paths: run_id -> tables, weights and summary."""
    found = {}
    for info in list_runs(Cache(cache)):
        run = RunFolder(Cache(cache), info.run_id)
        manifest = run.manifest()
        assert manifest is not None, f"{info.kind} {info.run_id} is not finished"
        assert run.problems(verify=True) == []
        tables = {name: run.read(name).to_pylist() for name in sorted(manifest.contents.tables)}
        for row in tables.get("train_log", ()):
            row.pop("seconds")
        weights = {
            record.file: record.sha256
            for folder in manifest.contents.folders.values()
            for record in folder.files
            if record.file.endswith(".safetensors")
        }
        summary = {key: value for key, value in manifest.summary.items() if not key.startswith("seconds")}
        found[info.run_id] = {"kind": info.kind, "tables": tables, "weights": weights, "summary": summary}
    return found


def small_facts_file(path: Path) -> Path:
    """The small chain's facts as a file that a request can name."""
    rows = [
        {
            "topic": f.topic,
            "subject": f.subject,
            "question": f.question,
            "answers": list(f.objects),
            "split": f.split,
            "domain": f.domain,
        }
        for f in small_facts().facts
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def differences(one: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> list[str]:
    """Where two results of `everything` differ, in words short enough for a failing test."""
    found = [f"only one has {run_id}" for run_id in one.keys() ^ other.keys()]
    for run_id in one.keys() & other.keys():
        ours, theirs = one[run_id], other[run_id]
        found += [f"{ours['kind']}: {part}" for part in ("weights", "summary") if ours[part] != theirs[part]]
        tables = ours["tables"].keys() | theirs["tables"].keys()
        found += [
            f"{ours['kind']}: {name}"
            for name in tables
            if ours["tables"].get(name) != theirs["tables"].get(name)
        ]
    return found
