"""Makes a patch from a pair and a plan, and applies one to the tuned model alone.

A patch stores new values of exactly the weights whose bits differ between the restored and the tuned model.
It keeps no other dtype than tuned's: where the restored model is to have another one, every weight of the
file differs, and the whole model is what to pass on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sftknow_core.errors import SpecError
from sftknow_core.model.io.layout import TensorMeta
from sftknow_core.model.io.tensor_writer import CheckpointWriter, copy_side_files, new_folder
from sftknow_core.model.io.tensors import TensorSource
from sftknow_core.update.apply import restored_chunks
from sftknow_core.update.lineage import Lineage
from sftknow_core.update.output_layout import OutputLayout, layout_of_tuned
from sftknow_core.update.pair import SPAN_WEIGHTS, Pair, Progress
from sftknow_core.update.patch_file import (
    BIT_ORDER,
    PATCH_FORMAT,
    PATCH_VERSION,
    PatchReader,
    PatchWriter,
    as_integers,
)
from sftknow_core.update.select import Plan


def check_patchable(layout: OutputLayout, pair: Pair, choice: str) -> None:
    """Raise SpecError when the restored model is not to have tuned's dtypes; `choice` is how it was asked
    for."""
    for meta in pair.tuned.metas:
        wanted = layout.dtypes[meta.name]
        if wanted != meta.dtype:
            ours, theirs = (str(dtype).removeprefix("torch.") for dtype in (wanted, meta.dtype))
            raise SpecError(
                f"a patch keeps the tuned model's dtype, but with output dtype {choice} tensor {meta.name} "
                f"becomes {ours} where tuned has {theirs}; give --output-dtype tuned, or leave --patch out."
            )


def write_patch(
    file: Path,
    pair: Pair,
    plan: Plan,
    lineage: Lineage,
    report: Mapping[str, Any],
    *,
    progress: Progress | None = None,
) -> int:
    """Write the patch of a plan, in one pass over the region; returns the file's size in bytes.

    report: numbers for the model card (JSON values). Raises SpecError when no weight changes; the file is then not
    complete and the caller's to remove.
    """
    metas = [pair.tuned.metas[meta.position] for meta in plan.metas]
    with PatchWriter(file, metas) as writer:
        for chunk in restored_chunks(pair, plan, whole=False, progress=progress):
            stop = chunk.start + chunk.values.numel()
            old = as_integers(pair.tuned.read(chunk.meta.name, chunk.start, stop).cpu())
            new = as_integers(chunk.values.to(chunk.meta.dtype))
            changed = new != old
            writer.add(chunk.meta, chunk.start, changed, new[changed])
        return writer.finish(
            {
                "format": PATCH_FORMAT,
                "format_version": str(PATCH_VERSION),
                "bit_order": BIT_ORDER,
                "restored": json.dumps(lineage.to_json()),
                "report": json.dumps(dict(report)),
            }
        )


def write_patched(
    tuned: TensorSource,
    patch: PatchReader,
    out: Path,
    *,
    sync: bool = True,
    progress: Progress | None = None,
) -> None:
    """Write the restored model as a new folder: tuned's files with the patch's weights in their places.

    The same, bit for bit, as `write_restored` with dtype "tuned". The folder appears whole or not at all; `sync`:
    see `new_folder`.
    Raises SpecError when it exists, ModelError for a patch that does not fit tuned or a full disk.
    """
    patch.require_fits(tuned.metas)
    layout = layout_of_tuned(tuned)
    with new_folder(out, sync=sync) as folder:
        copy_side_files(list(layout.folders), folder, layout.widest)
        with CheckpointWriter(layout.template, folder, layout.dtypes) as writer:
            done, total = 0, sum(meta.numel * meta.dtype.itemsize for meta in tuned.metas)
            for meta in tuned.metas:
                _write_tensor(tuned, meta, patch, writer)
                done += meta.numel * meta.dtype.itemsize
                if progress is not None:
                    progress(done, total)


def _write_tensor(
    tuned: TensorSource, meta: TensorMeta, patch: PatchReader, writer: CheckpointWriter
) -> None:
    changes = patch.changes(meta.name) if meta.name in patch.sections else None
    for start in range(0, meta.numel, SPAN_WEIGHTS):
        values = tuned.read(meta.name, start, min(start + SPAN_WEIGHTS, meta.numel))
        writer.write(meta.name, start, values if changes is None else changes.apply(start, values))
    if changes is not None:
        changes.finish()
