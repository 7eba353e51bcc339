"""A TensorSource over plain tensors, and pairs of them: what the update room computes on, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest.mock import PropertyMock, patch

import torch

from sftknow_core.model.io.layout import Layout, TensorMeta
from sftknow_core.model.io.tensors import TensorSource
from sftknow_core.update import pair as pair_module
from sftknow_core.update.pair import Chunk, Pair

torch.set_num_threads(1)


class FakeSource(TensorSource):
    """Tensors by name; a name is "<layer or ->.<kind>.<module>"."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], label: str = "fake") -> None:
        metas = []
        for position, (name, tensor) in enumerate(tensors.items()):
            layer, kind, module = name.split(".", 2)
            where = None if layer == "-" else int(layer)
            metas.append(TensorMeta(position, name, tuple(tensor.shape), tensor.dtype, where, kind, module))
        super().__init__(Layout(tuple(metas), {}), label)
        self.tensors = dict(tensors)

    def read(self, name: str, start: int, stop: int, memory: torch.Tensor | None = None) -> torch.Tensor:
        return self.tensors[name].reshape(-1)[start:stop]


def fake_pair(base: Mapping[str, torch.Tensor], tuned: Mapping[str, torch.Tensor]) -> Pair:
    return Pair(FakeSource(base, "base"), FakeSource(tuned, "tuned"))


def random_tensors(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Two layers of a made-up model, with embedding, norms and head: 1,216 weights."""
    generator = torch.Generator().manual_seed(seed)

    def tensor(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * 0.02).to(dtype)

    tensors = {"-.embedding.embedding": tensor(16, 8)}
    for layer in range(2):
        tensors[f"{layer}.attention.attn.q"] = tensor(16, 8)
        tensors[f"{layer}.norm.norm"] = tensor(8)
        tensors[f"{layer}.mlp.mlp.up"] = tensor(24, 8)
        tensors[f"{layer}.mlp.mlp.down"] = tensor(8, 12)
        tensors[f"{layer}.other.other.conv"] = tensor(8, 4)
    return tensors | {"-.norm.norm.final": tensor(8), "-.lm_head.lm_head": tensor(16, 8)}


def nudged(
    tensors: Mapping[str, torch.Tensor], scale: float = 1e-3, seed: int = 1
) -> dict[str, torch.Tensor]:
    """The same tensors after a random step, in their own dtype."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (t.float() + torch.randn(t.shape, generator=generator) * scale).to(t.dtype)
        for name, t in tensors.items()
    }


def bits_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Same dtype, shape and bit patterns (0.0 and -0.0 differ)."""
    same = one.dtype == other.dtype and one.shape == other.shape
    return same and torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


@contextmanager
def cut_into(chunk: int, compiled: bool = True, threads: int = 1) -> Iterator[None]:
    """Passes in chunks of so many weights (spans of two chunks), by compiled kernels or by tensor operations."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with (
            patch.object(pair_module, "CHUNK_WEIGHTS", chunk),
            patch.object(pair_module, "SPAN_WEIGHTS", 2 * chunk),
            patch.object(Chunk, "words", Chunk.words if compiled else PropertyMock(return_value=None)),
        ):
            yield
    finally:
        torch.set_num_threads(before)
