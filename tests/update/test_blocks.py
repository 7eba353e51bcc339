"""Block strategies: whole tensors go back, nothing else does, and what is left out is the other part."""

from __future__ import annotations

import pytest
import torch
from fake_source import bits_equal, fake_pair, nudged, random_tensors

from sftknow_core.errors import SpecError
from sftknow_core.update.pair import Pair
from sftknow_core.update.report import RestoreReport
from sftknow_core.update.restore import restore_into
from sftknow_core.update.select import plan_for, plans_for
from sftknow_core.update.spec import RestoreSpec

BASE = random_tensors()
TUNED = nudged(BASE)


def restored(
    strategy: str, block: str, region: str = "transformer"
) -> tuple[dict[str, torch.Tensor], RestoreReport]:
    pair = fake_pair(BASE, TUNED)
    out = {name: torch.full_like(tensor, 7.0) for name, tensor in BASE.items()}
    spec = RestoreSpec(strategy, region, block=block)  # type: ignore[arg-type]
    return out, restore_into(out, pair, plan_for(pair, spec))


def taken_back(out: dict[str, torch.Tensor]) -> set[str]:
    """The names of the tensors that are base's; every other one must be tuned's."""
    back = {name for name in BASE if bits_equal(out[name], BASE[name])}
    assert all(bits_equal(out[name], TUNED[name]) for name in set(BASE) - back)
    return back


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("0", {"0.attention.attn.q", "0.mlp.mlp.up", "0.mlp.mlp.down", "0.other.other.conv"}),
        ("mlp", {f"{i}.mlp.mlp.{m}" for i in (0, 1) for m in ("up", "down")}),
        (" mlp  1 ", {"1.mlp.mlp.up", "1.mlp.mlp.down"}),
    ],
)
def test_a_block_goes_back_and_leaving_it_out_is_the_rest(block: str, expected: set[str]) -> None:
    out, report = restored("block", block)
    assert taken_back(out) == expected
    region = {name for name in BASE if name.split(".")[1] in ("attention", "mlp", "other")}
    rest, other = restored("all-but-block", block)
    assert taken_back(rest) == region - expected
    n = sum(BASE[name].numel() for name in expected)
    assert report.n_restored == report.n_touched == n
    assert report.n_restored + (other.n_restored or 0) == report.n_region
    assert float(report.k_percent or 0) == pytest.approx(100 * n / report.n_region, abs=1e-4)
    assert (report.energy_taken_back or 0) + (other.energy_taken_back or 0) == pytest.approx(1)
    assert (report.r_share_restored or 0) + (other.r_share_restored or 0) == pytest.approx(1)
    assert report.threshold is None


def test_an_embedding_block_of_everything() -> None:
    out, report = restored("block", "embedding", "all")
    assert taken_back(out) == {"-.embedding.embedding", "-.lm_head.lm_head"}
    assert {t.name for t in report.tensors if t.n_restored} == taken_back(out)


@pytest.mark.parametrize(("block", "region"), [("embedding", "transformer"), ("7", "all"), ("mlp 7", "mlp")])
def test_blocks_that_hold_nothing_are_refused(block: str, region: str) -> None:
    with pytest.raises(SpecError, match="holds no tensor of the region"):
        restored("block", block, region)


@pytest.mark.parametrize("block", ["", "norms", "mlp attention", "0-", "3-1", "mlp,0"])
def test_blocks_that_say_nothing_are_refused(block: str) -> None:
    with pytest.raises(SpecError, match="block: got"):
        RestoreSpec("block", block=block)  # type: ignore[arg-type]


def test_one_spelling_one_state() -> None:
    one, other = (RestoreSpec("block", block=text) for text in ("mlp 0,1", " mlp  0-1"))  # type: ignore[arg-type]
    assert one.state_id("a", "b") == other.state_id("a", "b")
    assert RestoreSpec.from_json(one.to_json()) == one
    assert one.to_json()["block"] == "mlp 0-1"
    assert "block" not in RestoreSpec(k_percent="5").to_json()  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="takes block and no k_percent"):
        RestoreSpec("block", k_percent="5", block="mlp")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="takes k_percent and no block"):
        RestoreSpec("top", k_percent="5", block="mlp")  # type: ignore[arg-type]


def test_plans_of_all_kinds_share_a_pass() -> None:
    """Five specs of three strategies: every weight is read once to refine them, and the order is kept."""
    pair: Pair = fake_pair(BASE, TUNED)
    specs = [
        RestoreSpec("bottom", "mlp", k_percent="30"),  # type: ignore[arg-type]
        RestoreSpec("block", block="0"),  # type: ignore[arg-type]
        RestoreSpec("random", "all", k_percent="30", seed=3),  # type: ignore[arg-type]
        RestoreSpec("interpolation", alpha="0.5"),  # type: ignore[arg-type]
        RestoreSpec("bottom", "mlp", k_percent="60"),  # type: ignore[arg-type]
    ]
    plans = plans_for(pair, specs)
    assert [plan.spec for plan in plans] == specs
    for spec, plan in zip(specs, plans, strict=True):
        assert plan == plan_for(pair, spec) or plan.cut == plan_for(pair, spec).cut
