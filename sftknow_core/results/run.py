"""One run of a cache as a typed, lazy, read-only handle; the base of all other handles.

A handle costs nothing until something is asked of it, and reads each thing once: make a new one to look again. Where
a result cannot be had, it raises GoneError, DamagedError or NotFinishedError (errors.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import pandas as pd

from sftknow_core.errors import DamagedError, GoneError, NotFinishedError
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.run_folder import DONE, EVENTS, Manifest, RunFolder
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.store.run_state import RunState, RunStatus


@dataclass(frozen=True)
class Run:
    """Any run, whatever its kind and state."""

    cache: Cache
    run_id: str

    KIND: ClassVar[str | None] = None
    """The kind that a run must have to be read by this handle; None: any."""
    NAME: ClassVar[str] = "run"
    """What people call such a run."""
    HINT: ClassVar[str] = "`sftknow runs` lists them"
    """What to do where there is none."""

    @cached_property
    def folder(self) -> RunFolder:
        """The run on the disk. Raises GoneError where there is no run of this kind under this id."""
        found = RunFolder(self.cache, self.run_id)
        if not found.root.is_dir() or (self.KIND is not None and found.spec.kind != self.KIND):
            raise GoneError(f"there is no {self.NAME} {self.run_id} in {self.cache.root}; {self.HINT}")
        return found

    @cached_property
    def _description(self) -> Mapping[str, Any]:
        return self.folder.description()

    @property
    def spec(self) -> RunSpec:
        """Its identity: kind, inputs, parameters, versions."""
        return RunSpec.from_dict(dict(self._description))

    @property
    def kind(self) -> str:
        """What was done, e.g. "mastery"."""
        return self.spec.kind

    @property
    def about(self) -> Mapping[str, Any]:
        """What people want to know of it: names, title, how to read the same facts again."""
        found: Mapping[str, Any] = self._description.get("about", {})
        return found

    @property
    def created_at(self) -> str:
        """ISO 8601, UTC."""
        return str(self._description["created_at"])

    @property
    def status(self) -> RunStatus:
        """State, progress and reason, read anew each time."""
        return self.folder.status()

    @property
    def state(self) -> RunState:
        """Done, running, failed and the like; read anew each time."""
        return self.status.state

    @cached_property
    def manifest(self) -> Manifest:
        """What the finished run holds. Raises GoneError, NotFinishedError; DamagedError where it is not readable."""
        found = self.folder.manifest()
        if found is not None:
            return found
        state = self.state
        if state is RunState.DONE:
            raise DamagedError(
                f"{self.NAME} {self.run_id} is damaged ({DONE}); repeating the command that made it makes it again"
            )
        raise NotFinishedError(
            f"{self.NAME} {self.run_id} is not finished ({state}); its results come when it is"
        )

    @property
    def finished_at(self) -> str:
        """ISO 8601, UTC. Raises as `manifest`."""
        return self.manifest.finished_at

    @property
    def seconds(self) -> float:
        """Time at work. Raises as `manifest`."""
        return self.manifest.seconds

    @property
    def tables(self) -> Mapping[str, int]:
        """Name of each table -> its rows. Raises as `manifest`."""
        return self.manifest.n_rows

    def table(self, name: str) -> pd.DataFrame:
        """All rows of one of `tables`, with the columns of store/schema.py. Raises as `check`."""
        self.check()
        return read_table(self.cache, name, run_ids=[self.run_id])

    def check(self) -> None:
        """Raise GoneError, NotFinishedError or DamagedError where the run's files are not all there as written."""
        _ = self.manifest
        check_intact(self.cache, f"{self.NAME} {self.run_id}", [self.run_id])

    @property
    def stamp(self) -> str:
        """Changes exactly when the run gets further, ends or is made anew. Raises GoneError."""
        for name in (DONE, EVENTS):
            if (file := self.folder.root / name).exists():
                stat = file.stat()
                return f"{stat.st_mtime_ns}:{stat.st_size}"
        return "begun"


def check_intact(
    cache: Cache,
    owner: str,
    run_ids: Iterable[str],
    role: str = "run {}, which holds answers,",
    again: str = "repeating the command that made it makes it again",
) -> None:
    """Raise GoneError or DamagedError for the first of these runs that is not there as it was written.

    Args:
        cache: where they lie.
        owner: whose results they hold, e.g. "chain 0123".
        run_ids: any number of runs; the owner's own may be among them.
        role: what a run is to the owner, with {} for its id.
        again: how to get it back.
    """
    for run_id in dict.fromkeys(run_ids):
        run = RunFolder(cache, run_id)
        if not (missing := run.problems()):
            continue
        what = owner if owner.endswith(run_id) else f"{owner}: its {role.format(run_id)}"
        if not run.root.is_dir():
            raise GoneError(f"{what} is gone; {again}")
        raise DamagedError(f"{what} is damaged ({', '.join(missing)}); {again}")


def stamp_of(cache: Cache, run_ids: Iterable[str | None]) -> str:
    """Changes when one of these runs ends, is removed or made anew; None: a run that was not asked for."""
    digest = hashlib.sha256()
    for run_id in run_ids:
        digest.update(f"{run_id}:{_when_done(cache, run_id)}\n".encode())
    return digest.hexdigest()[:16]


def _when_done(cache: Cache, run_id: str | None) -> str:
    if run_id is None:
        return "not asked for"
    try:
        stat = (cache.run_folder(run_id) / DONE).stat()
    except OSError:
        return "gone"
    return f"{stat.st_mtime_ns}:{stat.st_size}"


def finished_stamp(cache: Cache) -> str:
    """Changes whenever a run ends well or is removed, and not while one is under way."""
    return stamp_of(cache, sorted(done.parent.name for done in cache.runs.glob(f"*/{DONE}")))
