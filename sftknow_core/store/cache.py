"""The cache folder: where runs, models, the catalogue and locks lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sftknow_core.errors import CacheError
from sftknow_core.store.files import TEMPORARY_PREFIX, disk_errors

ENVIRONMENT_VARIABLE = "SFTKNOW_CACHE"
READ_ONLY_VARIABLE = "SFTKNOW_READ_ONLY"
DEFAULT_ROOT = Path("cache")


def default_root(option: Path | None = None) -> Path:
    """What the user asked for with `--cache`, else $SFTKNOW_CACHE, else ./cache."""
    if option is not None:
        return option
    from_environment = os.environ.get(ENVIRONMENT_VARIABLE, "")
    return Path(from_environment) if from_environment else DEFAULT_ROOT


def read_only() -> bool:
    """Whether this process shows a cache and must start, write, delete and export nothing: $SFTKNOW_READ_ONLY is 1."""
    return os.environ.get(READ_ONLY_VARIABLE) == "1"


def check_may_write(what: str) -> None:
    """Raise CacheError where this process only shows a cache. what: e.g. "start a job"."""
    if read_only():
        raise CacheError(
            f"show mode: nothing here can {what}. Start the dashboard without --read-only "
            f"(and without {READ_ONLY_VARIABLE}=1) to do that."
        )


@dataclass(frozen=True, init=False)
class Cache:
    """A cache folder that exists and can be written to; in show mode (`read_only`), one that can be read.

    only_read: nothing is created and nothing probed by writing; None: as this process is started.
    Raises CacheError when it cannot be created or written, or in show mode when it is no cache.
    """

    root: Path
    """Absolute, so that a later change of the working directory changes nothing."""

    def __init__(self, root: Path | str | None = None, *, only_read: bool | None = None) -> None:
        path = default_root(Path(root) if root is not None else None).expanduser().absolute()
        object.__setattr__(self, "root", path)
        if read_only() if only_read is None else only_read:
            self._check_readable()
        else:
            self._make()

    def _check_readable(self) -> None:
        """Only the runs are needed: the rest is derived from them, or serves writing."""
        if not self.runs.is_dir():
            raise CacheError(
                f"show mode: {self.root} is no cache: it has no folder runs/, and show mode makes none. "
                f"Choose a cache with --cache or {ENVIRONMENT_VARIABLE}, or fill this one first without --read-only."
            )
        if not os.access(self.runs, os.R_OK | os.X_OK):
            raise CacheError(f"show mode: {self.runs} may not be read. Give this user read permission there.")

    def _make(self) -> None:
        """The folders, and a look whether they can be written to."""
        path = self.root
        try:
            with disk_errors(path):
                for folder in (self.runs, self.models, self.locks):
                    folder.mkdir(parents=True, exist_ok=True)
                probe = self.locks / f"{TEMPORARY_PREFIX}{os.getpid()}-probe"
                probe.write_bytes(b"")
                probe.unlink(missing_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise CacheError(
                f"the cache folder {path} cannot be made: {error.filename} is a file, not a folder. "
                f"Choose another folder with --cache or {ENVIRONMENT_VARIABLE}."
            ) from error

    @property
    def runs(self) -> Path:
        """One folder a run, named by its run_id."""
        return self.root / "runs"

    @property
    def models(self) -> Path:
        """Models that no run made: downloads, and the memory of computed model ids."""
        return self.root / "models"

    @property
    def locks(self) -> Path:
        """Lock files; outside the run folders, so that a folder can be deleted while its lock is held."""
        return self.root / "locks"

    @property
    def catalogue(self) -> Path:
        """The DuckDB file; derived from the run folders."""
        return self.root / "sftknow.duckdb"

    @property
    def write_ahead_log(self) -> Path:
        """Where DuckDB keeps what it has not yet written into the catalogue itself."""
        return self.root / "sftknow.duckdb.wal"

    @property
    def catalogue_lock(self) -> Path:
        """Held during each short opening of the catalogue."""
        return self.locks / "catalogue.lock"

    def run_folder(self, run_id: str) -> Path:
        """The folder of one run, whether or not it exists."""
        return self.runs / run_id

    def run_lock(self, run_id: str) -> Path:
        """The lock that the owner of a run holds."""
        return self.locks / f"run-{run_id}.lock"

    def located(self, path: str) -> Path:
        """A path as tables hold it: absolute, or relative to the cache (so that the cache can be moved)."""
        return self.root / path
