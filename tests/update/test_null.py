"""Permuted changes against numpy, by hand, and against what a null must do: rank p values that are uniform."""

from __future__ import annotations

from itertools import permutations
from unittest.mock import patch

import numpy as np
import pytest
import torch
from fake_source import cut_into, fake_pair, nudged, random_tensors
from numpy.typing import NDArray

from sftknow_core.errors import ModelError
from sftknow_core.update import null as module
from sftknow_core.update.concentration import concentration
from sftknow_core.update.delta import measure_delta
from sftknow_core.update.null import Null, against, measure_null, seed_of
from sftknow_core.update.pair import Pair
from sftknow_core.update.region import Region
from sftknow_core.update.scores import Score

KS = ["1", "20"]


def nulls(pair: Pair, seed: int = 1, ks: list[str] = KS, n: int | None = None) -> Null:
    regions = {"transformer": Region().resolve(pair.metas), "all": pair.metas}
    return measure_null(pair, seed, regions, ks, n_draws=n)


def heavy(sizes: tuple[int, ...], seed: int = 0) -> Pair:
    """Gaussian weights and changes of two scales: what is permuted across tensors would show."""
    rng = np.random.default_rng(seed)
    base, tuned = {}, {}
    for i, n in enumerate(sizes):
        p, d = rng.normal(0, 0.02, n), rng.normal(0, 1e-3 * (1 + 9 * (i % 2)), n)
        base[f"{i}.mlp.m"], tuned[f"{i}.mlp.m"] = (torch.from_numpy(x).float() for x in (p, p + d))
    return fake_pair(base, tuned)


def slow_draws(pair: Pair, k: float, n: int, seed: int = 7) -> NDArray[np.float64]:
    """Shares of n permutations within each tensor: numpy's permutation, a full sort, no bins."""
    rng = np.random.default_rng(seed)
    held = [(c.p.abs().double().numpy(), c.d.abs().double().numpy()) for c in pair.chunks()]
    shares = []
    for _ in range(n):
        r = np.concatenate([rng.permutation(d) / (p + 1e-8) for p, d in held])
        top = np.sort(r)[::-1][: int(r.size * k / 100)]
        shares.append(top.sum() / r.sum())
    return np.array(shares)


def test_other_pairs_other_draws_and_the_same_pair_the_same() -> None:
    """Two chains of one base with the same changes: only their ids differ, and so do all their draws."""
    pair = heavy((400, 900))
    one = nulls(pair, seed_of("base", "tuned 1")).shares["transformer"]
    again = nulls(pair, seed_of("base", "tuned 1")).shares["transformer"]
    other = nulls(pair, seed_of("base", "tuned 2")).shares["transformer"]
    assert (one == again).all()
    assert (one != other).any(axis=1).all()
    assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 0.3
    assert len({seed_of("a", "b"), seed_of("b", "a"), seed_of("a", "c"), seed_of("ab", "")}) == 4


@pytest.mark.parametrize("large", [False, True])
def test_the_mean_is_that_of_a_slow_permutation(large: bool) -> None:
    """199 draws of each, two-sample z below 3.5 in mean; and their spread agrees within a fifth (its own error: 7%).

    Chunks of 64 in groups of 4 leave 3 full groups or more to each large tensor, and short ends."""
    pair = heavy((1000, 1500, 70))
    with (
        cut_into(64 if large else 1 << 16),
        patch.object(module, "SMALL_WEIGHTS", 0 if large else 20_000_000),
        patch.object(module, "GROUP", 4),
    ):
        found = nulls(pair, n=199).shares["transformer"]
    for column, k in enumerate((1.0, 20.0)):
        slow, ours = slow_draws(pair, k, 199), found[:, column]
        error = np.sqrt((slow.var(ddof=1) + ours.var(ddof=1)) / 199)
        assert abs(slow.mean() - ours.mean()) < 3.5 * error
        assert ours.std() == pytest.approx(slow.std(), rel=0.25)


def test_every_order_of_a_small_tensor_is_as_likely() -> None:
    """p = (1, 2, 4), d = (1, 10, 100): each of the 6 orders has its own sum of r, (d1 + d2 / 2 + d3 / 4). In 1,200
    draws each comes about 200 times: chi-squared of 5 degrees, 20.5 is its 99.9% quantile."""
    p, d = np.array([1.0, 2.0, 4.0]), np.array([1.0, 10.0, 100.0])
    base = {"0.mlp.x": torch.from_numpy(p).float()}
    pair = fake_pair(base, {"0.mlp.x": torch.from_numpy(p + d).float()})
    shares = nulls(pair, ks=["34"], n=1200).shares["transformer"][:, 0]  # of 3 weights the largest
    by_hand = sorted(max(r) / sum(r) for r in (np.array(order) / p for order in permutations(d)))
    which = np.argmin(np.abs(shares[:, None] - np.array(by_hand)[None, :]), axis=1)
    assert np.abs(shares - np.array(by_hand)[which]).max() < 1e-6
    counts = np.bincount(which, minlength=6)
    assert ((counts - 200) ** 2 / 200).sum() < 20.5


def test_every_place_of_a_tensor_in_piles_is_as_likely() -> None:
    """One change among 4,096 weights whose |p| tell their place by the bin of r: over 2,000 draws the place is uniform
    over 16 sixteenths of the tensor (chi-squared of 15 degrees: 37.7 is its 99.9% quantile)."""
    n = 4096
    p = torch.repeat_interleave(0.75 * 2.0 ** -torch.arange(16).float(), n // 16)  # r = 1.33, 2.67, ...
    tuned = p.clone()
    tuned[5] += 1
    pair = fake_pair({"0.mlp.x": p}, {"0.mlp.x": tuned})
    counts = np.zeros(16)
    memory = module._Memory(n)
    d = (tuned - p).numpy()
    with patch.object(module, "_PILES_FROM", 100):
        for draw in range(2000):
            pieces = memory.permuted(p.numpy(), d, module._state(3, draw, pair.metas[0]))
            assert sum(piece[1].sum() for piece in pieces) == n
            largest = max(piece[0].max() for piece in pieces)
            counts[((int(largest) << 16) >> 23) - 127] += 1
    assert ((counts - 125) ** 2 / 125).sum() < 37.7


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("chunk", [7, 64, 1 << 16])
def test_every_change_is_dealt_out_once_within_its_tensor(chunk: int, compiled: bool, large: bool) -> None:
    """With |p| = 1 everywhere r is |d| but for rounding, so the null's bins are those of r, tensor by tensor."""
    base = {"0.mlp.x": torch.ones(600), "1.mlp.y": torch.ones(130)}
    changes = {"0.mlp.x": torch.linspace(0.5, 2, 600), "1.mlp.y": torch.linspace(4, 9, 130)}
    pair = fake_pair(base, {name: base[name] + changes[name] for name in base})
    with (
        cut_into(chunk, compiled, threads=2),
        patch.object(module, "SMALL_WEIGHTS", 0 if large else 1000),
        patch.object(module, "GROUP", 3),
        patch.object(module, "_AT_ONCE", 100),
        patch.object(module, "_PILES_FROM", 200),
    ):
        delta, null = measure_delta(pair), nulls(pair, n=3)
    one = delta.cube.score == list(Score).index(Score.RELATIVE)
    for name in ("tensor", "bin", "n", "sum_score"):
        assert (getattr(delta.cube, name)[one] == getattr(null.first, name)).all()
    assert null.shares["all"] == pytest.approx(np.broadcast_to(null.shares["all"][0], (3, 2)))


def test_threads_do_not_show() -> None:
    pair = heavy((300, 500))
    found = []
    for threads in (1, 3):
        with cut_into(64, threads=threads), patch.object(module, "SMALL_WEIGHTS", 0):
            large = nulls(pair, n=5)
        with cut_into(64, threads=threads):
            small = nulls(pair, n=5)
        found.append((large.shares["all"], small.shares["all"], large.taken["all"], small.first.n))
    for one, three in zip(*found, strict=True):
        assert (one == three).all()


def test_where_the_most_changed_would_sit() -> None:
    """Changes of the second tensor are tenfold: in every permutation the top 20% are mostly its own. Against the mean
    over slow permutations, 199 of each; all that are taken sit somewhere."""
    pair = heavy((1000, 1500))
    found = nulls(pair, n=199).taken["transformer"]
    assert found.sum(axis=1) == pytest.approx([25, 500])
    rng, counts = np.random.default_rng(3), np.zeros(2)
    held = [(c.p.abs().numpy(), c.d.abs().numpy()) for c in pair.chunks()]
    for _ in range(199):
        r = [rng.permutation(d) / (p + 1e-8) for p, d in held]
        cut = np.sort(np.concatenate(r))[-500]
        counts += [(x >= cut).sum() for x in r]
    assert found[1] == pytest.approx(counts / 199, abs=1.5)


def test_rank_p_by_hand() -> None:
    """Of 9 permutations 3 hold at least as much and 7 at most as much (one is equal): (1 + 3) / 10, (1 + 7) / 10."""
    draws = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    found = against(draws, 0.7)
    assert (found.p_more, found.p_two_sided) == (0.4, 0.8)
    assert found.mean == pytest.approx(0.5) and found.sd == pytest.approx(np.sqrt(0.075))
    assert (found.low, found.high) == (None, None)  # nine draws have no 2.5% quantile
    assert against(draws, 0.95).p_two_sided == pytest.approx(0.2)
    assert against(draws, 0.0).p_more == 1
    assert against(np.full(9, 0.5), 0.5 + 1e-15).p_two_sided == 1  # equal but for rounding
    many = against(np.arange(199) / 199, 1.0)
    assert (many.p_more, many.low, many.high) == (
        1 / 200,
        pytest.approx(0.024874, abs=1e-5),
        pytest.approx(0.970101, abs=1e-5),
    )


def test_rank_p_is_uniform_when_the_changes_are_permuted() -> None:
    """200 pairs of 2,000 weights that share |p|, each with its own changes met at random: p is at most 0.05 in about
    5% of them (at most 19 of 200 with 99.9%), and spread evenly over (0, 1]: Kolmogorov's distance below 0.14."""
    rng = np.random.default_rng(11)
    base = {f"{i}.mlp.m": torch.from_numpy(rng.normal(0, 0.02, 1000)).float() for i in range(2)}
    p_more, p_two = [], []
    for number in range(200):
        tuned = {name: p + torch.from_numpy(rng.normal(0, 1e-3, 1000)).float() for name, p in base.items()}
        pair = fake_pair(base, tuned)
        region = {"transformer": pair.metas}
        null = measure_null(pair, seed_of("base", str(number)), region, ["1"], n_draws=39)
        point = concentration(measure_delta(pair), pair, Region(), ["1"], null)[0]
        assert point.null is not None
        p_more.append(point.null.p_more)
        p_two.append(point.null.p_two_sided)
    assert sum(p <= 0.05 for p in p_more) <= 19
    assert sum(p <= 0.05 for p in p_two) <= 19
    ordered = np.sort(p_more)
    assert np.abs(ordered - np.arange(1, 201) / 200).max() < 0.14


def test_nothing_changed_has_no_null() -> None:
    base = random_tensors()
    null = nulls(fake_pair(base, base), n=2)
    assert np.isnan(null.shares["all"]).all()
    assert null.at("all", "1", 0.5) is None and null.at("all", "7", 0.5) is None


def test_progress_covers_every_draw_and_can_stop() -> None:
    base = random_tensors()
    pair, seen = fake_pair(base, nudged(base)), []
    measure_null(pair, 1, {"all": pair.metas}, KS, lambda done, total: seen.append((done, total)), n_draws=4)
    assert seen == [(i * pair.n_weights, 4 * pair.n_weights) for i in range(1, 5)]
    with patch.object(module, "SMALL_WEIGHTS", 0), cut_into(64):
        measure_null(
            pair, 1, {"all": pair.metas}, KS, lambda done, total: seen.append((done, total)), n_draws=4
        )
    assert seen[-1] == seen[3]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_null(pair, 1, {"all": pair.metas}, KS, stop)


def test_weights_that_are_no_numbers_are_named() -> None:
    base = random_tensors()
    tuned = nudged(base)
    tuned["0.mlp.mlp.up"][0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"0\.mlp\.mlp\.up of tuned"):
        nulls(fake_pair(base, tuned))
