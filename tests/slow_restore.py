"""Restoration on files, as slowly and plainly as it can be written: numpy, whole tensors, a stable sort.

Shares nothing with the package: it reads the safetensors format itself, takes the tensors' order from a list
given by hand, and knows float16 from numpy and bfloat16 as a shifted float32.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def read(file: Path) -> dict[str, tuple[str, np.ndarray]]:
    """name -> (dtype code, raw words, flat) of a safetensors file."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    words = {"BF16": np.uint16, "F16": np.uint16, "F32": np.uint32}
    return {
        name: (e["dtype"], np.frombuffer(data[8 + length :][slice(*e["data_offsets"])], words[e["dtype"]]))
        for name, e in header.items()
    }


def values(code: str, words: np.ndarray) -> np.ndarray:
    """float32 values of raw words."""
    if code == "BF16":
        return (words.astype(np.uint32) << 16).view(np.float32)
    return words.view(np.float16).astype(np.float32) if code == "F16" else words.view(np.float32)


def restore(
    base: Path, tuned: Path, order: list[str], strategy: str, k_percent: float
) -> dict[str, np.ndarray]:
    """Raw words of every tensor after restoring k percent of the tensors in `order`."""
    one = {name: entry for file in sorted(base.glob("*.safetensors")) for name, entry in read(file).items()}
    two = {name: entry for file in sorted(tuned.glob("*.safetensors")) for name, entry in read(file).items()}
    out = {name: words.copy() for name, (_, words) in two.items()}
    p = np.concatenate([values(*one[name]) for name in order])
    s = np.concatenate([values(*two[name]) for name in order])
    d = np.abs(s - p)
    score = d / (np.abs(p) + np.float32(1e-8)) if strategy in ("top", "bottom") else d
    first = np.argsort(-score if strategy in ("top", "largest") else score, kind="stable")
    taken = np.zeros(len(p), bool)
    taken[first[: int(len(p) * k_percent / 100)]] = True
    offset = 0
    for name in order:
        n = len(out[name])
        part = taken[offset : offset + n]
        out[name][part] = one[name][1][part]
        offset += n
    return out
