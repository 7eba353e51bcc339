"""Where the weights of a canonical tensor lie in a checkpoint, and how large that checkpoint is.

A canonical tensor can be stored in pieces, under several tied names, or as part of a tensor that others share
(`model/io/disk_mapping.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from typing import NamedTuple

import torch

from sftknow_core.model.io.tensors import FolderSource


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
