"""A region: which tensors of a model take part, by kind and layer.

    transformer = attention + mlp + other inside the layers (no norms)   attention   mlp
    embedding   = input embeddings (positions too) + output embedding    all = everything

The paper restores within `transformer` by its reference launcher, within "all parameters" by its appendix.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sftknow_core.errors import SpecError

if TYPE_CHECKING:  # a page can name a region without loading torch
    from sftknow_core.model.io.layout import TensorMeta

KINDS = ("attention", "mlp", "norm", "embedding", "lm_head", "other")
"""What a weight tensor can be."""
REGIONS: dict[str, frozenset[str]] = {
    "transformer": frozenset({"attention", "mlp", "other"}),
    "attention": frozenset({"attention"}),
    "mlp": frozenset({"mlp"}),
    "embedding": frozenset({"embedding", "lm_head"}),
    "all": frozenset(KINDS),
}
_IN_LAYERS = frozenset({"transformer", "attention", "mlp"})


@dataclass(frozen=True)
class Region:
    """A named set of tensors, optionally only some layers of it."""

    name: str = "transformer"
    """One of REGIONS."""
    layers: str | None = None
    """Layers counted from 0, as "0-3,5"; None: all. Tensors outside the layers then fall away."""

    def __post_init__(self) -> None:
        if self.name not in REGIONS:
            raise SpecError(f"region: got {self.name!r}; allowed: {', '.join(REGIONS)}")
        parse_layers(self.layers)

    def resolve(self, metas: Sequence[TensorMeta]) -> tuple[TensorMeta, ...]:
        """Its tensors in canonical order. SpecError when a layer does not exist or nothing is left."""
        chosen = parse_layers(self.layers)
        n_layers = 1 + max((meta.layer for meta in metas if meta.layer is not None), default=-1)
        if chosen is not None and max(chosen) >= n_layers:
            raise SpecError(f"layers: got {self.layers!r}; the model has layers 0-{n_layers - 1}")
        found = tuple(meta for meta in metas if self._holds(meta, chosen))
        if not sum(meta.numel for meta in found):
            within = f" in layers {self.layers}" if self.layers else ""
            raise SpecError(f"region {self.name}{within} is empty in this model; choose another region.")
        return found

    def _holds(self, meta: TensorMeta, chosen: frozenset[int] | None) -> bool:
        if meta.kind not in REGIONS[self.name]:
            return False
        if meta.layer is None:
            return chosen is None and self.name not in _IN_LAYERS
        return chosen is None or meta.layer in chosen


def parse_block(text: str) -> tuple[str | None, frozenset[int] | None]:
    """(region's name, layers) of "mlp", "0-3" or "mlp 0-3". SpecError for anything else."""
    name, _, rest = text.strip().partition(" ")
    if name not in REGIONS:
        name, rest = "", text
    if name and not rest.strip():
        return name, None
    try:
        return name or None, parse_layers(rest)
    except SpecError:
        raise SpecError(
            f'block: got {text!r}; allowed: a region ({", ".join(REGIONS)}), layers such as "0-3", or both: '
            '"mlp 0-3"'
        ) from None


def block_text(text: str) -> str:
    """One spelling per block: " mlp  3,0-2" -> "mlp 0-3"."""
    name, layers = parse_block(text)
    parts = [name, None if layers is None else layers_text(",".join(map(str, layers)))]
    return " ".join(part for part in parts if part)


def in_block(metas: Sequence[TensorMeta], text: str) -> tuple[TensorMeta, ...]:
    """The tensors among `metas` that a block holds; SpecError when it holds none of them."""
    name, layers = parse_block(text)
    found = tuple(
        meta
        for meta in metas
        if (name is None or meta.kind in REGIONS[name]) and (layers is None or meta.layer in layers)
    )
    if not found:
        raise SpecError(f"block {text!r} holds no tensor of the region in this model; choose another block.")
    return found


def parse_layers(text: str | None) -> frozenset[int] | None:
    """{0, 1, 2, 3, 5} from "0-3,5"; None stays None. SpecError for anything else."""
    if text is None:
        return None
    chosen: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", part)
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise SpecError(f'layers: got {text!r}; allowed: numbers and ranges from 0, such as "0-3,5"')
        chosen.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return frozenset(chosen)


def layers_text(text: str | None) -> str | None:
    """One spelling per set of layers: " 5, 0-2,3" -> "0-3,5"."""
    chosen = parse_layers(text)
    if chosen is None:
        return None
    runs: list[list[int]] = []
    for layer in sorted(chosen):
        if runs and runs[-1][1] == layer - 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
