"""Maps the tensors of a checkpoint on disk to the canonical ones in memory, piece by piece.

Names and shapes on disk differ from those in memory: a prefix is missing ("h.0.attn..." for
"transformer.h.0.attn..."), an old name lives on, or the experts of a layer lie in one file each while
memory holds them fused. The renaming rules are transformers' own (`conversion_mapping`,
`core_model_loading.rename_source_key`), so what transformers loads is what is read here. A canonical tensor
is the concatenation of its pieces: whole disk tensors or ranges of them, flat. Rules that permute values
inside a tensor have no such form and are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Chunk,
    Concatenate,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from sftknow_core.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Piece:
    """A flat range of one disk tensor."""

    disk_name: str
    start: int
    numel: int


@dataclass
class DiskMapping:
    """Where the values of each canonical tensor lie on disk."""

    pieces: dict[str, tuple[Piece, ...]] = field(default_factory=dict)
    """Name in memory (tied aliases too) -> pieces that concatenate to the flat tensor."""
    extra: tuple[str, ...] = ()
    """Disk tensors that are no parameter of the model (buffers, unused heads); they are carried along
    untouched."""


def identity_mapping(shapes: Shapes) -> DiskMapping:
    """Every disk tensor is a canonical tensor under its own name."""
    return DiskMapping({name: (Piece(name, 0, math.prod(shape)),) for name, shape in shapes.items()})


def map_disk(model: nn.Module, disk: Shapes, where: str) -> DiskMapping:
    """The mapping of a checkpoint with `disk` shapes to `model` (on the meta device).

    Raises ModelError when a layout rule cannot be followed or shapes do not fit; a missing tensor is the
    caller's to notice, since a tied alias may stand in for it.
    """
    parameters = {name: tuple(p.shape) for name, p in model.named_parameters(remove_duplicate=False)}
    known = model.state_dict()
    rules = get_model_conversion_mapping(model)  # type: ignore[arg-type]
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    prefix = str(getattr(model, "base_model_prefix", ""))

    mapping = DiskMapping()
    extra: list[str] = []
    converted: dict[str, dict[str, list[str]]] = {}
    for name in sorted(disk, key=dot_natural_key):
        target, pattern = rename_source_key(name, renamings, converters, prefix, known)
        if target not in known and name in known:
            target, pattern = rename_source_key(name, [], [], prefix, known)
        if target not in parameters:
            extra.append(name)
        elif pattern is None:
            mapping.pieces[target] = (Piece(name, 0, math.prod(disk[name])),)
        else:
            converted.setdefault(target, {}).setdefault(pattern, []).append(name)
    for target, sources in converted.items():
        rule = next(c for c in converters if set(sources) <= set(c.source_patterns))
        mapping.pieces.update(_convert(rule, target, sources, disk, where))
    mapping.extra = tuple(extra)
    _check_shapes(mapping, parameters, disk, where)
    return mapping


def _convert(
    rule: WeightConverter, target: str, sources: Mapping[str, list[str]], disk: Shapes, where: str
) -> dict[str, tuple[Piece, ...]]:
    """Pieces of the tensors that one converter makes out of `sources` (pattern -> disk names in natural
    order)."""
    steps = [(type(op), getattr(op, "dim", None)) for op in rule.operations]
    in_order = [sources[p] for p in rule.source_patterns if p in sources]
    make = _CONVERSIONS.get(tuple(steps))
    ragged = len(in_order) != len(rule.source_patterns) or len({len(names) for names in in_order}) > 1
    if make is None or ragged:
        names = ", ".join(f"{kind.__name__}({dim})" for kind, dim in steps)
        raise ModelError(
            f"{where}: tensor {in_order[0][0]} becomes {target} in memory by {names}, which cannot be "
            "read piece by piece. Load the model with transformers and compare the loaded models instead."
        )
    targets = [target.replace(rule.target_patterns[0], other) for other in rule.target_patterns]
    return make(targets, in_order, disk)


def _stacked(targets: Sequence[str], sources: list[list[str]], disk: Shapes) -> dict[str, tuple[Piece, ...]]:
    """Experts stacked along a new first axis; with several matrices each, those follow one another per
    expert."""
    names = [name for expert in zip(*sources, strict=True) for name in expert]
    return {targets[0]: tuple(Piece(name, 0, math.prod(disk[name])) for name in names)}


def _joined(targets: Sequence[str], sources: list[list[str]], disk: Shapes) -> dict[str, tuple[Piece, ...]]:
    names = [name for group in sources for name in group]
    return {targets[0]: tuple(Piece(name, 0, math.prod(disk[name])) for name in names)}


def _cut(targets: Sequence[str], sources: list[list[str]], disk: Shapes) -> dict[str, tuple[Piece, ...]]:
    name = sources[0][0]
    share = math.prod(disk[name]) // len(targets)
    return {target: (Piece(name, i * share, share),) for i, target in enumerate(targets)}


_Make = Callable[[Sequence[str], list[list[str]], Shapes], dict[str, tuple[Piece, ...]]]
_CONVERSIONS: dict[tuple[tuple[type, int | None], ...], _Make] = {
    ((MergeModulelist, 0),): _stacked,
    ((MergeModulelist, 0), (Concatenate, 1)): _stacked,
    ((Concatenate, 0),): _joined,
    ((Chunk, 0),): _cut,
}


def _check_shapes(mapping: DiskMapping, parameters: Shapes, disk: Shapes, where: str) -> None:
    for name, pieces in mapping.pieces.items():
        whole = len(pieces) == 1 and pieces[0].numel == math.prod(disk[pieces[0].disk_name])
        found = disk[pieces[0].disk_name] if whole else (sum(p.numel for p in pieces),)
        expected = parameters[name] if whole else (math.prod(parameters[name]),)
        if found != expected:
            raise ModelError(
                f"{where}: tensor {pieces[0].disk_name} has shape {list(found)} on disk, but "
                f"config.json makes it {list(expected)}. The config does not belong to these weights."
            )
