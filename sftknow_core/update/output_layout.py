"""How a restored model lies on the disk: whose files it follows, and the dtype of each tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import torch

from sftknow_core.errors import SpecError
from sftknow_core.model.io.adapter import AdapterSource
from sftknow_core.model.io.tensor_writer import stored_bytes
from sftknow_core.model.io.tensors import FolderSource, TensorMeta, TensorSource
from sftknow_core.update.pair import Pair

OUTPUT_DTYPES = ("exact", "base", "tuned", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class OutputLayout:
    """The form of a written model, without its values."""

    template: FolderSource
    """The checkpoint whose files, names and order the new one takes."""
    folders: tuple[Path, ...]
    """Where config and tokenizer come from, the first one first."""
    dtypes: Mapping[str, torch.dtype]
    """By canonical name."""

    @property
    def widest(self) -> torch.dtype:
        """What config.json names, so that loading with it loses nothing."""
        return reduce(torch.promote_types, self.dtypes.values())

    @property
    def n_bytes(self) -> int:
        """Size of the weights on the disk."""
        return stored_bytes(self.template, self.dtypes)


def layout_for(pair: Pair, dtype: str) -> OutputLayout:
    """What `write_restored` writes for a pair. Raises SpecError for an unknown dtype or loaded models."""
    if dtype not in OUTPUT_DTYPES:
        raise SpecError(f"dtype: got {dtype!r}; allowed: {', '.join(OUTPUT_DTYPES)}")
    template, folders = _template(pair)
    both = zip(pair.metas, pair.tuned.metas, strict=True)
    return OutputLayout(template, tuple(folders), {b.name: _output_dtype(dtype, b, t) for b, t in both})


def layout_of_tuned(tuned: TensorSource) -> OutputLayout:
    """What is written for a tuned model with its own dtypes; the same as `layout_for(pair, "tuned")`."""
    dtypes = {meta.name: meta.dtype for meta in tuned.metas}
    if isinstance(tuned, FolderSource):
        return OutputLayout(tuned, (tuned.folder,), dtypes)
    if isinstance(tuned, AdapterSource):
        return OutputLayout(tuned.base, (tuned.path, tuned.base.folder), dtypes)
    raise SpecError("writing a model needs it as a folder; it is a loaded model here")


def _template(pair: Pair) -> tuple[FolderSource, list[Path]]:
    """The checkpoint whose layout the new files take, and the folders of config and tokenizer, first one
    first."""
    tuned, base = pair.tuned, pair.base
    if isinstance(tuned, FolderSource):
        return tuned, [tuned.folder]
    if isinstance(tuned, AdapterSource):
        return tuned.base, [tuned.path, tuned.base.folder]
    if isinstance(base, FolderSource):
        return base, [base.folder]
    raise SpecError("writing a restored model needs base or tuned as a folder; both are loaded models here")


def _output_dtype(choice: str, base: TensorMeta, tuned: TensorMeta) -> torch.dtype:
    if choice == "exact":
        return torch.promote_types(base.dtype, tuned.dtype)
    named: dict[str, torch.dtype] = {
        "base": base.dtype,
        "tuned": tuned.dtype,
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }
    return named[choice]
