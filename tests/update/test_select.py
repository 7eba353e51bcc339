"""Selection against a slow implementation that sorts everything: same weights, whatever shapes, dtypes and
ties."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from fake_source import bits_equal, cut_into, fake_pair, nudged, random_tensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.update import strategies
from sftknow_core.update.delta import measure_delta
from sftknow_core.update.pair import Pair
from sftknow_core.update.restore import restore_into
from sftknow_core.update.select import Region, count_for, plan_for, select
from sftknow_core.update.spec import RestoreSpec

Tensors = Mapping[str, torch.Tensor]
RANKED = ["top", "bottom", "largest", "smallest"]
KINDS = {
    "transformer": ("attention", "mlp", "other"),
    "mlp": ("mlp",),
    "all": ("attention", "mlp", "other", "norm", "embedding", "lm_head"),
}


def slow_order(strategy: str, p: np.ndarray, s: np.ndarray, seed: int) -> np.ndarray:
    """Flat indices, first restored first: a stable sort of the whole region."""
    difference = np.abs(s - p)
    r = difference / (np.abs(p) + np.float32(1e-8))
    if strategy == "random-reference":
        return np.random.RandomState(seed).choice(p.size, p.size, replace=False)
    score = {"top": -r, "bottom": r, "largest": -difference, "smallest": difference}[strategy]
    assert score.dtype == np.float32
    return np.argsort(score, kind="stable")


def slow_restore(base: Tensors, tuned: Tensors, region: str, strategy: str, k: str, seed: int = 0) -> Tensors:
    """The restored tensors, from flat copies of the region in order."""
    names = [name for name in base if name.split(".")[1] in KINDS[region]]
    p = torch.cat([base[n].reshape(-1) for n in names])
    s = torch.cat([tuned[n].reshape(-1) for n in names])
    chosen = slow_order(strategy, p.float().numpy(), s.float().numpy(), seed)[: count_for(p.numel(), k)]
    out = s.clone()
    out[torch.from_numpy(chosen.copy())] = p[torch.from_numpy(chosen.copy())]
    restored = dict(tuned)
    for name in names:
        restored[name], out = out[: base[name].numel()].view(base[name].shape), out[base[name].numel() :]
    return restored


def restored(pair: Pair, region: str, strategy: str, k: str, seed: int | None = None) -> Tensors:
    out = {m.name: torch.full(m.shape, float("nan"), dtype=m.dtype) for m in pair.metas}
    plan = select(pair, Region(region), strategy, ["3.7", k], seed=seed)[1]
    report = restore_into(out, pair, plan)
    assert report.n_restored == count_for(report.n_region, k) == sum(t.n_restored for t in report.tensors)
    return out


def assert_same(found: Tensors, expected: Tensors) -> None:
    for name, tensor in expected.items():
        assert bits_equal(found[name], tensor), name


@st.composite
def tensor_pairs(draw: st.DrawFn) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Small models whose weights come from few values, so that ties, zeros and -0.0 are everywhere."""
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    pool = [0.0, -0.0, 1e-9, -3e-5, 0.25, -0.5, 1.0, 1.5, 6e4]
    names = [
        "-.embedding.embedding",
        "0.attention.attn.q",
        "0.norm.norm",
        "1.mlp.mlp.up",
        "-.lm_head.lm_head",
    ]
    base, tuned = {}, {}
    for name in names:
        n = draw(st.integers(1, 40))
        pick = st.lists(st.sampled_from(pool), min_size=n, max_size=n)
        base[name] = torch.tensor(draw(pick)).to(dtype)
        same = torch.tensor(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
        tuned[name] = torch.where(same, base[name], torch.tensor(draw(pick)).to(dtype))
    return base, tuned


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tensors=tensor_pairs(),
    strategy=st.sampled_from([*RANKED, "random-reference"]),
    region=st.sampled_from(list(KINDS)),
    k=st.sampled_from(["0", "1", "12.5", "33.3333", "50", "99.9", "100"]),
    chunk=st.sampled_from([3, 1 << 16]),
    compiled=st.booleans(),
)
def test_selection_equals_a_stable_sort(
    tensors: tuple[Tensors, Tensors], strategy: str, region: str, k: str, chunk: int, compiled: bool
) -> None:
    base, tuned = tensors
    pair = fake_pair(base, tuned)
    seed = 5 if strategy == "random-reference" else None
    with cut_into(chunk, compiled):
        found = restored(pair, region, strategy, k, seed)
    assert_same(found, slow_restore(base, tuned, region, strategy, k, 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("strategy", RANKED)
def test_random_weights_equal_a_stable_sort(strategy: str, dtype: torch.dtype) -> None:
    base = random_tensors(dtype=dtype)
    tuned = nudged(base, scale=2e-5)
    pair = fake_pair(base, tuned)
    for k in ("0.2", "7", "40", "93.1"):
        assert_same(
            restored(pair, "transformer", strategy, k), slow_restore(base, tuned, "transformer", strategy, k)
        )


@pytest.mark.parametrize("strategy", RANKED)
def test_the_cube_saves_the_first_pass_without_changing_the_cut(strategy: str) -> None:
    base = random_tensors()
    pair = fake_pair(base, nudged(base))
    ks = ["0", "0.5", "20", "77.7", "100"]
    delta = measure_delta(pair)
    for one, other in zip(
        select(pair, Region("mlp"), strategy, ks),
        select(pair, Region("mlp"), strategy, ks, delta=delta),
        strict=True,
    ):
        assert (one.cut, one.threshold) == (other.cut, other.threshold)


def test_ties_go_in_canonical_order() -> None:
    """Six weights changed by the same r = 1; 50% takes the first three: two of the first tensor, one of the
    second."""
    base = {"0.mlp.a": torch.ones(2), "1.mlp.b": torch.ones(4)}
    tuned = {name: 2 * tensor for name, tensor in base.items()}
    pair = fake_pair(base, tuned)
    plan = select(pair, Region(), "top", ["50"])[0]
    assert plan.threshold == 1.0
    assert plan.cut is not None
    assert plan.cut.ties == 3
    out = {name: torch.zeros_like(tensor) for name, tensor in base.items()}
    restore_into(out, pair, plan)
    assert out["0.mlp.a"].tolist() == [1, 1]
    assert out["1.mlp.b"].tolist() == [1, 2, 2, 2]


def test_random_is_nested_in_k_the_same_in_any_region_and_fair() -> None:
    base = {f"{i}.{kind}.x": torch.zeros(40, 50) for i in range(3) for kind in ("attention", "mlp")}
    pair = fake_pair(base, {name: t + 1 for name, t in base.items()})

    def taken(region: str, k: str, seed: int = 1) -> torch.Tensor:
        out = restored(pair, region, "random", k, seed)
        return torch.cat([out[name].reshape(-1) == 0 for name in base])

    twenty, sixty = taken("all", "20"), taken("all", "60")
    assert bool((sixty | ~twenty).all())
    assert not torch.equal(taken("all", "20", seed=2), twenty)
    mlp = torch.cat([torch.full((2000,), "mlp" in name) for name in base])
    inside = int((twenty & mlp).sum())
    assert 1200 - 150 < inside < 1200 + 150  # hypergeometric: mean 1200, standard deviation 22
    alone = taken("mlp", "20")
    assert not bool((alone & ~mlp).any())
    overlap = int((alone & twenty).sum())
    assert overlap == min(inside, int(alone.sum()))  # lowest hashes within the region, so one holds the other


def test_random_hash_is_splitmix64() -> None:
    """The keys are the top 31 bits of splitmix64 at a 64-bit counter, here in Python integers."""
    base = {"0.mlp.x": torch.ones(1000)}
    pair = fake_pair(base, base)
    found = strategies.random(7, pair)(next(iter(pair.chunks())))
    mask = (1 << 64) - 1

    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    stream = mix(7 + 0x9E3779B97F4A7C15)
    expected = [mix((i * 0x9E3779B97F4A7C15 + stream) & mask) >> 33 for i in range(1000)]
    assert found.tolist() == expected


def test_random_reference_is_numpys_choice_and_refuses_large_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    base = {"0.mlp.x": torch.ones(500), "0.attention.x": torch.ones(300)}
    pair = fake_pair(base, {name: t + 1 for name, t in base.items()})
    out = restored(pair, "all", "random-reference", "25", 32)
    flat = torch.cat([out[name] for name in base])
    expected = np.random.RandomState(32).choice(800, 200, replace=False)
    assert sorted(expected.tolist()) == (flat == 1).nonzero().view(-1).tolist()
    monkeypatch.setattr(strategies, "MAX_REFERENCE_WEIGHTS", 799)
    with pytest.raises(SpecError, match="800 weights; allowed: at most 799"):
        select(pair, Region("all"), "random-reference", ["25"], seed=32)


def test_layer_blocks_are_selected_alone() -> None:
    base = random_tensors()
    tuned = nudged(base)
    pair = fake_pair(base, tuned)
    out = {m.name: torch.empty(m.shape) for m in pair.metas}
    restore_into(out, pair, select(pair, Region("transformer", "1"), "top", ["100"])[0])
    for name in base:
        within = name.startswith("1.") and "norm" not in name
        assert bits_equal(out[name], base[name] if within else tuned[name])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("side", ["base", "tuned"])
@pytest.mark.parametrize("strategy", RANKED)
def test_weights_that_are_not_finite_name_their_tensor(value: float, side: str, strategy: str) -> None:
    base = random_tensors()
    tuned = nudged(base)
    (base if side == "base" else tuned)["1.mlp.mlp.up"][3, 3] = value
    with pytest.raises(ModelError, match=rf"tensor 1\.mlp\.mlp\.up of {side} holds NaN or infinite"):
        select(fake_pair(base, tuned), Region(), strategy, ["5"])


def test_overflowing_change_names_its_tensor() -> None:
    base = {"0.mlp.x": torch.tensor([0.0, 1.0])}
    tuned = {"0.mlp.x": torch.tensor([1e36, 1.0])}
    with pytest.raises(ModelError, match=r"tensor 0\.mlp\.x: the change of a weight overflows"):
        measure_delta(fake_pair(base, tuned))


def test_where_nothing_more_changes() -> None:
    """Ten weights: three moved, and the ninth went from 0.0 to -0.0, which has r = 0 and yet other bits.

    The three come first, then the seven with r = 0 in order (places 1 2 3 5 6 7 8 of 0..9), of which the
    ninth is the last: all ten weights, k = 100. Without that sign change three weights, k = 30, are all
    there is.
    """
    p = torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 1, 0.0, 1])
    s = p.clone()
    s[[0, 4, 9]] = 2
    pair = fake_pair({"0.mlp.x": p}, {"0.mlp.x": s})
    for strategy in ("top", "largest"):
        assert select(pair, Region(), strategy, ["10"])[0].no_more_changes_from_k == 30
        assert select(pair, Region(), strategy, ["30"])[0].threshold == 1.0
    s[8] = -0.0
    assert select(pair, Region(), "top", ["10"])[0].no_more_changes_from_k == 100
    s[3], p[3] = 0.0, -0.0
    s[8] = 0.0
    assert select(pair, Region(), "top", ["10"])[0].no_more_changes_from_k == 60
    assert select(pair, Region(), "bottom", ["10"])[0].no_more_changes_from_k is None


def test_interpolation_takes_no_k() -> None:
    base = random_tensors()
    with pytest.raises(SpecError, match="takes alpha, not k"):
        select(fake_pair(base, base), Region(), "interpolation", ["5"])


def test_plan_of_a_spec_is_the_same_plan() -> None:
    base = random_tensors()
    pair = fake_pair(base, nudged(base))
    spec = RestoreSpec("top", "mlp", "1", k_percent="12.5")  # type: ignore[arg-type]
    assert plan_for(pair, spec).cut == select(pair, Region("mlp", "1"), "top", ["12.5"])[0].cut
    assert select(pair, Region(), "top", []) == []


def test_a_pass_can_be_stopped() -> None:
    base = random_tensors()

    def stop(done: int, total: int) -> None:
        raise InterruptedError(f"{done} of {total}")

    with pytest.raises(InterruptedError, match="of 7168"):  # 896 weights of 4 bytes in two models
        select(fake_pair(base, base), Region(), "top", ["5"], progress=stop)
