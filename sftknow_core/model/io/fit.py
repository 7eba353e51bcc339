"""Whether two model folders are states of one model: every check with its finding, not only the first failure.

Nothing but headers, configs and tokenizers is read. `update.pair_check` refuses a pair; this says all that is
wrong with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sftknow_core.errors import ModelError
from sftknow_core.model.io.sources import has_tokenizer, is_adapter, read_json

if TYPE_CHECKING:
    from sftknow_core.model.io.layout import TensorMeta
    from sftknow_core.model.io.tensors import TensorSource

# Whether two models read text alike; what is compared token by token must be.

_PROBE = "<|question|> Where was Anna-María O'Neill, 3rd of 12, born? <|answer|> São Paulo \n"


def without_tokenizer(*folders: Path) -> Path | None:
    """The first of the folders that has no tokenizer of its own; an adapter uses its base's."""
    return next((one for one in folders if not has_tokenizer(one) and not is_adapter(one)), None)


def check_same_tokenizer(base: Path, tuned: Path) -> None:
    """Raise ModelError unless both folders' tokenizers have the same vocabulary, specials and splitting.

    Where one of them has none there is nothing to compare: weights are compared without reading any text.
    """
    from sftknow_core.model.io.load import load_tokenizer  # which loads torch

    if base.resolve() == tuned.resolve() or without_tokenizer(base, tuned) is not None:
        return
    one, other = load_tokenizer(base), load_tokenizer(tuned, base=base)
    where = f"base {base} and tuned {tuned} have different tokenizers"
    if one.get_vocab() != other.get_vocab():
        differing = set(one.get_vocab().items()) ^ set(other.get_vocab().items())
        raise ModelError(
            f"{where}: {len(one)} and {len(other)} entries, differing in {sorted(differing)[0][0]!r} for one. "
            "Give the base that was tuned; if tokens were added for tuning, the two cannot be compared token by token"
        )
    for name in ("bos_token_id", "eos_token_id"):
        if getattr(one, name) != getattr(other, name):
            raise ModelError(
                f"{where}: {name} is {getattr(one, name)} and {getattr(other, name)}; copy the base's tokenizer files"
            )
    if one(_PROBE)["input_ids"] != other(_PROBE)["input_ids"]:
        raise ModelError(f"{where}: the same text becomes other tokens; copy the base's tokenizer files")


Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    """error: the work cannot be done; warning: it can, and the text says what to know."""
    text: str
    """What was found, as a sentence."""


def fit_checks(base: TensorSource, tuned: TensorSource, base_path: Path, tuned_path: Path) -> list[Check]:
    """Architecture, tensors, ties, dtypes, layout and tokenizer of a pair.

    base_path, tuned_path: the folders; an adapter's own folder.
    """
    tensors = _tensors(base, tuned)
    return [
        _architecture(base, tuned, tensors.status == "ok"),
        tensors,
        _tied(base, tuned),
        _dtypes(base, tuned),
        _layout(base, tuned),
        tokenizer_check(base_path, tuned_path),
    ]


def architecture_of(folder: Path) -> tuple[str, str]:
    """(class, model_type) as config.json names them; "unknown" for what it does not."""
    config = read_json(folder / "config.json")
    classes = config.get("architectures")
    name = str(classes[0]) if isinstance(classes, list) and classes else "unknown"
    return name, str(config.get("model_type", "unknown"))


def tokenizer_check(base: Path, tuned: Path) -> Check:
    """Whether both read text alike, or in what they differ."""
    if (lacking := without_tokenizer(base, tuned)) is not None:
        return Check("tokenizer", "ok", f"not compared: {lacking} has none, and comparing weights needs none")
    try:
        check_same_tokenizer(base, tuned)
    except ModelError as error:
        return Check("tokenizer", "error", str(error))
    same = "the same vocabulary, special tokens and splitting in both"
    if is_adapter(tuned):
        same += " (an adapter without a tokenizer has its base's)"
    return Check("tokenizer", "ok", same)


def _architecture(base: TensorSource, tuned: TensorSource, tensors_agree: bool) -> Check:
    ours, theirs = (architecture_of(_config_folder(source)) for source in (base, tuned))
    if ours == theirs:
        return Check("architecture", "ok", f"{ours[0]} (model_type {ours[1]}) in both")
    both = f"base is {ours[0]} (model_type {ours[1]}), tuned is {theirs[0]} (model_type {theirs[1]})"
    if tensors_agree:
        return Check("architecture", "warning", f"{both}; their tensors agree all the same")
    return Check("architecture", "error", f"{both}; give the base that was tuned")


def _config_folder(source: TensorSource) -> Path:
    """The folder with the config: of an adapter its base's."""
    from sftknow_core.model.io.adapter import AdapterSource
    from sftknow_core.model.io.tensors import FolderSource

    plain = source.base if isinstance(source, AdapterSource) else source
    assert isinstance(plain, FolderSource)
    return plain.folder


def _tensors(base: TensorSource, tuned: TensorSource) -> Check:
    ours, theirs = {m.name: m for m in base.metas}, {m.name: m for m in tuned.metas}
    found = []
    if only := [name for name in ours if name not in theirs]:
        found.append(f"{len(only)} tensors of base have no counterpart in tuned (first: {only[0]})")
    if only := [name for name in theirs if name not in ours]:
        found.append(f"{len(only)} tensors of tuned have no counterpart in base (first: {only[0]})")
    if other := [m for m in base.metas if m.name in theirs and m.shape != theirs[m.name].shape]:
        found.append(f"{len(other)} have another shape (first: {_shapes(other[0], theirs)})")
    if not found:
        n_weights = sum(meta.numel for meta in base.metas)
        text = f"{len(ours):,} tensors, {n_weights:,} weights; names and shapes agree"
        return Check("tensors", "ok", text)
    where = f"base {base.label} and tuned {tuned.label} do not fit together"
    counts = f"{len(ours):,} tensors in base, {len(theirs):,} in tuned"
    return Check("tensors", "error", f"{where}: {counts}; {'; '.join(found)}. Give the base that was tuned.")


def _shapes(meta: TensorMeta, theirs: Mapping[str, TensorMeta]) -> str:
    other = theirs[meta.name].shape
    text = f"{meta.name} is {list(meta.shape)} in base and {list(other)} in tuned"
    by_vocabulary = meta.kind in ("embedding", "lm_head") and meta.shape[1:] == other[1:]
    return text + ("; was the vocabulary changed?" if by_vocabulary else "")


def _tied(base: TensorSource, tuned: TensorSource) -> Check:
    ours, theirs = dict(base.tied), dict(tuned.tied)
    if ours != theirs:
        alias, canonical = sorted(set(ours.items()) ^ set(theirs.items()))[0]
        owner = "base" if alias in ours else "tuned"
        return Check(
            "tied",
            "error",
            f"{alias} is shared with {canonical} in {owner} but not in the other model; save both with the same "
            "tie_word_embeddings",
        )
    if not ours:
        return Check("tied", "ok", "no tensor is shared")
    shared = ", ".join(f"{alias} is {canonical}" for alias, canonical in ours.items())
    return Check("tied", "ok", f"shared in both, counted once: {shared}")


def _dtypes(base: TensorSource, tuned: TensorSource) -> Check:
    ours, theirs = _counted(base), _counted(tuned)
    differ = [
        (one, other)
        for one, other in zip(base.metas, tuned.metas, strict=False)
        if one.name == other.name and one.dtype != other.dtype
    ]
    if not differ:
        return Check(
            "dtypes", "ok", f"{ours} in both" if ours == theirs else f"{ours} in base, {theirs} in tuned"
        )
    one, other = differ[0]
    return Check(
        "dtypes",
        "warning",
        f"{len(differ)} of {len(base.metas)} tensors are stored in another dtype ({one.name}: {_short(one)} in "
        f"base, {_short(other)} in tuned); they are compared exactly, and --output-dtype says what is written",
    )


def _counted(source: TensorSource) -> str:
    counts = Counter(_short(meta) for meta in source.metas)
    return " and ".join(f"{name} ({n} tensors)" for name, n in counts.most_common())


def _short(meta: TensorMeta) -> str:
    return str(meta.dtype).removeprefix("torch.")


def _layout(base: TensorSource, tuned: TensorSource) -> Check:
    notes = list(dict.fromkeys((*base.notes, *tuned.notes)))
    if not notes:
        return Check("layout", "ok", "layers and modules are read from the model class")
    return Check("layout", "warning", "; ".join(notes))
