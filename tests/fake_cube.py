"""Delta runs of made-up weights: each tensor is given as the scores and changes of its single weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftknow_core.store.cache import Cache
from sftknow_core.store.ingest import ingest
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_spec import RunSpec

Floats = NDArray[np.float32]
R_SCORES = ("relative", "relative_1e-6", "relative_1e-4", "permuted")


@dataclass
class FakeTensor:
    """One tensor, weight by weight."""

    layer: int | None
    module: str
    r: Floats
    d: Floats
    """|s - p|"""
    n_hidden: int = 0
    """Changes that no score shows."""
    more: dict[str, Any] = field(default_factory=dict)
    """Further columns of delta_tensors."""

    @property
    def kind(self) -> str:
        head = self.module.split(".")[0]
        return {"attn": "attention"}.get(head, head)

    def row(self, position: int) -> dict[str, Any]:
        """Its row of delta_tensors."""
        n_changed = int(np.count_nonzero(self.r)) + self.n_hidden
        return {
            "tensor_id": 10 * position,  # an id, not a place
            "position": position,
            "name": f"{self.layer}.{self.module}",
            "layer": self.layer,
            "kind": self.kind,
            "module": self.module,
            "n_params": len(self.r),
            "n_changed": n_changed,
            "sum_r": float(self.r.astype(float).sum()),
            "energy": float((self.d.astype(float) ** 2).sum()),
            **self.more,
        }

    def bins(self, position: int, score: str) -> list[dict[str, Any]]:
        """Its rows of the cube under one score."""
        values = self.d if score == "absolute" else self.r
        numbers, of = np.unique(values.view(np.uint32) >> 16, return_inverse=True)
        d2 = self.d.astype(float) ** 2
        return [
            {
                "tensor_id": 10 * position,
                "score": score,
                "bin": int(number),
                "n": int((of == i).sum()),
                "sum_score": float(values[of == i].astype(float).sum()),
                "sum_d2": float(d2[of == i].sum()) if score in ("relative", "absolute") else None,
            }
            for i, number in enumerate(numbers)
        ]


def tensor(layer: int | None, module: str, r: list[float], d: list[float], **others: Any) -> FakeTensor:
    return FakeTensor(layer, module, np.array(r, np.float32), np.array(d, np.float32), **others)


def write_cube(
    cache: Cache,
    tensors: list[FakeTensor],
    base: str = "base",
    scores: tuple[str, ...] = (*R_SCORES, "absolute"),
    version: int = 1,
    tell: bool = True,
    tables: dict[str, list[dict[str, Any]]] | None = None,
) -> str:
    """A finished delta run; returns its id. tell: whether the catalogue knows of it. tables: rows of further ones."""
    spec = RunSpec("delta", {"base": base, "tuned": "tuned"}, versions={"delta": version})
    with open_run(cache, spec, about={"base": "demo", "tuned": "a run"}) as run:
        rows = [row for score in scores for i, t in enumerate(tensors) for row in t.bins(i, score)]
        half = len(rows) // 2
        own = {"delta_tensors": [t.row(i) for i, t in enumerate(tensors)], "cube": rows[:half]}
        run.write_chunk(0, own | (tables or {}))
        run.write_part("cube", 1, rows[half:])
        run.finish()
    if tell:
        ingest(cache, run.run_id)
    return run.run_id


E_ = 2.0**-8
"""1 and 1 + E_ share a bin."""


def small_model() -> list[FakeTensor]:
    """Two layers of 8 weights with attention and MLP, and 4 weights each of norm, embedding and head."""
    near_zero = {"sum_r_tiny": 4.0, "base_energy": 38.0}
    return [
        tensor(None, "embedding.tokens", [0, 0, 0, 0], [0, 0, 0, 0], more={"base_energy": 0.0}),
        tensor(0, "attn.q", [4, 1, 1, 0], [2, 1, 1, 0], more=near_zero),
        tensor(0, "mlp.up", [2, 1 + E_, 0, 0], [1, 1, 0, 0], more={"sum_r_tiny": 0.0, "base_energy": 57.0}),
        tensor(0, "norm.input", [8, 8, 8, 8], [1, 1, 1, 1]),
        tensor(1, "attn.q", [1 + E_, 0.5, 0, 0], [1, 0.5, 0, 0], more={"base_energy": 1.0}),
        tensor(1, "mlp.up", [0.5, 0, 0, 0], [0.5, 0, 0, 0], more={"base_energy": 56.0}),
        tensor(None, "lm_head", [16, 0, 0, 0], [4, 0, 0, 0]),
    ]
