"""Progress of long work: what is being done, how far it is, how long it will take.

Work is counted in units that stand for about one second of the demo model on two cores, so that one bar can
span stages of different kinds; the time left comes from the speed seen so far.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sftknow_core.store.progress import Throttle

SECONDS_BETWEEN_LINES = 10.0
"""Where stderr is no terminal, a line is printed no more often."""


class Reporter:
    """Keeps count and says nothing: the base of the others, and what tests and notebooks use."""

    def __init__(self) -> None:
        self.total = 0.0
        self.done = 0.0
        self.text = ""
        self._began = time.monotonic()

    @property
    def share(self) -> float | None:
        """The share done, 0 to 1; None while no work is announced."""
        return min(self.done / self.total, 1.0) if self.total else None

    @property
    def seconds_left(self) -> float | None:
        """By the speed seen so far; None while nothing is done."""
        return (time.monotonic() - self._began) * (1 / self.share - 1) if self.share else None

    def expect(self, units: float) -> None:
        """Announce more work."""
        self.total += units
        self.show()

    def stage(self, text: str) -> None:
        """Say what is being done now."""
        self.text = text
        self.show()

    def advance(self, units: float) -> None:
        """Some of the announced work is done."""
        self.done += units
        self.show()

    def say(self, text: str) -> None:
        """A line worth keeping."""

    def show(self) -> None:
        """Bring the display up to date."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the display."""


class BarReporter(Reporter):
    """A bar with the time left on stderr; lines instead of a bar where stderr is no terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)
        self._lines = Throttle(SECONDS_BETWEEN_LINES, at_once=False)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Print the line above the bar."""
        self.console.print(text, highlight=False)

    def show(self) -> None:
        """Move the bar, or print a line every ten seconds."""
        self._bar.update(self._task, description=self.text, total=self.total or None, completed=self.done)
        if not self.console.is_terminal and self.total and self._lines.due():
            left = "" if self.seconds_left is None else f", about {_clock(self.seconds_left)} left"
            self.say(f"{self.done / self.total:4.0%}  {self.text}{left}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(min(seconds, 359_999)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
