"""Stage 4: base and tuned weights -> how much changed, where, and how concentrated the change is."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftknow_core.runs.workspace import ModelHandle, Workspace
from sftknow_core.store.run import Run
from sftknow_core.store.run_spec import RunSpec

if TYPE_CHECKING:
    from sftknow_core.model.tensors import TensorSource
    from sftknow_core.update.delta import Delta
    from sftknow_core.update.pair import Pair
    from sftknow_core.update.select import Plan
    from sftknow_core.update.spec import RestoreSpec

CONCENTRATION_KS = ("1", "3", "5", "10", "20", "40", "60")
REGIONS = ("transformer", "attention", "mlp", "embedding", "all")
_UNITS = 0.6


@dataclass
class ModelPair:
    """A base and a tuned model opened side by side, with what was computed about them."""

    base: ModelHandle
    tuned: ModelHandle

    @cached_property
    def weights(self) -> Pair:
        """Both weight sources, checked against each other. Raises ModelError."""
        from sftknow_core.model.tokenizer_match import check_same_tokenizer
        from sftknow_core.update.pair import Pair

        check_same_tokenizer(self.base.path, self.tuned.path)
        return Pair(open_source(self.base.path), open_source(self.tuned.path, self.base.path))

    @cached_property
    def delta(self) -> Delta:
        """Statistics and cube, computed once (a pass over both models)."""
        from sftknow_core.update.delta import measure_delta

        return measure_delta(self.weights)

    def plan(self, spec: RestoreSpec) -> Plan:
        """What restoring by `spec` takes back."""
        from sftknow_core.update.select import plan_for

        return plan_for(self.weights, spec, delta=self.delta)


def open_source(path: Path, base: Path | None = None) -> TensorSource:
    """The weights of a model folder, or of an adapter folder on its base."""
    from sftknow_core.model.tensors import open_source as opened

    return opened(path, base=base)


def compare_models(ws: Workspace, pair: ModelPair) -> Run:
    """The run that holds tables deltas, delta_tensors, cube and concentration of a pair.

    Raises ModelError when the two do not fit together or a weight is NaN or infinite.
    """
    from sftknow_core.update.spec import ALGORITHM_VERSION

    spec = RunSpec(
        "delta",
        inputs={"base": pair.base.model_id, "tuned": pair.tuned.model_id},
        params={"k_percent": list(CONCENTRATION_KS)},
        versions={"delta": ALGORITHM_VERSION},
    )
    with ws.open_run(spec, {"base": pair.base.name, "tuned": pair.tuned.name}) as run:
        if not run.done:
            ws.reporter.stage("comparing the weights")
            ws.reporter.expect(_UNITS)
            run.write_chunk(0, _tables(pair))
            ws.reporter.advance(_UNITS)
            ws.finish(run, _summary(pair))
        return run


def _tables(pair: ModelPair) -> dict[str, Any]:
    delta = pair.delta
    cube = delta.cube
    from sftknow_core.update.delta import SCORES

    return {
        "deltas": [row for region in REGIONS if (row := _region_row(pair, region))],
        "delta_tensors": [
            {
                "tensor_id": t.position,
                "position": t.position,
                "name": t.name,
                "layer": t.layer,
                "kind": t.kind,
                "module": t.module,
                "n_params": t.numel,
                "n_changed": t.n_changed,
                "sum_r": t.sum_r,
                "energy": t.sum_d2,
                "base_energy": t.sum_p2,
            }
            for t in delta.tensors
        ],
        "cube": [
            {
                "tensor_id": int(tensor),
                "score": str(SCORES[score]),
                "bin": int(number),
                "n": int(n),
                "sum_score": float(total),
                "sum_d2": float(d2),
            }
            for tensor, score, number, n, total, d2 in zip(
                cube.tensor, cube.score, cube.bin, cube.n, cube.sum_score, cube.sum_d2, strict=True
            )
        ],
        "concentration": _concentration_rows(pair),
    }


def _region_row(pair: ModelPair, name: str) -> dict[str, Any] | None:
    from sftknow_core.errors import SpecError
    from sftknow_core.update.concentration import summarise
    from sftknow_core.update.region import Region
    from sftknow_core.update.scores import EPS

    with suppress(SpecError):  # a model can lack a region, e.g. have no layers named so
        found = summarise(pair.delta, pair.weights, Region(name))
        return {
            "base_id": pair.base.model_id,
            "tuned_id": pair.tuned.model_id,
            "region": name,
            "n_params": found.n,
            "n_changed": found.n_changed,
            "sum_r": found.sum_r,
            "energy": found.sum_d2,
            "base_energy": found.sum_p2,
            "tiny_share_of_r": found.sum_r_tiny / found.sum_r if found.sum_r else None,
            "eps": EPS,
        }
    return None


def _concentration_rows(pair: ModelPair) -> list[dict[str, Any]]:
    from sftknow_core.update.concentration import concentration
    from sftknow_core.update.region import Region

    return [
        {
            "region": "transformer",
            "eps": point.eps,
            "k_percent": float(point.k_percent),
            "share": point.share,
            "null_share": point.null_share,
            "reason": None if point.share is not None else "no weight changed",
        }
        for point in concentration(pair.weights, Region("transformer"), CONCENTRATION_KS)
    ]


def _summary(pair: ModelPair) -> dict[str, Any]:
    delta = pair.delta
    return {
        "n_params": delta.n_weights,
        "n_changed": delta.n_changed,
        "changed_share": delta.n_changed / delta.n_weights,
        "notes": list(delta.notes),
    }
