"""Byte for byte: a pair of this project against a slow implementation on its files, and, where it is at hand,
what the reference code (UmeanNever/ParamRestore at a40345d) restores on a small Llama pair.

The pair and what the reference made of it are not part of this repository: set SFTKNOW_GOLDEN to the folder
that holds `restore/` with base/, tuned/ and expected.json.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import slow_restore
import torch
from tiny_models import save_pair

from sftknow_core.model.io.adapter import open_source
from sftknow_core.update.delta import Delta, measure_delta
from sftknow_core.update.pair import Pair
from sftknow_core.update.report import RestoreReport
from sftknow_core.update.restore import restore_into, write_restored
from sftknow_core.update.select import Region, select

GOLDEN = os.environ.get("SFTKNOW_GOLDEN")


@pytest.fixture(scope="module")
def pair() -> Pair:
    folder = Path(GOLDEN or "") / "restore"
    return Pair(open_source(folder / "base"), open_source(folder / "tuned"))


@pytest.fixture(scope="module")
def delta(pair: Pair) -> Delta:
    return measure_delta(pair)


LAYER = [f"self_attn.{m}_proj" for m in "qkvo"] + [f"mlp.{m}_proj" for m in ("gate", "up", "down")]
REGION = [f"model.layers.{i}.{module}.weight" for i in (0, 1) for module in LAYER]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("strategy", ["top", "bottom", "largest", "smallest"])
def test_same_bytes_as_a_slow_implementation(strategy: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """A sharded, tied Llama after a step so small that most weights tie; written files, tensor by tensor."""
    base, tuned = save_pair(
        tmp_path, dtype=dtype, scale=2e-4, max_shard_size="20KB", tie_word_embeddings=True
    )
    own = Pair(open_source(base), open_source(tuned))
    ks = ["0.5", "7.25", "40", "93"]
    for k, plan in zip(ks, select(own, Region(), strategy, ks), strict=True):
        expected = slow_restore.restore(base, tuned, REGION, strategy, float(k))
        out = tmp_path / k
        write_restored(own, plan, out, dtype="exact")
        assert sorted(f.name for f in out.iterdir()) == sorted(f.name for f in tuned.iterdir())
        found = {
            n: words for f in out.glob("*.safetensors") for n, (_, words) in slow_restore.read(f).items()
        }
        assert found.keys() == expected.keys()
        assert all((found[name] == expected[name]).all() for name in expected)


def rows() -> list[dict[str, object]]:
    if GOLDEN is None:
        return []
    found: list[dict[str, object]] = json.loads((Path(GOLDEN) / "restore" / "expected.json").read_text())
    return found


@pytest.mark.skipif(GOLDEN is None, reason="SFTKNOW_GOLDEN is not set: no golden restorations to compare")
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
