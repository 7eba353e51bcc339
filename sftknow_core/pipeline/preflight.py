"""Before any work on two models' weights: can it be done, what will it read and write, is there room?

Every check is made and reported, not only the first that fails. Headers, configs and tokenizers are read, and weights
are hashed where their ids are not remembered; nothing is written but these ids, into the cache.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftknow_core.errors import ModelError, SftknowError, SpecError
from sftknow_core.model.io.fit import Check, Status, architecture_of, fit_checks, tokenizer_check
from sftknow_core.pipeline.delta import open_source
from sftknow_core.pipeline.new_outputs import nearest_folder, problems
from sftknow_core.pipeline.pair_order import order_check
from sftknow_core.pipeline.passes import (
    BYTES_PER_SECOND,
    SPANS_A_THREAD,
    Pass,
    compare_passes,
    memory_bytes,
    null_bytes,
    rebuild_passes,
    restore_passes,
    size,
)
from sftknow_core.pipeline.workspace import ModelHandle, Workspace

if TYPE_CHECKING:
    from sftknow_core.model.io.layout import TensorMeta
    from sftknow_core.update.output_layout import OutputLayout
    from sftknow_core.update.pair import Pair
    from sftknow_core.update.recipe import Recipe
    from sftknow_core.update.spec import RestoreSpec

_RECIPE_BYTES = 2_000
"""A recipe is smaller."""
_SIDE_SUFFIXES = {".json", ".txt", ".jinja", ".model", ".tiktoken"}


@dataclass(frozen=True)
class Job:
    """What a command is about to do with two models."""

    action: str
    """delta, restore, rebuild or run."""
    base: str
    """As the user named it."""
    tuned: str
    spec: RestoreSpec | None = None
    """What is restored; None for delta, and for rebuild, whose recipe says it."""
    dtype: str = "base"
    """Of the written weights."""
    out: Path | None = None
    new_recipe: Path | None = None
    patch: Path | None = None
    recipe: Path | None = None
    """rebuild: the recipe to follow."""
    revision: str | None = None
    """Of the base's hub id."""

    @property
    def outputs(self) -> list[Path]:
        """What is to be made, and must not exist."""
        return [path for path in (self.out, self.new_recipe, self.patch) if path is not None]


@dataclass
class Preflight:
    """What was found."""

    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    """Counts, bytes and seconds; only what could be reckoned."""
    base: ModelHandle | None = None
    tuned: ModelHandle | None = None

    @property
    def failed(self) -> list[Check]:
        """The checks that speak against the work."""
        return [check for check in self.checks if check.status == "error"]

    def require(self) -> tuple[ModelHandle, ModelHandle]:
        """Both models. Raises ModelError with every failed check."""
        if self.failed:
            raise ModelError("\n  ".join(f"{check.name}: {check.text}" for check in self.failed))
        assert self.base is not None and self.tuned is not None
        return self.base, self.tuned

    def to_json(self) -> dict[str, Any]:
        """As `--dry-run --json` prints it."""
        return {
            "ok": not self.failed,
            "base_id": self.base.model_id if self.base else None,
            "tuned_id": self.tuned.model_id if self.tuned else None,
            "checks": [asdict(check) for check in self.checks],
            **self.figures,
        }

    def add(self, name: str, status: Status, text: str) -> None:
        """Note a check."""
        self.checks.append(Check(name, status, text))


def check_job(ws: Workspace, job: Job) -> Preflight:
    """Make every check that the job allows."""
    ws.reporter.stage("checking the two models")
    found = Preflight()
    found.base = _opened(ws, found, "base", job.base, job.revision)
    found.tuned = _opened(ws, found, "tuned", job.tuned, None)
    recipe = _recipe(found, job.recipe) if job.recipe is not None else None
    pair = _pair(ws, found, job)
    spec, dtype = job.spec, job.dtype
    if recipe is not None:
        spec, dtype = recipe.lineage.spec, recipe.lineage.output_dtype
    check_costs(found, job, pair, spec, dtype)
    return found


def _opened(ws: Workspace, found: Preflight, role: str, ref: str, revision: str | None) -> ModelHandle | None:
    try:
        model = ws.open_model(ref, revision)
        name, _ = architecture_of(model.base.path if model.base else model.path)
    except (SftknowError, OSError) as error:
        found.add(role, "error", f"{role} {ref} cannot be used: {error}")
        return None
    kind = f"adapter on {model.base.name} ({model.base.model_id}), {name}" if model.base else name
    found.add(role, "ok", f"{model.name} ({model.model_id}), {kind}, in {model.path}")
    return model


def _recipe(found: Preflight, path: Path) -> Recipe | None:
    """The recipe to follow, and whether it is for these two models."""
    from sftknow_core.update.recipe import read_recipe

    try:
        recipe = read_recipe(path)
        if found.base is not None and found.tuned is not None:
            recipe.lineage.require_pair(found.base.model_id, found.tuned.model_id, f"recipe {path}")
    except SftknowError as error:
        found.add("recipe", "error", str(error))
        return None
    found.add("recipe", "ok", f"{path} makes model {recipe.lineage.model_id} of base and tuned")
    return recipe


def _pair(ws: Workspace, found: Preflight, job: Job) -> Pair | None:
    """Both models' weights side by side; None where they do not fit."""
    from sftknow_core.update.pair import Pair

    base, tuned = found.base, found.tuned
    if base is None or tuned is None:
        return None
    before = len(found.failed)
    try:
        found.checks.append(order_check(ws.cache, base, tuned, (job.base, job.tuned)))
    except SftknowError as error:
        found.add("order", "error", str(error))
    if tuned.base is not None and tuned.base.model_id != base.model_id:
        found.add("adapter", "error", _other_base(base, tuned))
    try:
        sources = open_source(base.path), open_source(tuned.path, base.path if tuned.base else None)
    except SftknowError as error:
        found.add("tensors", "error", str(error))
        found.checks.append(tokenizer_check(base.path, tuned.path))
        return None
    found.checks += fit_checks(*sources, base.path, tuned.path)
    if len(found.failed) > before:
        return None
    try:
        return Pair(*sources)
    except SftknowError as error:  # no check above saw it, but the engine does
        found.add("tensors", "error", str(error))
        return None


def _other_base(base: ModelHandle, tuned: ModelHandle) -> str:
    assert tuned.base is not None
    return (
        f"tuned {tuned.name} is an adapter on {tuned.base.name} ({tuned.base.model_id}), but base is {base.name} "
        f"({base.model_id}); give --base {tuned.base.path}"
    )


def check_costs(found: Preflight, job: Job, pair: Pair | None, spec: RestoreSpec | None, dtype: str) -> None:
    """Region, dtypes, reading, memory and room, as far as they can be known; pair None: the two do not fit."""
    region = _region(found, pair, spec) if pair is not None and spec is not None else ()
    writes = job.action in ("restore", "rebuild")
    layout = _layout(found, pair, dtype, job) if pair is not None and writes else None
    if pair is not None and job.action == "delta":
        _reading(found, pair, compare_passes(pair), None, ())
    if pair is not None and spec is not None and layout is not None and region:
        asked = {"folder": job.out is not None or not job.outputs, "patch": job.patch is not None}
        restoring = job.action == "restore"
        passes = (
            restore_passes(pair, spec, region, layout, **asked)
            if restoring
            else rebuild_passes(pair, region, layout)
        )
        _reading(found, pair, passes, spec, region)
    if writes:
        _outputs(found, job, layout)


def _region(found: Preflight, pair: Pair, spec: RestoreSpec) -> tuple[TensorMeta, ...]:
    """The region's tensors; notes what of them goes back."""
    from sftknow_core.update.region import Region

    try:
        metas = Region(spec.region, spec.layers).resolve(pair.metas)
        n_region = sum(meta.numel for meta in metas)
        n_restore, amount = _amount(pair, spec, n_region)
    except SftknowError as error:
        found.add("region", "error", str(error))
        return ()
    layers = f", layers {spec.layers}" if spec.layers else ""
    found.figures |= {"n_model": pair.n_weights, "n_region": n_region, "n_restore": n_restore}
    text = f"{spec.region}{layers}: {n_region:,} of {pair.n_weights:,} weights; {amount}"
    found.add("region", "ok", text)
    return metas


def _amount(pair: Pair, spec: RestoreSpec, n_region: int) -> tuple[int | None, str]:
    """(weights that go back, the same in words); None where all are moved."""
    from sftknow_core.update.select import plan_for
    from sftknow_core.update.spec import count_for
    from sftknow_core.update.strategies import MAX_REFERENCE_WEIGHTS

    if spec.strategy == "random-reference" and n_region > MAX_REFERENCE_WEIGHTS:
        raise SpecError(
            f"strategy random-reference: the region has {n_region:,} weights; allowed: at most "
            f"{MAX_REFERENCE_WEIGHTS:,}. Use strategy random."
        )
    if spec.k_percent is not None:
        n = count_for(n_region, spec.k_percent)
        return n, f"{spec.k_percent}% of them, {n:,}, go back (strategy {spec.strategy})"
    if spec.alpha is not None:
        return None, f"all of them become base + {spec.alpha:f} (tuned - base)"
    n_blocks = plan_for(pair, spec).n_restored or 0  # no pass: blocks need no ranking
    return n_blocks, f"{n_blocks:,} of them go back (strategy {spec.strategy}, {spec.to_json()['block']})"


def _layout(found: Preflight, pair: Pair, dtype: str, job: Job) -> OutputLayout | None:
    """The form of what will be written; notes what stands against it."""
    from sftknow_core.update.output_layout import layout_for
    from sftknow_core.update.patch import check_patchable

    try:
        layout = layout_for(pair, dtype)
    except SftknowError as error:
        found.add("output dtype", "error", str(error))
        return None
    if job.patch is not None:
        try:
            check_patchable(layout, pair, dtype)
        except SftknowError as error:
            found.add("patch", "error", str(error))
    return layout


def _reading(
    found: Preflight,
    pair: Pair,
    passes: Sequence[Pass],
    spec: RestoreSpec | None,
    region: Sequence[TensorMeta],
) -> None:
    from sftknow_core.update.pair import SPAN_WEIGHTS

    total = sum(p.n_bytes for p in passes)
    computing = sum(p.seconds for p in passes)
    seconds = total / BYTES_PER_SECOND + computing
    memory = memory_bytes(pair, spec, sum(meta.numel for meta in region))
    if any(p.name == "null" for p in passes):
        memory = max(memory, null_bytes(pair))
    found.figures |= {
        "passes": {p.name: p.n_bytes for p in passes},
        "bytes_read": total,
        "seconds_at_1_gb_per_second": seconds,
        "memory_bytes": memory,
    }
    parts = ", ".join(f"{p.name} {size(p.n_bytes)}" for p in passes)
    more = f", {computing:.1f} s of it permuting the changes" if computing else ""
    found.add("reading", "ok", f"{size(total)} ({parts}): {seconds:.1f} s at 1 GB/s{more}")
    found.add(
        "memory",
        "ok",
        f"about {size(memory)} beside the libraries, whatever the size of the models: a thread holds up to "
        f"{SPANS_A_THREAD} spans of {SPAN_WEIGHTS:,} weights",
    )


def _outputs(found: Preflight, job: Job, layout: OutputLayout | None) -> None:
    """Whether everything that is asked for can be made, and whether there is room for it."""
    for problem in problems(job.outputs):
        found.add("output", "error", problem)
    if layout is None:
        return
    needed = _needed(found, job, layout)
    found.figures["bytes_written"] = sum(needed.values())
    if not job.outputs:
        text = f"{size(layout.n_bytes)} would be written; give --out to see whether there is room"
        found.add("room", "ok", text)
    by_device: dict[int, list[Path]] = {}
    for path in needed:
        by_device.setdefault(os.stat(nearest_folder(path)).st_dev, []).append(path)  # noqa: PTH116
    for paths in by_device.values():
        folder, n_bytes = nearest_folder(paths[0]), sum(needed[path] for path in paths)
        free = shutil.disk_usage(folder).free
        found.figures["bytes_free"] = min(free, found.figures.get("bytes_free", free))
        text = f"at most {size(n_bytes)} to be written to {folder}, where {size(free)} are free"
        if free < n_bytes:
            found.add("room", "error", f"{text}; make room or choose another disk")
        else:
            found.add("room", "ok", text)


def _side_bytes(layout: OutputLayout) -> int:
    """At most the size of config and tokenizer."""
    files = [file for folder in layout.folders for file in folder.iterdir() if file.suffix in _SIDE_SUFFIXES]
    return sum(file.stat().st_size for file in files)


def _needed(found: Preflight, job: Job, layout: OutputLayout) -> dict[Path, int]:
    """Bytes of each output; of a patch the most it can have."""
    needed = {}
    if job.out is not None:
        needed[job.out] = layout.n_bytes + _side_bytes(layout)
    if job.new_recipe is not None:
        needed[job.new_recipe] = _RECIPE_BYTES
    if job.patch is not None:
        n_region = found.figures.get("n_region", 0)
        width = max(dtype.itemsize for dtype in layout.dtypes.values())
        n_restore = found.figures.get("n_restore")
        needed[job.patch] = n_region // 8 + width * (n_region if n_restore is None else n_restore)
    return needed
