"""Reads a patch file (`patch_file.py`): checked as a whole first, then by ranges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.model.io.layout import TensorMeta
from sftknow_core.model.io.safetensors_files import DiskTensor, read_header
from sftknow_core.update.lineage import Lineage, check_version
from sftknow_core.update.patch_file import (
    BIT_ORDER,
    CHANGED,
    PATCH_FORMAT,
    PATCH_VERSION,
    VALUES,
    Section,
    as_integers,
    file_digest,
)


class PatchReader:
    """A patch file whose header, layout and checksum were found to be right.

    A context manager: leaving closes the file.
    """

    lineage: Lineage
    report: dict[str, Any]
    """Numbers for the model card."""
    sections: dict[str, Section]
    """By canonical tensor name, in the order of the file."""

    def __init__(self, path: Path) -> None:
        """Read the header and, once, every byte. Raises SpecError for no patch, ModelError for a damaged one."""
        self.path = path
        if not path.is_file():
            raise SpecError(
                f"the patch {path} is not there; give a file that `sftknow restore --patch` wrote."
            )
        tensors, metadata = read_header(path)
        if metadata.get("format") != PATCH_FORMAT:
            raise SpecError(f"{path} is no patch; give a file that `sftknow restore --patch` wrote.")
        version = metadata.get("format_version", "")
        stated = {"format_version": int(version) if version.isdecimal() else version}
        check_version(stated, "format_version", PATCH_VERSION, f"patch {path}")
        self._stream: BinaryIO = path.open("rb")
        try:
            self._data_at = 8 + int.from_bytes(self._stream.read(8), "little")
            self.sections = self._sections(list(tensors.values()))
            digest = file_digest(metadata, list(self.sections.values()), self._stream, self._data_at)
            if metadata.get("sha256") != digest:
                raise self._damaged("its checksum is wrong")
            self.lineage = Lineage.from_json(self._json(metadata, "restored"), f"patch {path}")
            self.report = self._json(metadata, "report")
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> PatchReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def require_fits(self, metas: Sequence[TensorMeta]) -> None:
        """Raise ModelError unless every section is about one of these tensors of the tuned model."""
        known = {meta.name: meta for meta in metas}
        for name, section in self.sections.items():
            meta = known.get(name)
            if meta is None or meta.dtype != section.dtype or section.n_values > meta.numel:
                raise self._damaged(f"tensor {name} is not so in the tuned model")
            if section.values_at != 8 * -(-(section.changed_at + -(-meta.numel // 8)) // 8):
                raise self._damaged(f"the bitmap of tensor {name} has the wrong length")

    def changes(self, name: str) -> SectionReader:
        """One tensor's part, to be read from its first weight to its last."""
        return SectionReader(self, self.sections[name])

    def read(self, offset: int, n_bytes: int) -> NDArray[np.uint8]:
        """Bytes from `offset` behind the header. Raises ModelError when the file ends early."""
        raw = np.empty(n_bytes, dtype=np.uint8)
        self._stream.seek(self._data_at + offset)
        if self._stream.readinto(raw.data) != n_bytes:  # type: ignore[attr-defined]
            raise self._damaged("it ends early: it changed while being read")
        return raw

    def _sections(self, tensors: Sequence[DiskTensor]) -> dict[str, Section]:
        """Bitmap and values by turns, without a gap from the header to the end of the file."""
        sections = {}
        end = self._data_at
        for changed, values in zip(tensors[::2], tensors[1::2], strict=False):
            name = changed.name.removesuffix(CHANGED)
            n_values = values.shape[0] if len(values.shape) == 1 else -1
            expected = (name + CHANGED, name + VALUES, "U8", end, changed.offset + changed.n_bytes)
            found = (changed.name, values.name, changed.code, changed.offset, values.offset)
            if found != expected or n_values * values.dtype.itemsize != values.n_bytes or n_values < 1:
                raise self._damaged(f"bitmap and values of tensor {name} do not follow one another")
            at = changed.offset - self._data_at
            sections[name] = Section(name, values.dtype, at, at + changed.n_bytes, n_values)
            end = values.offset + values.n_bytes
        if len(tensors) % 2 or end != self.path.stat().st_size:
            raise self._damaged("its tensors do not fill it")
        return sections

    def _json(self, metadata: Mapping[str, str], key: str) -> dict[str, Any]:
        try:
            stored = json.loads(metadata[key])
        except (KeyError, ValueError) as error:
            raise self._damaged(f"no {key} in its header") from error
        if not isinstance(stored, dict):
            raise self._damaged(f"{key} in its header is no object")
        return stored

    def _damaged(self, what: str) -> ModelError:
        return ModelError(
            f"patch {self.path}: {what}. Download it again, or write it again with `sftknow restore --patch`."
        )


class SectionReader:
    """The changes of one tensor, chunk by chunk in order."""

    def __init__(self, patch: PatchReader, section: Section) -> None:
        self._patch = patch
        self._section = section
        self._n_read = 0

    def apply(self, start: int, tuned: torch.Tensor) -> torch.Tensor:
        """The restored weights [start, start + n) from tuned's (1-D, left as they are); `start` is a
        multiple of 8.

        Raises ModelError when bitmap and values do not agree.
        """
        assert start % 8 == 0
        n = tuned.numel()
        packed = self._patch.read(self._section.changed_at + start // 8, -(-n // 8))
        bits = np.unpackbits(packed, count=n, bitorder=BIT_ORDER)
        n_new = int(np.count_nonzero(bits))
        width = self._section.dtype.itemsize
        if self._n_read + n_new > self._section.n_values:
            raise self._patch._damaged(f"tensor {self._section.name} has fewer values than changes")
        raw = self._patch.read(self._section.values_at + self._n_read * width, n_new * width)
        self._n_read += n_new
        restored = tuned.clone()
        integers = as_integers(restored)
        integers[bits.view(np.bool_)] = raw.view(integers.dtype)
        return restored

    def finish(self) -> None:
        """Raise ModelError when values are left over."""
        if self._n_read != self._section.n_values:
            raise self._patch._damaged(f"tensor {self._section.name} has more values than changes")
