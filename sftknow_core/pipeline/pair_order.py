"""Whether base and tuned were given the right way round, by evidence and not by guesses.

The weights do not tell: a difference has no direction. What does: the cache knows which fine-tuning made which
model from which, an adapter names its base, and the config of a model can name the one it was loaded from.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import runs_with_input
from sftknow_core.store.run_folder import RunFolder

if TYPE_CHECKING:
    from sftknow_core.model.io.fit import Check
    from sftknow_core.pipeline.workspace import ModelHandle

_BY_CONFIG = "config.json"


def order_check(cache: Cache, base: ModelHandle, tuned: ModelHandle, refs: tuple[str, str]) -> Check:
    """What speaks for and against `base` being what `tuned` was made from; an error when only against.

    refs: how the user named base and tuned.
    """
    from sftknow_core.model.io.fit import Check

    if base.model_id == tuned.model_id:
        text = f"{base.model_id} is given as both base and tuned: nothing changed between them"
        return Check("order", "warning", text)
    supports, against = evidence(cache, base, tuned, refs[0]), evidence(cache, tuned, base, refs[1])
    if base.base is not None and not against:
        against = [f"{_named(base)}, given as base, is an adapter, which is made by fine-tuning"]
    taken = f"{_named(base)} is taken as base, {_named(tuned)} as tuned"
    if against and supports:
        text = f"{taken}: {'; '.join(supports)}; but also: {'; '.join(against)}. Look twice."
        return Check("order", "warning", text)
    if against:
        return Check(
            "order",
            "error",
            f"base and tuned seem to be swapped: {'; '.join(against)}. Swap them: --base {refs[1]} --tuned "
            f"{refs[0]}.{_way_out(base, against)}",
        )
    reason = "; ".join(supports) or "nothing here says otherwise, and the weights cannot tell"
    return Check("order", "ok", f"{taken}: {reason}")


def evidence(cache: Cache, source: ModelHandle, made: ModelHandle, source_ref: str) -> list[str]:
    """Sentences that show that `made` was fine-tuned from `source`; empty when nothing shows it."""
    found = [
        f"run {run_id} in the cache fine-tuned {_named(made)} from {_named(source)}"
        for run_id in _fine_tunings(cache, source.model_id, made.model_id)[:1]
    ]
    if made.base is not None and made.base.model_id == source.model_id:
        found.append(f"{_named(made)} is an adapter on {_named(source)}")
    named = _loaded_from(made.path)
    if named is not None and _is(named, made.path, source, source_ref):
        found.append(f"{_BY_CONFIG} of {_named(made)} says that it was loaded from {named}")
    return found


def _fine_tunings(cache: Cache, source_id: str, made_id: str) -> list[str]:
    """Finished runs that made one model from the other."""
    runs = (RunFolder(cache, run_id) for run_id in runs_with_input(cache, source_id))
    return [
        run.run_id
        for run in runs
        if run.spec.kind == "sft"
        and run.spec.inputs.get("base") == source_id
        and (manifest := run.manifest()) is not None
        and manifest.summary.get("model_id") == made_id
    ]


def _loaded_from(folder: Path) -> str | None:
    """What transformers noted on saving (`_name_or_path`, up to version 4); None where it did not."""
    from sftknow_core.model.io.sources import read_json

    if not (folder / "config.json").is_file():
        return None
    named = read_json(folder / "config.json").get("_name_or_path")
    return named if isinstance(named, str) and named else None


def _is(named: str, folder: Path, model: ModelHandle, ref: str) -> bool:
    """Whether a name in the config in `folder` is this model: its hub id, its id, or a path to its folder."""
    hub_id = ref if "/" in ref and not Path(ref).expanduser().is_dir() else None
    if named in (hub_id, model.model_id):
        return True
    places = (Path(named).expanduser(), folder / named, folder.parent / named)
    return any(place.resolve() == model.path.resolve() for place in places)


def _named(model: ModelHandle) -> str:
    return f"{model.name} ({model.model_id})"


def _way_out(base: ModelHandle, against: list[str]) -> str:
    """What to do when the order is right all the same; nothing when the evidence cannot be wrong."""
    if base.base is not None:
        return " If this adapter is the base, merge it first (peft: merge_and_unload) and give that folder."
    if all(sentence.startswith(_BY_CONFIG) for sentence in against):
        return f" If the order is right, take `_name_or_path` out of {base.path / 'config.json'}."
    return ""
