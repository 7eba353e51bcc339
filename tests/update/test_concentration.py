"""Concentration against a full sort, its null, and enrichment by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_source import cut_into, fake_pair, nudged, random_tensors

from sftknow_core.update.concentration import ConcentrationPoint, concentration, enrichment, summarise
from sftknow_core.update.delta import PLAIN_SCORES, SCORES, measure_delta
from sftknow_core.update.pair import Pair
from sftknow_core.update.report import TensorCount
from sftknow_core.update.restore import survey
from sftknow_core.update.scores import Score
from sftknow_core.update.select import Region, select

KS = ["0", "0.5", "1", "20", "60", "100"]


def made(dtype: torch.dtype = torch.float32) -> Pair:
    base = random_tensors(dtype=dtype)
    return fake_pair(base, nudged(base))


def sorted_r(pair: Pair, eps: float) -> np.ndarray:
    metas = Region().resolve(pair.metas)
    parts = [c.d.abs().numpy() / (c.p.abs().numpy() + np.float32(eps)) for c in pair.chunks(metas)]
    return np.sort(np.concatenate(parts))[::-1].astype(np.float64)


def found(
    pair: Pair, ks: list[str] = KS, seed: int = 0, scores: tuple[Score, ...] = SCORES
) -> list[ConcentrationPoint]:
    return concentration(measure_delta(pair, scores=scores, null_seed=seed), pair, Region(), ks)


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


def test_null_is_seeded_and_bounded() -> None:
    pair = made()
    one, again, other = ([p.null_share for p in found(pair, seed=seed)][: len(KS)] for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert one[0] == 0
    assert one[-1] == pytest.approx(1)
    assert {p.null_share for p in found(pair, scores=PLAIN_SCORES)} == {None}


def test_null_loses_the_place_of_a_tensors_changes() -> None:
    """Changes in proportion to |p| give every weight r = 0.1: no concentration. Dealt out at random, small
    weights get large changes, and the null is concentrated."""
    base = {"0.mlp.x": torch.logspace(-4, 0, 200)}
    point = found(fake_pair(base, {"0.mlp.x": base["0.mlp.x"] * 1.1}), ["10"])[0]
    assert point.share == pytest.approx(0.1, rel=1e-2)
    assert point.null_share is not None
    assert point.null_share > 0.5


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("chunk", [7, 64, 1 << 16])
def test_null_deals_every_change_out_once(chunk: int, compiled: bool) -> None:
    """With |p| = 1 everywhere r is |d| but for rounding, so the null's bins are those of r whatever goes where."""
    changes = torch.linspace(0.5, 2, 600)
    base = {"0.mlp.x": torch.ones(600)}
    with cut_into(chunk, compiled):
        delta = measure_delta(fake_pair(base, {"0.mlp.x": base["0.mlp.x"] + changes}), scores=SCORES)
    metas = Region().resolve(fake_pair(base, base).metas)
    assert (delta.histogram(metas, Score.PERMUTED) == delta.histogram(metas, Score.RELATIVE)).all()


def test_the_null_is_the_average_over_all_permutations() -> None:
    """Blocks and turns are no shortcut on average: over seeds, r of the null has the mean of all pairs."""
    base = {"0.mlp.x": torch.logspace(-2, 0, 256)}
    pair = fake_pair(base, {"0.mlp.x": base["0.mlp.x"] * torch.linspace(1, 3, 256)})
    d, p = pair.read(pair.metas[0], 0, 256).d.abs(), pair.read(pair.metas[0], 0, 256).p
    expected = float((d[:, None] / (p[None, :] + 1e-8)).sum(dtype=torch.float64)) / 256
    with cut_into(32):
        sums = [
            measure_delta(pair, scores=SCORES, null_seed=seed).sums(pair.metas, Score.PERMUTED)[0].sum()
            for seed in range(200)
        ]
    assert abs(np.mean(sums) - expected) < 3 * np.std(sums) / np.sqrt(len(sums))


def test_a_larger_epsilon_silences_weights_near_zero() -> None:
    base = {"0.mlp.x": torch.cat([torch.full((1,), 1e-9), torch.ones(99)])}
    pair = fake_pair(base, {"0.mlp.x": base["0.mlp.x"] + 1e-3})
    shares = {p.eps: p.share for p in found(pair, ["1"])}
    assert shares[1e-8] == pytest.approx(1, abs=1e-5)
    assert shares[1e-4] == pytest.approx(10 / (10 + 99e-3), rel=1e-3)


def test_nothing_changed_has_no_share() -> None:
    base = random_tensors()
    points = found(fake_pair(base, base), ["5"])
    assert {(p.share, p.null_share, p.energy_share) for p in points} == {(None, None, None)}


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
