"""Byte for byte what the reference code (UmeanNever/ParamRestore at a40345d) restores on a small Llama pair.

The pair and what the reference made of it are not part of this repository: set SFTKNOW_GOLDEN to the folder
that holds `restore/` with base/, tuned/ and expected.json.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from sftknow_core.model.tensors import open_source
from sftknow_core.update.delta import Delta, measure_delta
from sftknow_core.update.pair import Pair
from sftknow_core.update.report import RestoreReport
from sftknow_core.update.restore import restore_into
from sftknow_core.update.select import Region, select

GOLDEN = os.environ.get("SFTKNOW_GOLDEN")
pytestmark = pytest.mark.skipif(
    GOLDEN is None, reason="SFTKNOW_GOLDEN is not set: no golden restorations to compare"
)


@pytest.fixture(scope="module")
def pair() -> Pair:
    folder = Path(GOLDEN or "") / "restore"
    return Pair(open_source(folder / "base"), open_source(folder / "tuned"))


@pytest.fixture(scope="module")
def delta(pair: Pair) -> Delta:
    return measure_delta(pair)


def rows() -> list[dict[str, object]]:
    if GOLDEN is None:
        return []
    found: list[dict[str, object]] = json.loads((Path(GOLDEN) / "restore" / "expected.json").read_text())
    return found


@pytest.mark.parametrize("row", rows(), ids=lambda r: f"{r['region']}-{r['strategy']}-{r['k_percent']}")
def test_same_bytes_as_the_reference(row: dict[str, dict[str, float]], pair: Pair, delta: Delta) -> None:
    strategy, seed = str(row["strategy"]), None
    if strategy == "random":
        strategy, seed = "random-reference", 32
    region = Region(str(row["region"]))
    plan = select(pair, region, strategy, [row["k_percent"]], seed=seed, delta=delta)[0]  # type: ignore[list-item]
    out = {m.name: torch.full(m.shape, 7.0, dtype=m.dtype) for m in pair.metas}
    report = restore_into(out, pair, plan)
    hashes = {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in out.items()}
    assert hashes == row["sha256"]
    check_counts(report, row)


def check_counts(report: RestoreReport, row: dict[str, dict[str, float]]) -> None:
    assert report.n_restored == row["n_restored"]
    counts = {t.name: t.n_restored for t in report.tensors if t.n_restored}
    assert counts == {name: n for name, n in row["restored_per_tensor"].items() if n}
    assert report.sum_r == pytest.approx(row["total_r"]["sum"], rel=1e-5)
    assert report.sum_r_restored == pytest.approx(row["selected_r"]["sum"], rel=1e-5)
    if row["strategy"] != "random":
        edge = "min" if row["strategy"] == "top" else "max"
        assert report.threshold == pytest.approx(row["selected_r"][edge], rel=1e-6)
