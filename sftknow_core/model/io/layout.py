"""Turns a transformers model into its list of weight tensors: order, layer, kind and module of each.

The canonical units are `named_parameters()` of the model in memory, in that order, tied ones once. Where a
tensor belongs is read from the module tree, never from substrings of parameter names:

- the decoder layers are the outermost `ModuleList` that holds most parameters; its i-th child is layer i;
- inside a layer a norm class owns a `norm`; anything below an attention class is `attention`; anything
  below a feed-forward, expert or router class, or a linear map that is in none of these, is `mlp`; the rest
  is `other` (state-space mixers and the like);
- outside the layers the output embedding is `lm_head`, an `nn.Embedding` (positions too) is `embedding`.

Module labels (attn.q, mlp.down, ...) come from the attribute a linear map hangs on, looked up whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

_ATTENTION_LABELS = {
    "q": ("q_proj", "query", "q", "wq", "q_lin"),
    "k": ("k_proj", "key", "k", "wk", "k_lin"),
    "v": ("v_proj", "value", "v", "wv", "v_lin"),
    "qkv": ("c_attn", "query_key_value", "qkv_proj", "qkv", "Wqkv", "in_proj"),
    "o": ("o_proj", "out_proj", "dense", "c_proj", "wo", "o", "out_lin"),
}
_MLP_LABELS = {
    "gate": ("gate_proj", "w1", "fc1_gate"),
    "up": ("up_proj", "w3", "fc1", "fc_in", "c_fc", "dense_h_to_4h", "wi", "lin1"),
    "down": ("down_proj", "w2", "fc2", "fc_out", "c_proj", "dense_4h_to_h", "wo", "lin2"),
    "gate_up": ("gate_up_proj",),
}
_ATTENTION_CLASS = re.compile(r"Attention(?!.*(Layer|Block)$)")
_MLP_CLASS = re.compile(r"M(LP|lp)|Feed_?Forward|F(FN|fn)|Mo[eE](?![a-z])|Expert|GLU|ChannelMix")
_ROUTER_CLASS = re.compile(r"Router|TopKGate|MoEGate")
_MIXER_CLASS = re.compile(r"Mamba|SSM|DeltaNet|Recurrent|ShortConv|Mixer|Rwkv")


@dataclass(frozen=True)
class TensorMeta:
    """One weight tensor and its place in the model."""

    position: int
    """Index in canonical order, from 0."""
    name: str
    """Name in `named_parameters()`."""
    shape: tuple[int, ...]
    dtype: torch.dtype
    """As stored (folder) or held (loaded model); float32 for what an adapter changes."""
    layer: int | None
    """Decoder layer from 0; None outside the layers."""
    kind: str
    """One of update.region.KINDS."""
    module: str
    """Finer than kind: attn.q, mlp.down, mlp.router, norm.input_layernorm, embedding.embed_tokens, lm_head,
    ..."""

    @property
    def numel(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """All tensors of a model in canonical order."""

    tensors: tuple[TensorMeta, ...]
    tied: Mapping[str, str]
    """Further names of a shared tensor: alias -> canonical name."""
    fallback: bool = False
    """True when the module tree could not be read and a coarser stated rule was used."""
    notes: tuple[str, ...] = ()
    """What a user should know about the rule used."""


def describe(model: nn.Module, untied: Collection[str] = ()) -> Layout:
    """The layout of a model in memory or on the meta device.

    `untied` names tied aliases that are to count as tensors of their own (their values on disk differ).
    """
    tree = _Tree(model)
    tied = _aliases(model, untied)
    metas: list[TensorMeta] = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name not in tied:
            layer, kind, module = tree.place(name)
            shape = tuple(parameter.shape)
            metas.append(TensorMeta(len(metas), name, shape, parameter.dtype, layer, kind, module))
    notes = tree.notes()
    return Layout(tuple(metas), tied, fallback=bool(notes), notes=notes)


def describe_unknown(shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]], why: str) -> Layout:
    """The layout of a checkpoint whose model class is not known, by the stated rule.

    Order: natural order of the names. Layer: the first number in the name. Inside a layer matrices are
    `other` and vectors `norm`; outside, vectors are `norm` and matrices `embedding`.
    """
    metas: list[TensorMeta] = []
    for name in sorted(shapes, key=_natural):
        shape, dtype = shapes[name]
        number = next((part for part in name.split(".") if part.isdigit()), None)
        layer = None if number is None else int(number)
        kind = "norm" if len(shape) < 2 else "embedding" if layer is None else "other"
        metas.append(TensorMeta(len(metas), name, shape, dtype, layer, kind, kind))
    note = (
        f"{why}: layers are taken from the first number in a tensor's name, matrices inside a layer count as "
        "`other`, vectors as `norm`, matrices outside as `embedding`; regions attention and mlp are empty"
    )
    return Layout(tuple(metas), {}, fallback=True, notes=(note,))


def _aliases(model: nn.Module, untied: Collection[str]) -> dict[str, str]:
    first: dict[int, str] = {}
    tied = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in untied:
            continue
        canonical = first.setdefault(id(parameter), name)
        if canonical != name:
            tied[name] = canonical
    return tied


class _Tree:
    """Looks up where a parameter hangs in the module tree."""

    def __init__(self, model: nn.Module) -> None:
        self.modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
        self.layers_path = _decoder_layers(self.modules)
        self.head = _output_embedding(model)
        self.n_attention = 0

    def place(self, name: str) -> tuple[int | None, str, str]:
        """(layer, kind, module) of a parameter."""
        path, _, leaf = name.rpartition(".")
        parts = path.split(".") if path else []
        if self.layers_path is not None and name.startswith(self.layers_path + "."):
            depth = self.layers_path.count(".") + 2
            below = [self._module(parts[:i]) for i in range(depth + 1, len(parts) + 1)]
            kind, module = _place_inside(below, parts[depth:], leaf, self._module(parts))
            self.n_attention += kind == "attention"
            return int(parts[depth - 1]), kind, module
        chain = [self._module(parts[:i]) for i in range(len(parts) + 1)]
        return None, *self._place_outside(chain, parts[-1] if parts else leaf)

    def notes(self) -> tuple[str, ...]:
        """Why the tree could not be read in full; empty when it could."""
        if self.layers_path is None:
            return ("no list of decoder layers found in the model: no tensor counts as inside a layer",)
        if not self.n_attention:
            return ("no attention module found in the layers: region attention is empty",)
        return ()

    def _module(self, parts: Iterable[str]) -> nn.Module:
        module: nn.Module = self.modules[".".join(parts)]
        return module

    def _place_outside(self, chain: list[nn.Module], attribute: str) -> tuple[str, str]:
        owner = chain[-1]
        if self.head is not None and any(module is self.head for module in chain):
            return "lm_head", "lm_head"
        if _is_norm(owner):
            return "norm", f"norm.{attribute}"
        if isinstance(owner, nn.Embedding):
            return "embedding", f"embedding.{attribute}"
        return "other", f"other.{attribute}"


def _place_inside(below: list[nn.Module], names: list[str], leaf: str, owner: nn.Module) -> tuple[str, str]:
    """(kind, module) inside a layer; `below` are the modules from the layer's child down to the owner."""
    attribute = names[-1] if names else leaf
    if below and _is_norm(owner):
        return "norm", f"norm.{attribute}"
    classes = [type(module).__name__ for module in below]
    direct = bool(below) and not isinstance(owner, nn.Linear) and not _is_linear(owner)
    if any(_ATTENTION_CLASS.search(c) for c in classes):
        at_top = direct and _ATTENTION_CLASS.search(classes[-1])
        return "attention", f"attn.{_label(_ATTENTION_LABELS, leaf if at_top else attribute)}"
    if any(_ROUTER_CLASS.search(c) for c in classes) or _is_router(below, attribute):
        return "mlp", "mlp.router"
    mixer = any(_MIXER_CLASS.search(c) for c in classes)
    if not mixer and (any(_MLP_CLASS.search(c) for c in classes) or _is_linear(owner)):
        at_top = direct and _MLP_CLASS.search(classes[-1])
        return "mlp", f"mlp.{_label(_MLP_LABELS, leaf if at_top else attribute)}"
    return "other", f"other.{attribute}"


def _is_router(below: list[nn.Module], attribute: str) -> bool:
    """A linear map called `gate` or `router` that hangs beside a list of experts."""
    if len(below) < 2 or attribute not in ("gate", "router"):
        return False
    return any("expert" in name.lower() for name, _ in below[-2].named_children())


def _label(labels: Mapping[str, tuple[str, ...]], attribute: str) -> str:
    attribute = attribute.removesuffix("_bias")
    return next((label for label, known in labels.items() if attribute in known), attribute)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm) or "Norm" in type(module).__name__


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _decoder_layers(modules: Mapping[str, nn.Module]) -> str | None:
    lists = {path: m for path, m in modules.items() if isinstance(m, nn.ModuleList) and len(m)}
    outer = [p for p in lists if not any(p.startswith(other + ".") for other in lists)]
    sizes = {path: sum(p.numel() for p in lists[path].parameters()) for path in outer}
    return max(sizes, key=lambda path: sizes[path], default=None)


def _output_embedding(model: nn.Module) -> nn.Module | None:
    getter = getattr(model, "get_output_embeddings", None)
    head = getter() if callable(getter) else None
    return head if isinstance(head, nn.Module) else None


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in name.split(".")]
