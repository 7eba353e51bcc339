"""A recipe and its pair, or a patch and its tuned model -> the restored model as a folder.

What is written is compared with the model_id that the file names before it appears: a rebuilt model is the
restored one, bit for bit, or there is none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.pipeline.delta import ModelPair, open_source
from sftknow_core.pipeline.export import (
    REPORT_NUMBERS,
    card_facts,
    measured_accuracies,
    report_numbers,
    restored_card,
)
from sftknow_core.pipeline.new_outputs import new_outputs
from sftknow_core.pipeline.passes import Meter, Pass, rebuild_passes
from sftknow_core.pipeline.workspace import ModelHandle, Workspace

if TYPE_CHECKING:
    from sftknow_core.update.lineage import Lineage
    from sftknow_core.update.patch_file import PatchReader


def rebuild(
    ws: Workspace, recipe_path: Path, base: ModelHandle, tuned: ModelHandle, out: Path
) -> dict[str, Any]:
    """Make the restored model of a recipe again, in one pass, as the new folder `out`.

    Returns the counts. Raises SpecError for a recipe that is damaged or of another pair, ModelError for a full disk
    or when another model came out; nothing is left then.
    """
    from sftknow_core.model.io.identity import model_id
    from sftknow_core.update.output_layout import layout_for
    from sftknow_core.update.recipe import check_rebuilt, plan_from, read_recipe
    from sftknow_core.update.restore import write_restored

    where = f"recipe {recipe_path}"
    recipe = read_recipe(recipe_path)
    lineage = recipe.lineage
    lineage.require_pair(base.model_id, tuned.model_id, where)
    with new_outputs([out]) as places:
        pair = ModelPair(base, tuned).weights
        plan = plan_from(recipe, pair, where)
        layout = layout_for(pair, lineage.output_dtype)
        meter = Meter(ws.reporter, rebuild_passes(pair, plan.metas, layout))
        progress = meter.stage("write", f"writing {out}")
        dtype = lineage.output_dtype
        report = write_restored(pair, plan, places[out], dtype=dtype, sync=False, progress=progress)
        ws.reporter.stage(f"comparing {out} with the recipe")
        check_rebuilt(recipe, report, model_id(places[out]), where)
        meter.done("verify")
        facts = _finish(ws, places[out], lineage, report_numbers(report))
    return facts | {"out": str(out), "recipe": str(recipe_path)}


def apply_patch(ws: Workspace, patch_path: Path, tuned: ModelHandle, out: Path) -> dict[str, Any]:
    """Make the restored model from the tuned one and a patch, as the new folder `out`.

    Returns the counts. Raises SpecError for a patch of another tuned model, ModelError for a damaged patch or a
    full disk; nothing is left then.
    """
    from sftknow_core.model.io.identity import model_id
    from sftknow_core.update.patch import write_patched
    from sftknow_core.update.patch_file import PatchReader

    ws.reporter.stage(f"checking {patch_path}")
    with PatchReader(patch_path) as patch:
        _require_tuned(patch, tuned)
        with new_outputs([out]) as places:
            source = open_source(tuned.path, tuned.base.path if tuned.base else None)
            n_bytes = sum(meta.numel * meta.dtype.itemsize for meta in source.metas)
            meter = Meter(ws.reporter, [Pass("write", n_bytes), Pass("verify", n_bytes)])
            progress = meter.stage("write", f"writing {out}")
            write_patched(source, patch, places[out], sync=False, progress=progress)
            ws.reporter.stage(f"comparing {out} with the patch")
            found = model_id(places[out])
            meter.done("verify")
            if found != patch.lineage.model_id:
                raise ModelError(
                    f"patch {patch_path}: the patched model is {found} and not {patch.lineage.model_id}: another "
                    "version of sftknow or of its libraries wrote the patch. Nothing was left behind."
                )
            numbers = {name: patch.report.get(name) for name in REPORT_NUMBERS}
            facts = _finish(ws, places[out], patch.lineage, numbers)
    patch_bytes = patch_path.stat().st_size
    about = {"path": str(patch_path), "bytes": patch_bytes, "share_of_model": patch_bytes / n_bytes}
    return facts | {"out": str(out), "patch": about}


def _require_tuned(patch: PatchReader, tuned: ModelHandle) -> None:
    lineage = patch.lineage
    if tuned.model_id == lineage.tuned_id:
        return
    hint = "Give that model."
    if tuned.model_id == lineage.base_id:
        hint = "That is the base it was restored to; give the fine-tuned model."
    elif tuned.model_id == lineage.model_id:
        hint = "That is the restored model itself: the patch was applied to it already."
    raise SpecError(
        f"patch {patch.path} is for tuned {lineage.tuned_id} ({lineage.tuned_name}), and tuned is "
        f"{tuned.model_id} ({tuned.name}) here. {hint}"
    )


def _finish(ws: Workspace, folder: Path, lineage: Lineage, numbers: dict[str, Any]) -> dict[str, Any]:
    """Write the card; returns what stands in it."""
    facts = card_facts(lineage, numbers, measured_accuracies(ws.cache, lineage.state_id))
    (folder / "README.md").write_text(restored_card(facts), encoding="utf-8")
    return facts
