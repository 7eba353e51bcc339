"""Every way in which two models can fail to fit is found, and all of them at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_tiny_llama

from sftknow_core.model.io.adapter import open_source
from sftknow_core.model.io.fit import Check, architecture_of, fit_checks


def checks(base: Path, tuned: Path) -> dict[str, Check]:
    """Checks by name."""
    found = fit_checks(open_source(base), open_source(tuned), base, tuned)
    assert len({check.name for check in found}) == len(found) == 6
    return {check.name: check for check in found}


def failing(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if check.status == "error"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("models") / "base", width=16)


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_pair_that_fits(base: Path, tmp_path: Path) -> None:
    found = checks(base, Path(shutil.copytree(base, tmp_path / "tuned")))
    assert {check.status for check in found.values()} == {"ok"}
    assert found["architecture"].text == "LlamaForCausalLM (model_type llama) in both"
    n = sum(meta.numel for meta in open_source(base).metas)
    assert found["tensors"].text == f"21 tensors, {n:,} weights; names and shapes agree"
    assert found["dtypes"].text == "float32 (21 tensors) in both"
    assert found["tied"].text == "no tensor is shared"


def test_other_width_and_layers_and_vocabulary(base: Path, tmp_path: Path) -> None:
    wider = checks(base, make_tiny_llama(tmp_path / "wider", width=32))
    assert failing(wider) == {"tensors"}
    assert "21 have another shape (first: model.embed_tokens.weight is [" in wider["tensors"].text
    assert "vocabulary" not in wider["tensors"].text
    deeper = checks(base, make_tiny_llama(tmp_path / "deeper", width=16, layers=3))
    assert "9 tensors of tuned have no counterpart in base (first: model.layers.2." in deeper["tensors"].text
    assert "21 tensors in base, 30 in tuned" in deeper["tensors"].text
    fewer = checks(base, make_tiny_llama(tmp_path / "fewer", width=16, vocab=300))
    assert failing(fewer) == {"tensors", "tokenizer"}
    assert "was the vocabulary changed?" in fewer["tensors"].text


def test_ties_that_differ(base: Path, tmp_path: Path) -> None:
    found = checks(base, make_tiny_llama(tmp_path / "tied", width=16, tie=True))
    assert failing(found) == {"tensors", "tied"}
    assert "lm_head.weight is shared with model.embed_tokens.weight in tuned but not" in found["tied"].text
    again = Path(shutil.copytree(tmp_path / "tied", tmp_path / "again"))
    assert "lm_head.weight is model.embed_tokens.weight" in checks(tmp_path / "tied", again)["tied"].text


def test_another_architecture_is_an_error_only_where_tensors_differ(base: Path, tmp_path: Path) -> None:
    same_tensors = Path(shutil.copytree(base, tmp_path / "mistral"))
    edit_config(same_tensors, architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=None)
    found = checks(base, same_tensors)
    assert failing(found) == set() and found["architecture"].status == "warning"
    other = Path(shutil.copytree(base, tmp_path / "qwen2"))
    edit_config(other, architectures=["Qwen2ForCausalLM"], model_type="qwen2")
    stored = load_file(other / "model.safetensors")
    for layer in range(2):
        for name in "qkv":
            stored[f"model.layers.{layer}.self_attn.{name}_proj.bias"] = torch.zeros(16)
    save_file(stored, other / "model.safetensors", metadata={"format": "pt"})
    found = checks(base, other)
    assert failing(found) >= {"architecture", "tensors"}
    assert "base is LlamaForCausalLM (model_type llama), tuned is Qwen2" in found["architecture"].text
    assert "6 tensors of tuned have no counterpart in base" in found["tensors"].text


def test_dtypes_and_fallback_are_warnings(base: Path, tmp_path: Path) -> None:
    half = make_tiny_llama(tmp_path / "half", width=16, dtype=torch.bfloat16)
    found = checks(base, half)
    assert failing(found) == set() and found["dtypes"].status == "warning"
    words = (
        "21 of 21 tensors are stored in another dtype (model.embed_tokens.weight: float32 in base, bfloat16"
    )
    assert words in found["dtypes"].text
    one, other = (Path(shutil.copytree(base, tmp_path / name)) for name in ("one", "other"))
    for folder in (one, other):
        edit_config(folder, architectures=["MyModel"], model_type="my_model")
    found = checks(one, other)
    assert failing(found) == set() and found["layout"].status == "warning"
    assert "first number in a tensor's name" in found["layout"].text


def test_architecture_of_an_empty_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert architecture_of(tmp_path) == ("unknown", "unknown")
