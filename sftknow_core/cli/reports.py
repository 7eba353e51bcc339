"""`study tables`, `study claims` and `study report`: what a study says, on a terminal and as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftknow_core.cli import options as o
from sftknow_core.cli.reporting import check_free
from sftknow_core.cli.studies import study
from sftknow_core.errors import SpecError
from sftknow_core.present.terminal import show_pairs

if TYPE_CHECKING:
    from sftknow_core.analysis.study import StudyResults

RunArg = Annotated[
    str, typer.Argument(metavar="RUN", help="A study's run, by the start of its id, or a name.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `study`."""
    del app
    for command in (claims, tables, report):
        study.command()(command)


def claims(run: RunArg, cache: o.CacheOpt = None, as_json: o.JsonOpt = False) -> None:
    """Say which of the paper's claims the study shows, with effects, intervals, advice and scorecard."""
    from sftknow_core.present.text.study_claims_text import claims_result, show_claims

    o.emit(claims_result(_read(run, cache)), as_json, show_claims)


def tables(
    run: RunArg,
    out: Annotated[Path, typer.Option("--out", help="The folder to fill.")] = Path("tables"),
    format_: Annotated[str, typer.Option("--format", help="Some of csv, latex, json.")] = "csv,latex,json",
    cache: o.CacheOpt = None,
    as_json: o.JsonOpt = False,
) -> None:
    """Write the paper's tables and figures with this study's numbers, and what changes sides run by run, a file each;
    files there are replaced."""
    from sftknow_core.present.tables import check_formats, write_tables
    from sftknow_core.store.cache import check_may_write

    check_may_write("write tables")
    formats = check_formats(part.strip() for part in format_.split(",") if part.strip())
    if out.exists() and not out.is_dir():
        raise SpecError(f"{out} is a file; give a folder with --out")
    results = _read(run, cache)
    made = (*results.tables, results.flips)
    files = write_tables(made, out, formats)
    not_run = {table.id: table.reason for table in made if table.reason}
    done: dict[str, Any] = {
        "run_id": results.about.run_id,
        "folder": str(out.absolute()),
        "n_files": len(files),
    }
    o.emit(done | {"files": [path.name for path in files], "not_run": not_run}, as_json, show_pairs)


def report(
    run: RunArg,
    out: Annotated[Path, typer.Option("--out", help="The file to make.")] = Path("study.html"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    cache: o.CacheOpt = None,
    as_json: o.JsonOpt = False,
) -> None:
    """Write one HTML file with a study's verdicts, advice, figures and tables; it opens offline."""
    from sftknow_core.present.html.study import render
    from sftknow_core.store.cache import check_may_write
    from sftknow_core.store.files import write_atomic

    check_may_write("write a report")
    check_free(out, force)
    results = _read(run, cache)
    page = render(results).encode()
    try:
        write_atomic(out, page)
    except OSError as error:
        raise SpecError(
            f"{out} cannot be written ({error.strerror}); choose another place with --out"
        ) from error
    done = {"run_id": results.about.run_id, "report": str(out.absolute()), "size_bytes": len(page)}
    o.emit(done, as_json, show_pairs)


def _read(run: str, cache: Path | None) -> StudyResults:
    from sftknow_core.analysis.study import read_study_results
    from sftknow_core.results.studies import list_studies
    from sftknow_core.store.cache import Cache
    from sftknow_core.store.listing import find_run

    found = Cache(cache)
    named = [one["run_id"] for one in list_studies(found) if one["name"] == run]
    if len(named) > 1:
        raise SpecError(f"{run!r} is the name of {len(named)} studies: {', '.join(named)}; give a run id")
    return read_study_results(found, named[0] if named else find_run(found, run))
