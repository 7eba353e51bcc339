"""Whether two models are states of one: same tensors, shapes and ties; what differs harmlessly is noted."""

from __future__ import annotations

from sftknow_core.errors import ModelError
from sftknow_core.model.io.tensors import TensorSource


def check_pair(base: TensorSource, tuned: TensorSource) -> tuple[str, ...]:
    """What is worth knowing about a pair that fits; ModelError naming the first tensor that does not.

    Names, order, shapes and tied tensors must agree; dtypes may differ and are noted.
    """
    where = f"base {base.label} and tuned {tuned.label} do not fit together"
    if dict(base.tied) != dict(tuned.tied):
        alias = sorted(set(base.tied.items()) ^ set(tuned.tied.items()))[0][0]
        owner = "base" if alias in base.tied else "tuned"
        raise ModelError(
            f"{where}: {alias} is shared with another tensor in {owner} but not in the other model. "
            "Save both with the same tie_word_embeddings."
        )
    ours, theirs = {m.name for m in base.metas}, {m.name for m in tuned.metas}
    for one, other in zip(base.metas, tuned.metas, strict=False):
        if one.name != other.name:
            missing, side = (one.name, "tuned") if one.name not in theirs else (other.name, "base")
            raise ModelError(
                f"{where}: tensor {missing} has no counterpart in {side}. Are they the same model?"
            )
        if one.shape != other.shape:
            raise ModelError(
                f"{where}: tensor {one.name} has shape {list(one.shape)} in base and {list(other.shape)} in "
                "tuned (was the vocabulary changed?). Give the base that was tuned."
            )
    if ours != theirs:
        missing = sorted(ours ^ theirs)[0]
        side = "tuned" if missing in ours else "base"
        raise ModelError(f"{where}: tensor {missing} has no counterpart in {side}. Are they the same model?")
    return tuple(dict.fromkeys((*_dtype_notes(base, tuned), *base.notes, *tuned.notes)))


def _dtype_notes(base: TensorSource, tuned: TensorSource) -> tuple[str, ...]:
    differ = [(m, t) for m, t in zip(base.metas, tuned.metas, strict=True) if m.dtype != t.dtype]
    if not differ:
        return ()
    one, other = differ[0]
    kinds = (
        f"{str(one.dtype).removeprefix('torch.')} in base, {str(other.dtype).removeprefix('torch.')} in tuned"
    )
    return (f"{len(differ)} of {len(base.metas)} tensors are stored in another dtype ({one.name}: {kinds})",)
