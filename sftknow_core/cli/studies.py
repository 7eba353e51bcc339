"""`study run`, `study list` and `study show`: the paper's grid on a model, and what became of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftknow_core.cli import options as o
from sftknow_core.cli.report import check_free
from sftknow_core.errors import SpecError
from sftknow_core.present.terminal import show_pairs
from sftknow_core.present.text import commands

if TYPE_CHECKING:
    from sftknow_core.analysis.drives import Drives
    from sftknow_core.analysis.study import StudyResults
    from sftknow_core.pipeline.study.plan import StudyPlan
    from sftknow_core.results import Study

study = typer.Typer(
    help="Levels x sizes x seeds in one go: run a study, list studies, show one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(study, name="study")


@study.command()
def run(
    name_or_file: Annotated[str, typer.Argument(help="demo, demo-full, objections, paper, or a .toml file.")],
    base: Annotated[
        str | None, typer.Option("--base", help="Base model instead of the file's.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Facts instead of the file's.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Cells at work at once, instead of the file's.", show_default=False),
    ] = None,
    executor: Annotated[str, o.executor_option()] = "processes",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only say what there is to do, what it takes, and what it can detect.",
        ),
    ] = False,
    skip_impossible: Annotated[
        bool, typer.Option("--skip-impossible", help="Leave out cells that have too few facts.")
    ] = False,
    cache: o.CacheOpt = None,
    device: o.DeviceOpt = "auto",
    dtype: o.DtypeOpt = "auto",
    as_json: o.JsonOpt = False,
) -> None:
    """Run a study, or what is left of it; exit code 1 when a cell failed."""
    from sftknow_core.analysis.precision import earlier, precision
    from sftknow_core.pipeline.study.plan import plan
    from sftknow_core.pipeline.study.read import read_study
    from sftknow_core.pipeline.study.run import run_study
    from sftknow_core.results import Study

    spec = read_study(name_or_file, base=base, data=data)
    if workers is not None:
        spec = spec.but(workers=workers)
    with o.workspace(cache, device, dtype) as ws:
        if dry_run:
            found = plan(spec, ws)
            given = earlier(ws.cache, found.base.model_id)
            about = {"precision": precision(spec, found.n_by_level, given)}
            o.emit(_plan_result(found) | about, as_json, commands.show_plan)
            return
        done = run_study(spec, ws, executor, skip_impossible=skip_impossible)
        result = Study(ws.cache, done.run.run_id)
        _print(result, as_json)
    if result.info.n_failed:
        raise typer.Exit(1)


@study.command("list")
def list_(cache: o.CacheOpt = None, as_json: o.JsonOpt = False) -> None:
    """List the studies of a cache, and those that come with the package."""
    from sftknow_core.pipeline.study.read import shipped
    from sftknow_core.results.studies import list_studies
    from sftknow_core.store.cache import Cache

    root, found = Cache(cache).root, list_studies(Cache(cache))
    if as_json:
        studies = [asdict(one) for one in found]
        o.print_json({"cache": str(root), "studies": studies, "shipped": shipped()})
    else:
        commands.show_studies(root, found, shipped())


@study.command()
def show(
    run_: Annotated[
        str, typer.Argument(metavar="RUN", help="A study's run, by the start of its id, or a name.")
    ],
    cache: o.CacheOpt = None,
    as_json: o.JsonOpt = False,
) -> None:
    """Show a study's cells with their headline numbers, also while it is under way."""
    from sftknow_core.results import find_study
    from sftknow_core.store.cache import Cache

    _print(find_study(Cache(cache), run_), as_json)


def _print(found: Study, as_json: bool) -> None:
    if as_json:
        o.print_json(found.to_json())
    else:
        commands.show_study(found)


def _plan_result(found: StudyPlan) -> dict[str, Any]:
    cells = [
        {
            "key": one.cell.key,
            "level": one.cell.level,
            "n": one.cell.n,
            "seed": one.cell.seed,
            "method": one.cell.method,
            "state": one.state,
            "reason": one.reason,
            "run_ids": list(one.run_ids),
        }
        for one in found.cells
    ]
    return {
        "name": found.spec.name,
        "run_id": found.run_spec.run_id,
        "base_id": found.base.model_id,
        "base_name": found.base.name,
        "mastery_known": found.mastery_known,
        "n_questions": dict(found.n_questions),
        "n_questions_by_size": {size: dict(of) for size, of in found.n_questions_by_size.items()},
        "rule": found.spec.fixed_rule.model_dump(),
        "workers": found.spec.workers,
        "checkpoints": str(found.spec.checkpoints),
        "seconds": found.estimate.seconds,
        "disk_bytes": found.estimate.disk_bytes,
        "peak_bytes": found.estimate.peak_bytes,
        "estimate": found.estimate.why,
        "cells": cells,
    }


# `study tables`, `study claims` and `study report`: what a study says, on a terminal and as files.


RunArg = Annotated[
    str, typer.Argument(metavar="RUN", help="A study's run, by the start of its id, or a name.")
]


@study.command()
def claims(run: RunArg, cache: o.CacheOpt = None, as_json: o.JsonOpt = False) -> None:
    """Say which of the paper's claims the study shows, with effects, intervals, advice and scorecard."""
    from sftknow_core.present.text.commands import claims_result, show_claims

    o.emit(claims_result(_read(run, cache)), as_json, show_claims)


@study.command()
def drives(run: RunArg, cache: o.CacheOpt = None, as_json: o.JsonOpt = False) -> None:
    """Say what drives a study's results: learning rate and steps, masks, forgotten facts, lost or inaccessible."""
    from sftknow_core.present.text.drives import drives_result, show_drives

    o.emit(drives_result(_drives(_read(run, cache), cache)), as_json, show_drives)


@study.command()
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


@study.command()
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
    page = render(results, _drives(results, cache)).encode()
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
    from sftknow_core.results import find_study
    from sftknow_core.store.cache import Cache

    found = Cache(cache)
    return read_study_results(found, find_study(found, run).run_id)


def _drives(results: StudyResults, cache: Path | None) -> Drives:
    from sftknow_core.analysis.drives import drives_of
    from sftknow_core.store.cache import Cache

    return drives_of(Cache(cache), results)
