"""Reads safetensors files by byte range, without loading whole tensors.

A safetensors file is 8 bytes (little-endian length of the header), a JSON header naming dtype, shape and
byte range of every tensor, then the raw values (github.com/huggingface/safetensors, "Format"). Reading
at an offset keeps memory to the piece asked for, whatever the size of the file.
"""

from __future__ import annotations

import json
import os
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
            length = int.from_bytes(stream.read(8), "little")
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
    return DiskTensor(name, file, str(entry["dtype"]), tuple(shape), data_start + start, stop - start)


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a checkpoint: a folder (one file, or shards with an index) or a single
    file."""
    if path.is_file():
        return [path]
    if (path / INDEX_NAME).is_file():
        names = sorted(set(read_index(path).values()))
        missing = [name for name in names if not (path / name).is_file()]
        if missing:
            raise ModelError(
                f"{path}: shard {missing[0]} named in {INDEX_NAME} is missing. Download it again."
            )
        return [path / name for name in names]
    if (path / SINGLE_NAME).is_file():
        return [path / SINGLE_NAME]
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return found
    other = next((p.name for p in sorted(path.glob("*")) if p.suffix in (".bin", ".pt", ".pth")), None)
    reason = f"only {other}, a pickle format that is not read" if other else "no safetensors weights"
    raise ModelError(
        f"{path}: {reason} (looked for {SINGLE_NAME} and {INDEX_NAME}). "
        "Load it with transformers and call save_pretrained(folder) to convert it."
    )


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
