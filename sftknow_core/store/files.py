"""Files that a kill or a full disk never leaves half-written under their final name.

Data go to a temporary name beside the target, are flushed to the disk, and take the final name in one
`os.replace`. Names are not flushed: one lost with the power is a missing file, which readers notice.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sftknow_core.errors import CacheError

TEMPORARY_PREFIX = ".tmp-"
"""Names starting like this are leftovers of a kill and may be deleted by the run's owner."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class CacheWarning(UserWarning):
    """Something in the cache was damaged and is worked around: set aside, redone or left out."""


@dataclass(frozen=True)
class FileRecord:
    """One file of a run, as it was when it was written."""

    file: str
    """Path relative to the run folder, with "/"."""
    bytes: int
    sha256: str
    rows: int | None = None
    """Number of table rows; None where the file is no table part."""

    def fits(self, root: Path, *, verify: bool = False) -> bool:
        """Whether the file is there with its size (and, with `verify`, its content)."""
        path = root / self.file
        try:
            if path.stat().st_size != self.bytes:
                return False
            return not verify or sha256_of(path) == self.sha256
        except OSError:
            return False


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk and missing permissions, met while writing `path`, into a CacheError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(path) from error
        if error.errno in _FORBIDDEN:
            raise CacheError(
                f"{path} may not be written ({os.strerror(error.errno)}). Give this user write permission "
                f"there, or choose another cache with --cache or SFTKNOW_CACHE."
            ) from error
        raise


def disk_full(path: Path) -> CacheError:
    """What to tell people when `path` could not be written for lack of space."""
    return CacheError(
        f"the disk is full: {path} could not be written. Free some space (`sftknow gc` lists what can go), "
        f"then run the same command again: it goes on where it stopped."
    )


def is_disk_full(error: Exception) -> bool:
    """Whether an error of another library, which has no errno, tells of a full disk."""
    return "No space left on device" in str(error) and not isinstance(error, CacheError)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` as a whole or not at all. Raises CacheError."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def flush_tree(folder: Path) -> None:
    """Flush every file below `folder` to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def sweep_temporaries(folder: Path) -> None:
    """Delete what kills left under temporary names anywhere below `folder`."""
    for path in list(folder.rglob(f"{TEMPORARY_PREFIX}*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
