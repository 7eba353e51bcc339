"""Several new files and folders that appear together, each whole, or not at all.

Each is made under a temporary name beside its place, in the same file system. When all are done they are
flushed to the disk and renamed; after an error, a stop or a full disk none is left, nor a folder that was made
to hold them.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from sftknow_core.errors import ModelError, SpecError, UserError
from sftknow_core.store.cache import check_may_write

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)


def problems(wanted: Sequence[Path]) -> list[str]:
    """Why these cannot all be made, a sentence each; empty when nothing speaks against it."""
    found = [
        f"{path} exists already; give a new name, or remove it first" for path in wanted if _exists(path)
    ]
    places = [path.absolute() for path in wanted]
    for number, one in enumerate(places):
        for other in places[number + 1 :]:
            if one == other:
                found.append(f"{wanted[number]} is asked for twice; give different names")
            elif one in other.parents or other in one.parents:
                inner, outer = (one, other) if other in one.parents else (other, one)
                found.append(f"{inner} lies in {outer}, which is to be new as well; put it beside that")
    for path in wanted:
        parent = nearest_folder(path)
        if not parent.is_dir():
            found.append(f"{path} cannot be made: {parent} is a file")
        elif not os.access(parent, os.W_OK | os.X_OK):
            found.append(f"{path} cannot be made: {parent} may not be written to")
    return list(dict.fromkeys(found))


def nearest_folder(path: Path) -> Path:
    """The closest thing above `path` that exists."""
    return next(parent for parent in path.absolute().parents if _exists(parent))


@contextmanager
def new_outputs(wanted: Sequence[Path]) -> Iterator[Mapping[Path, Path]]:
    """Temporary places, by the final ones, to be filled in the block; a folder is the block's to make.

    Raises SpecError when something cannot be made there, ModelError when the disk is full.
    """
    check_may_write("export a model")
    if found := problems(wanted):
        raise SpecError("; ".join(found))
    places = {path: path.with_name(f".{path.name}.{os.getpid()}.partial") for path in wanted}
    made: list[Path] = []
    published: list[Path] = []
    try:
        for path in wanted:
            made += _make_parents(path)
            _remove_leftovers(path)
        yield places
        for temporary in places.values():
            _flush(temporary)
        for path, temporary in places.items():
            _publish(temporary, path)
            published.append(path)
    except BaseException as error:
        for place in (*places.values(), *published):
            _remove(place)
        for folder in reversed(made):
            with suppress(OSError):  # somebody else has put something there meanwhile
                folder.rmdir()
        # whoever filled a temporary place may have said already that the disk is full, but of that place
        reason = error if isinstance(error, OSError) else error.__cause__
        if isinstance(reason, OSError):
            raise _named(reason, wanted) from error
        raise


def _named(error: OSError, wanted: Sequence[Path]) -> UserError:
    """The error in words a user can do something with; raises others as they are."""
    names = ", ".join(map(str, wanted))
    if error.errno in _FULL:
        return ModelError(
            f"{names}: the disk is full, or a limit on the size of files was reached ({error.strerror}); "
            "nothing was left behind. Make room or choose another disk."
        )
    if error.errno in _REFUSED:
        return SpecError(
            f"{names} cannot be written ({error}); choose another place. Nothing was left behind."
        )
    raise error


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _make_parents(path: Path) -> list[Path]:
    """Make the folders above `path`; returns those that were missing, outermost first."""
    missing = [parent for parent in path.absolute().parents if not _exists(parent)]
    path.parent.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _remove_leftovers(path: Path) -> None:
    """What processes that were killed on the way to this output have left beside it."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        number = leftover.name.split(".")[-2]
        mine = number == str(os.getpid())
        if number.isdecimal() and (mine or not psutil.pid_exists(int(number))):
            _remove(leftover)


def _publish(temporary: Path, path: Path) -> None:
    if _exists(path):
        raise FileExistsError(errno.EEXIST, "it was made by somebody else meanwhile", str(path))
    temporary.rename(path)
    with suppress(OSError):  # not every file system can flush a folder
        _flush_one(path.parent)


def _flush(path: Path) -> None:
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            _flush_one(file)
    if path.is_dir():
        with suppress(OSError):  # not every file system can flush a folder
            _flush_one(path)


def _flush_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
