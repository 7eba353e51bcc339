"""Reads safetensors files by byte range, without loading whole tensors.

A safetensors file is 8 bytes (little-endian length of the header), a JSON header naming dtype, shape and
byte range of every tensor, then the raw values (github.com/huggingface/safetensors, "Format"). Reading
at an offset keeps memory to the piece asked for, whatever the size of the file.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import torch

from sftknow_core.errors import ModelError

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPE_CODES = {dtype: code for code, dtype in DTYPES.items()}
INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
ADAPTER_NAME = "adapter_model.safetensors"
PICKLED_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt")
_SHARD = re.compile(r"-\d+-of-\d+\.safetensors$")
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class DiskTensor:
    """One tensor as it lies in a file."""

    name: str
    file: Path
    code: str
    """The format's dtype code: F32, BF16, I64, ..."""
    shape: tuple[int, ...]
    offset: int
    """First byte, from the start of the file."""
    n_bytes: int

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype; ModelError for a dtype that is no plain floating-point number."""
        if self.code not in DTYPES:
            raise ModelError(
                f"{self.file}: tensor {self.name} is {self.code}; only {', '.join(DTYPES)} weights can be "
                "compared. Save the model unquantised first."
            )
        return DTYPES[self.code]


def read_header(file: Path) -> tuple[dict[str, DiskTensor], dict[str, str]]:
    """(tensors in the order of their bytes, free metadata) of one file; ModelError when it is cut short or
    damaged."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            start = stream.read(8)
            if _LFS_POINTER.startswith(start) and size < 1024:
                raise ModelError(
                    f"{file} is a Git LFS pointer, not the weights; run `git lfs pull` in its repository."
                )
            length = int.from_bytes(start, "little")
            header: dict[str, dict[str, object]] = json.loads(stream.read(length)) if length < size else {}
        metadata = {str(k): str(v) for k, v in header.pop("__metadata__", {}).items()}
        tensors = {name: _disk_tensor(file, name, entry, 8 + length) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{file}: not a readable safetensors file ({error}). Download or save it again."
        ) from error
    if not tensors or max(t.offset + t.n_bytes for t in tensors.values()) > size:
        raise ModelError(f"{file}: the file is cut short ({size:,} bytes). Download or save it again.")
    return dict(sorted(tensors.items(), key=lambda item: item[1].offset)), metadata


def _disk_tensor(file: Path, name: str, entry: Mapping[str, object], data_start: int) -> DiskTensor:
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or not isinstance(offsets, list):
        raise ValueError(f"tensor {name} has no shape or offsets")
    start, stop = offsets
    code, width = (
        str(entry["dtype"]),
        DTYPES[str(entry["dtype"])].itemsize if entry["dtype"] in DTYPES else None,
    )
    if not 0 <= start <= stop or any(not isinstance(n, int) or n < 0 for n in shape):
        raise ValueError(f"tensor {name} has an impossible shape or place: {shape}, {offsets}")
    if width is not None and math.prod(shape) * width != stop - start:
        raise ValueError(
            f"tensor {name} of shape {shape} and dtype {code} is said to have {stop - start:,} bytes"
        )
    return DiskTensor(name, file, code, tuple(shape), data_start + start, stop - start)


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a checkpoint: a folder (one file, or shards with an index) or a single file.

    The one answer for loading, hashing and comparing. Raises ModelError where there are none, where some are missing,
    or where two checkpoints lie in one folder.
    """
    if path.is_file():
        return [path]
    single, index = path / SINGLE_NAME, path / INDEX_NAME
    if single.is_file() and index.is_file():
        raise ModelError(
            f"{path} holds two checkpoints: {SINGLE_NAME}, and shards named in {INDEX_NAME}. Move one of them away; "
            "nothing says which is meant"
        )
    if index.is_file():
        names = sorted(set(read_index(path).values()))
        missing = [name for name in names if not (path / name).is_file()]
        if missing:
            raise ModelError(
                f"{path}: shard {missing[0]} named in {INDEX_NAME} is missing. Download it again."
            )
        return [path / name for name in names]
    if single.is_file():
        return [single]
    found = sorted(path.glob("*.safetensors"))
    shards = [file for file in found if _SHARD.search(file.name)]
    if shards:
        raise ModelError(
            f"{path}: {len(shards)} shards without an index ({shards[0].name} and so on). Download {INDEX_NAME} too."
        )
    if len(found) == 1:
        return found
    if len(found) > 1:
        listed = ", ".join(file.name for file in found[:3])
        raise ModelError(f"{path} holds several weight files ({listed}); keep one, named {SINGLE_NAME}.")
    pickled = next((p.name for p in sorted(path.glob("*")) if p.suffix in PICKLED_WEIGHTS), None)
    if pickled:
        raise ModelError(
            f"{path}: only {pickled}, a pickle format that can run code and is never read; convert it once: load it "
            "with transformers and save_pretrained() it into a new folder"
        )
    raise ModelError(
        f"{path} has no *.safetensors weights (looked for {SINGLE_NAME} and {INDEX_NAME}); the download is incomplete"
    )


def weight_files_of_adapter(folder: Path) -> list[Path]:
    """The file of an adapter's tensors. Raises ModelError where it is not there."""
    file = folder / ADAPTER_NAME
    if file.is_file():
        return [file]
    if (folder / "adapter_model.bin").is_file():
        raise ModelError(
            f"{folder} holds its weights only as adapter_model.bin, a pickle that can run code, which is never read; "
            "load it with peft and save_pretrained() it into a new folder"
        )
    raise ModelError(f"{folder}: {ADAPTER_NAME} is missing. Save the adapter in safetensors format.")


def read_index(folder: Path) -> dict[str, str]:
    """Tensor name -> shard file name, from the index of a sharded checkpoint."""
    try:
        weight_map = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(shard) for name, shard in weight_map.items()}
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{folder / INDEX_NAME}: not a readable index ({error}). Download it again."
        ) from error


class SafetensorsReader:
    """Reads ranges of values, from several threads at once; keeps the files open until `close`."""

    def __init__(self) -> None:
        self._streams: dict[Path, BinaryIO] = {}
        self._opening = Lock()

    def read(
        self, tensor: DiskTensor, start: int, stop: int, memory: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Values [start, stop) of the flattened tensor, as a 1-D tensor of the stored dtype: a new one, or in
        `memory` (uint8, long enough).

        Raises ModelError when the file ends early: it was cut after its header had been read.
        """
        width = tensor.dtype.itemsize
        n_bytes = (stop - start) * width
        raw = torch.empty(n_bytes, dtype=torch.uint8) if memory is None else memory[:n_bytes]
        view = memoryview(raw.numpy().data)
        stream, offset, done = self._stream(tensor.file), tensor.offset + start * width, 0
        while done < len(view):
            n = _read_at(stream, view[done:], offset + done)
            if not n:
                raise ModelError(
                    f"{tensor.file}: tensor {tensor.name} ends early: the file changed while being read."
                )
            done += n
        return raw.view(tensor.dtype)

    def close(self) -> None:
        """Close all files; a later read opens them again."""
        with self._opening:
            for stream in self._streams.values():
                stream.close()
            self._streams.clear()

    def _stream(self, file: Path) -> BinaryIO:
        with self._opening:
            if file not in self._streams:
                self._streams[file] = file.open("rb", buffering=0)
            return self._streams[file]


def _read_at(stream: BinaryIO, view: memoryview, offset: int) -> int:
    """Fill `view` with what stands at `offset`; the number of bytes read."""
    if hasattr(os, "preadv"):
        return os.preadv(stream.fileno(), [view], offset)
    with _SEEKING:  # elsewhere a file has one place that all threads share
        stream.seek(offset)
        return int(stream.readinto(view))  # type: ignore[attr-defined]


_SEEKING = Lock()
