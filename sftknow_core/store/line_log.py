"""JSON lines appended to a log; a torn last line, left by a kill, does not count as written."""

from __future__ import annotations

import errno
import json
import math
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sftknow_core.store.files import disk_errors


def plain_json(value: Any) -> str:
    """JSON text; NaN and infinities become null, because JSON has none and "not a number" is no value."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy scalar
        return _finite(value.item())
    return value


class LineLog:
    """A file of JSON lines, opened for appending by its one owner; safe for that owner's threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with disk_errors(path):
            _cut_torn_line(path)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self._last_append = time.monotonic()

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line, whole or not at all."""
        line = plain_json(record).encode() + b"\n"
        with self._lock, disk_errors(self.path):
            size = os.fstat(self._fd).st_size
            try:
                if os.write(self._fd, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(self._fd, size)
                raise
            self._last_append = time.monotonic()

    def idle_seconds(self) -> float:
        """Time since the last line."""
        return time.monotonic() - self._last_append

    def close(self) -> None:
        """Close the file; the log cannot be appended to any more."""
        with self._lock:
            os.close(self._fd)
            self._fd = -1  # a late heartbeat must not write into whatever file gets the number next


def _cut_torn_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            os.truncate(path, whole)


def read_lines(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The records from byte `offset` on, and the offset behind the last whole line (to go on from later).

    A torn last line is left for the next call; a line that is no JSON object (a damaged disk) is passed over.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
    except FileNotFoundError:
        return [], offset
    whole = content.rfind(b"\n") + 1
    records = []
    for line in content[:whole].splitlines():
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                records.append(record)
    return records, offset + whole
