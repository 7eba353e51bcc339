"""Writes a model folder laid out like an existing one, range by range and atomically.

The new folder has the template's files, tensor names and order; only values, and if asked dtypes, differ.
Files get their full size first and ranges are written in place, so canonical order and file order need not
agree and memory stays bounded by a chunk. Everything is written to a temporary sibling, synced and renamed:
a folder of the final name is always whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, NamedTuple

import torch

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.model.io.identity import model_id_of
from sftknow_core.model.io.safetensors_files import (
    DTYPE_CODES,
    INDEX_NAME,
    SINGLE_NAME,
    DiskTensor,
    read_index,
)
from sftknow_core.model.io.tensors import FolderSource

# Where the weights of a canonical tensor lie in a checkpoint, and how large that checkpoint is.
#
# A canonical tensor can be stored in pieces, under several tied names, or as part of a tensor that others share
# (`model/io/disk_mapping.py`).


class StoredRange(NamedTuple):
    """Consecutive weights of a canonical tensor that are consecutive in a stored tensor too."""

    disk_name: str
    at: int
    """Place of the first one in the flattened stored tensor."""
    first: int
    """Place of the first one among the weights asked for."""
    last: int
    """Behind the place of the last one."""


def stored_ranges(template: FolderSource, name: str, start: int, stop: int) -> Iterator[StoredRange]:
    """Every place in which weights [start, stop) of a canonical tensor are stored."""
    aliases = [alias for alias, canonical in template.tied.items() if canonical == name]
    for stored in (name, *aliases):
        offset = 0
        for piece in template.mapping.pieces.get(stored, ()):
            first, last = max(start, offset), min(stop, offset + piece.numel)
            if first < last:
                yield StoredRange(piece.disk_name, piece.start + first - offset, first - start, last - start)
            offset += piece.numel


def stored_dtypes(template: FolderSource, dtypes: Mapping[str, torch.dtype]) -> dict[str, torch.dtype]:
    """dtype by stored tensor, from dtypes by canonical name; one that several share takes the widest."""
    found: dict[str, list[torch.dtype]] = {}
    for name, pieces in template.mapping.pieces.items():
        for piece in pieces:
            found.setdefault(piece.disk_name, []).append(dtypes[template.tied.get(name, name)])
    return {name: reduce(torch.promote_types, several) for name, several in found.items()}


def stored_bytes(template: FolderSource, dtypes: Mapping[str, torch.dtype]) -> int:
    """Bytes of all stored tensors in these dtypes; the files' headers come on top."""
    new = stored_dtypes(template, dtypes)
    return sum(
        tensor.n_bytes // tensor.dtype.itemsize * new[name].itemsize if name in new else tensor.n_bytes
        for name, tensor in template.disk.items()
    )


_SIDE_FILES = {
    "added_tokens.json",
    "bpe.codes",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
}
_SIDE_SUFFIXES = {".jinja", ".model", ".tiktoken"}


@contextmanager
def new_folder(out: Path, *, sync: bool = True) -> Iterator[Path]:
    """A temporary sibling of `out` that becomes `out` when the block ends well, and vanishes when it does
    not.

    `sync` False leaves it to the system when the bytes reach the disk: after a power cut the folder may be
    damaged, which is for benchmarks and temporary folders only. Raises SpecError when `out` exists, ModelError
    when the disk is full.
    """
    if out.exists():
        raise SpecError(f"{out}: already exists; give a new folder, or remove this one first.")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.parent / f".{out.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if sync:
            for file in temporary.iterdir():
                _sync(file)
            _sync(temporary)
        temporary.replace(out)
        if sync:
            _sync(out.parent)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ModelError(
                f"{out}: the disk is full; nothing was left behind. Make room and try again."
            ) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # a directory cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class _Slot:
    """Where a stored tensor goes."""

    file: Path
    dtype: torch.dtype
    offset: int


class CheckpointWriter:
    """Weight files of `template`'s layout in folder `out`; `write` every range of every canonical tensor
    once.

    A context manager: entering creates the files, leaving closes them.
    """

    def __init__(self, template: FolderSource, out: Path, dtypes: Mapping[str, torch.dtype]) -> None:
        """`dtypes`: the dtype of each canonical tensor in the new files."""
        self.template = template
        self.out = out
        self._stored_dtypes = stored_dtypes(template, dtypes)
        self._slots: dict[str, _Slot] = {}
        self._headers: dict[Path, bytes] = {}
        self._sizes: dict[Path, int] = {}
        self._streams: dict[Path, BinaryIO] = {}
        for file, tensors in template.files.items():
            self._plan(file, tensors)

    def __enter__(self) -> CheckpointWriter:
        _require_room(self.out, sum(self._sizes.values()))
        for file, header in self._headers.items():
            stream = self._streams[file] = file.open("w+b")
            stream.write(header)
            stream.truncate(self._sizes[file])
        for name in self.template.mapping.extra:
            self._copy_extra(self.template.disk[name])
        if self.template.path.is_dir() and (self.template.folder / INDEX_NAME).is_file():
            self._write_index()
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams.values():
            stream.close()

    def write(self, name: str, start: int, values: torch.Tensor) -> None:
        """Store values [start, start + len) of a canonical tensor, wherever and however often it is
        stored."""
        for place in stored_ranges(self.template, name, start, start + values.numel()):
            self._put(self._slots[place.disk_name], place.at, values[place.first : place.last])

    def _plan(self, file: Path, tensors: list[DiskTensor]) -> None:
        """Header bytes, size and slots of one file."""
        header: dict[str, object] = {}
        if metadata := self.template.file_metadata[file]:
            header["__metadata__"] = metadata
        spans = {}
        offset = 0
        for tensor in tensors:
            dtype = self._stored_dtypes.get(tensor.name)
            stop = offset + self._n_bytes(tensor)
            header[tensor.name] = {
                "dtype": tensor.code if dtype is None else DTYPE_CODES[dtype],
                "shape": list(tensor.shape),
                "data_offsets": [offset, stop],
            }
            spans[tensor.name] = offset
            offset = stop
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        target = self.out / (file.name if len(self.template.files) > 1 else SINGLE_NAME)
        self._headers[target] = len(text).to_bytes(8, "little") + text
        self._sizes[target] = len(self._headers[target]) + offset
        for name, span in spans.items():
            dtype = self._stored_dtypes.get(name, torch.uint8)
            self._slots[name] = _Slot(target, dtype, len(self._headers[target]) + span)

    def _put(self, slot: _Slot, index: int, values: torch.Tensor) -> None:
        raw = values.to(device="cpu", dtype=slot.dtype).contiguous().view(torch.uint8)
        stream = self._streams[slot.file]
        stream.seek(slot.offset + index * slot.dtype.itemsize)
        stream.write(raw.numpy().data)

    def _copy_extra(self, tensor: DiskTensor) -> None:
        slot = self._slots[tensor.name]
        stream = self._streams[slot.file]
        stream.seek(slot.offset)
        with tensor.file.open("rb") as source:
            source.seek(tensor.offset)
            left = tensor.n_bytes
            while left:
                block = source.read(min(left, 1 << 22))
                stream.write(block)
                left -= len(block)

    def _write_index(self) -> None:
        stored = json.loads((self.template.folder / INDEX_NAME).read_text(encoding="utf-8"))
        total = sum(self._n_bytes(tensor) for tensor in self.template.disk.values())
        metadata = {**stored.get("metadata", {}), "total_size": total}
        index = {"metadata": metadata, "weight_map": read_index(self.template.folder)}
        (self.out / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    def _n_bytes(self, tensor: DiskTensor) -> int:
        dtype = self._stored_dtypes.get(tensor.name)
        return tensor.n_bytes if dtype is None else tensor.n_bytes // tensor.dtype.itemsize * dtype.itemsize


def copy_side_files(folders: list[Path], out: Path, dtype: torch.dtype) -> None:
    """Copy config, generation config and tokenizer files; of a name in several folders the first counts.

    config.json comes out with `dtype`, so that loading with the checkpoint's own dtype loses nothing.
    """
    for folder in reversed(folders):
        for file in folder.iterdir():
            known = (
                file.name in _SIDE_FILES or file.suffix in _SIDE_SUFFIXES or file.name.startswith("tokenizer")
            )
            if file.is_file() and known:
                shutil.copyfile(file, out / file.name)
    config_file = next(folder / "config.json" for folder in folders if (folder / "config.json").is_file())
    config = json.loads(config_file.read_text(encoding="utf-8"))
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    config[key] = str(dtype).removeprefix("torch.")
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _require_room(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise ModelError(
            f"{folder.parent}: the model needs {n_bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; nothing "
            "was left behind. Make room or choose another disk."
        )


# The model_id that a checkpoint would have on the disk, without writing it.
#
# `CheckpointHasher` takes what a `CheckpointWriter` takes and keeps a running hash per stored tensor. Where
# ranges of a stored tensor come out of order their bytes wait in memory; in canonical order none do, but for
# tensors that are stored joined together in another order.


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
