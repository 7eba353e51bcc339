"""What is set beside a k takes back the same part of the update, measured by restoring it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from small_chain import do_chain

from sftknow_core.errors import SpecError
from sftknow_core.pipeline.delta import ModelPair
from sftknow_core.pipeline.states import COMPARABLE, StateLoader, at_equal_energy, restored_state
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import RestoreSpec

TOP = [RestoreSpec(k_percent=k) for k in ("5", "20", "60", "100")]  # type: ignore[arg-type]


def test_every_strategy_takes_back_what_the_k_takes_back(undisturbed: Path, model: Path) -> None:
    """To 0.1 points where the amount is exact, to 3 points for random weights: there it is an expectation."""
    chain = do_chain(undisturbed, model).summary
    beside = at_equal_energy(
        Cache(undisturbed), chain["stages"]["delta"], TOP, [str(one) for one in COMPARABLE]
    )
    ws = Workspace(undisturbed, device="cpu")
    base, tuned = ws.open_model(model), ws.open_model(chain["tuned_id"])
    loader = StateLoader(ws, base, ModelPair(base, tuned))

    def energy(spec: RestoreSpec) -> float:
        report = loader.report(restored_state(base, tuned, spec))
        assert report is not None and report.energy_taken_back is not None
        return report.energy_taken_back

    own = {spec.k_percent: energy(spec) for spec in TOP}
    assert {spec.strategy for spec in beside} == set(COMPARABLE) - {"top"}
    assert len(beside) == 3 * 5 and set(beside.values()) == {Decimal(5), Decimal(20), Decimal(60)}
    for spec, k in beside.items():
        tolerance = 0.03 if spec.strategy == "random" else 0.001
        assert energy(spec) == pytest.approx(own[k], abs=tolerance), spec
    by_size = {spec.k_percent for spec, k in beside.items() if spec.strategy == "largest" and k == 20}
    assert max(by_size) < 20  # type: ignore[type-var, operator]


def test_what_has_no_counterpart_is_left_out(undisturbed: Path, model: Path) -> None:
    delta = do_chain(undisturbed, model).summary["stages"]["delta"]
    cache = Cache(undisturbed)
    assert at_equal_energy(cache, delta, TOP[-1:], ["random"]) == {}  # the hybrid
    assert at_equal_energy(cache, delta, [RestoreSpec("interpolation", alpha="0.5")], ["random"]) == {}  # type: ignore[arg-type]
    assert at_equal_energy(cache, delta, TOP, ["top"]) == {}
    with pytest.raises(
        SpecError, match=r"equal_energy: got 'block'; allowed: top, bottom, largest, smallest, random"
    ):
        at_equal_energy(cache, delta, TOP, ["block"])
