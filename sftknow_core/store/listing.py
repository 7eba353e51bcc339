"""What is in a cache: all runs with their present state, and runs and models by the start of their id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sftknow_core.errors import CacheError, SpecError
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.run_folder import DONE, SPEC, RunFolder
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.store.run_state import RunStatus


@dataclass(frozen=True)
class RunInfo:
    """One run as its folder shows it now."""

    run_id: str
    spec: RunSpec
    created_at: str
    """ISO 8601, UTC."""
    about: Mapping[str, Any]
    """What people want to know: names, paths, device."""
    status: RunStatus
    """State, reason, progress, owner."""
    size_bytes: int
    """Committed files, without what gc removed."""
    has_weights: bool
    summary: Mapping[str, Any]
    """Of a finished run; else empty."""

    @property
    def kind(self) -> str:
        """What is done, e.g. "mastery"."""
        return self.spec.kind


def list_runs(cache: Cache, kind: str | None = None) -> list[RunInfo]:
    """All runs of a kind (None: any), newest first; folders without a readable spec.json are passed over."""
    runs = []
    for path in cache.runs.glob(f"*/{SPEC}"):
        try:
            info = run_info(cache, path.parent.name)
        except CacheError:
            continue
        if kind is None or info.kind == kind:
            runs.append(info)
    return sorted(runs, key=lambda info: (info.created_at, info.run_id), reverse=True)


def run_info(cache: Cache, run_id: str) -> RunInfo:
    """One run. Raises CacheError when its spec.json is not readable."""
    folder = cache.run_folder(run_id)
    try:
        stats = [(folder / name).stat() for name in (DONE, SPEC)]
    except OSError:
        return _read(cache, run_id)
    return _finished(cache, run_id, tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))


@lru_cache(maxsize=4096)
def _finished(cache: Cache, run_id: str, stamp: tuple[tuple[int, int], ...]) -> RunInfo:
    """A finished run stays as it is, but for weights that are removed, which its manifest then says.

    A page looks at all runs of a cache whenever one of them gets further.
    """
    return _read(cache, run_id)


def _read(cache: Cache, run_id: str) -> RunInfo:
    run = RunFolder(cache, run_id)
    description = run.description()
    manifest = run.manifest()
    contents = manifest.contents if manifest else run.contents()
    weights = [folder for folder in contents.folders.values() if not folder.removed_at]
    parts = [record for table in contents.tables.values() for record in table.values()]
    return RunInfo(
        run_id=run_id,
        spec=RunSpec.from_dict(description),
        created_at=str(description["created_at"]),
        about=description.get("about", {}),
        status=run.status(),
        size_bytes=sum(folder.bytes for folder in weights) + sum(record.bytes for record in parts),
        has_weights=bool(weights),
        summary=manifest.summary if manifest else {},
    )


def find_run(cache: Cache, prefix: str) -> str:
    """The run_id that starts like this. Raises SpecError when there is none, or more than one."""
    run_ids = sorted(path.parent.name for path in cache.runs.glob(f"*/{SPEC}"))
    return _the_one(prefix, run_ids, "run", "`sftknow runs` lists them")


def resolve_prefix(cache: Cache, prefix: str) -> Path:
    """The folder of the model whose model_id starts like this.

    Raises SpecError when there is none, or more than one, or when its weights are not there any more.
    """
    rows = read_table(cache, "models", columns=["model_id", "path", "made_by"])
    model_id = _the_one(
        prefix,
        sorted(set(rows["model_id"])),
        "model",
        "it may have gone with the run that made it; `sftknow runs` lists those there are",
    )
    mine = rows[rows["model_id"] == model_id]
    for path in mine["path"]:
        if cache.located(path).is_dir():
            return cache.located(path)
    makers = sorted(set(mine["made_by"].dropna()))
    again = f"the command of run {makers[0]} makes them again" if makers else "give its folder anew"
    raise SpecError(f"model {model_id}: its weights are not at {mine['path'].iloc[0]} any more; {again}")


def _the_one(prefix: str, ids: list[str], what: str, hint: str) -> str:
    found = [one for one in ids if prefix and one.startswith(prefix)]
    if not found:
        raise SpecError(f"no {what} id in the cache starts with {prefix!r}; {hint}")
    if len(found) > 1:
        raise SpecError(
            f"{prefix!r} is the start of {len(found)} {what} ids: {', '.join(found)}; give more of it"
        )
    return found[0]
