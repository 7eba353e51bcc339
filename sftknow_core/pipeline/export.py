"""Out of the cache: a restored or fine-tuned model as a normal Hugging Face folder with a card.

A restored model can also be kept as a recipe (small; needs base and tuned) or as a patch (needs tuned alone);
`rebuild.py` makes the folder from either.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftknow_core import __version__
from sftknow_core.errors import SpecError
from sftknow_core.pipeline.delta import ModelPair
from sftknow_core.pipeline.new_outputs import new_outputs
from sftknow_core.pipeline.passes import Meter, restore_passes
from sftknow_core.pipeline.workspace import ModelHandle, Workspace
from sftknow_core.registry import plugin_text
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table

if TYPE_CHECKING:
    from sftknow_core.update.lineage import Lineage
    from sftknow_core.update.restore import RestoreReport
if TYPE_CHECKING:
    from sftknow_core.update.output_layout import OutputLayout
    from sftknow_core.update.pair import Pair
    from sftknow_core.update.restore import RestoreReport
    from sftknow_core.update.select import Plan
    from sftknow_core.update.spec import RestoreSpec

# What was restored -> the model card (README.md) of the written folder.

REPORT_NUMBERS = (
    "n_model",
    "n_changed",
    "k_of_changed_percent",
    "share_of_r",
    "energy_taken_back",
    "projection_taken_back",
    "threshold",
    "ties_taken",
    "no_more_changes_from_k",
)
"""What the pass over the weights counted, beside what a lineage holds."""

_TEMPLATE = """---
library_name: transformers
tags: [sftknow, parameter-restoration]
---

# {tuned}, partly restored to {base}

Made by sftknow {version}: fine-tuned weights, of which some were reverted to their values before fine-tuning
(Ye et al., EMNLP 2025, [arXiv:2509.16596](https://arxiv.org/abs/2509.16596)).

| | |
|---|---|
| base model | {base} (`{base_id}`) |
| fine-tuned model | {tuned} (`{tuned_id}`) |
| restored model | `{model_id}` |
| state | `{state_id}` |
| strategy | {strategy}{seed} |
| region | {region}{layers} |
| amount | {amount} |
| parameters restored | {n_restored} of {n_region} in the region, {n_model} in the model |
| of these had changed | {n_touched} ({k_of_changed}% of all changed ones) |
| share of the summed relative change reverted | {share_of_r} |
| share of the squared change reverted | {energy} |
| reverted along the update (projection) | {projection} |
| weights written as | {output_dtype} |

## Closed-book accuracy

{accuracies}
"""


def rounding_text(rounding: Mapping[str, Any] | None) -> str:
    """What the output dtype cost, to stand after its name; nothing where it holds every weight."""
    if rounding is None:
        return ""
    return f" ({rounding['n']:,} weights rounded, by {rounding['largest']:.2g} at most)"


def report_numbers(report: RestoreReport) -> dict[str, Any]:
    """REPORT_NUMBERS of a report, as JSON values."""
    k = report.no_more_changes_from_k
    values = (
        report.n_model,
        report.n_changed,
        report.k_of_changed_percent,
        report.r_share_restored,
        report.energy_taken_back,
        report.projection_taken_back,
        report.threshold,
        report.ties_taken,
        None if k is None else str(k),
    )
    return dict(zip(REPORT_NUMBERS, values, strict=True))


def card_facts(
    lineage: Lineage, numbers: Mapping[str, Any], accuracies: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Everything that is known of a restored model, in one dict: what the card and `--json` say."""
    return {
        "state_id": lineage.state_id,
        "model_id": lineage.model_id,
        "base": lineage.base_name,
        "base_id": lineage.base_id,
        "tuned": lineage.tuned_name,
        "tuned_id": lineage.tuned_id,
        **lineage.spec.to_json(),
        "output_dtype": lineage.output_dtype,
        "n_region": lineage.n_region,
        "n_restored": lineage.n_restored,
        "n_touched": lineage.n_touched,
        **numbers,
        "accuracies": list(accuracies),
    }


def restored_card(facts: Mapping[str, Any]) -> str:
    """The card's text, from `card_facts`."""
    n_restored = facts["n_touched"] if facts["n_restored"] is None else facts["n_restored"]
    names = ("base", "base_id", "tuned", "tuned_id", "model_id", "state_id", "region")
    code = f" (code of {plugin_text(facts['plugin'])})" if facts.get("plugin") else ""
    return _TEMPLATE.format(
        version=__version__,
        **{key: facts[key] for key in names},
        strategy=f"{facts['strategy']}{code}",
        seed="" if facts["seed"] is None else f", seed {facts['seed']}",
        layers="" if facts["layers"] is None else f", layers {facts['layers']}",
        amount=_amount(facts),
        n_restored=f"{n_restored:,}",
        n_region=f"{facts['n_region']:,}",
        n_model=f"{facts['n_model']:,}",
        n_touched=f"{facts['n_touched']:,}",
        k_of_changed="-" if facts["k_of_changed_percent"] is None else f"{facts['k_of_changed_percent']:.1f}",
        share_of_r=_percent(facts["share_of_r"]),
        energy=_percent(facts["energy_taken_back"]),
        projection=_percent(facts["projection_taken_back"]),
        output_dtype=facts["output_dtype"] + rounding_text(facts.get("rounding")),
        accuracies=_accuracies(facts["accuracies"]),
    )


def _amount(facts: Mapping[str, Any]) -> str:
    if facts["k_percent"] is not None:
        return f"k = {facts['k_percent']}%"
    return f"alpha = {facts['alpha']}" if facts["alpha"] is not None else f"block {facts['block']}"


def _accuracies(rows: list[Mapping[str, Any]]) -> str:
    if not rows:
        return "Not measured. `sftknow run` measures it."
    lines = [
        "Mean over mastery levels, with 95% interval.",
        "",
        "| questions | prompt | matcher | n | accuracy |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        accuracy = f"{100 * row['accuracy']:.1f}% [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        domain = "in-domain" if row["domain"] == "in" else "out-of-domain"
        lines.append(
            f"| {row['split']} {domain} | {row['prompt']} | {row['matcher']} | {row['n']:,} | {accuracy} |"
        )
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def export_restored(
    ws: Workspace,
    base: ModelHandle,
    tuned: ModelHandle,
    spec: RestoreSpec,
    out: Path | None = None,
    dtype: str = "base",
    *,
    recipe: Path | None = None,
    patch: Path | None = None,
) -> dict[str, Any]:
    """Restore and write what is asked for: the model as folder `out` (its card states what is known of its
    accuracy), its recipe, its patch. All of them appear, or none.

    Returns the counts. Raises SpecError when one exists, the region is empty or a patch is impossible, ModelError
    for a pair that does not fit or a full disk.
    """
    from sftknow_core.update.lineage import Lineage
    from sftknow_core.update.patch import write_patch
    from sftknow_core.update.recipe import Recipe

    wanted = [path for path in (out, recipe, patch) if path is not None]
    if not wanted:
        raise SpecError("nothing to write: give --out, --recipe or --patch")
    with new_outputs(wanted) as places:
        work = _begin(ws, ModelPair(base, tuned), spec, dtype, out, patch)
        report, restored_id = work.write(places[out], out) if out is not None else work.only_hash()
        counts = (report.n_region, report.n_restored, report.n_touched)
        names = (base.model_id, base.name, tuned.model_id, tuned.name)
        lineage = Lineage(*names, spec, dtype, *counts, restored_id)
        numbers = report_numbers(report)
        facts = card_facts(lineage, numbers, measured_accuracies(ws.cache, lineage.state_id))
        if report.rounding is not None:
            facts["rounding"] = {"n": report.rounding.n, "largest": report.rounding.largest}
        if out is not None:
            (places[out] / "README.md").write_text(restored_card(facts), encoding="utf-8")
        if recipe is not None:
            places[recipe].write_text(Recipe(lineage, work.plan.cut).to_text(), encoding="utf-8")
        if patch is not None:
            progress = work.meter.stage("patch", f"writing {patch}")
            n_bytes = write_patch(places[patch], work.pair, work.plan, lineage, numbers, progress=progress)
            facts["patch"] = {
                "path": str(patch),
                "bytes": n_bytes,
                "share_of_model": n_bytes / work.layout.n_bytes,
            }
    return facts | {"out": _text(out), "recipe": _text(recipe), "model_bytes": work.layout.n_bytes}


def copy_model(model: ModelHandle, out: Path) -> None:
    """Copy a checkpoint out of the cache, whole or not at all. Raises SpecError when `out` exists."""
    from sftknow_core.model.io.save import write_folder

    def copy(folder: Path) -> None:
        shutil.copytree(model.path, folder, dirs_exist_ok=True)

    write_folder(out, copy)


def measured_accuracies(cache: Cache, state_id: str) -> list[Mapping[str, Any]]:
    """Level-balanced accuracies of this state in the cache."""
    where = {"state_id": state_id, "level": None, "subset": "all"}
    columns = ["split", "domain", "matcher", "prompt", "n", "accuracy", "low", "high", "question_set_id"]
    rows = read_table(cache, "accuracies", columns=columns, where=where).dropna(subset=["accuracy"])
    return [
        {str(key): value for key, value in row.items()} for row in rows.drop_duplicates().to_dict("records")
    ]


@dataclass(frozen=True)
class _Work:
    """A selection ready to be written in one way or another."""

    ws: Workspace
    pair: Pair
    plan: Plan
    layout: OutputLayout
    dtype: str
    meter: Meter

    def write(self, place: Path, out: Path) -> tuple[RestoreReport, str]:
        """Write the folder at `place`, which will be `out`; what was done, and the new model's id."""
        from sftknow_core.model.io.identity import model_id
        from sftknow_core.update.restore import write_restored

        progress = self.meter.stage("write", f"writing {out}")
        report = write_restored(
            self.pair, self.plan, place, dtype=self.dtype, sync=False, progress=progress
        )  # new_outputs flushes it
        self.ws.reporter.stage(f"reading {out} back")
        found = model_id(place)
        self.meter.done("verify")
        return report, found

    def only_hash(self) -> tuple[RestoreReport, str]:
        """What writing would do, and the id that the model would have."""
        from sftknow_core.model.io.tensor_writer import CheckpointHasher
        from sftknow_core.update.apply import restored_chunks
        from sftknow_core.update.restore import survey

        progress = self.meter.stage("survey", "counting what is reverted")
        report = survey(self.pair, self.plan, progress=progress)
        hasher = CheckpointHasher(self.layout.template, self.layout.dtypes)
        progress = self.meter.stage("hash", "finding out the id of the restored model")
        for chunk in restored_chunks(self.pair, self.plan, whole=True, progress=progress):
            hasher.write(chunk.meta.name, chunk.start, chunk.values)
        return report, hasher.model_id(list(self.layout.folders), self.layout.widest)


def _begin(
    ws: Workspace, models: ModelPair, spec: RestoreSpec, dtype: str, out: Path | None, patch: Path | None
) -> _Work:
    """Check what can be checked, then find the selection."""
    from sftknow_core.update.output_layout import layout_for
    from sftknow_core.update.patch import check_patchable
    from sftknow_core.update.region import Region

    pair = models.weights
    layout = layout_for(pair, dtype)
    if patch is not None:
        check_patchable(layout, pair, dtype)
    region = Region(spec.region, spec.layers).resolve(pair.metas)
    asked = {"folder": out is not None, "patch": patch is not None}
    meter = Meter(ws.reporter, restore_passes(pair, spec, region, layout, **asked))
    ranked = spec.k_percent is not None
    progress = meter.stage("select", "choosing the parameters to restore") if ranked else None
    plan = models.plans([spec], progress)[0]
    return _Work(ws, pair, plan, layout, dtype, meter)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
