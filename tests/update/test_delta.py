"""Statistics and cube against numpy over the whole tensors."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from fake_source import cut_into, fake_pair, nudged, random_tensors

from sftknow_core.update.delta import ALL_SCORES, PLAIN_SCORES, Delta, measure_delta
from sftknow_core.update.pair import Pair
from sftknow_core.update.scores import N_BINS, Score


def made(dtype: torch.dtype = torch.float32) -> tuple[Pair, Delta]:
    base = random_tensors(dtype=dtype)
    base["0.mlp.mlp.up"].view(-1)[:5] = 1e-7
    pair = fake_pair(base, nudged(base))
    return pair, measure_delta(pair, scores=ALL_SCORES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_statistics_of_every_tensor(dtype: torch.dtype) -> None:
    pair, delta = made(dtype)
    assert [t.name for t in delta.tensors] == [m.name for m in pair.metas]
    for row, chunk in zip(delta.tensors, pair.chunks(), strict=True):
        p, s = chunk.p.numpy(), chunk.s.numpy()
        r = np.abs(s - p) / (np.abs(p) + np.float32(1e-8))
        assert (row.numel, row.n_changed) == (p.size, (p != s).sum())
        assert row.max_r == r.max()
        assert row.sum_r == pytest.approx(r.astype(np.float64).sum(), rel=1e-12)
        assert row.sum_r_tiny == pytest.approx(r[np.abs(p) < 1e-6].astype(np.float64).sum(), rel=1e-12)
        assert row.sum_d2 == pytest.approx(((s - p).astype(np.float64) ** 2).sum(), rel=1e-12)
        assert row.sum_p2 == pytest.approx((p.astype(np.float64) ** 2).sum(), rel=1e-12)
    assert delta.tensors[3].name == "0.mlp.mlp.up"
    assert delta.tensors[3].sum_r_tiny > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_threads_and_kernels_do_not_show(dtype: torch.dtype) -> None:
    """Any number of threads gives the same bits; tensor operations give the same counts and, but for rounding,
    the same sums."""
    base = random_tensors(dtype=dtype)
    base["0.mlp.mlp.up"].view(-1)[:5] = 1e-7
    pair = fake_pair(base, nudged(base))
    with cut_into(16, threads=1):
        one = measure_delta(pair, scores=ALL_SCORES)
    with cut_into(16, threads=3):
        three = measure_delta(pair, scores=ALL_SCORES)
    with cut_into(16, compiled=False, threads=2):
        plain = measure_delta(pair, scores=ALL_SCORES)
    assert one.tensors == three.tensors
    for name, values in one.cube.columns().items():
        assert np.array_equal(values, three.cube.columns()[name], equal_nan=name == "sum_d2")
        assert values == pytest.approx(plain.cube.columns()[name], rel=1e-12, nan_ok=True)


def test_cube_rows_by_hand() -> None:
    """p = 1 (2, 2, 0): r = |d| / (1 + 1e-8) = 1, 1, 0 in float32; 1.0 is 0x3F800000, so its bin is 0x3F80."""
    pair = fake_pair({"0.mlp.x": torch.ones(3)}, {"0.mlp.x": torch.tensor([2.0, 2.0, 1.0])})
    rows = pa.table(measure_delta(pair, scores=PLAIN_SCORES).cube.columns()).to_pylist()
    assert [(row["score"], row["bin"], row["n"], row["sum_score"], row["sum_d2"]) for row in rows] == [
        (0, 0, 1, 0.0, 0.0),
        (0, 0x3F80, 2, 2.0, 2.0),
        (1, 0, 1, 0.0, 0.0),
        (1, 0x3F80, 2, 2.0, 2.0),
    ]


@pytest.mark.parametrize("score", ALL_SCORES)
def test_cube_sums_to_the_statistics(score: Score) -> None:
    pair, delta = made(torch.bfloat16)
    for meta in pair.metas:
        row = delta.tensors[meta.position]
        counts = delta.histogram([meta], score)
        sums, energy = delta.sums([meta], score)
        assert counts.sum() == meta.numel
        if score in PLAIN_SCORES:
            assert energy.sum() == pytest.approx(row.sum_d2, rel=1e-12)
        if score is Score.RELATIVE:
            assert sums.sum() == pytest.approx(row.sum_r, rel=1e-12)
    assert delta.histogram(pair.metas, score).sum() == delta.n_weights


def test_bins_are_the_top_16_bits() -> None:
    pair, delta = made()
    for chunk in pair.chunks():
        r = (np.abs(chunk.d.numpy()) / (np.abs(chunk.p.numpy()) + np.float32(1e-8))).view(np.uint32) >> 16
        expected = np.bincount(r, minlength=N_BINS)
        assert np.array_equal(delta.histogram([chunk.meta], Score.RELATIVE), expected)


def test_sums_do_not_depend_on_how_tensors_are_stored() -> None:
    """The chunk is fixed, so the same weights give the same sums to the last bit."""
    assert made()[1].columns() == made()[1].columns()


def test_negative_zero_counts_as_changed() -> None:
    pair = fake_pair({"0.mlp.x": torch.tensor([0.0, 1.0])}, {"0.mlp.x": torch.tensor([-0.0, 1.0])})
    delta = measure_delta(pair)
    assert delta.n_changed == 1
    assert delta.tensors[0].sum_r == 0


def test_identical_models_are_noted() -> None:
    base = random_tensors()
    delta = measure_delta(fake_pair(base, base))
    assert delta.n_changed == 0
    assert "identical" in delta.notes[-1]
    assert measure_delta(fake_pair(base, nudged(base))).notes == ()


def test_tables_are_ready_for_arrow() -> None:
    _, delta = made()
    tensors, cube = pa.table(delta.columns()), pa.table(delta.cube.columns())
    assert tensors.column("layer").null_count == 3
    assert cube.schema.names == ["tensor", "score", "bin", "n", "sum_score", "sum_d2"]
    assert sum(cube.column("n").to_pylist()) == len(ALL_SCORES) * delta.n_weights


def test_progress_covers_every_weight() -> None:
    base = random_tensors()
    seen: list[tuple[int, int]] = []
    measure_delta(fake_pair(base, base), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (9408, 9408)  # 1,176 weights of 4 bytes in two models
