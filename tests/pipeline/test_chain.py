"""The chain on a small model: what its summary says is what its tables hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_chain import do_chain, everything, small_facts
from transformers import AutoModelForCausalLM

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import FactSet
from sftknow_core.pipeline.delta import ModelPair
from sftknow_core.pipeline.export import export_restored
from sftknow_core.pipeline.states import StateLoader, restored_state, tuned_state
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.gc import Keep, gc
from sftknow_core.store.listing import list_runs
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.update.spec import RestoreSpec


@pytest.fixture(scope="module")
def chain(undisturbed: Path, model: Path) -> dict:
    return dict(do_chain(undisturbed, model).summary)


def test_states_and_their_rows(chain: dict) -> None:
    assert [row["label"] for row in chain["table"]] == ["base", "tuned", "restored 20%", "hybrid (100%)"]
    assert [row["k_percent"] for row in chain["table"]] == [None, 0.0, 20.0, 100.0]
    restored, hybrid = chain["table"][2:]
    assert restored["n_restored"] == restored["n_region"] // 5
    assert hybrid["n_restored"] == hybrid["n_region"]
    assert hybrid["energy_taken_back"] == pytest.approx(1.0)
    assert 0 < restored["energy_taken_back"] < 1


def test_accuracies_are_those_of_the_answers(chain: dict, undisturbed: Path) -> None:
    """Counted again from the stored completions, by hand: all facts are of level 0."""
    for row in chain["table"]:
        run = RunFolder(Cache(undisturbed), chain["stages"]["evaluate"][row["state_id"]])
        answers = [a for a in run.read("answers").to_pylist() if (a["split"], a["domain"]) == ("test", "in")]
        right = sum(f" {a['gold']} " in f" {a['completion'].strip()} " for a in answers)
        assert len(answers) == row["test_in"]["n"] == 4
        assert row["test_in"]["accuracy"] == pytest.approx(right / 4)
        assert row["test_in"]["reason"].startswith("mean without level 1, 2, 3, 4")


def test_every_state_answers_test_after_the_same_exemplars(chain: dict, undisturbed: Path) -> None:
    """Counted again from the stored completions; the exemplars are an input of each run, and dev is not asked."""
    runs = {i: RunFolder(Cache(undisturbed), run) for i, run in chain["stages"]["five_shot_states"].items()}
    assert set(runs) == {row["state_id"] for row in chain["table"]}
    assert len({run.spec.inputs["exemplars"] for run in runs.values()}) == 1
    assert {run.spec.params["prompt"] for run in runs.values()} == {"five-shot"}
    for row in chain["table"]:
        answers = runs[row["state_id"]].read("answers").to_pylist()
        assert {a["split"] for a in answers} == {"test"}
        mine = [a for a in answers if a["domain"] == "in"]
        right = sum(f" {a['gold']} " in f" {a['completion'].split(chr(10))[0].strip()} " for a in mine)
        assert row["five_shot"]["test_in"]["accuracy"] == pytest.approx(right / 4)


def test_gains_after_exemplars_are_of_one_prompt(chain: dict) -> None:
    """Tuned minus base, and restored minus tuned, each from the accuracies after exemplars."""
    rows = {row["state_id"]: row["five_shot"]["test_in"]["accuracy"] for row in chain["table"]}
    base, tuned, chosen = (
        rows[i] for i in (chain["base_id"], chain["tuned_id"], chain["chosen"]["state_id"])
    )
    found = chain["chosen"]["five_shot"]
    assert found["tuning"]["test_in"]["value"] == pytest.approx(tuned - base)
    assert found["gain"]["test_in"]["value"] == pytest.approx(chosen - tuned)


def test_the_base_is_not_asked_twice_after_exemplars(memory_folder: Path, model: Path) -> None:
    """Its answers to all questions hold those to the test questions."""
    cache = memory_folder / "with-baseline"
    with_base = do_chain(cache, model, baselines=True).summary
    assert with_base["stages"]["five_shot_states"][with_base["base_id"]] == with_base["stages"]["five_shot"]
    base = with_base["table"][0]
    assert base["five_shot"]["test_in"] == with_base["five_shot"]["test_in"]


def test_too_few_train_facts_leave_the_second_prompt_out(
    memory_folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With four train facts a topic there are no five exemplars: said, and nothing stands in their place."""
    import small_chain

    facts = small_facts().facts
    few = [f for f in facts if not (f.split == "train" and (f.subject or "").endswith(" 4"))]
    assert len(facts) - len(few) == 3
    monkeypatch.setattr(small_chain, "small_facts", lambda: FactSet(tuple(few), source="small"))
    summary = do_chain(memory_folder / "few", model).summary
    assert "five_shot_states" not in summary["stages"]
    assert "five_shot" not in summary["chosen"]


def test_train_set_comes_from_train_in_domain(chain: dict, undisturbed: Path) -> None:
    rows = RunFolder(Cache(undisturbed), chain["stages"]["sft"]).read("train_set").to_pylist()
    of = {fact.fact_id: fact for fact in small_facts().facts}
    assert len(rows) == 6
    assert {(of[row["fact_id"]].split, of[row["fact_id"]].domain) for row in rows} == {("train", "in")}


def test_catalogue_holds_what_the_folders_hold(chain: dict, undisturbed: Path) -> None:
    rows = read_table(
        Cache(undisturbed), "accuracies", where={"level": None, "subset": "all", "matcher": "words"}
    )
    listed = {(r.state_id, r.split, r.domain): r.accuracy for r in rows.itertuples() if r.split != "train"}
    for row in chain["table"]:
        assert listed[row["state_id"], "test", "in"] == row["test_in"]["accuracy"]
        assert listed[row["state_id"], "test", "out"] == row["test_out"]["accuracy"]


def test_asked_again_nothing_runs_again(undisturbed: Path, model: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (undisturbed / "runs").rglob("*") if path.is_file()}
    do_chain(undisturbed, model)
    after = {path: path.stat().st_mtime_ns for path in (undisturbed / "runs").rglob("*") if path.is_file()}
    assert after == before


def test_another_k_asks_only_the_new_state(memory_folder: Path, model: Path) -> None:
    cache = memory_folder / "more-k"
    do_chain(cache, model)
    kinds = [info.kind for info in list_runs(Cache(cache))]
    do_chain(cache, model, ks=("20", "60"))
    more = [info.kind for info in list_runs(Cache(cache))]
    assert sorted(more) == sorted([*kinds, "evaluate", "evaluate", "chain"])  # under both prompts


def test_changed_weights_under_the_same_path_are_another_model(memory_folder: Path, tmp_path: Path) -> None:
    from tiny import make_tiny_llama

    cache, folder = memory_folder / "changed", tmp_path / "model"
    make_tiny_llama(folder, layers=2, width=16, seed=1)
    first = do_chain(cache, folder).summary
    make_tiny_llama(folder, layers=2, width=16, seed=2)
    second = do_chain(cache, folder).summary
    assert first["base_id"] != second["base_id"]
    assert set(first["states"]).isdisjoint(second["states"])


def test_removed_weights_are_trained_again_to_the_same_bits(memory_folder: Path, model: Path) -> None:
    cache = memory_folder / "collected"
    do_chain(cache, model)
    before = everything(cache)
    assert gc(Cache(cache), Keep.NONE).removed
    assert not list((cache / "runs").rglob("model.safetensors"))
    do_chain(cache, model, ks=("20", "40"))
    after = everything(cache)
    for run_id, found in before.items():
        assert after[run_id]["tables"] == found["tables"]
        assert after[run_id]["weights"] == found["weights"]


def test_existing_pair_needs_no_training(
    memory_folder: Path, undisturbed: Path, model: Path, chain: dict
) -> None:
    from small_chain import small_spec

    from sftknow_core.facts.topics import load_topics
    from sftknow_core.pipeline.chain import run_chain
    from sftknow_core.pipeline.mastery import Mastery

    shutil.copytree(undisturbed, memory_folder / "pair")
    ws = Workspace(memory_folder / "pair", device="cpu")
    mastery = Mastery(RunFolder(ws.cache, chain["stages"]["mastery"]))
    tuned = ws.open_model(chain["tuned_id"][:8])
    result = run_chain(
        ws, ws.open_model(model), small_facts(), load_topics(), small_spec(), tuned=tuned, mastery=mastery
    )
    assert result.summary["states"] == chain["states"]
    assert "sft" not in result.summary["stages"]
    for ours, theirs in zip(result.summary["table"], chain["table"], strict=True):
        assert ours["test_in"] == theirs["test_in"]


def test_restored_in_memory_is_what_is_written(
    undisturbed: Path, model: Path, chain: dict, tmp_path: Path
) -> None:
    ws = Workspace(undisturbed, device="cpu")
    base, tuned = ws.open_model(model), ws.open_model(chain["tuned_id"])
    spec = RestoreSpec(k_percent="20")
    loader = StateLoader(ws, base, ModelPair(base, tuned))
    in_memory = loader.load(restored_state(base, tuned, spec)).model.state_dict()
    facts = export_restored(ws, base, tuned, spec, tmp_path / "out")
    on_disk = load_file(tmp_path / "out" / "model.safetensors")
    assert on_disk.keys() == in_memory.keys()
    assert all(torch.equal(on_disk[name], in_memory[name]) for name in on_disk)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(reloaded.lm_head.weight, in_memory["lm_head.weight"])
    card = (tmp_path / "out" / "README.md").read_text()
    assert facts["state_id"] in card and chain["tuned_id"] in card and "test in-domain" in card
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())


def test_tuned_state_is_untouched_by_restoring(undisturbed: Path, model: Path, chain: dict) -> None:
    ws = Workspace(undisturbed, device="cpu")
    base, tuned = ws.open_model(model), ws.open_model(chain["tuned_id"])
    loader = StateLoader(ws, base, ModelPair(base, tuned))
    before = {k: v.clone() for k, v in loader.load(tuned_state(base, tuned)).model.state_dict().items()}
    loader.load(restored_state(base, tuned, RestoreSpec(k_percent="60")))
    after = loader.load(tuned_state(base, tuned)).model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_lora_chain_keeps_the_adapter_and_reports_the_merge_gap(memory_folder: Path, model: Path) -> None:
    from small_chain import small_spec

    from sftknow_core.facts.topics import load_topics
    from sftknow_core.measure.mastery import MasterySpec
    from sftknow_core.model.train.methods import SftSpec
    from sftknow_core.pipeline.chain import run_chain
    from sftknow_core.pipeline.mastery import score_facts

    ws = Workspace(memory_folder / "lora", device="cpu")
    facts, topics, base = small_facts(), load_topics(), ws.open_model(model)
    mastery = score_facts(ws, base, facts.facts, topics, MasterySpec(n_samples=1, max_new_tokens=2))
    sft = SftSpec(method="lora", lr=1e-2, batch_size=2, compute_dtype="float32", lora_r=2)
    chain = run_chain(ws, base, facts, topics, small_spec(), sft, mastery=mastery)
    run = RunFolder(ws.cache, chain.summary["stages"]["sft"])
    assert (run.root / "model" / "adapter_model.safetensors").is_file()
    assert run.manifest().summary["merge_gap"]["max_nats"] < 1e-3  # float32 rounding only
    assert chain.summary["table"][3]["energy_taken_back"] == pytest.approx(1.0)


def test_too_few_facts_of_the_level_is_said_before_training(memory_folder: Path, model: Path) -> None:
    cache = memory_folder / "too-few"
    with pytest.raises(SpecError, match="only 10 in-domain train facts have mastery level 0"):
        do_chain(cache, model, n=100)
    assert {info.kind for info in list_runs(Cache(cache))} == {"mastery"}


def test_the_hybrid_endpoint_is_never_the_chosen_k(chain: dict) -> None:
    assert chain["chosen"]["k_percent"] in (0.0, 20.0)
    assert chain["chosen"]["best_k_percent_on_dev"] in (0.0, 20.0)
