"""Requests made from a finished chain: they find the chain's own runs, and sets of another size by their id."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from engine_requests import Bench, Chain
from small_chain import small_facts_file

from sftknow_core.errors import CacheError, DataError, SpecError
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.pipeline.export import export_restored
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.serve.engine import chain_request
from sftknow_core.serve.engine.chain_request import ChainRequests, chain_requests, question_set
from sftknow_core.serve.engine.client import EngineClient
from sftknow_core.serve.engine.protocol import from_json, to_json
from sftknow_core.serve.job_specs import ExportJob
from sftknow_core.store.cache import READ_ONLY_VARIABLE, Cache
from sftknow_core.store.listing import list_runs
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.update.spec import RestoreSpec

K20, K33 = RestoreSpec(k_percent="20"), RestoreSpec(k_percent="33")


@pytest.fixture(scope="module")
def chain(undisturbed: Path, model: Path, memory_folder: Path) -> Iterator[Chain]:
    """A copy of the finished small chain that remembers its facts, as a chain from the command line does."""
    cache = memory_folder / "requests"
    shutil.copytree(undisturbed, cache)
    facts = small_facts_file(memory_folder / "requests.jsonl")
    spec = Cache(cache).run_folder(chain_id(cache)) / "spec.json"
    description = json.loads(spec.read_text())
    description["about"]["facts"] = FactsRef(str(facts)).to_json()
    spec.write_text(json.dumps(description))
    yield Chain(cache, model, facts)
    shutil.rmtree(cache)


def chain_id(cache: Path) -> str:
    return next(info.run_id for info in list_runs(Cache(cache)) if info.kind == "chain")


@pytest.fixture(scope="module")
def asked(chain: Chain) -> ChainRequests:
    return chain_requests(Cache(chain.cache), chain_id(chain.cache))


def test_the_chains_size_finds_the_chains_runs(chain: Chain, asked: ChainRequests) -> None:
    bench, stages = Bench(chain.cache), chain.summary["stages"]["evaluate"]
    for state in ("base", "tuned", K20):
        found = bench.result(asked.evaluation(state))
        assert found["cached"] and found["run_id"] == stages[found["state_id"]]
    assert question_set(Cache(chain.cache), asked, None) == asked.own_set


def test_another_size_is_another_set_whose_id_is_known_before(chain: Chain, asked: ChainRequests) -> None:
    """One question of level 0 in each of three groups; a size beyond what there is gives the chain's own set."""
    cache = Cache(chain.cache)
    found = Bench(chain.cache).result(asked.evaluation(K33, 1))
    assert found["n_questions"] == 3 and not found["cached"]
    inputs = RunFolder(cache, found["run_id"]).spec.inputs
    assert inputs["questions"] == question_set(cache, asked, 1) != asked.own_set
    assert question_set(cache, asked, 1_000) == asked.own_set


def test_preparing_leaves_nothing_and_saves_the_first_its_wait(chain: Chain, asked: ChainRequests) -> None:
    bench = Bench(chain.cache)
    before = len(list_runs(Cache(chain.cache)))
    assert bench.result(asked.evaluation("tuned", only_prepare=True)) == {}
    assert len(list_runs(Cache(chain.cache))) == before
    (held,) = bench.engine._desk._exams.values()
    assert "reference" in held[1].__dict__
    bench.result(asked.evaluation(RestoreSpec(k_percent="47")))
    assert bench.engine._desk._exams[False] is held


def test_a_recipe_is_the_command_lines(chain: Chain, asked: ChainRequests, tmp_path: Path) -> None:
    found = Bench(chain.cache).result(asked.recipe(K20))
    ws = Workspace(chain.cache, device="cpu")
    pair = ws.open_model(chain.base), ws.open_model(chain.summary["tuned_id"])
    made = export_restored(ws, *pair, K20, recipe=tmp_path / "recipe.json")
    theirs = json.loads((tmp_path / "recipe.json").read_text())
    ours = json.loads(found["recipe"])
    assert found["model_id"] == made["model_id"] and ours["cut"] == theirs["cut"]
    assert ours["restored"]["model_id"] == theirs["restored"]["model_id"]


def test_requests_survive_the_pipe(asked: ChainRequests) -> None:
    five = asked.evaluation("base", 3, five_shot=True)
    for request in (five, asked.evaluation(K20), asked.recipe(K20), asked.free(("Who?",), ("base", K20))):
        assert from_json(json.loads(json.dumps(to_json(request)))) == request
    assert (five.prompt, five.first_tokens, five.questions.per_level) == ("five-shot", False, 3)


def test_an_older_chain_and_lost_facts_are_said(chain: Chain, asked: ChainRequests) -> None:
    lost = replace(asked, facts=FactsRef(str(chain.cache / "gone.jsonl")))
    with pytest.raises(DataError, match=r"gone\.jsonl"):
        question_set(Cache(chain.cache), lost, 1)
    folder = Cache(chain.cache).run_folder(chain_id(chain.cache)) / "spec.json"
    whole = folder.read_text()
    description = json.loads(whole)
    del description["about"]["questions"]
    folder.write_text(json.dumps(description))
    try:
        with pytest.raises(SpecError, match="earlier version"):
            chain_requests(Cache(chain.cache), chain_id(chain.cache))
    finally:
        folder.write_text(whole)


def test_a_chain_that_another_version_of_the_matcher_judged_is_said(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_request, "RULES_ID", "matcher 9")
    with pytest.raises(SpecError, match="earlier version of the matcher"):
        chain_requests(Cache(chain.cache), chain_id(chain.cache))


def test_show_mode_starts_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = EngineClient(tmp_path, "cpu")
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    with pytest.raises(CacheError, match="show mode"):
        client.start()
    with pytest.raises(CacheError, match="show mode"):
        client.submit("ping")
    assert not client.running and not (tmp_path / "logs").exists()


def test_an_export_is_a_command(tmp_path: Path) -> None:
    job = ExportJob(tuned="4526", k="12.5", layers="0-1", patch=str(tmp_path / "new.patch"))
    job.check()
    assert job.arguments()[:1] == ("restore",)
    assert {"--tuned", "4526", "--k", "12.5", "--layers", "0-1", "--patch"} <= set(job.arguments())
    for changes, why in (
        ({"tuned": ""}, "tuned: got nothing"),
        ({"patch": None}, "path: got nothing"),
        ({"patch": "here"}, "allowed: a full path"),
        ({"patch": str(tmp_path)}, "exists already"),
        ({"k": "101"}, "k"),
        ({"strategy": "best"}, "strategy"),
    ):
        with pytest.raises(SpecError, match=why):
            replace(job, **changes).check()
