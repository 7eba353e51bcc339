"""Reads a LoRA adapter on its base as if it were merged, tensor by tensor, without writing the merged model.

    W = W_base + scale * B A        (float32; Hu et al. 2021, arXiv 2106.09685)

As in peft's `Linear.get_delta_weight`, `scale` is alpha / r, or alpha / sqrt(r) with rank stabilisation. A
layer that stores its weight input-first (GPT-2's Conv1D) takes (B A) transposed, and so do embeddings.
Biases and whole modules that were trained beside the adapter replace the base's. Kinds of adapter that are
no sum of this form are refused.

Notation: r rank; B A = left @ right with left [rows, r] and right [r, columns] of the stored weight.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import local
from typing import Any

import torch
from torch import nn

from sftknow_core.errors import ModelError
from sftknow_core.model.io.layout import Layout, TensorMeta
from sftknow_core.model.io.safetensors_files import SafetensorsReader, read_header, weight_files_of_adapter
from sftknow_core.model.io.sources import (
    ADAPTER_PREFIX,
    adapter_base,
    check_whole_adapter,
    is_adapter,
    read_json,
)
from sftknow_core.model.io.tensors import FolderSource, TensorSource, meta_model

BLOCK_WEIGHTS = 1 << 20
"""Weights multiplied out at once; always the same blocks of rows, so that a value never depends on the
range read."""

_REFUSED = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "velora_config",
)
_PLAIN_INITS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class _LowRank:
    left: torch.Tensor
    right: torch.Tensor
    scale: float


class AdapterSource(TensorSource):
    """A model folder with a LoRA adapter added; changed tensors are float32."""

    def __init__(
        self,
        base: FolderSource,
        path: Path,
        products: Mapping[str, _LowRank],
        replaced: Mapping[str, torch.Tensor],
        added: Mapping[str, torch.Tensor],
    ) -> None:
        self.base = base
        self.path = path
        self._products = products
        self._replaced = replaced
        self._added = added
        self._last = local()
        changed = {*products, *replaced, *added}
        metas = tuple(replace(m, dtype=torch.float32) if m.name in changed else m for m in base.metas)
        super().__init__(Layout(metas, base.tied, base.fallback, base.notes), str(path))

    @classmethod
    def open(cls, path: Path, base: Path | None = None) -> AdapterSource:
        """The adapter in folder `path`; ModelError when it cannot be merged or its base is not at hand."""
        config = _checked_config(path)
        base_source = FolderSource(adapter_base(path, base))
        stored = _read_tensors(path)
        return cls(base_source, path, *_sort_out(stored, config, base_source, path))

    def read(self, name: str, start: int, stop: int, memory: torch.Tensor | None = None) -> torch.Tensor:
        """Weights [start, stop) of the merged tensor: float32 where the adapter changes it."""
        meta = self.meta(name)
        whole = self._replaced.get(name)
        values = self.base.read(name, start, stop, memory) if whole is None else whole[start:stop]
        if start == stop:
            return values.to(meta.dtype)
        values = values.to(meta.dtype)
        if name in self._products:
            values = values + self._product(name, start, stop)
        if name in self._added:
            values = values + self._added[name][start:stop]
        return values

    def close(self) -> None:
        """Close the base's files."""
        self.base.close()

    def _product(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Flat range [start, stop) of scale * left @ right."""
        columns = self._products[name].right.shape[1]
        rows = max(1, BLOCK_WEIGHTS // columns)
        size = rows * columns
        parts = []
        for index in range(start // size, (stop - 1) // size + 1):
            block = self._multiply(name, index, rows)
            offset = index * size
            parts.append(block[max(start - offset, 0) : stop - offset])
        return torch.cat(parts)

    def _multiply(self, name: str, index: int, rows: int) -> torch.Tensor:
        """A block of rows multiplied out; each thread keeps its last one, since reads go on where they ended."""
        key, last = (name, index), getattr(self._last, "block", None)
        if last is None or last[0] != key:
            low_rank = self._products[name]
            left = low_rank.left[index * rows : (index + 1) * rows]
            last = self._last.block = (key, ((left @ low_rank.right) * low_rank.scale).reshape(-1))
        return last[1]


def _checked_config(path: Path) -> dict[str, Any]:
    config = read_json(path / "adapter_config.json")
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ModelError(f"{path}: adapter type {kind} cannot be added to weights here; only LORA can.")
    refused = next((key for key in _REFUSED if config.get(key)), None)
    init = config.get("init_lora_weights", True)
    if refused or init not in _PLAIN_INITS:
        what = refused or f"init_lora_weights={init!r}"
        raise ModelError(
            f"{path}: the adapter uses {what}, which is no plain base + scale * B A. "
            "Merge it with peft (merge_and_unload, save_pretrained) and give the merged folder."
        )
    return config


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All adapter tensors in float32 (adapters are small), names without peft's prefix."""
    (file,) = weight_files_of_adapter(path)
    reader = SafetensorsReader()
    tensors = {}
    for name, tensor in read_header(file)[0].items():
        values = reader.read(tensor, 0, math.prod(tensor.shape)).to(torch.float32)
        tensors[name.removeprefix(ADAPTER_PREFIX)] = values.reshape(tensor.shape)
    reader.close()
    return tensors


_Sorted = tuple[dict[str, _LowRank], dict[str, torch.Tensor], dict[str, torch.Tensor]]


def _sort_out(
    stored: Mapping[str, torch.Tensor], config: dict[str, Any], base: FolderSource, path: Path
) -> _Sorted:
    """(low-rank products, whole replacements, additions to biases) by canonical tensor name."""
    model, _ = meta_model(base.folder)
    _check_whole(stored, config, base, path)
    products: dict[str, _LowRank] = {}
    replaced: dict[str, torch.Tensor] = {}
    added: dict[str, torch.Tensor] = {}
    for name, values in stored.items():
        module, part = _split(name)
        meta = _target(name, module, part, base, path)
        if part in ("lora_A", "lora_embedding_A"):
            b = stored.get(name.replace("_A", "_B"))
            if b is None:
                raise ModelError(f"{path}: {name} has no B beside it. Save the adapter again.")
            products[meta.name] = _low_rank(values, b, _scale(config, module, values.shape[0]), meta, model)
        elif part == "lora_B.bias":
            rank = stored[f"{module}.lora_A.weight"].shape[0]
            added[meta.name] = values.reshape(-1) * _scale(config, module, rank)
        elif part is None and tuple(values.shape) == meta.shape:
            replaced[meta.name] = values.reshape(-1)
        elif part not in ("lora_B", "lora_embedding_B"):
            raise ModelError(
                f"{path}: {name} is no part of a plain LoRA adapter on this base. Merge it with peft first."
            )
    return products, replaced, added


def _check_whole(
    stored: Mapping[str, torch.Tensor], config: Mapping[str, Any], base: FolderSource, path: Path
) -> None:
    """Every tensor has a place in the base, and every module that the config targets has its tensors."""
    known = {meta.name for meta in base.metas} | set(base.tied)
    modules = {name.removesuffix(".weight") for name in known if name.endswith(".weight")}
    split = {name: _split(name) for name in stored}
    unused = {
        name
        for name, (module, part) in split.items()
        if (module not in modules if part else name.replace(".base_layer.", ".") not in known)
    }
    adapted = {module for module, part in split.values() if part}
    targets, layers = config.get("target_modules"), config.get("layers_to_transform")
    missing: set[str] = set()
    if isinstance(targets, list) and layers is None and not config.get("exclude_modules"):
        wanted = {m for m in modules if any(m == one or m.endswith(f".{one}") for one in targets)}
        missing = {f"{module}.lora_A.weight" for module in wanted - adapted}
    check_whole_adapter(path, base.folder, unused=unused, missing=missing)


def _target(name: str, module: str, part: str | None, base: FolderSource, path: Path) -> TensorMeta:
    """The canonical tensor that an adapter tensor changes; ModelError when it has none of its own."""
    leaf = "bias" if part == "lora_B.bias" else "weight"
    target = f"{module}.{leaf}" if part else name.replace(".base_layer.", ".")
    if target in base.tied or target in base.tied.values():
        raise ModelError(
            f"{path}: {name} changes {target}, which the base shares between input and output embedding, on "
            "one side only; that is no change of the shared weights. Merge it with peft into an untied model."
        )
    return base.meta(target)


def _split(name: str) -> tuple[str, str | None]:
    """("model.layers.0.self_attn.q_proj", "lora_A") of an adapter tensor's name; part None for a whole
    tensor."""
    found = re.match(r"(.*)\.(lora_[A-Za-z_]+?)(\.bias|\.weight)?$", name)
    if found is None:
        return name, None
    return found[1], found[2] + (".bias" if found[3] == ".bias" else "")


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    key = next((p for p in patterns if re.match(rf"(.*\.)?({p})$", module)), None)
    alpha = float(patterns[key] if key is not None else config.get("lora_alpha", 8))
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _low_rank(
    a: torch.Tensor, b: torch.Tensor, scale: float, meta: TensorMeta, model: nn.Module | None
) -> _LowRank:
    """B A laid out like the stored weight: as it is, or transposed where the weight is stored input-first."""
    owner = model.get_submodule(meta.name.rpartition(".")[0]) if model is not None else None
    transposed = isinstance(owner, nn.Embedding) or type(owner).__name__ == "Conv1D"
    left, right = (a.T.contiguous(), b.T.contiguous()) if transposed else (b, a)
    if (left.shape[0], right.shape[1]) != meta.shape:
        raise ModelError(
            f"the adapter's matrices for {meta.name} make {[left.shape[0], right.shape[1]]}, "
            f"the base has {list(meta.shape)}. The adapter was trained on another base model."
        )
    return _LowRank(left, right, scale)


def open_source(path: Path, *, base: Path | None = None) -> TensorSource:
    """The weights in a model folder, a safetensors file or a LoRA adapter folder.

    `base` is the adapter's base model; without it the adapter's own `base_model_name_or_path` must be a
    folder here. Raises ModelError when the weights cannot be read, with what to do about it.
    """
    if not path.exists():
        raise ModelError(f"{path}: no such folder or file.")
    if is_adapter(path):
        return AdapterSource.open(path, base)
    return FolderSource(path)
