"""Out of the cache: a restored or fine-tuned model as a normal Hugging Face folder with a card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftknow_core.errors import SpecError
from sftknow_core.runs.card import restored_card
from sftknow_core.runs.delta import ModelPair
from sftknow_core.runs.states import restored_state
from sftknow_core.runs.workspace import ModelHandle, Workspace
from sftknow_core.store.catalogue import read_table

if TYPE_CHECKING:
    from sftknow_core.update.restore import RestoreReport
    from sftknow_core.update.spec import RestoreSpec


def export_restored(
    ws: Workspace, base: ModelHandle, tuned: ModelHandle, spec: RestoreSpec, out: Path, dtype: str = "base"
) -> dict[str, Any]:
    """Write the restored model to the new folder `out`; the card states what is known of its accuracy.

    Returns the counts. Raises SpecError when `out` exists or the region is empty, ModelError for a pair that does
    not fit.
    """
    from sftknow_core.update.restore import survey, write_restored

    pair = ModelPair(base, tuned)
    state = restored_state(base, tuned, spec)
    if out.exists():
        raise SpecError(f"{out} exists already; give a new folder")
    ws.reporter.stage("choosing the parameters to restore")
    plan = pair.plan(spec)
    report = survey(pair.weights, plan)
    facts = _facts(state.state_id, base, tuned, spec, report, dtype)
    facts["accuracies"] = _measured(ws, state.state_id)
    ws.reporter.stage(f"writing {out}")
    write_restored(pair.weights, plan, out, dtype=dtype, card=restored_card(facts))
    return facts | {"out": str(out)}


def copy_model(model: ModelHandle, out: Path) -> None:
    """Copy a checkpoint out of the cache, whole or not at all. Raises SpecError when `out` exists."""
    from sftknow_core.model.save import write_folder

    def copy(folder: Path) -> None:
        shutil.copytree(model.path, folder, dirs_exist_ok=True)

    write_folder(out, copy)


def _facts(
    state_id: str, base: ModelHandle, tuned: ModelHandle, spec: RestoreSpec, report: RestoreReport, dtype: str
) -> dict[str, Any]:
    return {
        "state_id": state_id,
        "base": base.name,
        "base_id": base.model_id,
        "tuned": tuned.name,
        "tuned_id": tuned.model_id,
        **spec.to_json(),
        "output_dtype": dtype,
        "n_model": report.n_model,
        "n_region": report.n_region,
        "n_changed": report.n_changed,
        "n_restored": report.n_restored,
        "n_touched": report.n_touched,
        "k_of_changed_percent": report.k_of_changed_percent,
        "share_of_r": report.r_share_restored,
        "energy_taken_back": report.energy_taken_back,
        "threshold": report.threshold,
        "ties_taken": report.ties_taken,
        "no_more_changes_from_k": None
        if report.no_more_changes_from_k is None
        else str(report.no_more_changes_from_k),
    }


def _measured(ws: Workspace, state_id: str) -> list[dict[str, Any]]:
    """Level-balanced accuracies of this state in the cache."""
    where = {"state_id": state_id, "level": None, "subset": "all"}
    columns = ["split", "domain", "matcher", "prompt", "n", "accuracy", "low", "high", "question_set_id"]
    rows = read_table(ws.cache, "accuracies", columns=columns, where=where).dropna(subset=["accuracy"])
    return [
        {str(key): value for key, value in row.items()} for row in rows.drop_duplicates().to_dict("records")
    ]
