"""Saving: a whole folder or none."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from tiny import make_tiny_llama

from sftknow_core.errors import CacheError, SpecError
from sftknow_core.model.io.load import LanguageModel, load_model
from sftknow_core.model.io.save import save_model


@pytest.fixture
def lm(tmp_path: Path) -> LanguageModel:
    return load_model(make_tiny_llama(tmp_path / "base", dtype=torch.bfloat16), device="cpu")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_saved_model_loads_with_the_same_weights(lm: LanguageModel, tmp_path: Path) -> None:
    out = save_model(lm, lm.tokenizer, tmp_path / "deep" / "out", card="# A model")
    again = load_model(out, device="cpu")
    for (name, a), b in zip(lm.model.named_parameters(), again.model.parameters(), strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b), name
    assert names(out) == sorted([*names(tmp_path / "base"), "README.md"])
    assert names(tmp_path / "deep") == ["out"]


def test_an_existing_folder_is_never_touched(lm: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(SpecError, match="exists already"):
        save_model(lm, lm.tokenizer, tmp_path / "out")
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_leaves_nothing(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real = type(lm.model).save_pretrained

    def full(self: Any, folder: Path, **options: Any) -> None:
        real(self, folder, **options)
        raise error

    monkeypatch.setattr(type(lm.model), "save_pretrained", full)
    with pytest.raises(CacheError, match="the disk is full"):
        save_model(lm, lm.tokenizer, tmp_path / "out")
    assert names(tmp_path) == ["base"]


def test_an_interruption_leaves_nothing(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(lm.tokenizer), "save_pretrained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_model(lm, lm.tokenizer, tmp_path / "out")
    assert names(tmp_path) == ["base"]


def test_a_generation_config_that_transformers_refuses_is_kept(lm: LanguageModel, tmp_path: Path) -> None:
    """Temperature without sampling: shipped by well-known models, readable, but save_pretrained raises."""
    lm.model.generation_config.do_sample = False
    lm.model.generation_config.temperature = 0.6
    lm.model.generation_config.top_p = 0.9
    with pytest.raises(ValueError):
        lm.model.save_pretrained(tmp_path / "plain")
    out = save_model(lm, lm.tokenizer, tmp_path / "out")
    assert load_model(out, device="cpu").model.generation_config.temperature == 0.6
    assert lm.model.generation_config.temperature == 0.6
