"""Shows passes over weights through a reporter: bytes done of all, and from them the time left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sftknow_core.pipeline.passes import Pass
from sftknow_core.pipeline.reporter import Reporter

UNITS_PER_BYTE = 1e-9
"""A unit of work stands for about a second: 1 GB read and computed on."""


class Meter:
    """Announces several stages at once, so that the time left covers all of them."""

    def __init__(self, reporter: Reporter, passes: Sequence[Pass]) -> None:
        self._reporter = reporter
        self._passes = {p.name: p for p in passes}
        self._shown = dict.fromkeys(self._passes, 0.0)
        reporter.expect(sum(p.n_bytes for p in passes) * UNITS_PER_BYTE)

    def stage(self, name: str, text: str) -> Callable[[int, int], None]:
        """Begin a stage; returns what takes its progress, (done, total) of each pass over the weights."""
        stage = self._passes[name]
        n_begun, last = 0, 0
        self._reporter.stage(text)

        def progress(done: int, total: int) -> None:
            nonlocal n_begun, last
            n_begun += done < last  # the next pass has begun
            last = done
            share = min(1.0, (n_begun + done / total) / stage.times)
            self._reporter.text = f"{text}: {size(share * stage.n_bytes)} of {size(stage.n_bytes)}"
            self._show(name, share)

        return progress

    def done(self, name: str) -> None:
        """A stage is over, with less work than was announced or without progress of its own."""
        self._show(name, 1.0)

    def _show(self, name: str, share: float) -> None:
        more = (share - self._shown[name]) * self._passes[name].n_bytes * UNITS_PER_BYTE
        self._shown[name] = share
        self._reporter.advance(more)


def size(n_bytes: float) -> str:
    """Bytes for people: "512 B", "3.1 MB", "16.1 GB"."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:,.1f} {name}"
    return f"{n_bytes:.0f} B"
