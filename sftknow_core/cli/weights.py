"""`delta`, `restore`, `rebuild` and `apply-patch`: what works on two models' weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftknow_core.cli import options as o
from sftknow_core.errors import SpecError
from sftknow_core.present.text import commands
from sftknow_core.specs import ChainSpec, Restoring

if TYPE_CHECKING:
    from sftknow_core.pipeline.preflight import Job

DryRunOpt = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Only check: do they fit, what is read and written, is there room? Exit code 2: no."
    ),
]
NewFolderOpt = Annotated[Path, typer.Option("--out", help="New folder for the restored model.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (delta, masks, restore, rebuild, apply_patch):
        app.command()(command)


def delta(
    tuned: o.TunedOpt,
    base: o.BaseOpt = o.DEMO,
    dry_run: DryRunOpt = False,
    cache: o.CacheOpt = None,
    device: o.DeviceOpt = "auto",
    as_json: o.JsonOpt = False,
) -> None:
    """How much of a model fine-tuning changed, and how concentrated the change is."""
    from sftknow_core.pipeline.delta import ModelPair, compare_models
    from sftknow_core.pipeline.preflight import Job, check_job

    job = Job("delta", base, tuned)
    if dry_run:
        _only_check(job, cache, device, as_json)
    with o.workspace(cache, device) as ws:
        pair = ModelPair(*check_job(ws, job).require())
        run = compare_models(ws, pair)
    result = {
        "run_id": run.run_id,
        "base_id": pair.base.model_id,
        "tuned_id": pair.tuned.model_id,
        **run.summary,
        "regions": run.read("deltas").to_pylist(),
        "concentration": run.read("concentration").to_pylist(),
    }
    o.emit(result, as_json, commands.show_delta)


def masks(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Two or more chains of one base, or one study.")
    ],
    k: o.KsOpt = o.default(ChainSpec, "ks"),
    strategy: Annotated[str, o.strategy_option("k_percent")] = o.default(Restoring, "strategy"),
    region: o.RegionOpt = o.default(Restoring, "region"),
    ask: Annotated[
        str | None,
        typer.Option(
            "--ask",
            help="Also restore each model with the mask of every other at this k, and evaluate it.",
            show_default=False,
        ),
    ] = None,
    cache: o.CacheOpt = None,
    device: o.DeviceOpt = "auto",
    as_json: o.JsonOpt = False,
) -> None:
    """Which weights restoring picks: overlap between seeds, against chance and the smallest base weights."""
    from sftknow_core.analysis.masks import donor_rows, overlap_rows
    from sftknow_core.pipeline.masks import ask_donors, compare_masks, groups_of
    from sftknow_core.present.text import drives
    from sftknow_core.update.spec import percent

    ks, asked = o.percentages(k), None if ask is None else percent(ask)
    with o.workspace(cache, device) as ws:
        found: dict[str, Any] = {"groups": []}
        for group in groups_of(ws, runs):
            run = compare_masks(ws, group, ks, strategy=strategy, region=region)
            cells = {model.model_id: group.label for model in group.tuned}
            rows: dict[str, Any] = {
                "run_id": run.run_id,
                "label": group.label,
                "base_id": group.base.model_id,
            }
            rows["overlaps"] = overlap_rows(run.read("masks").to_pandas(), cells).to_dict("records")
            if asked is not None:
                donors = ask_donors(ws, group, asked, strategy=strategy, region=region)
                rows["donors"] = donor_rows(donors.read("donors").to_pandas(), cells).to_dict("records")
            found["groups"].append(rows)
    o.emit(found, as_json, drives.show_masks)


def restore(
    tuned: o.TunedOpt,
    base: o.BaseOpt = o.DEMO,
    out: Annotated[
        Path | None, typer.Option("--out", help="New folder for the restored model.", show_default=False)
    ] = None,
    k: Annotated[
        str | None, typer.Option("--k", help="Percent of the region to restore.", show_default=False)
    ] = None,
    alpha: Annotated[
        str | None,
        typer.Option(
            "--alpha", help="For strategy interpolation: 0 is base, 1 is tuned.", show_default=False
        ),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option(
            "--block", help='For the block strategies: "mlp", "0-3" or "mlp 0-3".', show_default=False
        ),
    ] = None,
    strategy: Annotated[str, o.strategy_option("k_percent", "alpha", "block")] = "top",
    region: o.RegionOpt = o.default(Restoring, "region"),
    layers: o.LayersOpt = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of random strategies.", show_default=False)
    ] = None,
    output_dtype: Annotated[
        str, typer.Option("--output-dtype", help="Of the written weights: base, exact, tuned, float32, ...")
    ] = "base",
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe", help="New small file from which base and tuned make it again.", show_default=False
        ),
    ] = None,
    patch: Annotated[
        Path | None,
        typer.Option(
            "--patch",
            help="New file with the changed weights alone, to be applied to tuned.",
            show_default=False,
        ),
    ] = None,
    dry_run: DryRunOpt = False,
    cache: o.CacheOpt = None,
    device: o.DeviceOpt = "auto",
    as_json: o.JsonOpt = False,
) -> None:
    """Revert the most changed weights to base and write the restored model, a recipe of it, or a patch."""
    from sftknow_core.pipeline.export import export_restored
    from sftknow_core.pipeline.preflight import Job, check_job
    from sftknow_core.update.spec import RestoreSpec

    if (k, alpha, block).count(None) != 2:
        raise SpecError(
            "give --k (percent of the region), or --alpha for strategy interpolation, or --block for "
            "strategies block and all-but-block"
        )
    if not dry_run and out is None and recipe is None and patch is None:
        raise SpecError("nothing to write: give --out, --recipe or --patch, or --dry-run to check only")
    spec = RestoreSpec(
        strategy=strategy,
        region=region,
        layers=layers,
        k_percent=k,  # type: ignore[arg-type]
        alpha=alpha,  # type: ignore[arg-type]
        seed=seed,
        block=block,
    )
    job = Job("restore", base, tuned, spec, output_dtype, out, recipe, patch)
    if dry_run:
        _only_check(job, cache, device, as_json)
    with o.workspace(cache, device) as ws:
        pair = check_job(ws, job).require()
        result = export_restored(ws, *pair, spec, out, output_dtype, recipe=recipe, patch=patch)
    o.emit(result, as_json, commands.show_restored)


def rebuild(
    recipe: Annotated[Path, typer.Argument(help="File that `sftknow restore --recipe` wrote.")],
    tuned: o.TunedOpt,
    out: NewFolderOpt,
    base: o.BaseOpt = o.DEMO,
    dry_run: DryRunOpt = False,
    cache: o.CacheOpt = None,
    device: o.DeviceOpt = "auto",
    as_json: o.JsonOpt = False,
) -> None:
    """Make a restored model again from its recipe, bit for bit."""
    from sftknow_core.pipeline.preflight import Job, check_job
    from sftknow_core.pipeline.rebuild import rebuild as rebuild_model

    job = Job("rebuild", base, tuned, out=out, recipe=recipe)
    if dry_run:
        _only_check(job, cache, device, as_json)
    with o.workspace(cache, device) as ws:
        result = rebuild_model(ws, recipe, *check_job(ws, job).require(), out)
    o.emit(result, as_json, commands.show_rebuilt)


def apply_patch(
    patch: Annotated[Path, typer.Argument(help="File that `sftknow restore --patch` wrote.")],
    tuned: o.TunedOpt,
    out: NewFolderOpt,
    cache: o.CacheOpt = None,
    device: o.DeviceOpt = "auto",
    as_json: o.JsonOpt = False,
) -> None:
    """Make a restored model from a patch and the tuned model alone, bit for bit."""
    from sftknow_core.pipeline.rebuild import apply_patch as apply_to

    with o.workspace(cache, device) as ws:
        result = apply_to(ws, patch, ws.open_model(tuned), out)
    o.emit(result, as_json, commands.show_rebuilt)


def _only_check(job: Job, cache: Path | None, device: str, as_json: bool) -> None:
    """Report every check and end the command, with exit code 2 when one failed."""
    from sftknow_core.pipeline.preflight import check_job

    with o.workspace(cache, device) as ws:
        found = check_job(ws, job)
    o.emit(found.to_json(), as_json, commands.show_preflight)
    raise typer.Exit(2 if found.failed else 0)
