"""The engine's work, without a process around it: its numbers are a chain's, whatever was asked before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from engine_requests import Bench, Chain
from small_chain import small_facts_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sftknow_core.facts.dataset import FactsRef
from sftknow_core.measure import reference
from sftknow_core.pipeline import evaluate
from sftknow_core.pipeline.export import export_restored
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.serve.engine.protocol import Models
from sftknow_core.specs import QuestionSpec
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.gc import remove_runs
from sftknow_core.store.listing import list_runs
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_state import RunState
from sftknow_core.update import select
from sftknow_core.update.spec import RestoreSpec

K20, K60, ALL = (RestoreSpec(k_percent=k) for k in ("20", "60", "100"))


@pytest.fixture(scope="session")
def facts_file(memory_folder: Path) -> Path:
    return small_facts_file(memory_folder / "facts.jsonl")


@pytest.fixture
def chain(undisturbed: Path, model: Path, facts_file: Path, memory_folder: Path) -> Iterator[Chain]:
    """A copy of the finished small chain."""
    cache = memory_folder / "engine"
    shutil.copytree(undisturbed, cache)
    yield Chain(cache, model, facts_file)
    shutil.rmtree(cache)


@pytest.fixture
def bench(chain: Chain) -> Bench:
    return Bench(chain.cache)


def tables(cache: Path, run_id: str) -> dict[str, list]:
    run = RunFolder(Cache(cache), run_id)
    assert run.problems(verify=True) == []
    return {name: run.read(name).to_pylist() for name in sorted(run.contents().tables)}


def without_evaluations(cache: Path) -> None:
    remove_runs(Cache(cache), [info.run_id for info in list_runs(Cache(cache), "evaluate")])


def test_finds_what_a_chain_has_computed(bench: Bench, chain: Chain) -> None:
    for state, state_id in zip(("base", "tuned", K20, ALL), chain.summary["states"], strict=True):
        found = bench.result(chain.evaluate(state))
        assert found["cached"] and found["state_id"] == state_id
        assert found["run_id"] == chain.summary["stages"]["evaluate"][state_id]
    assert bench.engine._status()["loaded"] is None  # nothing had to be read for that


def test_computes_what_a_chain_computes_in_any_order(bench: Bench, chain: Chain) -> None:
    """Every state from one working copy, forwards and backwards, has the tables of the chain's own loader."""
    stages = chain.summary["stages"]["evaluate"]
    expected = {run_id: tables(chain.cache, run_id) for run_id in stages.values()}
    for states in (("base", "tuned", K20, ALL), (ALL, K20, "base", "tuned")):
        without_evaluations(chain.cache)
        for state in states:
            found = bench.result(chain.evaluate(state))
            assert not found["cached"]
            assert tables(chain.cache, found["run_id"]) == expected[found["run_id"]]
            assert found["accuracies"] == expected[found["run_id"]]["accuracies"]
    listed = read_table(Cache(chain.cache), "accuracies", where={"level": None, "subset": "all"})
    assert set(listed["run_id"]) >= set(stages.values())


def test_groups_are_the_chains_question_sets(bench: Bench, chain: Chain) -> None:
    whole = bench.result(chain.evaluate(K20))["accuracies"]
    part = bench.result(chain.evaluate(K20, groups=("test_in",)))
    assert not part["cached"] and part["n_questions"] == 4
    kept = (
        "split",
        "domain",
        "matcher",
        "subset",
        "level",
        "question_set_id",
        "n",
        "accuracy",
        "low",
        "high",
    )
    assert [{key: row[key] for key in kept} for row in part["accuracies"]] == [
        {key: row[key] for key in kept} for row in whole if (row["split"], row["domain"]) == ("test", "in")
    ]
    fewer = bench.result(chain.evaluate(K20, questions=QuestionSpec(per_level=1)))
    assert fewer["n_questions"] == 3  # dev, test, out-of-domain test: all facts have level 0


def test_going_back_to_a_k_makes_no_new_plan(
    bench: Bench, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, plans_for = [], select.plans_for
    monkeypatch.setattr(
        select,
        "plans_for",
        lambda pair, specs, **more: (planned.extend(specs), plans_for(pair, specs, **more))[1],
    )
    first, *_ = (bench.result(chain.ask(state)) for state in (K20, K60, "base"))
    assert bench.result(chain.ask(K20)) == first
    assert planned == [K20, K60]


def probabilities(folder: Path, text: str) -> torch.Tensor:
    """Slow and independent: the next-token distribution of a model folder after BOS + text."""
    tokenizer, lm = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer("<s>" + text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        return lm(ids).logits[0, -1].double().softmax(0)


def test_first_tokens_are_those_of_the_models_on_the_disk(bench: Bench, chain: Chain, tmp_path: Path) -> None:
    ws = Workspace(chain.cache, device="cpu")
    base, tuned = ws.open_model(chain.base), ws.open_model(chain.models.tuned)
    export_restored(ws, base, tuned, K60, tmp_path / "restored")
    answers = bench.result(chain.ask(K60, "base", "tuned"))["answers"]
    assert [answer["label"] for answer in answers] == ["restored 60%", "base", "tuned"]
    for answer, folder in zip(answers, (tmp_path / "restored", base.path, tuned.path), strict=True):
        for row in answer["rows"]:
            p = probabilities(folder, f"<|question|> {row['text']} <|answer|>")
            top = p.topk(10)
            assert row["top_ids"] == top.indices.tolist()
            assert row["p"] == pytest.approx(top.values.tolist(), rel=1e-5)
            assert row["mass_outside"] == pytest.approx(1 - float(top.values.sum()), abs=1e-6)
            assert sum(row["p"]) + row["mass_outside"] == pytest.approx(1.0, abs=1e-12)
            assert len(row["top_tokens"]) == 10 and row["n_tokens"] <= 4


def test_a_completion_is_read_as_it_stands(bench: Bench, chain: Chain) -> None:
    text = "The capital of Norway is"
    row = bench.result(chain.ask("base", texts=(text,), prompt="completion"))["answers"][0]["rows"][0]
    assert row["top_ids"] == probabilities(chain.base, text).topk(10).indices.tolist()


def test_one_model_in_memory(bench: Bench, chain: Chain) -> None:
    size = sum(p.numel() * 4 for p in AutoModelForCausalLM.from_pretrained(chain.base).parameters())
    bench.result(chain.ask("base", "tuned", K20, K60))
    bench.result(chain.evaluate(K60))
    assert bench.engine._status()["loaded_bytes"] == size
    assert not bench.engine._desk.ws._loaded


def test_a_base_alone_after_a_pair_is_that_base(bench: Bench, chain: Chain, tmp_path: Path) -> None:
    from tiny import make_tiny_llama

    other = make_tiny_llama(tmp_path / "other", layers=2, width=16, seed=5)
    for states in (("tuned",), ("base", K20)):
        bench.result(chain.ask(*states))
        alone = bench.result(chain.ask("base", models=Models(base=str(other))))["answers"][0]["rows"][0]
        p = probabilities(other, f"<|question|> {alone['text']} <|answer|>")
        assert alone["p"] == pytest.approx(p.topk(10).values.tolist(), rel=1e-5)


def test_base_logits_that_do_not_fit_keep_the_base_beside(
    bench: Bench, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for them the base is asked again for every state: by a model of its own, not by the working copy."""
    monkeypatch.setattr(reference, "BUDGET_BYTES", 0)
    monkeypatch.setitem(reference.BaseReference.__init__.__kwdefaults__, "budget_bytes", 0)
    stages = chain.summary["stages"]["evaluate"]
    expected = {run_id: tables(chain.cache, run_id) for run_id in stages.values()}
    without_evaluations(chain.cache)
    for state in ("tuned", K20, "base", ALL):
        found = bench.result(chain.evaluate(state))
        assert tables(chain.cache, found["run_id"]) == expected[found["run_id"]]
    assert len(bench.engine._desk.ws._loaded) == 1
    bench.result(chain.evaluate(K20, groups=("dev_in",), first_tokens=False))
    assert len(bench.engine._desk.ws._loaded) == 0  # another question set needs it no more


def test_changed_files_under_a_path_are_never_served_stale(chain: Chain, tmp_path: Path) -> None:
    from tiny import make_tiny_llama

    base = shutil.copytree(chain.base, tmp_path / "base")
    moved = Chain(chain.cache, base, chain.facts)
    bench = Bench(chain.cache)
    before = bench.result(moved.ask("base", K20))["answers"]
    make_tiny_llama(base, layers=2, width=16, seed=7)
    after = bench.result(moved.ask("base", K20))["answers"]
    for one, other in zip(before, after, strict=True):
        assert one["state_id"] != other["state_id"]
        assert one["rows"][0]["p"] != other["rows"][0]["p"]
    assert after[0]["rows"][0]["p"][0] == pytest.approx(
        float(probabilities(base, "<|question|> Where was Anna Berg born? <|answer|>").max()), rel=1e-5
    )
    named = Models(base=str(base), base_id=before[0]["state_id"])
    failed = bench.do(moved.ask("base", models=named))
    assert (failed["event"], failed["kind"]) == ("failed", "ModelError")
    assert "its files were changed" in failed["message"]


def test_a_changed_facts_file_is_read_again(bench: Bench, chain: Chain, tmp_path: Path) -> None:
    mine = tmp_path / "facts.jsonl"
    lines = chain.facts.read_text().splitlines(keepends=True)
    counts = []
    for kept in (lines, lines[:-1]):  # the last one is an out-of-domain test fact
        mine.write_text("".join(kept))
        request = chain.evaluate("base", facts=FactsRef(str(mine)), first_tokens=False)
        counts.append(bench.result(request)["n_questions"])
    assert counts == [10, 9]


def test_an_adapter_and_its_base(memory_folder: Path, facts_file: Path) -> None:
    """The adapter is asked unmerged, its restorations in float32, as a chain does; the base as it is."""
    from small_chain import small_facts, small_spec
    from tiny import make_tiny_llama

    from sftknow_core.facts.topics import load_topics
    from sftknow_core.measure.mastery import MasterySpec
    from sftknow_core.model.train.methods import SftSpec
    from sftknow_core.pipeline.chain import run_chain
    from sftknow_core.pipeline.mastery import score_facts

    model = make_tiny_llama(memory_folder / "bfloat16", layers=2, width=16, dtype=torch.bfloat16)
    ws = Workspace(memory_folder / "engine-lora", device="cpu")
    facts, topics, base = small_facts(), load_topics(), ws.open_model(model)
    mastery = score_facts(ws, base, facts.facts, topics, MasterySpec(n_samples=1, max_new_tokens=2))
    sft = SftSpec(method="lora", lr=1e-2, batch_size=2, compute_dtype="float32", lora_r=2)
    run_chain(ws, base, facts, topics, small_spec(), sft, mastery=mastery)
    chain = Chain(ws.cache.root, model, facts_file)
    expected = {i: tables(chain.cache, i) for i in chain.summary["stages"]["evaluate"].values()}
    without_evaluations(chain.cache)
    bench = Bench(chain.cache)
    for state in ("tuned", K20, "base", ALL):
        found = bench.result(chain.evaluate(state))
        assert tables(chain.cache, found["run_id"]) == expected.pop(found["run_id"])
    assert expected == {}


def test_a_tuned_model_of_another_dtype_never_stands_in_for_base(chain: Chain, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    AutoModelForCausalLM.from_pretrained(chain.base).to(torch.bfloat16).save_pretrained(tuned)
    AutoTokenizer.from_pretrained(chain.base).save_pretrained(tuned)
    models = Models(base=str(chain.base), tuned=str(tuned))
    bench = Bench(chain.cache)
    asked = [bench.result(chain.ask(s, models=models))["answers"][0] for s in ("tuned", "base", "tuned")]
    assert asked[0] == asked[2]
    row = asked[1]["rows"][0]
    p = probabilities(chain.base, f"<|question|> {row['text']} <|answer|>")
    assert row["p"][0] == pytest.approx(float(p.max()), rel=1e-6)


def test_a_cancelled_evaluation_goes_on_where_it_stopped(
    bench: Bench, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "CHUNK_QUESTIONS", 2)
    request = chain.evaluate(K60)

    def parts() -> list[Path]:
        """What the one evaluation that is not finished has committed."""
        unfinished = [i for i in list_runs(Cache(chain.cache), "evaluate") if i.status.state != RunState.DONE]
        return [p for i in unfinished for p in RunFolder(Cache(chain.cache), i.run_id).part_paths("answers")]

    def cancel_after_the_first_chunk(message: dict) -> None:
        if message["event"] == "progress" and parts():
            bench.engine.receive(json.dumps({"id": "c", "do": "cancel", "which": message["id"]}))

    monkeypatch.setattr(bench.engine._get_ready().ws.reporter, "show", _always(bench))
    bench.on_send = cancel_after_the_first_chunk
    assert bench.do(request)["event"] == "cancelled"
    assert bench.sent[[m["id"] for m in bench.sent].index("c")]["result"] == {"found": True}
    run = next(i for i in list_runs(Cache(chain.cache)) if i.status.state is RunState.STOPPED)
    written = {part: part.stat().st_mtime_ns for part in parts()}
    assert 1 <= len(written) < 5
    bench.on_send = lambda message: None
    found = bench.result(request)
    assert (found["run_id"], found["cached"]) == (run.run_id, False)
    assert {part: part.stat().st_mtime_ns for part in written} == written
    assert len(tables(chain.cache, found["run_id"])["answers"]) == 10


def _always(bench: Bench):
    """A display that leaves nothing out."""
    reporter = bench.engine._get_ready().ws.reporter
    return lambda: bench.engine._tell(
        reporter.text, reporter.done / reporter.total if reporter.total else None
    )


def test_a_cancel_stops_between_two_tokens(bench: Bench, chain: Chain) -> None:
    def cancel(message: dict) -> None:
        if message.get("text") == "asking base":  # said right before the prompts are read
            bench.engine.receive(json.dumps({"id": "c", "do": "cancel", "which": message["id"]}))

    bench.on_send = cancel
    assert bench.do(chain.ask("base"))["event"] == "cancelled"


def test_a_cancelled_request_in_the_queue_never_starts(bench: Bench, chain: Chain) -> None:
    first, second = bench.put(chain.ask("base")), bench.put(chain.ask("tuned"))
    bench.put({"do": "cancel", "which": second})
    assert [message["event"] for message in bench.about(second)] == ["cancelled"]
    assert bench.engine.work() and not bench.engine.work()
    assert bench.about(first)[-1]["event"] == "done"


def test_a_half_written_copy_is_never_asked(bench: Bench, chain: Chain) -> None:
    """Cancelled while the weights are being written, the next request writes them again."""
    expected = Bench(chain.cache).result(chain.ask(K20))
    bench.result(chain.ask("base"))

    def cancel(message: dict) -> None:
        if message["event"] == "progress" and message["text"].startswith("writing"):
            bench.engine.receive(json.dumps({"id": "c", "do": "cancel", "which": message["id"]}))

    bench.on_send = cancel
    assert bench.do(chain.ask(K60))["event"] == "cancelled"
    assert bench.engine._status()["loaded"] is None
    bench.on_send = lambda message: None
    assert bench.result(chain.ask(K20)) == expected
