"""`report`: a finished run as one HTML file that opens anywhere, without this program and without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftknow_core.cli import options as o
from sftknow_core.errors import SpecError
from sftknow_core.present import terminal


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)


def report(
    run: Annotated[
        str | None, typer.Argument(help="Chain, by the start of its id.", show_default=False)
    ] = None,
    run_option: Annotated[
        str | None, typer.Option("--run", help="The same, as an option.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The file to make.")] = Path("report.html"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    cache: o.CacheOpt = None,
    as_json: o.JsonOpt = False,
) -> None:
    """Write one HTML file with a finished run's figures, slider and questions; it opens offline."""
    from sftknow_core.present.html.run import render
    from sftknow_core.store.cache import Cache, check_may_write
    from sftknow_core.store.files import write_atomic
    from sftknow_core.store.listing import find_run

    wanted = _wanted(run, run_option)
    check_may_write("write a report")
    check_free(out, force)
    found = Cache(cache)
    run_id = find_run(found, wanted)
    page = render(found, run_id).encode()
    try:
        write_atomic(out, page)
    except OSError as error:
        raise SpecError(
            f"{out} cannot be written ({error.strerror}); choose another place with --out"
        ) from error
    done = {"run_id": run_id, "report": str(out.absolute()), "size_bytes": len(page)}
    o.emit(done, as_json, terminal.show_pairs)


def _wanted(run: str | None, option: str | None) -> str:
    """The run asked for, in either way. Raises SpecError."""
    given = [one for one in (run, option) if one]
    if len(set(given)) != 1:
        what = "got none" if not given else f"got {' and '.join(map(repr, given))}"
        raise SpecError(
            f"which run: {what}; give the start of one chain's id, as `sftknow runs --kind chain` lists"
        )
    return given[0]


def check_free(out: Path, force: bool) -> None:
    """Raise SpecError where the file must not or cannot be made."""
    if out.is_dir():
        raise SpecError(f"{out} is a folder; give a file with --out")
    if out.exists() and not force:
        raise SpecError(f"{out} exists already; give a new name with --out, or --force to replace it")
