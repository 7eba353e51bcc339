"""One accelerator, one process at a time: whoever fills it holds a lock file in the cache, others queue.

    locks/device-<host>-cuda-0.lock                 held by the one whose model is on the device
    locks/device-<host>-cuda-0.wanted-<time>-<pid>  one who waits for it; the oldest comes next

A holder that can do without, such as an idle engine, looks whether it `is_wanted` and gives way. On a CPU,
where memory is the system's to share out, there is no lock.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from sftknow_core.store.cache import Cache
from sftknow_core.store.files import disk_errors
from sftknow_core.store.open_run import try_acquire
from sftknow_core.store.run_state import Owner

_POLL_SECONDS = 0.1
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


def device_name(device: str) -> str | None:
    """The name of what `device` ("auto", "cuda", "mps", "cpu") is on this machine; None where nothing is locked.

    The first of CUDA_VISIBLE_DEVICES is the device that a process uses as its cuda:0. Raises ModelError for a
    device that is not here.
    """
    from sftknow_core.model.io.load import pick_device

    kind = pick_device(device).type
    if kind == "cpu":
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "") if kind == "cuda" else ""
    return f"{kind}-{visible.split(',')[0].strip() or '0'}"


class DeviceLock:
    """The right to fill one device; taken when first asked for, kept until `release` or the process's end."""

    def __init__(self, cache: Cache, name: str | None) -> None:
        """name: from `device_name`; None makes all of this do nothing."""
        self.name = name
        stem = _NOT_IN_NAMES.sub("-", f"device-{socket.gethostname()}-{name}")
        self._markers = (cache.locks, f"{stem}.wanted-")
        self._lock = FileLock(cache.locks / f"{stem}.lock", thread_local=False)

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock.is_locked

    def take(self, check: Callable[[], None], tell: Callable[[str], None]) -> None:
        """Wait until the device is ours. `check` may raise to stop waiting; `tell` gets what people should know."""
        if self.name is None or self.held:
            return
        with self._waiting() as mine:
            told = False
            while not (self._comes_next(mine) and try_acquire(self._lock)):
                check()
                if not told:
                    tell(f"waiting for {self.name}: another process is using it")
                    told = True
                time.sleep(_POLL_SECONDS)

    def is_wanted(self) -> bool:
        """Whether somebody waits for the device."""
        return self.name is not None and bool(self._waiters())

    def release(self) -> None:
        """Let others have it; does nothing where it is not held."""
        if self.held:
            self._lock.release()

    @contextmanager
    def _waiting(self) -> Iterator[Path]:
        folder, stem = self._markers
        marker = folder / f"{stem}{time.time_ns():020d}-{os.getpid()}"
        with disk_errors(marker):
            marker.write_text(json.dumps(asdict(Owner.me())), encoding="utf-8")
        try:
            yield marker
        finally:
            marker.unlink(missing_ok=True)

    def _comes_next(self, mine: Path) -> bool:
        return all(marker.name >= mine.name for marker, _ in self._waiters())

    def _waiters(self) -> list[tuple[Path, Owner]]:
        """Living ones, oldest first; the markers of dead ones are removed."""
        folder, stem = self._markers
        found = []
        for marker in sorted(folder.glob(f"{stem}*")):
            try:
                owner = Owner(**json.loads(marker.read_text("utf-8")))
            except FileNotFoundError:
                continue
            except (ValueError, TypeError):  # being written, or left torn by a kill
                if time.time() - marker.stat().st_mtime > 1.0:
                    marker.unlink(missing_ok=True)
                continue
            if owner.exists():
                found.append((marker, owner))
            else:
                marker.unlink(missing_ok=True)
        return found
