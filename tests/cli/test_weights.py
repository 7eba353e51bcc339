"""`delta`, `restore`, `rebuild` and `apply-patch` as they are typed: what comes out, and what is checked before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny import make_tiny_llama
from tiny_pair import add_adapter, make_pair
from transformers import AutoModelForCausalLM

from .conftest import Sftknow
from .place import Place


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def at(tmp_path: Path, pair: tuple[Path, Path], sftknow: Sftknow) -> Place:
    return Place(tmp_path, pair, sftknow)


def same_files(one: Path, other: Path) -> bool:
    names = {file.name for file in one.iterdir()}
    return names == {file.name for file in other.iterdir()} and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in names
    )


def test_folder_recipe_and_patch_are_three_ways_to_one_model(at: Place) -> None:
    out, recipe, patch = (at.folder / name for name in ("out", "r.json", "p.safetensors"))
    made = at.restore("--out", out, "--recipe", recipe, "--patch", patch, "--json").json
    assert made["model_id"] == json.loads(recipe.read_text())["restored"]["model_id"]
    assert made["patch"]["bytes"] == patch.stat().st_size
    assert made["patch"]["share_of_model"] == patch.stat().st_size / made["model_bytes"]
    again = at("rebuild", recipe, "--out", at.folder / "rebuilt", "--json").json
    patched = at("apply-patch", patch, "--out", at.folder / "patched", "--json").json
    assert made["model_id"] == again["model_id"] == patched["model_id"]
    assert same_files(out, at.folder / "rebuilt") and same_files(out, at.folder / "patched")
    assert f"`{made['model_id']}`" in (out / "README.md").read_text()
    logits = AutoModelForCausalLM.from_pretrained(at.folder / "patched")(torch.tensor([[1, 2, 3]])).logits
    assert torch.isfinite(logits).all()
    assert at.left() == {"out", "r.json", "p.safetensors", "rebuilt", "patched"}


def test_recipe_and_patch_without_the_folder_are_the_same(at: Place) -> None:
    """The id in the recipe is found without writing the model."""
    with_folder = at.restore(
        "--out", at.folder / "out", "--recipe", at.folder / "r1", "--patch", at.folder / "p1"
    )
    without = at.restore("--recipe", at.folder / "r2", "--patch", at.folder / "p2")
    assert with_folder.code == without.code == 0, without.err
    for one, other in (("r1", "r2"), ("p1", "p2")):
        assert (at.folder / one).read_bytes() == (at.folder / other).read_bytes()


def test_adapter_as_the_tuned_model(at: Place) -> None:
    adapter = add_adapter(at.base, at.folder / "adapter")
    recipe, patch = at.folder / "r.json", at.folder / "p"
    files = ["--out", at.folder / "out", "--recipe", recipe, "--patch", patch]
    ended = at.restore(*files, "--output-dtype", "tuned", tuned=adapter)
    assert ended.code == 0, ended.err
    assert at("rebuild", recipe, "--out", at.folder / "rebuilt", tuned=adapter).code == 0
    assert at("apply-patch", patch, "--out", at.folder / "patched", tuned=adapter).code == 0
    assert same_files(at.folder / "out", at.folder / "rebuilt")
    assert same_files(at.folder / "out", at.folder / "patched")


@pytest.mark.parametrize(
    "amount",
    [
        ["--strategy", "interpolation", "--alpha", "0.5"],
        ["--strategy", "block", "--block", "mlp 0"],
        ["--strategy", "random", "--seed", 3, "--k", 10, "--region", "all"],
    ],
)
def test_other_strategies_go_the_same_ways(at: Place, amount: list[object]) -> None:
    recipe, patch = at.folder / "r.json", at.folder / "p"
    ended = at("restore", *amount, "--out", at.folder / "out", "--recipe", recipe, "--patch", patch)
    assert ended.code == 0, ended.err
    assert at("rebuild", recipe, "--out", at.folder / "rebuilt").code == 0
    assert at("apply-patch", patch, "--out", at.folder / "patched").code == 0
    assert same_files(at.folder / "out", at.folder / "rebuilt")
    assert same_files(at.folder / "out", at.folder / "patched")


def test_what_people_read(at: Place) -> None:
    out, recipe, patch = (at.folder / name for name in ("out", "r.json", "p"))
    shown = at.restore("--out", out, "--recipe", recipe, "--patch", patch).out
    for words in (
        "reverted 1,024 of 5,120",
        "base: base (",
        "tuned: tuned (",
        f"written to {out}",
        "% of the",
    ):
        assert words in shown
    assert "the recipe: identical model, bit for bit" in at("rebuild", recipe, "--out", at.folder / "o2").out
    assert (
        "the patch: identical model, bit for bit" in at("apply-patch", patch, "--out", at.folder / "o3").out
    )
    checked = at.restore("--dry-run")
    assert checked.code == 0 and "all checks passed; nothing was written" in checked.out
    assert "is taken as base" in " ".join(checked.out.split())


def test_progress_in_bytes(at: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stderr is no terminal: a line now and then, with bytes and the time left."""
    from sftknow_core.pipeline import reporter

    monkeypatch.setattr(reporter, "SECONDS_BETWEEN_LINES", 0.0)
    told = at.restore("--out", at.folder / "out").err
    assert "choosing the parameters to restore: " in told and "writing " in told
    assert " kB of " in told and " left" in told and "100%" in told


# --- dry run


def test_dry_run_prints_everything_and_writes_nothing(at: Place) -> None:
    files = ["--out", at.folder / "out", "--recipe", at.folder / "r", "--patch", at.folder / "p"]
    found = at.restore(*files, "--dry-run", "--json")
    assert found.code == 0 and found.json["ok"] is True
    names = [check["name"] for check in found.json["checks"]]
    assert names == [
        "base", "tuned", "order", "architecture", "tensors", "tied", "dtypes", "layout", "tokenizer", "region",
        "reading", "memory", "room",
    ]  # fmt: skip
    for figure in ("n_region", "n_restore", "bytes_read", "bytes_written", "bytes_free", "memory_bytes"):
        assert found.json[figure] > 0
    assert at.left() == set()
    recipe = at.folder / "r.json"
    at.restore("--recipe", recipe)
    assert at("rebuild", recipe, "--out", at.folder / "out", "--dry-run", "--json").json["ok"] is True
    assert at("delta", "--dry-run", "--json").json["ok"] is True
    assert at.left() == {"r.json"}


def test_dry_run_reports_every_failure_with_code_2(at: Place) -> None:
    other = make_tiny_llama(at.folder / "other", width=32, vocab=300)
    (at.folder / "out").mkdir()
    found = at.restore("--out", at.folder / "out", "--dry-run", "--json", tuned=other)
    assert found.code == 2 and found.json["ok"] is False
    failed = [check["name"] for check in found.json["checks"] if check["status"] == "error"]
    assert failed == ["tensors", "tokenizer", "output"]
    shown = at.restore("--out", at.folder / "out", "--dry-run", tuned=other)
    assert shown.code == 2 and "3 of" in shown.out and "Traceback" not in shown.err
    assert at.left() == {"other", "out"}
