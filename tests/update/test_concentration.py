"""Concentration against a full sort, its null, and enrichment by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_source import fake_pair, nudged, random_tensors

from sftknow_core.update.concentration import ConcentrationPoint, concentration, enrichment, summarise
from sftknow_core.update.delta import ALL_SCORES, measure_delta
from sftknow_core.update.null import measure_null
from sftknow_core.update.pair import Pair
from sftknow_core.update.report import TensorCount
from sftknow_core.update.restore import survey
from sftknow_core.update.select import Region, select

KS = ["0", "0.5", "1", "20", "60", "100"]


def made(dtype: torch.dtype = torch.float32) -> Pair:
    base = random_tensors(dtype=dtype)
    return fake_pair(base, nudged(base))


def sorted_r(pair: Pair, eps: float) -> np.ndarray:
    metas = Region().resolve(pair.metas)
    parts = [c.d.abs().numpy() / (c.p.abs().numpy() + np.float32(eps)) for c in pair.chunks(metas)]
    return np.sort(np.concatenate(parts))[::-1].astype(np.float64)


def found(pair: Pair, ks: list[str] = KS) -> list[ConcentrationPoint]:
    null = measure_null(pair, 1, {"transformer": Region().resolve(pair.metas)}, ks, n_draws=40)
    return concentration(measure_delta(pair, scores=ALL_SCORES), pair, Region(), ks, null)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shares_equal_a_full_sort_within_their_error(dtype: torch.dtype) -> None:
    pair = made(dtype)
    points = found(pair)
    assert len(points) == 3 * len(KS)
    for point in points:
        r = sorted_r(pair, point.eps)
        n = int(len(r) * float(point.k_percent) / 100)
        assert point.share is not None
        assert point.error is not None
        assert 0 <= point.error < 0.001
        assert abs(point.share - r[:n].sum() / r.sum()) <= point.error + 1e-9


def test_shares_are_what_restoring_reports() -> None:
    pair = made()
    point = next(p for p in found(pair, ["12.5"]) if p.eps == 1e-8)
    report = survey(pair, select(pair, Region(), "top", ["12.5"])[0])
    assert point.share == pytest.approx(report.r_share_restored, abs=point.error)
    assert point.energy_share == pytest.approx(report.energy_taken_back, abs=1e-3)


def test_the_null_stands_beside_the_reference_epsilon_alone() -> None:
    pair = made()
    points = found(pair)
    assert [p.null is not None for p in points] == [p.eps == 1e-8 for p in points]
    ends = [p.null for p in points if p.eps == 1e-8 and float(p.k_percent) in (0, 100)]
    assert [(null.mean, null.sd, null.p_more, null.p_two_sided) for null in ends if null] == [
        (0, 0, 1, 1),
        (1, pytest.approx(0, abs=1e-12), 1, 1),
    ]  # where all shares are equal none is special
    without = concentration(measure_delta(pair, scores=ALL_SCORES), pair, Region(), KS)
    assert {p.null for p in without} == {None}


def test_null_loses_the_place_of_a_tensors_changes() -> None:
    """Changes in proportion to |p| give every weight r = 0.1: no concentration. Dealt out at random, small
    weights get large changes, and the null is concentrated: not one of 40 permutations holds as little."""
    base = {"0.mlp.x": torch.logspace(-4, 0, 200)}
    point = found(fake_pair(base, {"0.mlp.x": base["0.mlp.x"] * 1.1}), ["10"])[0]
    assert point.share == pytest.approx(0.1, rel=1e-2)
    assert point.null is not None
    assert point.null.mean > 0.5
    assert point.null.low is not None and point.null.high is not None
    assert point.null.low < point.null.mean < point.null.high
    assert (point.null.n, point.null.p_more, point.null.p_two_sided) == (40, 1, 2 / 41)


def test_the_twenty_largest_by_hand() -> None:
    """20 weights with r = 3 and 80 with r = 0.5: the 20 hold 60 of 100, whatever k."""
    base = {"0.mlp.x": torch.ones(100)}
    changes = torch.cat([torch.full((20,), 3.0), torch.full((80,), 0.5)])
    points = found(fake_pair(base, {"0.mlp.x": base["0.mlp.x"] + changes}), ["1", "50"])
    assert [p.top_20_share for p in points if p.eps == 1e-8] == pytest.approx([0.6, 0.6])
    assert [p.share for p in points if p.eps == 1e-8] == pytest.approx([0.03, 0.75])
    few = found(fake_pair({"0.mlp.x": torch.ones(7)}, {"0.mlp.x": torch.full((7,), 2.0)}), ["50"])
    assert few[0].top_20_share == 1  # a region of fewer weights


def test_a_larger_epsilon_silences_weights_near_zero() -> None:
    base = {"0.mlp.x": torch.cat([torch.full((1,), 1e-9), torch.ones(99)])}
    pair = fake_pair(base, {"0.mlp.x": base["0.mlp.x"] + 1e-3})
    shares = {p.eps: p.share for p in found(pair, ["1"])}
    assert shares[1e-8] == pytest.approx(1, abs=1e-5)
    assert shares[1e-4] == pytest.approx(10 / (10 + 99e-3), rel=1e-3)


def test_nothing_changed_has_no_share() -> None:
    base = random_tensors()
    points = found(fake_pair(base, base), ["5"])
    assert {(p.share, p.null, p.energy_share, p.top_20_share) for p in points} == {(None, None, None, None)}


def test_summary_of_regions_adds_up() -> None:
    pair = made()
    delta = measure_delta(pair)
    whole = summarise(delta, pair, Region("all"))
    assert whole.n == delta.n_weights
    assert whole.n_changed == delta.n_changed
    layers = [summarise(delta, pair, Region("transformer", str(i))) for i in range(2)]
    assert summarise(delta, pair, Region()).sum_r == pytest.approx(sum(part.sum_r for part in layers))
    assert whole.sum_d2 / whole.sum_p2 == pytest.approx(0.05**2, rel=0.2)  # steps of 0.001 on weights of 0.02


def test_enrichment_by_hand() -> None:
    """30 of 40 restored weights are in layer 0, which has 100 of 400: share 0.75, weight share 0.25,
    threefold."""
    tensors = [
        TensorCount("a", 0, "attention", "attn.q", 100, 30, 30),
        TensorCount("b", 1, "mlp", "mlp.up", 200, 10, 9),
        TensorCount("c", 1, "mlp", "mlp.down", 100, 0, 0),
    ]
    layers = enrichment(tensors, "layer")
    assert [(e.group, e.share, e.weight_share, e.enrichment) for e in layers] == [
        ("0", 0.75, 0.25, 3.0),
        ("1", 0.25, 0.75, 1 / 3),
    ]
    assert [e.group for e in enrichment(tensors, "module")] == ["attn.q", "mlp.up", "mlp.down"]
    assert sum(e.share for e in enrichment(tensors, "module")) == 1
    assert enrichment(tensors[2:], "kind") == []
