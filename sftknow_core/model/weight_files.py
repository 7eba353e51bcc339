"""The safetensors files of a folder and what their headers say; no tensor is read and no torch loaded.

Format: 8 bytes with the header's length (little-endian), the header as JSON, then the raw tensors.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from sftknow_core.errors import ModelError
from sftknow_core.model.sources import check_safetensors, read_json

ADAPTER_WEIGHTS = "adapter_model.safetensors"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
_LONGEST_HEADER = 100_000_000  # the format's own limit
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


class StoredTensor(NamedTuple):
    """One tensor as it lies in a file."""

    name: str
    dtype: str
    """As the format spells it: F32, BF16, ..."""
    shape: tuple[int, ...]
    start: int
    """Offset of its first byte in the file."""
    stop: int


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers or peft would load, in order of name. Raises ModelError when one is
    missing."""
    check_safetensors(folder)
    for single in (ADAPTER_WEIGHTS, WEIGHTS) if (folder / "adapter_config.json").is_file() else (WEIGHTS,):
        if (folder / single).is_file():
            return [folder / single]
    if (folder / WEIGHTS_INDEX).is_file():
        shards = read_json(folder / WEIGHTS_INDEX).get("weight_map", {})
        files = [folder / name for name in sorted(set(shards.values()))]
        if missing := [f.name for f in files if not f.is_file()]:
            raise ModelError(
                f"{folder} lacks {missing[0]}, one of its {len(files)} shards; finish the download"
            )
        return files
    return sorted(folder.glob("*.safetensors"))


def stored_tensors(path: Path) -> list[StoredTensor]:
    """The tensors of one file, in order of name. Raises ModelError when the file is damaged or cut short."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LONGEST_HEADER:
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        offset = 8 + length
        tensors = [
            StoredTensor(
                name,
                entry["dtype"],
                tuple(entry["shape"]),
                offset + entry["data_offsets"][0],
                offset + entry["data_offsets"][1],
            )
            for name, entry in sorted(header.items())
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ModelError(f"{path} is not a readable safetensors file: {error}; download it again") from error
    size = path.stat().st_size
    if tensors and max(t.stop for t in tensors) > size:
        raise ModelError(f"{path} is cut short ({size} bytes); download it again")
    return tensors


def main_dtype(folder: Path) -> str:
    """The floating dtype that most bytes of the weights have, as the format spells it. Raises ModelError."""
    n_bytes: Counter[str] = Counter()
    for path in weight_files(folder):
        for tensor in stored_tensors(path):
            if tensor.dtype in _FLOATS:
                n_bytes[tensor.dtype] += tensor.stop - tensor.start
    if not n_bytes:
        raise ModelError(f"{folder} holds no floating-point weights")
    return n_bytes.most_common(1)[0][0]
