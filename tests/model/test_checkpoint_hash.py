"""The id of a checkpoint that is not written is the id of the one that is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_pair

from sftknow_core.errors import ModelError
from sftknow_core.model.io.identity import model_id
from sftknow_core.model.io.tensor_writer import (
    CheckpointHasher,
    CheckpointWriter,
    copy_side_files,
    stored_bytes,
)
from sftknow_core.model.io.tensors import FolderSource


def written(source: FolderSource, out: Path, dtypes: dict[str, torch.dtype]) -> Path:
    """The model copied through a writer."""
    out.mkdir()
    copy_side_files([source.folder], out, torch.float32)
    with CheckpointWriter(source, out, dtypes) as writer:
        for meta in source.metas:
            writer.write(meta.name, 0, source.read(meta.name, 0, meta.numel))
    return out


def hashed(source: FolderSource, dtypes: dict[str, torch.dtype], step: int = 1000) -> CheckpointHasher:
    hasher = CheckpointHasher(source, dtypes)
    for meta in source.metas:
        for start in range(0, meta.numel, step):
            hasher.write(meta.name, start, source.read(meta.name, start, min(start + step, meta.numel)))
    return hasher


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mixtral", "qwen2_moe"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_id_is_that_of_the_written_folder(model_type: str, dtype: torch.dtype, tmp_path: Path) -> None:
    base, _ = save_pair(tmp_path, model_type, max_shard_size="20KB")
    (base / "tokenizer.json").write_text('{"version": "1.0"}', encoding="utf-8")
    source = FolderSource(base)
    dtypes = {meta.name: dtype for meta in source.metas}
    out = written(source, tmp_path / "out", dtypes)
    assert hashed(source, dtypes).model_id([base], torch.float32) == model_id(out)
    sizes = {file: file.stat().st_size for file in out.glob("*.safetensors")}
    headers = sum(8 + int.from_bytes(file.open("rb").read(8), "little") for file in sizes)
    assert stored_bytes(source, dtypes) == sum(sizes.values()) - headers


def test_ties_stored_twice_and_masks_count(tmp_path: Path) -> None:
    """GPT-2 with its tied head stored as well, and an attention mask that is no parameter."""
    base, _ = save_pair(tmp_path, "gpt2")
    stored = load_file(base / "model.safetensors")
    stored["lm_head.weight"] = stored["transformer.wte.weight"].clone()
    stored["transformer.h.0.attn.bias"] = torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8)
    save_file(stored, base / "model.safetensors")
    source = FolderSource(base)
    dtypes = {meta.name: meta.dtype for meta in source.metas}
    out = written(source, tmp_path / "out", dtypes)
    assert hashed(source, dtypes).model_id([base], torch.float32) == model_id(out) == model_id(base)


def test_ranges_may_come_in_any_order_and_none_may_be_missing(tmp_path: Path) -> None:
    base, _ = save_pair(tmp_path)
    source = FolderSource(base)
    dtypes = {meta.name: meta.dtype for meta in source.metas}
    hasher = CheckpointHasher(source, dtypes)
    for meta in reversed(source.metas):
        half = meta.numel // 2
        hasher.write(meta.name, half, source.read(meta.name, half, meta.numel))
        if meta is not source.metas[0]:
            hasher.write(meta.name, 0, source.read(meta.name, 0, half))
    first = source.metas[0]
    with pytest.raises(ModelError, match=rf"{first.name}: 0 of {first.numel * 4:,} bytes"):
        hasher.model_id([base], torch.float32)
    hasher.write(first.name, 0, source.read(first.name, 0, first.numel // 2))
    assert hasher.model_id([base], torch.float32) == model_id(base)
