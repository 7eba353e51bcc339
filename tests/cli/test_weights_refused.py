"""Pairs, recipes and patches that cannot be used: refused with code 2, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny import make_tiny_llama
from tiny_pair import add_adapter, make_pair, nudge_folder
from transformers import AutoModelForCausalLM

from .conftest import Sftknow
from .place import Place
from .test_bad_input import mistake


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def at(tmp_path: Path, pair: tuple[Path, Path], sftknow: Sftknow) -> Place:
    return Place(tmp_path, pair, sftknow)


def test_nothing_to_write(at: Place) -> None:
    mistake(at.restore(), "--out", "--recipe", "--patch")
    mistake(at("restore", "--out", at.folder / "out"), "--k", "--alpha", "--block")
    mistake(at("restore", "--k", 1, "--alpha", 1, "--out", at.folder / "out"), "--k")


@pytest.mark.parametrize("command", ["restore", "delta"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vocab": 300}, ["embed_tokens", "vocabulary", "tokenizers"]),
        ({"layers": 3}, ["model.layers.2.", "no counterpart in base"]),
        ({"tie": True}, ["lm_head.weight", "tie_word_embeddings"]),
        ({"width": 32}, ["embed_tokens", "shape"]),
    ],
)
def test_pairs_that_do_not_fit(at: Place, command: str, change: dict[str, int], words: list[str]) -> None:
    other = make_tiny_llama(at.folder / "other", **{"width": 16, **change})
    options = ["--k", 5, "--out", at.folder / "out"] if command == "restore" else []
    mistake(at(command, *options, tuned=other), *words)
    assert at.left() == {"other"}


def test_another_architecture(at: Place) -> None:
    from tiny_models import tiny_model

    other = at.folder / "other"
    tiny_model("gpt2").save_pretrained(other)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(at.base / name, other / name)
    mistake(
        at.restore("--out", at.folder / "out", tuned=other), "LlamaForCausalLM", "GPT2LMHeadModel", "tensors"
    )
    assert at.left() == {"other"}


def sharded(source: Path, folder: Path) -> Path:
    """The model in several files."""
    AutoModelForCausalLM.from_pretrained(source).save_pretrained(folder, max_shard_size="20KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, folder / name)
    return folder


def cut_off(folder: Path) -> str:
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-10])
    return shard.name


def take_away(folder: Path) -> str:
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    return shard.name


@pytest.mark.parametrize(("harm", "words"), [(cut_off, "cut short"), (take_away, "is missing")])
@pytest.mark.parametrize("side", ["base", "tuned"])
def test_damaged_shards(at: Place, side: str, harm: Callable[[Path], str], words: str) -> None:
    folder = sharded(at.tuned if side == "tuned" else at.base, at.folder / "sharded")
    name = harm(folder)
    mistake(at.restore("--out", at.folder / "out", **{side: folder}), side, name, words)
    mistake(at("delta", **{side: folder}), side, name, words)
    assert at.left() == {"sharded"}


def test_base_and_tuned_swapped(at: Place) -> None:
    adapter = add_adapter(at.base, at.folder / "adapter")
    for command in (["restore", "--k", 5, "--out", at.folder / "out"], ["delta"]):
        ended = at(*command, base=adapter, tuned=at.base)
        mistake(ended, "swapped", "is an adapter on base", f"--base {at.base} --tuned {adapter}")
    recipe = at.folder / "r.json"
    assert at.restore("--recipe", recipe).code == 0
    ended = at("rebuild", recipe, "--out", at.folder / "out", base=at.tuned, tuned=at.base)
    mistake(ended, "They are swapped")
    assert at.left() == {"adapter", "r.json"}


def test_run_checks_the_pair_first(at: Place, facts_file: Path) -> None:
    adapter = add_adapter(at.base, at.folder / "adapter")
    ended = at("run", "--data", facts_file, base=adapter, tuned=at.base)
    mistake(ended, "swapped")
    assert list((at.folder / "cache" / "runs").iterdir()) == []


def test_outputs_that_exist(at: Place) -> None:
    for name in ("out", "r.json", "p"):
        (at.folder / name).write_text("keep me")
    for option, name in (("--out", "out"), ("--recipe", "r.json"), ("--patch", "p")):
        mistake(at.restore("--out", at.folder / "new", option, at.folder / name), name, "exists already")
    assert at.restore("--recipe", at.folder / "r2", "--patch", at.folder / "p2").code == 0
    mistake(at("rebuild", at.folder / "r2", "--out", at.folder / "out"), "exists already")
    mistake(at("apply-patch", at.folder / "p2", "--out", at.folder / "out"), "exists already")
    assert all((at.folder / name).read_text() == "keep me" for name in ("out", "r.json", "p"))
    assert at.left() == {"out", "r.json", "p", "r2", "p2"}


def test_recipe_and_patch_of_another_pair(at: Place) -> None:
    recipe, patch = at.folder / "r.json", at.folder / "p"
    made = at.restore("--recipe", recipe, "--patch", patch, "--json").json
    other = nudge_folder(Path(shutil.copytree(at.tuned, at.folder / "other")), seed=9)
    ended = at("rebuild", recipe, "--out", at.folder / "out", tuned=other)
    mistake(ended, made["base_id"], made["tuned_id"], "Give the models it was made from")
    ended = at("apply-patch", patch, "--out", at.folder / "out", tuned=other)
    mistake(ended, made["tuned_id"], "Give that model")
    mistake(at("apply-patch", patch, "--out", at.folder / "out", tuned=at.base), "That is the base")
    assert at("apply-patch", patch, "--out", at.folder / "done").code == 0
    ended = at("apply-patch", patch, "--out", at.folder / "out", tuned=at.folder / "done")
    mistake(ended, "applied to it already")
    assert at.left() == {"r.json", "p", "other", "done"}


def test_edited_recipe_leaves_nothing(at: Place) -> None:
    """An edit that only writing can show: another model_id, another cut."""
    recipe = at.folder / "r.json"
    at.restore("--recipe", recipe)
    for path, value, words in (
        (("restored", "model_id"), "0" * 16, "0000000000000000"),
        (("cut", "key"), 0, "restored weights and not"),
        (("restored", "n_touched"), 7, "n_touched is 7"),
    ):
        stored = json.loads(recipe.read_text())
        stored[path[0]][path[1]] = value
        (at.folder / "edited.json").write_text(json.dumps(stored))
        mistake(at("rebuild", at.folder / "edited.json", "--out", at.folder / "out"), words)
    assert at.left() == {"r.json", "edited.json"}


def test_damaged_patch_leaves_nothing(at: Place) -> None:
    patch = at.folder / "p"
    at.restore("--patch", patch)
    good = patch.read_bytes()
    for bad in (good[:-3], good + b"x", good[:-50] + bytes([good[-50] ^ 1]) + good[-49:], b"", b"{}"):
        patch.write_bytes(bad)
        mistake(at("apply-patch", patch, "--out", at.folder / "out"), "p")
    mistake(at("apply-patch", at.folder / "none", "--out", at.folder / "out"), "is not there")
    assert at.left() == {"p"}


def test_patch_with_another_dtype(at: Place) -> None:
    ended = at.restore("--patch", at.folder / "p", "--output-dtype", "bfloat16")
    mistake(ended, "becomes bfloat16 where tuned has float32", "--output-dtype tuned")
    assert at.left() == set()


def test_patch_without_changes(at: Place) -> None:
    ended = at("restore", "--k", 0, "--out", at.folder / "deep" / "out", "--patch", at.folder / "p")
    mistake(ended, "needs no patch")
    assert at.left() == set()


def test_weights_that_are_not_finite(at: Place) -> None:
    from safetensors.torch import save_file

    broken = Path(shutil.copytree(at.tuned, at.folder / "broken"))
    stored = load_file(broken / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    stored[name].view(-1)[5] = float("nan")
    save_file(stored, broken / "model.safetensors", metadata={"format": "pt"})
    ended = at.restore("--out", at.folder / "out", "--recipe", at.folder / "r", tuned=broken)
    mistake(ended, name)
    assert at.left() == {"broken"}
