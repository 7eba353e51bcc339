"""`audit-matcher`: stored completions to judge by hand, and what the judgements say about the matcher."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sftknow_core.cli import options as o
from sftknow_core.cli.report import check_free
from sftknow_core.errors import SpecError
from sftknow_core.present import terminal


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit-matcher")(audit_matcher)


def audit_matcher(
    run: Annotated[
        list[str] | None,
        typer.Argument(help="Chains or evaluations, by the start of their ids.", show_default=False),
    ] = None,
    n: Annotated[
        int, typer.Option("--n", help="Completions to draw, half called right and half called wrong.")
    ] = 200,
    seed: o.SeedOpt = 0,
    out: Annotated[Path, typer.Option("--out", help="The CSV to write.")] = Path("audit.csv"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    judged: Annotated[
        Path | None,
        typer.Option(
            "--judged", help="Read this CSV back, its column `judged` filled in.", show_default=False
        ),
    ] = None,
    cache: o.CacheOpt = None,
    as_json: o.JsonOpt = False,
) -> None:
    """Draw completions to judge by hand (RUN), or say how often the matcher is wrong (--judged)."""
    from sftknow_core.results.audit import draw, read_audit
    from sftknow_core.store.cache import Cache, check_may_write
    from sftknow_core.store.listing import find_run

    if bool(run) == (judged is not None):
        raise SpecError("give either runs to draw completions from, or --judged FILE with judged ones")
    if judged is not None:
        found = read_audit(judged)
        o.emit({"judged": str(judged), **asdict(found.rates())}, as_json, terminal.show_audit)
        return
    check_may_write("write an audit")
    check_free(out, force)
    in_cache = Cache(cache)
    drawn = draw(in_cache, [find_run(in_cache, one) for one in run or []], n, seed)
    drawn.save(out)
    sizes = {row.verdict: row.n_stratum for row in drawn.rows}
    told = {
        "audit": str(out.absolute()),
        "n": len(drawn.rows),
        "n_by_verdict": {verdict: sum(row.verdict == verdict for row in drawn.rows) for verdict in sizes},
        "n_stored_by_verdict": sizes,
        "next": f"fill in the column judged (right, wrong or unsure), then `sftknow audit-matcher --judged {out}`",
    }
    o.emit(told, as_json, terminal.show_pairs)
