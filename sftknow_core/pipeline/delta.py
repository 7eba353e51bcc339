"""Stage 4: base and tuned weights -> how much changed, where, and how concentrated the change is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sftknow_core.pipeline.passes import Meter, compare_passes
from sftknow_core.pipeline.workspace import ModelHandle, Workspace
from sftknow_core.store.run import Run
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.update.spec import percent

if TYPE_CHECKING:
    from sftknow_core.model.io.tensors import TensorMeta, TensorSource
    from sftknow_core.update.delta import Cube, Delta
    from sftknow_core.update.null import Against, Null
    from sftknow_core.update.pair import Pair, Progress
    from sftknow_core.update.select import Plan
    from sftknow_core.update.spec import RestoreSpec

CONCENTRATION_KS = ("1", "3", "5", "10", "20", "40", "60")
REGIONS = ("transformer", "attention", "mlp", "embedding", "all")
MEASURED = "transformer"
"""The region of which concentration is told."""


@dataclass
class ModelPair:
    """A base and a tuned model opened side by side, with what was computed about them."""

    base: ModelHandle
    tuned: ModelHandle
    _plans: dict[RestoreSpec, Plan] = field(default_factory=dict)

    @cached_property
    def weights(self) -> Pair:
        """Both weight sources, checked against each other. Raises ModelError."""
        from sftknow_core.model.io.fit import check_same_tokenizer
        from sftknow_core.update.pair import Pair

        check_same_tokenizer(self.base.path, self.tuned.path)
        return Pair(open_source(self.base.path), open_source(self.tuned.path, self.base.path))

    @cached_property
    def delta(self) -> Delta:
        """Statistics and the whole cube, computed once (a pass over both models)."""
        return self.measure()

    def measure(self, progress: Progress | None = None) -> Delta:
        """As `delta`, telling how far it is; kept as well."""
        from sftknow_core.update.delta import ALL_SCORES, measure_delta

        if "delta" not in self.__dict__:
            self.__dict__["delta"] = measure_delta(self.weights, progress, scores=ALL_SCORES)
        return self.delta

    def permute(self, progress: Progress | None = None) -> Null:
        """The changes permuted within each tensor, many times, from a seed that only this pair has.

        progress: told (weights permuted, weights to permute).
        """
        from sftknow_core.results.cube_selection import CURVE_KS
        from sftknow_core.update.null import measure_null, seed_of

        seed = seed_of(self.base.model_id, self.tuned.model_id)
        return measure_null(self.weights, seed, _regions(self.weights), CURVE_KS, progress)

    def plan(self, spec: RestoreSpec) -> Plan:
        """What restoring by `spec` takes back; refined once."""
        return self.plans([spec])[0]

    def plans(self, specs: Sequence[RestoreSpec], progress: Progress | None = None) -> list[Plan]:
        """The plans of several specs: those not refined yet in one pass together.

        The cube is used where it is there; without it counting is cheaper than making it.
        """
        from sftknow_core.update.select import plans_for

        missing = [spec for spec in dict.fromkeys(specs) if spec not in self._plans]
        if missing:
            delta = self.__dict__.get("delta")
            found = plans_for(self.weights, missing, delta=delta, progress=progress)
            self._plans.update(zip(missing, found, strict=True))
        return [self._plans[spec] for spec in specs]


def open_source(path: Path, base: Path | None = None) -> TensorSource:
    """The weights of a model folder, or of an adapter folder on its base."""
    from sftknow_core.model.io.adapter import open_source as opened

    return opened(path, base=base)


def compare_models(ws: Workspace, pair: ModelPair) -> Run:
    """The run that holds tables deltas, delta_tensors, cube and concentration of a pair.

    Raises ModelError when the two do not fit together or a weight is NaN or infinite.
    """
    from sftknow_core.update.delta import DELTA_VERSION

    spec = RunSpec(
        "delta",
        inputs={"base": pair.base.model_id, "tuned": pair.tuned.model_id},
        params={"k_percent": list(CONCENTRATION_KS)},
        versions={"delta": DELTA_VERSION},
    )
    with ws.open_run(spec, {"base": pair.base.name, "tuned": pair.tuned.name}) as run:
        if not run.done:
            passes = compare_passes(pair.weights)
            meter = Meter(ws.reporter, passes)
            show = meter.stage("compare", "comparing the weights")

            def tell(done: int, total: int) -> None:
                run.check_stop()
                run.progress(done, total, "bytes compared")
                show(done, total)

            pair.measure(tell)
            again = meter.stage("null", "permuting the changes")

            def tell_again(done: int, total: int) -> None:
                run.check_stop()
                run.progress(done, total, "weights permuted")
                again(done, total)

            run.write_chunk(0, _tables(pair, pair.permute(tell_again)))
            ws.finish(run, _summary(pair))
        return run


def _regions(pair: Pair) -> dict[str, tuple[TensorMeta, ...]]:
    """The regions that the model has, with their tensors."""
    from sftknow_core.errors import SpecError
    from sftknow_core.update.region import Region

    found = {}
    for name in REGIONS:
        with suppress(SpecError):  # a model can lack a region, e.g. have no layers named so
            found[name] = Region(name).resolve(pair.metas)
    return found


def _tables(pair: ModelPair, null: Null) -> dict[str, Any]:
    delta = pair.delta
    return {
        "deltas": [_region_row(pair, region) for region in _regions(pair.weights)],
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
                "sum_r_tiny": t.sum_r_tiny,
                "max_r": t.max_r,
                "energy": t.sum_d2,
                "base_energy": t.sum_p2,
            }
            for t in delta.tensors
        ],
        "cube": _cube_table(type(delta.cube).joined([delta.cube, null.first])),
        "concentration": _concentration_rows(pair, null),
        "null_shares": _null_rows(pair, null),
        "null_places": _null_places(pair, null),
    }


def _cube_table(cube: Cube) -> pa.Table:
    """The cube's rows in order, with the scores' names."""
    from sftknow_core.update.delta import SCORES

    cube = cube.in_order()
    names = pa.array([str(score) for score in SCORES])
    return pa.table(
        {
            "tensor_id": cube.tensor,
            "score": pa.DictionaryArray.from_arrays(pa.array(cube.score), names).dictionary_decode(),
            "bin": cube.bin,
            "n": cube.n,
            "sum_score": cube.sum_score,
            "sum_d2": cube.sum_d2,
        }
    )


def _region_row(pair: ModelPair, name: str) -> dict[str, Any]:
    from sftknow_core.update.concentration import summarise
    from sftknow_core.update.region import Region
    from sftknow_core.update.scores import EPS

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


def _concentration_rows(pair: ModelPair, null: Null) -> list[dict[str, Any]]:
    from sftknow_core.update.concentration import concentration
    from sftknow_core.update.region import Region

    return [
        {
            "region": MEASURED,
            "eps": point.eps,
            "k_percent": float(point.k_percent),
            "share": point.share,
            **_spread(point.null),
            "top_20_share": point.top_20_share,
            "energy_share": point.energy_share,
            "reason": None if point.share is not None else "no weight changed",
        }
        for point in concentration(pair.delta, pair.weights, Region(MEASURED), CONCENTRATION_KS, null)
    ]


def _null_rows(pair: ModelPair, null: Null) -> list[dict[str, Any]]:
    """Every region's null at every k."""
    from sftknow_core.update.concentration import concentration
    from sftknow_core.update.region import Region
    from sftknow_core.update.scores import EPS

    return [
        {"region": name, "k_percent": float(point.k_percent), **_spread(point.null)}
        for name in null.shares
        for point in concentration(pair.delta, pair.weights, Region(name), null.ks, null)
        if point.eps == EPS
    ]


def _spread(found: Against | None) -> dict[str, Any]:
    """The columns of a share's null; None where it was not measured."""
    names = ("null_share", "null_sd", "null_low", "null_high", "n_permutations", "p_more", "p_two_sided")
    return dict.fromkeys(names) if found is None else dict(zip(names, astuple(found), strict=True))


def _null_places(pair: ModelPair, null: Null) -> list[dict[str, Any]]:
    """Where the most changed weights would sit, tensor by tensor."""
    metas = _regions(pair.weights).get(MEASURED, ())
    return [
        {"region": MEASURED, "k_percent": float(k), "tensor_id": meta.position, "n_restored": n}
        for k in CONCENTRATION_KS
        for meta, n in zip(metas, null.taken[MEASURED][null.ks.index(percent(k))].tolist(), strict=True)
    ]


def _summary(pair: ModelPair) -> dict[str, Any]:
    delta = pair.delta
    return {
        "n_params": delta.n_weights,
        "n_changed": delta.n_changed,
        "changed_share": delta.n_changed / delta.n_weights,
        "notes": list(delta.notes),
    }
