"""What is set beside a k takes back the same part of the update, measured by restoring it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_chain import do_chain

from sftknow_core.errors import SpecError
from sftknow_core.pipeline.delta import ModelPair
from sftknow_core.pipeline.states import Part, StateLoader, at_equal_part, restored_state
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.specs import COMPARABLE
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import RestoreSpec, percent

TOP = [RestoreSpec(k_percent=k) for k in ("5", "20", "60", "100")]  # type: ignore[arg-type]


@pytest.mark.parametrize("part", list(Part))
def test_every_strategy_takes_back_what_the_k_takes_back(undisturbed: Path, model: Path, part: Part) -> None:
    """To 0.1 points where the amount is exact, to 3 points for random weights: there it is an expectation.

    Of the other part an interpolation takes back something else: (1 - a)(1 + a) of energy where it is 1 - a of
    projection, which the former, equal energy alone, left 5 to 50 points apart.
    """
    chain = do_chain(undisturbed, model).summary
    beside = at_equal_part(
        Cache(undisturbed), chain["stages"]["delta"], TOP, [str(one) for one in COMPARABLE], part
    )
    ws = Workspace(undisturbed, device="cpu")
    base, tuned = ws.open_model(model), ws.open_model(chain["tuned_id"])
    loader = StateLoader(ws, base, ModelPair(base, tuned))

    def taken(spec: RestoreSpec, name: str) -> float:
        report = loader.report(restored_state(base, tuned, spec))
        found = getattr(report, f"{name}_taken_back")
        assert found is not None
        return float(found)

    own = {spec.k_percent: taken(spec, part) for spec in TOP}
    assert {spec.strategy for spec in beside} == set(COMPARABLE) - {"top"}
    assert len(beside) == 3 * 5 and set(beside.values()) == {percent(5), percent(20), percent(60)}
    for spec, k in beside.items():
        tolerance = 0.03 if spec.strategy == "random" else 0.001
        assert taken(spec, part) == pytest.approx(own[k], abs=tolerance), spec
        if spec.alpha is not None:
            alpha = float(spec.alpha)
            assert alpha == pytest.approx(
                1 - own[k] if part is Part.PROJECTION else (1 - own[k]) ** 0.5, abs=1e-3
            )
            other = taken(spec, {Part.ENERGY: "projection", Part.PROJECTION: "energy"}[part])
            assert other == pytest.approx(1 - alpha if part is Part.ENERGY else 1 - alpha**2, abs=1e-3)
    by_size = {
        spec.k_percent for spec, k in beside.items() if spec.strategy == "largest" and k == percent(20)
    }
    assert max(by_size) < percent(20)  # type: ignore[type-var]


def test_what_puts_whole_weights_back_is_one_state_for_both_parts(undisturbed: Path, model: Path) -> None:
    delta = do_chain(undisturbed, model).summary["stages"]["delta"]
    energy, projection = (
        at_equal_part(Cache(undisturbed), delta, TOP, [str(one) for one in COMPARABLE], part, (7, 8))
        for part in Part
    )
    alike = {spec: k for spec, k in energy.items() if spec.strategy != "interpolation"}
    assert alike == {spec: k for spec, k in projection.items() if spec.strategy != "interpolation"}
    assert not {spec for spec in energy if spec.strategy == "interpolation"} & set(projection)
    assert {spec.seed for spec in alike if spec.strategy == "random"} == {7, 8}


def test_what_has_no_counterpart_is_left_out(undisturbed: Path, model: Path) -> None:
    delta = do_chain(undisturbed, model).summary["stages"]["delta"]
    cache = Cache(undisturbed)
    assert at_equal_part(cache, delta, TOP[-1:], ["random"]) == {}  # the hybrid
    assert at_equal_part(cache, delta, [RestoreSpec("interpolation", alpha="0.5")], ["random"]) == {}  # type: ignore[arg-type]
    assert at_equal_part(cache, delta, TOP, ["top"]) == {}
    with pytest.raises(
        SpecError, match=r"equal_projection: got 'block'; allowed: top, bottom, largest, smallest, random"
    ):
        at_equal_part(cache, delta, TOP, ["block"])
