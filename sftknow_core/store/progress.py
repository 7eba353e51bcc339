"""How far work is, told to whoever looks: no more often than people look, as an event, a line or a small file."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from math import inf
from pathlib import Path

from sftknow_core.store.files import TEMPORARY_PREFIX

_NUMBERS = re.compile(r"[\d.,]+")
"""What changes in a stage's text while it is the same stage: "permuting the changes: 37%"."""


class Throttle:
    """Whether something is due again: after some seconds, or at once where the text is another."""

    def __init__(self, seconds: float, *, at_once: bool = True) -> None:
        """at_once: whether it is due before the first seconds have passed."""
        self._seconds = seconds
        self._last = -inf if at_once else time.monotonic()
        self._text = ""

    def due(self, text: str = "", *, anyway: bool = False) -> bool:
        """Whether to tell it now; then the seconds begin anew. anyway: it is too important to wait."""
        now = time.monotonic()
        if text == self._text and now - self._last < self._seconds and not anyway:
            return False
        self._last, self._text = now, text
        return True


class ProgressFile:
    """A small JSON file that is replaced twice a second at most: {"stage", "share", "seconds_left"}."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._throttle = Throttle(0.5)

    def write(self, stage: str, share: float | None, seconds_left: float | None) -> None:
        """Replace the file, whole or not at all, without waiting for the disk. share: 0 to 1; None: not known."""
        if not self._throttle.due(_NUMBERS.sub("", stage)):
            return
        told = {"stage": stage, "share": share, "seconds_left": seconds_left}
        temporary = self._path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{self._path.name}")
        with suppress(OSError):  # nobody looks at a full disk's progress; the next result says so
            self._path.parent.mkdir(exist_ok=True)
            temporary.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
            temporary.replace(self._path)
