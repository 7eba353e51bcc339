"""A recipe brings back the same model without ranking, and nothing else: other pairs, versions and edits are
refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_pair

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.model.io.adapter import open_source
from sftknow_core.model.io.identity import model_id
from sftknow_core.model.io.tensors import FolderSource
from sftknow_core.update.lineage import Lineage
from sftknow_core.update.pair import Pair
from sftknow_core.update.ranking import Cut
from sftknow_core.update.recipe import Recipe, check_rebuilt, plan_from, read_recipe
from sftknow_core.update.restore import write_restored
from sftknow_core.update.select import plan_for
from sftknow_core.update.spec import RestoreSpec

BASE, TUNED = "0123456789abcdef", "fedcba9876543210"


def open_pair(base: Path, tuned: Path) -> Pair:
    return Pair(open_source(base), open_source(tuned))


def restored(pair: Pair, spec: RestoreSpec, out: Path) -> Recipe:
    """Write the restored model; returns its recipe."""
    plan = plan_for(pair, spec)
    report = write_restored(pair, plan, out, dtype="base")
    lineage = Lineage(
        BASE, "base", TUNED, "tuned", spec, "base",
        report.n_region, report.n_restored, report.n_touched, model_id(out),
    )  # fmt: skip
    return Recipe(lineage, plan.cut)


def rebuilt(pair: Pair, recipe: Recipe, out: Path) -> None:
    report = write_restored(pair, plan_from(recipe, pair), out, dtype=recipe.lineage.output_dtype)
    check_rebuilt(recipe, report, model_id(out))


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bfloat16 pair with small changes: many weights did not change, many keys tie, and zeros changed sign."""
    folder = tmp_path_factory.mktemp("coarse")
    base, tuned = save_pair(folder, dtype=torch.bfloat16, scale=1e-4)
    for path, zero in ((base, 0.0), (tuned, -0.0)):
        stored = load_file(path / "model.safetensors")
        for tensor in stored.values():
            tensor.view(-1)[::7] = zero
        save_file(stored, path / "model.safetensors", metadata={"format": "pt"})
    return base, tuned


@pytest.mark.parametrize(
    "spec",
    [
        RestoreSpec(k_percent="0.5"),
        RestoreSpec(k_percent="20"),
        RestoreSpec(k_percent="95"),
        RestoreSpec(k_percent="100", region="all"),
        RestoreSpec(k_percent="0"),
        RestoreSpec("bottom", k_percent="30"),
        RestoreSpec("largest", "mlp", "1", "12.5"),
        RestoreSpec("smallest", k_percent="60"),
        RestoreSpec("random", k_percent="20", seed=3),
        RestoreSpec("random-reference", k_percent="20", seed=3),
        RestoreSpec("interpolation", alpha="0.25"),
        RestoreSpec("block", block="mlp 0"),
        RestoreSpec("all-but-block", block="1"),
    ],
    ids=lambda spec: f"{spec.strategy}-{spec.k_percent or spec.alpha or spec.block}",
)
def test_rebuilt_model_is_the_restored_one(
    spec: RestoreSpec, coarse: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, through the file's text, and without reading a weight before writing."""
    pair = open_pair(*coarse)
    (tmp_path / "recipe.json").write_text(restored(pair, spec, tmp_path / "one").to_text(), encoding="utf-8")
    recipe = read_recipe(tmp_path / "recipe.json")
    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "read", None)
        plan_from(recipe, pair)
    rebuilt(pair, recipe, tmp_path / "other")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "other"))
    assert all(torch.equal(one[n].view(torch.int16), other[n].view(torch.int16)) for n in one)
    assert one.keys() == other.keys()


@pytest.fixture(scope="module")
def known(coarse: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Recipe]:
    pair = open_pair(*coarse)
    return pair, restored(pair, RestoreSpec(k_percent="20"), tmp_path_factory.mktemp("known") / "out")


Edit = Callable[[dict[str, Any]], None]


def put(value: object, *path: str) -> Edit:
    """An edit that puts a value at a path of keys."""

    def edit(stored: dict[str, Any]) -> None:
        for key in path[:-1]:
            stored = stored[key]
        stored[path[-1]] = value

    return edit


def drop(*path: str) -> Edit:
    def edit(stored: dict[str, Any]) -> None:
        for key in path[:-1]:
            stored = stored[key]
        del stored[path[-1]]

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (put("sftknow-patch", "format"), "is no recipe"),
        (put(2, "format_version"), "format version 2, and this is sftknow's version 1"),
        (put(True, "format_version"), "format version True"),
        (put(7, "restored", "algorithm_version"), "algorithm version 7, and this is sftknow's version"),
        (put("x", "comment"), "unknown field 'comment'"),
        (put("x", "restored", "note"), "unknown field 'note'"),
        (put("x", "cut", "bin"), "unknown field 'bin'"),
        (drop("cut"), "'cut' is missing"),
        (drop("restored", "model_id"), "'model_id' is missing"),
        (drop("restored", "algorithm_version"), "'algorithm_version' is missing"),
        (drop("cut", "ties"), "'ties' is missing"),
        (put([], "restored"), r"'restored' is \[\]"),
        (put("12", "restored", "n_region"), "'n_region' is '12'"),
        (put(1.5, "restored", "n_touched"), "'n_touched' is 1.5"),
        (put(True, "restored", "n_touched"), "'n_touched' is True"),
        (put(None, "restored", "base_id"), "'base_id' is None"),
        (put("../../etc", "restored", "base_id"), "no 16 hex digits"),
        (put("ABCDEF0123456789", "restored", "model_id"), "no 16 hex digits"),
        (put("30", "restored", "spec", "k_percent"), "state_id .* does not belong"),
        (put("fedcba9876543211", "restored", "tuned_id"), "state_id .* does not belong"),
        (put("20.0", "restored", "spec", "k_percent"), "not in its one spelling"),
        (put(20, "restored", "spec", "k_percent"), "not in its one spelling"),
        (put("101", "restored", "spec", "k_percent"), "0 to 100"),
        (put(["20"], "restored", "spec", "k_percent"), "k_percent"),
        (put(3, "restored", "spec", "layers"), "spec"),
        (put(["mlp"], "restored", "spec", "region"), "spec"),
        (put("best", "restored", "spec", "strategy"), "got 'best'"),
        (put("x", "restored", "spec", "epsilon"), "unknown field 'epsilon'"),
        (put("int8", "restored", "output_dtype"), "output_dtype is 'int8'"),
        (put(5, "restored", "n_restored"), "n_restored is 5, but 20%"),
        (put(None, "restored", "n_restored"), "n_restored is None"),
        (put(10**9, "restored", "n_touched"), "n_touched is 1000000000"),
        (put(-1, "restored", "n_touched"), "n_touched is -1"),
        (put(-1, "cut", "key"), "does not give"),
        (put(2**31, "cut", "key"), "does not give"),
        (put(-1, "cut", "ties"), "does not give"),
        (put(10**9, "cut", "ties"), "does not give"),
        (put(None, "cut"), "a cut None does not belong to strategy top"),
    ],
)
def test_edited_recipes_are_refused(edit: Edit, words: str, known: tuple[Pair, Recipe]) -> None:
    stored = json.loads(known[1].to_text())
    edit(stored)
    with pytest.raises(SpecError, match=words):
        Recipe.from_text(json.dumps(stored))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": "other"}', "NaN"])
def test_other_text_is_no_recipe(text: str) -> None:
    with pytest.raises(SpecError, match=r"no JSON|is no recipe"):
        Recipe.from_text(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        read_recipe(tmp_path / "none.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="cannot be read"):
        read_recipe(tmp_path / "binary")
    (tmp_path / "large").write_bytes(b" " * (1 << 21))
    with pytest.raises(SpecError, match="too large for a recipe"):
        read_recipe(tmp_path / "large")


def test_every_cut_with_other_counts_is_noticed(known: tuple[Pair, Recipe], tmp_path: Path) -> None:
    pair, recipe = known
    assert recipe.cut is not None
    key, ties = recipe.cut.key, recipe.cut.ties
    for number, cut in enumerate([Cut(key - 1, ties), Cut(key + 1, ties), Cut(key, ties - 1)]):
        with pytest.raises(SpecError, match="restored weights and not"):
            rebuilt(pair, replace(recipe, cut=cut), tmp_path / f"out{number}")


def test_wrong_touched_count_and_wrong_model_are_noticed(known: tuple[Pair, Recipe], tmp_path: Path) -> None:
    pair, recipe = known
    lineage = recipe.lineage
    with pytest.raises(SpecError, match=f"n_touched is {lineage.n_touched - 1}"):
        wrong = replace(lineage, n_touched=lineage.n_touched - 1)
        rebuilt(pair, replace(recipe, lineage=wrong), tmp_path / "one")
    with pytest.raises(ModelError, match=f"is {lineage.model_id} and not {'0' * 16}"):
        rebuilt(pair, replace(recipe, lineage=replace(lineage, model_id="0" * 16)), tmp_path / "two")


def test_region_of_another_size_is_refused(known: tuple[Pair, Recipe], tmp_path: Path) -> None:
    _, recipe = known
    other = open_pair(*save_pair(tmp_path, intermediate_size=16))
    with pytest.raises(SpecError, match="but its selection"):
        plan_from(recipe, other)


def test_other_pairs_are_refused_by_id(known: tuple[Pair, Recipe]) -> None:
    lineage = known[1].lineage
    lineage.require_pair(BASE, TUNED, "recipe r")
    with pytest.raises(SpecError, match=f"base {BASE} .base. and tuned {TUNED}.*but base is {'1' * 16}"):
        lineage.require_pair("1" * 16, TUNED, "recipe r")
    with pytest.raises(SpecError, match="They are swapped"):
        lineage.require_pair(TUNED, BASE, "recipe r")
