"""`runs`, `reindex` and `app`: what is in a cache, and the dashboard over it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from sftknow_core.cli import options as o
from sftknow_core.cli.chains import has_display
from sftknow_core.errors import SpecError
from sftknow_core.present import terminal

runs = typer.Typer(help="List, stop, remove and tidy up the runs of a cache.", rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(runs, name="runs", invoke_without_command=True)
    app.command()(reindex)
    app.command("app", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(dashboard)


@runs.callback()
def list_(
    context: typer.Context,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only runs of this kind.", show_default=False)
    ] = None,
    cache: o.CacheOpt = None,
    as_json: o.JsonOpt = False,
) -> None:
    """List the runs of a cache with their state."""
    if context.invoked_subcommand is not None:
        return
    from sftknow_core.store.cache import Cache
    from sftknow_core.store.listing import list_runs

    found = Cache(cache)
    rows: list[dict[str, Any]] = [
        {
            "run_id": info.run_id,
            "kind": info.kind,
            "state": str(info.status.state),
            "reason": info.status.reason,
            "done": info.status.done,
            "total": info.status.total,
            "seconds": info.status.seconds,
            "size_bytes": info.size_bytes,
            "has_weights": info.has_weights,
            "created_at": info.created_at,
            "about": dict(info.about),
        }
        for info in list_runs(found, kind=kind)
    ]
    o.emit({"cache": str(found.root), "runs": rows}, as_json, terminal.show_runs)


@runs.command()
def stop(
    run: Annotated[str, typer.Argument(help="Run, by the start of its id.")],
    cache: o.CacheOpt = None,
    as_json: o.JsonOpt = False,
) -> None:
    """Stop a run under way; the same command resumes it later."""
    from sftknow_core.store.cache import Cache
    from sftknow_core.store.listing import find_run
    from sftknow_core.store.open_run import request_stop

    found = Cache(cache)
    run_id = find_run(found, run)
    request_stop(found, run_id)
    o.emit({"run_id": run_id, "stop_requested": True}, as_json, terminal.show_pairs)


@runs.command("rm")
def remove(
    run: Annotated[list[str], typer.Argument(help="Runs, by the start of their ids.")],
    cache: o.CacheOpt = None,
    as_json: o.JsonOpt = False,
) -> None:
    """Delete runs: folders and rows together."""
    from sftknow_core.store.cache import Cache
    from sftknow_core.store.gc import remove_runs
    from sftknow_core.store.listing import find_run

    found = Cache(cache)
    ids = [find_run(found, prefix) for prefix in run]
    freed = remove_runs(found, ids)
    o.emit({"removed": ids, "freed_bytes": freed}, as_json, terminal.show_pairs)


@runs.command()
def gc(
    keep: Annotated[
        str, typer.Option("--keep", help="Checkpoints that stay: best, latest or none.")
    ] = "best",
    what: Annotated[
        str, typer.Option("--what", help="What goes of the others: weights, or runs (their numbers as well).")
    ] = "weights",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    cache: o.CacheOpt = None,
    as_json: o.JsonOpt = False,
) -> None:
    """Delete checkpoints that can be made again by their commands."""
    from sftknow_core.store.cache import Cache
    from sftknow_core.store.gc import Keep, What
    from sftknow_core.store.gc import gc as collect

    for option, given, allowed in (("--keep", keep, Keep), ("--what", what, What)):
        if given not in list(allowed):
            raise SpecError(f"{option}: got {given!r}; allowed: {', '.join(allowed)}")
    done = collect(Cache(cache), Keep(keep), What(what), dry_run=dry_run)
    result = {
        "removed": list(done.removed),
        "freed_bytes": done.freed_bytes,
        "kept": dict(done.kept),
        "dry_run": dry_run,
    }
    o.emit(result, as_json, terminal.show_pairs)


def reindex(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Into a new catalogue file; the old one is set aside.")
    ] = False,
    cache: o.CacheOpt = None,
    as_json: o.JsonOpt = False,
) -> None:
    """Read all run folders into the catalogue again."""
    from sftknow_core.store.cache import Cache
    from sftknow_core.store.ingest import reindex as read_again

    done = read_again(Cache(cache), rebuild=rebuild)
    o.emit({"n_runs": done.n_runs, "left_out": dict(done.left_out)}, as_json, terminal.show_pairs)


def dashboard(
    context: typer.Context,
    port: Annotated[int, typer.Option("--port", help="Port on 127.0.0.1.")] = 8501,
    browser: Annotated[
        bool | None,
        typer.Option(
            "--browser/--no-browser",
            help="Open a browser; else where there is a display.",
            show_default=False,
        ),
    ] = None,
    read_only: Annotated[
        bool,
        typer.Option("--read-only", help="Show mode: browse, and start, write, delete and export nothing."),
    ] = False,
    cache: o.CacheOpt = None,
) -> None:
    """Open the dashboard over a cache; further options go to streamlit."""
    from sftknow_core.serve.dashboard import serve
    from sftknow_core.store.cache import Cache

    root = Cache(cache, only_read=read_only or None).root
    wanted = has_display() if browser is None else browser
    sys.exit(serve(root, port=port, browser=wanted, read_only=read_only, extra=context.args))
