"""How far back along the update a restored model goes, beside how much of its energy it takes back.

By hand, four weights: p = (1, 2, 4, 8), d = (4, 2, -2, 1), so ||d||^2 = 25 and r = (4, 1, 0.5, 0.125).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fake_source import cut_into, fake_pair, nudged, random_tensors

from sftknow_core.update.pair import Chunk, Pair
from sftknow_core.update.report import RestoreReport
from sftknow_core.update.restore import restore_into, survey
from sftknow_core.update.select import plan_for
from sftknow_core.update.spec import RestoreSpec, stored_projection
from sftknow_core.update.strategies import strategy

NAME = "0.mlp.x"
TOP = RestoreSpec(k_percent="50")  # type: ignore[arg-type]
HALFWAY = RestoreSpec("interpolation", alpha="0.5")  # type: ignore[arg-type]


def four_weights() -> Pair:
    base = torch.tensor([1.0, 2.0, 4.0, 8.0])
    return fake_pair({NAME: base}, {NAME: base + torch.tensor([4.0, 2.0, -2.0, 1.0])})


@pytest.fixture
def dividing(own_plugins: None) -> Callable[[str], RestoreSpec]:
    """Strategies that take a part of single weights' changes back, by name."""

    @strategy("divide-large", takes="alpha")
    def divide_large(chunk: Chunk, alpha: float) -> torch.Tensor:
        """Changes of 2 and more are multiplied by alpha."""
        return chunk.p + torch.where(chunk.d.abs() >= 2, alpha * chunk.d, chunk.d)

    @strategy("shrink", takes="alpha")
    def shrink(chunk: Chunk, alpha: float) -> torch.Tensor:
        """Every change comes nearer to 0 by alpha, and stops there."""
        return chunk.p + chunk.d.sign() * (chunk.d.abs() - alpha).clamp(min=0)

    return lambda name: RestoreSpec(name, alpha="0.5")  # type: ignore[arg-type]


def taken(spec: RestoreSpec) -> tuple[float | None, float | None]:
    pair = four_weights()
    report = survey(pair, plan_for(pair, spec))
    return report.energy_taken_back, report.projection_taken_back


@pytest.mark.parametrize("name", ["top", "bottom", "largest", "smallest", "random"])
def test_whole_weights_take_back_the_same_of_both(name: str) -> None:
    """Top 50%: the first two, (16 + 4) / 25 of either; others by what they hold."""
    energy, projection = taken(RestoreSpec(name, k_percent="50"))  # type: ignore[arg-type]
    assert energy == projection
    if name == "top":
        assert projection == pytest.approx(20 / 25)


def test_blocks_take_back_the_same_of_both() -> None:
    base = random_tensors()
    pair = fake_pair(base, nudged(base))
    report = survey(pair, plan_for(pair, RestoreSpec("block", block="mlp")))
    assert report.energy_taken_back == report.projection_taken_back
    assert 0 < (report.projection_taken_back or 0) < 1


def test_an_interpolation_goes_less_far_than_its_energy_says() -> None:
    """out - p = d / 2: <out - p, d> = 12.5 of 25, ||out - p||^2 = 6.25."""
    energy, projection = taken(HALFWAY)
    assert (energy, projection) == (pytest.approx(0.75), pytest.approx(0.5))


def test_dividing_some_of_the_changes(dividing: Callable[[str], RestoreSpec]) -> None:
    """out - p = (2, 1, -1, 1): <., d> = 8 + 2 + 2 + 1 = 13, ||.||^2 = 7."""
    energy, projection = taken(dividing("divide-large"))
    assert (energy, projection) == (pytest.approx(1 - 7 / 25), pytest.approx(1 - 13 / 25))


def test_shrinking_all_changes_by_the_same_step(dividing: Callable[[str], RestoreSpec]) -> None:
    """out - p = (3.5, 1.5, -1.5, 0.5): <., d> = 14 + 3 + 3 + 0.5 = 20.5, ||.||^2 = 17."""
    energy, projection = taken(dividing("shrink"))
    assert (energy, projection) == (pytest.approx(1 - 17 / 25), pytest.approx(1 - 20.5 / 25))


@pytest.mark.parametrize("alpha", ["-0.5", "0", "1", "1.5"])
def test_beyond_the_two_models(alpha: str) -> None:
    """1 - alpha, above 1 beyond base and below 0 beyond tuned."""
    _, projection = taken(RestoreSpec("interpolation", alpha=alpha))  # type: ignore[arg-type]
    assert projection == pytest.approx(1 - float(alpha))


def slowly(pair: Pair, out: dict[str, torch.Tensor], report: RestoreReport) -> float:
    """The definition, over all weights of the region at once in float64."""
    names = [tensor.name for tensor in report.tensors]
    p, s = (
        np.concatenate([source.read(m.name, 0, m.numel).double().numpy() for m in pair.metas if m.name in names])
        for source in (pair.base, pair.tuned)
    )  # fmt: skip
    o = np.concatenate([out[name].reshape(-1).double().numpy() for name in names])
    return float(1 - np.dot(o - p, s - p) / np.dot(s - p, s - p))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["top", "random", "interpolation", "divide-large", "shrink", "block"])
def test_streamed_in_pieces_it_is_the_definition(
    name: str, dtype: torch.dtype, dividing: Callable[[str], RestoreSpec]
) -> None:
    """Chunks of 64 of a thousand weights; the output's own rounding is in it."""
    base = random_tensors(dtype=dtype)
    pair = fake_pair(base, nudged(base, scale=3e-3))
    amounts = {"interpolation": {"alpha": "0.3"}, "block": {"block": "attention"}, "top": {}, "random": {}}
    amounts["top"] = amounts["random"] = {"k_percent": "12.5"}
    spec = dividing(name) if name not in amounts else RestoreSpec(name, **amounts[name])  # type: ignore[arg-type]
    out = {m.name: torch.empty(m.shape, dtype=m.dtype) for m in pair.metas}
    with cut_into(64):
        report = restore_into(out, pair, plan_for(pair, spec))
    assert report.projection_taken_back == pytest.approx(slowly(pair, out, report), abs=1e-6)


def test_without_a_change_there_is_no_projection() -> None:
    base = random_tensors()
    pair = fake_pair(base, base)
    for spec in (TOP, HALFWAY):
        assert survey(pair, plan_for(pair, spec)).projection_taken_back is None


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"energy_taken_back": 0.8, "alpha": None, "projection_taken_back": 0.8}, 0.8),
        ({"energy_taken_back": 0.75, "alpha": 0.5, "projection_taken_back": 0.5}, 0.5),
        ({"energy_taken_back": 0.8, "alpha": None}, 0.8),  # an older row: whole weights, so it is the energy
        ({"energy_taken_back": 0.8}, 0.8),
        ({"energy_taken_back": 0.75, "alpha": 0.5}, None),  # an older interpolation: nobody knows
        ({"energy_taken_back": 0.75, "alpha": 0.5, "projection_taken_back": float("nan")}, None),
        ({"energy_taken_back": None, "alpha": None}, None),
    ],
)
def test_what_older_rows_say(row: dict[str, float | None], found: float | None) -> None:
    assert stored_projection(row) == found
