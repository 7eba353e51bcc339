"""The model_id that a checkpoint would have on the disk, without writing it.

`CheckpointHasher` takes what a `CheckpointWriter` takes and keeps a running hash per stored tensor. Where
ranges of a stored tensor come out of order their bytes wait in memory; in canonical order none do, but for
tensors that are stored joined together in another order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from sftknow_core.errors import ModelError
from sftknow_core.model.io.identity import model_id_of
from sftknow_core.model.io.safetensors_files import DTYPE_CODES, DiskTensor
from sftknow_core.model.io.stored_ranges import stored_dtypes, stored_ranges
from sftknow_core.model.io.tensor_writer import copy_side_files
from sftknow_core.model.io.tensors import FolderSource

_READ_BYTES = 1 << 22


class CheckpointHasher:
    """Weight files of `template`'s layout, of which only the hashes are kept; `write` every range of every
    canonical tensor once, then ask for `model_id`."""

    def __init__(self, template: FolderSource, dtypes: Mapping[str, torch.dtype]) -> None:
        """`dtypes`: the dtype of each canonical tensor in the checkpoint."""
        self._template = template
        self._dtypes = stored_dtypes(template, dtypes)
        self._running = {name: _TensorHash(t, self._dtypes.get(name)) for name, t in template.disk.items()}
        for name in template.mapping.extra:
            self._add_extra(template.disk[name])

    def write(self, name: str, start: int, values: torch.Tensor) -> None:
        """Take values [start, start + len) of a canonical tensor."""
        for place in stored_ranges(self._template, name, start, start + values.numel()):
            dtype = self._dtypes[place.disk_name]
            part = values[place.first : place.last].to(device="cpu", dtype=dtype).contiguous()
            raw = part.view(torch.uint8).numpy().tobytes()
            self._running[place.disk_name].add(place.at * dtype.itemsize, raw)

    def model_id(self, folders: list[Path], dtype: torch.dtype) -> str:
        """The id, with config and tokenizer as `copy_side_files` brings them from `folders` with `dtype`.

        Raises ModelError when a range is still missing.
        """
        hashes = {name: running.hexdigest(name) for name, running in self._running.items()}
        with TemporaryDirectory(prefix="sftknow-") as temporary:
            folder = Path(temporary)
            copy_side_files(folders, folder, dtype)
            return model_id_of(folder, hashes)

    def _add_extra(self, tensor: DiskTensor) -> None:
        with tensor.file.open("rb") as file:
            file.seek(tensor.offset)
            for start in range(0, tensor.n_bytes, _READ_BYTES):
                n_bytes = min(_READ_BYTES, tensor.n_bytes - start)
                self._running[tensor.name].add(start, file.read(n_bytes))


class _TensorHash:
    """The hash of one stored tensor, as `identity.tensor_hashes` takes it."""

    def __init__(self, tensor: DiskTensor, dtype: torch.dtype | None) -> None:
        code = tensor.code if dtype is None else DTYPE_CODES[dtype]
        self._digest = hashlib.sha256(f"{code} {list(tensor.shape)}\n".encode())
        self._n_bytes = tensor.n_bytes
        if dtype is not None:
            self._n_bytes = tensor.n_bytes // tensor.dtype.itemsize * dtype.itemsize
        self._done = 0
        self._waiting: dict[int, bytes] = {}

    def add(self, offset: int, raw: bytes) -> None:
        """Take the bytes from `offset` on."""
        self._waiting[offset] = raw
        while (ready := self._waiting.pop(self._done, None)) is not None:
            self._digest.update(ready)
            self._done += len(ready)

    def hexdigest(self, name: str) -> str:
        """The hash of the whole; `name` is for the message when some of it is missing."""
        if self._done != self._n_bytes:
            raise ModelError(f"tensor {name}: {self._done:,} of {self._n_bytes:,} bytes came to be hashed.")
        return self._digest.hexdigest()
