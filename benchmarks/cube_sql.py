"""SQL over the delta cube of an 8 B model: every question of store/cube_*.py, cold and over an open connection.

    python benchmarks/cube_sql.py [--repeats 11] [--cache FOLDER]

The cube is made up: the 291 tensors of LLaMA-3-8B in bf16, of which 30% of the weights did not change;
r follows a half-Cauchy law above half a unit in the last place (normal changes over normal weights do, and
bf16 has no smaller change), |d| an exponential one; per-tensor scales differ by a factor of two. "opened"
is open_cube (with its views where these are asked) and the query, "kept open" the query alone; the file lies
in the page cache.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sftknow_core.results.cube import delta_run, open_cube
from sftknow_core.results.cube_selection import (
    BREAKDOWNS,
    PAPER_KS,
    change_summary,
    concentration_curve,
    score_histogram,
    selection,
    where_changes_sit,
)
from sftknow_core.store.cache import Cache
from sftknow_core.store.ingest import ingest
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_spec import RunSpec

N_BINS = 0x7F80  # finite scores
SCORES = {  # smallest score, scale, largest score (r stays below |d| / eps)
    "relative": (2**-8.5, 2**-7, 1e5),
    "relative_1e-6": (2**-8.5, 2**-7, 1e2),
    "relative_1e-4": (2**-8.5, 2**-8, 1.0),
    "permuted": (2**-8.5, 2**-7, 1e5),
    "absolute": (2**-24, 2e-5, 1.0),
}
LAYER = (
    ("attention", "attn.q", 4096), ("attention", "attn.k", 1024), ("attention", "attn.v", 1024),
    ("attention", "attn.o", 4096), ("mlp", "mlp.gate", 14336), ("mlp", "mlp.up", 14336),
    ("mlp", "mlp.down", 14336), ("norm", "norm.input_layernorm", 1),
    ("norm", "norm.post_attention_layernorm", 1),
)  # fmt: skip
UNCHANGED = 0.3


def llama_3_8b() -> list[dict[str, object]]:
    """The rows of delta_tensors, sums left out."""
    placed: list[tuple[int | None, str, str, int]] = [(None, "embedding", "embedding.embed_tokens", 128256)]
    placed += [(layer, *tensor) for layer in range(32) for tensor in LAYER]
    placed += [(None, "norm", "norm.norm", 1), (None, "lm_head", "lm_head", 128256)]
    return [
        {
            "tensor_id": i,
            "position": i,
            "name": f"{layer}.{module}",
            "layer": layer,
            "kind": kind,
            "module": module,
            "n_params": rows * 4096,
        }
        for i, (layer, kind, module, rows) in enumerate(placed)
    ]


def histogram(score: str, numel: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How many of a tensor's weights lie in each bin, int64 [N_BINS]."""
    lowest, scale, highest = SCORES[score]
    scale *= rng.uniform(0.7, 1.4)
    edges = (np.arange(N_BINS, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
    x = np.clip(edges, lowest, highest) / scale
    below = -np.expm1(-x) if score == "absolute" else 2 / np.pi * np.arctan(x)
    mass = np.diff(below, append=1.0) * (edges < highest)
    mass[0] = 0
    mass *= (1 - UNCHANGED) / mass.sum()
    mass[0] = UNCHANGED
    counts: NDArray[np.int64] = rng.multinomial(numel, mass)
    return counts


def make_run(cache: Cache) -> str:
    """A finished delta run with the cube and its tensors; returns its id."""
    rng, parts = np.random.default_rng(0), []
    middle = ((np.arange(N_BINS, dtype=np.uint32) << 16) + 0x8000).view(np.float32).astype(np.float64)
    middle[0] = 0
    tensors = llama_3_8b()
    for tensor in tensors:
        for score in SCORES:
            counts = histogram(score, int(str(tensor["n_params"])), rng)
            bins = np.flatnonzero(counts)
            sums = counts[bins] * middle[bins] * rng.uniform(0.998, 1.002, len(bins))
            energy = counts[bins] * np.minimum(middle[bins], 1e-3) ** 2 * rng.uniform(0.5, 1, len(bins))
            given = {"tensor_id": np.full(len(bins), tensor["tensor_id"]), "score": [score] * len(bins)}
            given |= {"bin": bins, "n": counts[bins], "sum_score": sums}
            parts.append(
                pa.table(
                    {**given, "sum_d2": energy if score in ("relative", "absolute") else [None] * len(bins)}
                )
            )
            if score == "relative":
                tensor |= {"n_changed": int(counts[1:].sum()), "sum_r": float(sums.sum())}
                tensor |= {"energy": float(energy.sum()), "base_energy": 1.0, "sum_r_tiny": 0.0}
    cube = pa.concat_tables(parts, promote_options="permissive")
    print(f"{len(tensors)} tensors, {len(cube):,} rows;", end=" ")
    with open_run(cache, RunSpec("delta", {"base": "base", "tuned": "tuned"}), about={"base": "8 B"}) as run:
        started = time.perf_counter()
        run.write_chunk(0, {"cube": cube, "delta_tensors": tensors})
        seconds = time.perf_counter() - started
        run.finish()
    size = sum(path.stat().st_size for path in RunFolder(cache, run.run_id).part_paths("cube"))
    print(f"{size / 1e6:.1f} MB, written in {seconds:.1f} s")
    ingest(cache, run.run_id)
    return run.run_id


def questions() -> dict[str, Callable[[duckdb.DuckDBPyConnection], object]]:
    """Name -> what is asked of a connection."""
    asked: dict[str, Callable[[duckdb.DuckDBPyConnection], object]] = {
        "selection, 7 k": lambda con: selection(con, PAPER_KS),
        "selection, 7 k, |d| lowest first": lambda con: selection(
            con, PAPER_KS, score="absolute", direction="lowest"
        ),
        "selection, 201 k": lambda con: selection(con, [i / 2 for i in range(201)]),
        "selection, 7 k, region all": lambda con: selection(con, PAPER_KS, region="all"),
        "selection, 7 k, layers 0-3": lambda con: selection(con, PAPER_KS, layers="0-3"),
        "concentration_curve": concentration_curve,
        "change_summary": lambda con: change_summary(con, layers=(None, "0-3", "28-31")),
        "score_histogram": score_histogram,
    }
    for by in BREAKDOWNS:
        asked[f"where_changes_sit, {by}"] = lambda con, by=by: where_changes_sit(con, 20, by)
    for view in ("table3_concentration", "table9_layers", "table10_modules"):
        asked[view] = lambda con, view=view: con.execute(f"FROM {view}").df()
    return asked


def times_ms(work: Callable[[], object], repeats: int) -> str:
    """Median and fastest."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - started))
    return f"{statistics.median(times[1:]):7.1f} {min(times[1:]):7.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--cache", type=Path, help="keep the made-up run here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(args.cache or folder)
        run_id = make_run(cache)

        def opened(ask: Callable[[duckdb.DuckDBPyConnection], object], views: bool = False) -> None:
            with open_cube(cache, run_id, "20" if views else None) as con:
                ask(con)

        machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
        print(
            f"{machine}, duckdb {duckdb.__version__}, a thread a query; median and fastest of {args.repeats}, ms"
        )
        print(f"{'':34} {'opened':>15} {'kept open':>16}")
        with open_cube(cache, run_id) as con:
            for name, ask in questions().items():
                views = name.startswith("table")
                cold = times_ms(lambda ask=ask, views=views: opened(ask, views), args.repeats)
                warm = times_ms(lambda ask=ask: ask(con), args.repeats)
                print(f"{name:34} {cold}  {warm}", flush=True)
        print(f"{'open_cube alone':34} {times_ms(lambda: opened(lambda con: None), args.repeats)}")
        print(f"{'with its views':34} {times_ms(lambda: opened(lambda con: None, True), args.repeats)}")
        print(f"{'delta_run':34} {times_ms(lambda: delta_run(cache, 'base', 'tuned'), args.repeats)}")


if __name__ == "__main__":
    main()
