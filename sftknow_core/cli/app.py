"""`sftknow ...`: the pipeline from the command line.

Results go to stdout (`--json`: one JSON object), everything else to stderr. Exit codes: 0 done, 2 the user's
mistake (the message says what, where and what to do next), 1 ours, 130 stopped (the same command goes on).
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sftknow_core import __version__
from sftknow_core.cli import audit, cache, chains, data, models, report, studies, weights
from sftknow_core.errors import SftknowError, SpecError, Stopped
from sftknow_core.registry import load_plugins

app = typer.Typer(
    name="sftknow",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="What supervised fine-tuning does to what a language model knows, and how to undo the harm.",
)
for room in (chains, studies, data, models, weights, report, audit, cache):
    room.register(app)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(
            "--plugin",
            help="Python file that registers strategies or matchers of your own: its code runs. Before or after the "
            "command; may be given again.",
        ),
    ] = None,
) -> None:
    del plugin  # loaded by `main`, before the help texts list what there is
    if version:
        sys.stdout.write(f"sftknow {__version__}\n")
        raise typer.Exit


def main(args: list[str] | None = None) -> None:
    """Run a command and exit with its code."""
    warnings.showwarning = _show_warning
    signal.signal(signal.SIGTERM, _stop)
    try:
        rest, plugins = _split_plugins(sys.argv[1:] if args is None else args)
        for loaded in load_plugins(plugins):
            what = ", ".join(loaded.registered)
            _tell(f"note: code of {loaded.path} runs (sha256 {loaded.sha256[:12]}): {what}")
        code = app(rest, standalone_mode=False)
    except Stopped as error:
        _tell(f"stopped: {error}")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _tell("stopped from the keyboard; the same command goes on where it stopped")
        sys.exit(Stopped.exit_code)
    except SftknowError as error:
        _tell(f"error: {error}")
        sys.exit(error.exit_code)
    except Exception as error:
        if not hasattr(error, "format_message"):  # click's usage errors have one; anything else is our fault
            raise
        _tell(f"error: {error.format_message()} (see `sftknow --help`)")
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _split_plugins(args: Sequence[str]) -> tuple[list[str], list[Path]]:
    """(arguments without `--plugin FILE`, the files), up to a `--`, behind which arguments are another program's."""
    rest: list[str] = []
    files: list[Path] = []
    left = list(args)
    while left:
        word, *left = left
        name, equals, value = word.partition("=")
        if word == "--":
            return [*rest, word, *left], files
        if name != "--plugin":
            rest.append(word)
        elif equals:
            files.append(Path(value))
        elif left:
            files.append(Path(left.pop(0)))
        else:
            raise SpecError("--plugin: a file is missing behind it")
    return rest, files


def _stop(*_: object) -> None:
    """A request to end is treated as Ctrl-C: the run is put on record as stopped and can go on."""
    raise KeyboardInterrupt


def _tell(text: str) -> None:
    sys.stderr.write(f"sftknow: {text}\n")


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    _tell(f"note: {message}")
