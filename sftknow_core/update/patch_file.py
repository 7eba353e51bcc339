"""The file of a patch: what turns a tuned model into a restored one, as a safetensors file.

For each tensor of which any weight gets other bits, in canonical order and under its canonical name:

    NAME.changed   U8 [at least ceil(n / 8)]   bit i % 8 of byte i // 8 (bit 0 the least significant) is 1 where
                                               weight i of the flattened tensor changes; zeros fill up to a place
                                               that a multiple of 8 bytes divides
    NAME.values    tuned's dtype [bits set]    the new values of those weights, in order

Strings under `__metadata__`: format, format_version, bit_order, restored (the `Lineage`, JSON), report (numbers
for the model card, JSON) and sha256, over the rest of the header and every byte behind it.

How many weights of a tensor change is known only after its last one. So the header's place is kept free at the
largest size it can have, values are appended behind room for the bitmap, and the header is written at the end,
filled up with spaces: one pass, and memory for a chunk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.model.io.layout import TensorMeta
from sftknow_core.model.io.safetensors_files import DTYPE_CODES, DiskTensor, read_header
from sftknow_core.update.lineage import Lineage, check_version

PATCH_FORMAT = "sftknow-patch"
PATCH_VERSION = 1
"""Goes up whenever the file's form changes."""

CHANGED, VALUES = ".changed", ".values"
BIT_ORDER: Final = "little"
_ROOM_FOR_METADATA = 1 << 16
_READ_BYTES = 1 << 24

Words = NDArray[np.int16] | NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True)
class Section:
    """Where one tensor's part lies; offsets count from the first byte behind the header."""

    name: str
    dtype: torch.dtype
    changed_at: int
    values_at: int
    n_values: int

    @property
    def stop(self) -> int:
        """Behind the last value."""
        return self.values_at + self.n_values * self.dtype.itemsize

    def entries(self) -> dict[str, dict[str, object]]:
        """Its two header entries."""
        code, n_bytes = DTYPE_CODES[self.dtype], self.values_at - self.changed_at
        return {
            self.name + CHANGED: _entry("U8", n_bytes, self.changed_at, self.values_at),
            self.name + VALUES: _entry(code, self.n_values, self.values_at, self.stop),
        }


class PatchWriter:
    """Writes a patch file: `add` every chunk of some tensors in canonical order, then `finish`.

    A context manager: leaving closes the file, which is of use only after `finish`.
    """

    def __init__(self, file: Path, metas: Iterable[TensorMeta]) -> None:
        """`metas`: the tuned model's tensors of which weights may change."""
        self._path = file
        self._metas = tuple(metas)
        self._header_bytes = 8 * -(-self._largest_header() // 8)
        self._sections: list[Section] = []
        self._stop = 0
        self._open: TensorMeta | None = None
        self._n_values = 0

    def __enter__(self) -> Self:
        self._stream: BinaryIO = self._path.open("w+b")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def add(self, meta: TensorMeta, start: int, changed: NDArray[np.bool_], values: Words) -> None:
        """Take a chunk: `changed` [n] from flat index `start` (a multiple of 8) on, and the bits of the new values
        where it is True, as integers of their width."""
        assert start % 8 == 0 and values.itemsize == meta.dtype.itemsize
        if meta is not self._open:
            self._close_tensor()
            self._open = meta
        self._put(self._stop + start // 8, np.packbits(changed, bitorder=BIT_ORDER))
        self._put(self._values_at(meta) + self._n_values * values.itemsize, values.view(np.uint8))
        self._n_values += values.size

    def finish(self, metadata: Mapping[str, str]) -> int:
        """Write the header with these strings; returns the file's size in bytes.

        Raises SpecError when no weight changes: there is nothing to patch.
        """
        self._close_tensor()
        if not self._sections:
            raise SpecError("no weight changes: the restored model is the tuned one and needs no patch.")
        self._stream.truncate(self._data_at + self._stop)
        self._stream.flush()
        with self._path.open("rb") as file:
            digest = file_digest(metadata, self._sections, file, self._data_at)
        header = _header({**metadata, "sha256": digest}, self._sections)
        assert len(header) <= self._header_bytes
        self._stream.seek(0)
        self._stream.write(self._header_bytes.to_bytes(8, "little") + header.ljust(self._header_bytes))
        self._stream.flush()
        return self._data_at + self._stop

    @property
    def _data_at(self) -> int:
        return 8 + self._header_bytes

    def _largest_header(self) -> int:
        end = sum(meta.numel * (meta.dtype.itemsize + 1) + 16 for meta in self._metas)
        sections = [Section(meta.name, meta.dtype, end, 2 * end, end) for meta in self._metas]
        return len(_header({}, sections)) + _ROOM_FOR_METADATA

    def _values_at(self, meta: TensorMeta) -> int:
        return 8 * -(-(self._stop + -(-meta.numel // 8)) // 8)

    def _put(self, offset: int, raw: NDArray[np.uint8]) -> None:
        self._stream.seek(self._data_at + offset)
        self._stream.write(raw.data)

    def _close_tensor(self) -> None:
        """Keep the open tensor's section, or give its room away when nothing of it changed."""
        meta = self._open
        if meta is not None and self._n_values:
            values_at, packed = self._values_at(meta), self._stop + -(-meta.numel // 8)
            self._put(packed, np.zeros(values_at - packed, dtype=np.uint8))
            section = Section(meta.name, meta.dtype, self._stop, values_at, self._n_values)
            self._sections.append(section)
            self._stop = section.stop
        self._open, self._n_values = None, 0


def as_integers(values: torch.Tensor) -> Words:
    """The bits of floating-point values on the CPU as integers of their width; shares their memory."""
    width = {2: torch.int16, 4: torch.int32, 8: torch.int64}[values.dtype.itemsize]
    integers: Words = values.contiguous().view(width).numpy()
    return integers


def file_digest(
    metadata: Mapping[str, str], sections: Sequence[Section], file: BinaryIO, data_at: int
) -> str:
    """sha256 over the header without its entry for it, then over every byte from `data_at` on."""
    kept = {key: metadata[key] for key in sorted(metadata) if key != "sha256"}
    digest = hashlib.sha256(_header(kept, sections))
    file.seek(data_at)
    while block := file.read(_READ_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _entry(code: str, n: int, start: int, stop: int) -> dict[str, object]:
    return {"dtype": code, "shape": [n], "data_offsets": [start, stop]}


def _header(metadata: Mapping[str, str], sections: Sequence[Section]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    for section in sections:
        entries |= section.entries()
    return json.dumps(entries, separators=(",", ":")).encode()


# Reads a patch file (`patch_file.py`): checked as a whole first, then by ranges.


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
