"""One reader for the weights of a model, wherever they are: a folder, an adapter on its base, a loaded model.

A `TensorSource` lists its tensors in canonical order (`model/io/layout.py`) and reads flat ranges of them, so
that everything computed from weights runs in memory bounded by a chunk and in one fixed order.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from sftknow_core.errors import ModelError
from sftknow_core.model.io.disk_mapping import DiskMapping, Piece, identity_mapping, map_disk
from sftknow_core.model.io.layout import Layout, TensorMeta, describe, describe_unknown
from sftknow_core.model.io.load import read_json
from sftknow_core.model.io.safetensors_files import (
    DTYPES,
    DiskTensor,
    SafetensorsReader,
    read_header,
    weight_files,
)

__all__ = [
    "FolderSource",
    "ModelSource",
    "TensorMeta",
    "TensorSource",
    "meta_model",
]

log = logging.getLogger(__name__)


class TensorSource(ABC):
    """The weight tensors of one model, in canonical order."""

    metas: tuple[TensorMeta, ...]
    """All tensors; tied ones once."""
    tied: Mapping[str, str]
    """Further names of shared tensors: alias -> canonical name."""
    label: str
    """What the source is, for messages: a path, or the class of a loaded model."""
    fallback: bool
    """True when layers and kinds follow the coarse rule for unknown architectures; `notes` says which."""
    notes: tuple[str, ...]
    """What a user should know about how this source was read."""
    device: torch.device = torch.device("cpu")
    """Where `read` gives its tensors."""

    def __init__(self, layout: Layout, label: str) -> None:
        self.metas = layout.tensors
        self.tied = layout.tied
        self.label = label
        self.fallback = layout.fallback
        self.notes = layout.notes
        self._by_name = {meta.name: meta for meta in layout.tensors}

    def meta(self, name: str) -> TensorMeta:
        """The tensor of that canonical name; ModelError when there is none."""
        if name not in self._by_name:
            raise ModelError(f"{self.label}: there is no tensor {name}. `metas` lists the names.")
        return self._by_name[name]

    @abstractmethod
    def read(self, name: str, start: int, stop: int, memory: torch.Tensor | None = None) -> torch.Tensor:
        """Weights [start, stop) of the flattened tensor: 1-D, of the meta's dtype; treat it as read-only.

        `memory`, uint8 and large enough, may be used for the result. Several threads may read at once.
        """

    def close(self) -> None:  # noqa: B027 - only sources with files have something to close
        """Let go of open files."""


class ModelSource(TensorSource):
    """A loaded torch model; reads are views of its parameters where they are contiguous."""

    def __init__(self, model: nn.Module) -> None:
        name = type(model).__name__
        if hasattr(model, "peft_config"):
            raise ModelError(
                f"a loaded {name} carries an unmerged adapter; open the adapter's folder instead."
            )
        super().__init__(describe(model), f"loaded {name}")
        self._parameters = dict(model.named_parameters())
        self.device = next(iter(self._parameters.values())).device
        for meta in self.metas:
            if meta.dtype not in DTYPES.values():
                raise ModelError(
                    f"{self.label}: tensor {meta.name} is {meta.dtype}; load the model unquantised."
                )

    def read(self, name: str, start: int, stop: int, memory: torch.Tensor | None = None) -> torch.Tensor:
        """Weights [start, stop), on the device the model is on."""
        return self._parameters[self.meta(name).name].detach().reshape(-1)[start:stop]

    def shares_memory(self, tensors: Iterable[torch.Tensor]) -> bool:
        """Whether writing to one of `tensors` would change this model."""
        own = {parameter.untyped_storage().data_ptr() for parameter in self._parameters.values()}
        return any(tensor.untyped_storage().data_ptr() in own for tensor in tensors)


class FolderSource(TensorSource):
    """A model folder with safetensors weights (one file or shards), or a single safetensors file beside its
    config."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.parent if path.is_file() else path
        self.reader = SafetensorsReader()
        self.files: dict[Path, list[DiskTensor]] = {}
        self.file_metadata: dict[Path, dict[str, str]] = {}
        for file in weight_files(path):
            tensors, self.file_metadata[file] = read_header(file)
            self.files[file] = list(tensors.values())
        self.disk = {tensor.name: tensor for tensors in self.files.values() for tensor in tensors}
        layout, self.mapping = self._layout()
        self._pieces = _reading_pieces(layout, self.mapping, str(path))
        super().__init__(_with_disk_dtypes(layout, self._pieces, self.disk), str(path))
        if self.mapping.extra:
            extra = self.mapping.extra
            self.notes += (
                f"{len(extra)} stored tensors are no weights of the model and are left alone: {extra[0]}",
            )

    def read(self, name: str, start: int, stop: int, memory: torch.Tensor | None = None) -> torch.Tensor:
        """Weights [start, stop), read from the files, into new memory unless some is given."""
        parts = []
        offset = 0
        pieces = self._pieces[self.meta(name).name]
        if len(pieces) > 1:
            memory = None
        for piece in pieces:
            first, last = max(start, offset), min(stop, offset + piece.numel)
            if first < last:
                shift = piece.start - offset
                tensor = self.disk[piece.disk_name]
                parts.append(self.reader.read(tensor, first + shift, last + shift, memory))
            offset += piece.numel
        return parts[0] if len(parts) == 1 else torch.cat(parts) if parts else torch.empty(0)

    def close(self) -> None:
        """Close the weight files."""
        self.reader.close()

    def _layout(self) -> tuple[Layout, DiskMapping]:
        shapes = {name: tensor.shape for name, tensor in self.disk.items()}
        model, why = meta_model(self.folder)
        if model is None:
            known = {name: (t.shape, t.dtype) for name, t in self.disk.items()}
            return describe_unknown(known, why), identity_mapping(shapes)
        mapping = map_disk(model, shapes, str(self.path))
        untied = [a for a, c in describe(model).tied.items() if self._differ(mapping, a, c)]
        layout = describe(model, untied)
        if untied:
            note = f"config.json ties {untied[0]}, but its values on disk differ: it is not tied"
            layout = Layout(layout.tensors, layout.tied, layout.fallback, (*layout.notes, note))
        return layout, mapping

    def _differ(self, mapping: DiskMapping, alias: str, canonical: str) -> bool:
        """Whether two names of one tensor are both stored, with different values (then transformers unties
        them)."""
        one, other = mapping.pieces.get(alias), mapping.pieces.get(canonical)
        if one is None or other is None or len(one) != 1 or len(other) != 1:
            return False
        step = 1 << 20
        for start in range(0, one[0].numel, step):
            stop = min(start + step, one[0].numel)
            a, b = (
                self.reader.read(self.disk[p.disk_name], p.start + start, p.start + stop)
                for p in (one[0], other[0])
            )
            if not torch.equal(a, b):
                return True
        return False


def meta_model(folder: Path) -> tuple[nn.Module | None, str]:
    """The causal language model of a folder's config without memory for weights, or (None, why there is
    none).

    Raises ModelError for a missing or damaged config, and for a quantised model.
    """
    stored = read_json(folder / "config.json")
    if "quantization_config" in stored:
        raise ModelError(f"{folder}: the weights are quantised; save the model unquantised to compare them.")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                config, trust_remote_code=False, attn_implementation="eager"
            )
    except Exception as error:  # whatever an unknown or custom architecture makes transformers raise
        log.debug("no model class for %s", folder, exc_info=error)
        return None, f"transformers has no causal language model for model_type {stored.get('model_type')!r}"
    assert isinstance(model, nn.Module)
    return model, ""


def _reading_pieces(layout: Layout, mapping: DiskMapping, where: str) -> dict[str, tuple[Piece, ...]]:
    """Pieces of every canonical tensor, through a tied alias where only that is stored; ModelError when
    missing."""
    found = {}
    for meta in layout.tensors:
        names = [meta.name, *(alias for alias, canonical in layout.tied.items() if canonical == meta.name)]
        pieces = next((mapping.pieces[name] for name in names if name in mapping.pieces), None)
        if pieces is None:
            raise ModelError(f"{where}: tensor {meta.name} is missing. Download or save the model again.")
        found[meta.name] = pieces
    return found


def _with_disk_dtypes(
    layout: Layout, pieces: Mapping[str, tuple[Piece, ...]], disk: Mapping[str, DiskTensor]
) -> Layout:
    metas = []
    for meta in layout.tensors:
        dtypes = {disk[piece.disk_name].dtype for piece in pieces[meta.name]}
        if len(dtypes) > 1:
            names = ", ".join(sorted(str(dtype) for dtype in dtypes))
            raise ModelError(f"the pieces of tensor {meta.name} are stored in different dtypes ({names}).")
        metas.append(
            TensorMeta(meta.position, meta.name, meta.shape, dtypes.pop(), meta.layer, meta.kind, meta.module)
        )
    return Layout(tuple(metas), layout.tied, layout.fallback, layout.notes)
