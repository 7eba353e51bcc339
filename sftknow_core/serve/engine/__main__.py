"""The warm engine: a process that keeps a model ready for sliding k and for free questions.

    python -m sftknow_core.serve.engine --cache DIR --device auto

It reads requests from stdin and answers on stdout, one JSON object a line (protocol.py). It ends with its
stdin, so it dies with whoever started it, however that one died. Stdout is for answers alone: whatever else is
printed, by libraries in C too, goes to stderr.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from sftknow_core.errors import SftknowError
from sftknow_core.registry import load_plugins
from sftknow_core.serve.engine.worker import IDLE_SECONDS, Engine
from sftknow_core.store.cache import Cache
from sftknow_core.store.line_log import plain_json

_LAST_SECONDS = 2.0
"""What is in hand when stdin ends gets so long to put its end on record."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until stdin ends; returns the exit code."""
    given = _options().parse_args(arguments)
    requests, answers = _reserve_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the server
    warnings.showwarning = _show_warning
    try:
        load_plugins()
        cache = Cache(given.cache)
    except SftknowError as error:
        sys.stderr.write(f"sftknow engine: error: {error}\n")
        return error.exit_code
    sender = _Sender(answers)
    engine = Engine(cache, sender.send, device=given.device, idle_seconds=given.idle_seconds)
    sender.engine = engine
    threading.Thread(target=_read, args=(requests, engine), name="requests", daemon=True).start()
    engine.run()
    return 0


class _Sender:
    """Writes answers, one line each, from any thread."""

    def __init__(self, answers: IO[str]) -> None:
        self._answers = answers
        self._writing = threading.Lock()
        self.engine: Engine | None = None

    def send(self, answer: Mapping[str, Any]) -> None:
        """Write one answer; nobody is there to read it any more: end."""
        line = plain_json(answer) + "\n"
        try:
            with self._writing:
                self._answers.write(line)
                self._answers.flush()
        except OSError:
            if self.engine is not None:
                self.engine.close()


def _read(requests: IO[str], engine: Engine) -> None:
    """Hand on every line; at the end of stdin, end."""
    with suppress(OSError):
        for line in requests:
            if line.strip():
                engine.receive(line)
    engine.close()
    time.sleep(_LAST_SECONDS)
    os._exit(0)  # the work at hand does not return, e.g. from loading a large model


def _reserve_streams() -> tuple[IO[str], IO[str]]:
    """Stdin and stdout for ourselves; file descriptor 0 becomes empty and 1 becomes stderr."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return (
        open(requests, encoding="utf-8", errors="replace"),  # noqa: PTH123 - of a file descriptor
        open(answers, "w", encoding="utf-8"),  # noqa: PTH123
    )


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sftknow_core.serve.engine", description=__doc__)
    parser.add_argument("--cache", required=True, help="cache folder")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    parser.add_argument("--idle-seconds", type=float, default=IDLE_SECONDS, help="unload after so long")
    return parser


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    sys.stderr.write(f"sftknow engine: note: {message}\n")


if __name__ == "__main__":
    exit_code = main()
    sys.stderr.flush()
    os._exit(exit_code)  # the thread that reads stdin may still wait there, and would be waited for
