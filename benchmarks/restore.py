"""Ranking and restoring: sftknow against a plain implementation, stage by stage, on a pair that is made here.

    python benchmarks/restore.py                                   # 0.46 B parameters, bfloat16, from disk, on the CPU
    python benchmarks/restore.py --shape llama-3-8b --device cuda  # both models on a GPU, in memory

The plain implementation is what one writes first: both models by `from_pretrained`, one flat r in the weights'
dtype, `torch.topk`, a boolean mask, `save_pretrained`. Each side runs in a process of its own and neither waits for
the disk. Memory is RssAnon, what the process itself allocated, sampled every 10 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KS = ("1", "3", "5", "10", "20", "40", "60")
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 512},
    "llama-0.46b": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 31,
                    "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 32_000},
    "llama-3-8b": {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
                   "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256},
}  # fmt: skip


def main() -> None:
    """Run one part (as a child process), or all of them and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=list(SHAPES), default="llama-0.46b")
    parser.add_argument("--device", default="cpu", help="cpu: from disk; otherwise in memory on that device")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep the pair here; it is made when missing")
    parser.add_argument("--in-memory", action="store_true", help="the in-memory part, on any device")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    if options.part:
        PARTS[options.part](options.folder, options)
        return
    if options.device != "cpu" or options.in_memory:
        on_device(options)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        options.folder = folder
        if not (folder / "tuned").is_dir():
            child("pair", options)
        results = {part: child(part, options) for part in PARTS if part != "pair"}
    print_table(results, options)


def child(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run a part in a process of its own; what it measured, with the process's own seconds."""
    command = [
        sys.executable,
        __file__,
        "--part",
        part,
        "--shape",
        options.shape,
        "--folder",
        str(options.folder),
    ]
    started = time.perf_counter()
    run = subprocess.run(
        [*command, "--threads", str(options.threads)], check=True, stdout=subprocess.PIPE, text=True
    )
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    result["process"] = time.perf_counter() - started
    print(f"{part}: {result}", file=sys.stderr, flush=True)
    return result


class Meter:
    """Seconds by stage and the largest RssAnon."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, rss_anon())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the block's seconds to a stage."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def report(self, **more: Any) -> None:
        """Print everything as one JSON line."""
        self._done.set()
        self._thread.join()
        print(json.dumps({"seconds": self.seconds, "peak": max(self.peak, rss_anon()), **more}))


def rss_anon() -> int:
    """Anonymous memory of this process, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("RssAnon is not known on this system; run the benchmark on Linux")


# -- the pair


def make_pair(folder: Path, options: argparse.Namespace) -> None:
    """Two bfloat16 models: Gaussian weights of deviation 0.02, and the same after steps of deviation 2e-4."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[options.shape], tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.02)
        model.save_pretrained(folder / "base")
        for parameter in model.parameters():
            parameter.copy_(parameter.float() + 2e-4 * torch.randn_like(parameter, dtype=torch.float32))
        model.save_pretrained(folder / "tuned")
    print(json.dumps({"n": sum(p.numel() for p in model.parameters())}))


# -- the plain implementation


def plain_one(folder: Path, _: argparse.Namespace) -> None:
    """One k, disk to disk."""
    plain(folder, ("20",))


def plain_seven(folder: Path, _: argparse.Namespace) -> None:
    """Seven k with both models and r kept in memory, which is more than the reference code does."""
    plain(folder, KS)


def plain(folder: Path, ks: tuple[str, ...]) -> None:
    """Load, rank and write; new k by topk on the flat r that is kept."""
    meter = Meter()
    with meter.stage("import"):
        import torch
        from transformers import AutoModelForCausalLM
    with meter.stage("load"):
        base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype="auto")
        tuned = AutoModelForCausalLM.from_pretrained(folder / "tuned", dtype="auto")
    with meter.stage("rank"), torch.no_grad():
        p = {n: w for n, w in base.named_parameters() if ".layers." in n and "norm" not in n}
        s = {n: w for n, w in tuned.named_parameters() if n in p}
        r = torch.cat([((s[n] - w).abs() / (w.abs() + 1e-8)).flatten() for n, w in p.items()])
    original = {n: w.detach().clone() for n, w in s.items()} if len(ks) > 1 else {}
    select, apply = [], []
    for k in ks:
        started = time.perf_counter()
        with meter.stage("select"):
            top = torch.topk(r, int(len(r) * float(k) / 100)).indices
            mask = torch.zeros(len(r), dtype=torch.bool)
            mask[top] = True
        select.append(time.perf_counter() - started)
        started = time.perf_counter()
        with meter.stage("apply"), torch.no_grad():
            offset = 0
            for n, w in p.items():
                part = mask[offset : offset + w.numel()].view_as(w)
                s[n].copy_(torch.where(part, w, original.get(n, s[n])))
                offset += w.numel()
        apply.append(time.perf_counter() - started)
        with meter.stage("save"):
            tuned.save_pretrained(folder / "plain")
        shutil.rmtree(folder / "plain")
    meter.report(new_k=select[-1] + apply[-1], each=[a + b for a, b in zip(select, apply, strict=True)])


# -- sftknow


def ours_one(folder: Path, _: argparse.Namespace) -> None:
    """One k, disk to disk."""
    ours(folder, ("20",))


def ours_seven(folder: Path, _: argparse.Namespace) -> None:
    """Seven k, disk to disk."""
    ours(folder, KS)


def ours(folder: Path, ks: tuple[str, ...]) -> None:
    """Count, refine all k in one pass, write each."""
    meter = Meter()
    with meter.stage("import"):
        from sftknow_core.model.io.adapter import open_source
        from sftknow_core.update.pair import Pair
        from sftknow_core.update.restore import write_restored
        from sftknow_core.update.select import plans_for
        from sftknow_core.update.spec import RestoreSpec
    imported = rss_anon()
    with meter.stage("open"):
        pair = Pair(open_source(folder / "base"), open_source(folder / "tuned"))
    with meter.stage("select"):
        plans = plans_for(pair, [RestoreSpec(k_percent=k) for k in ks])  # type: ignore[arg-type]
    for plan in plans:
        with meter.stage("write"):
            write_restored(pair, plan, folder / "ours", sync=False)
        shutil.rmtree(folder / "ours")
    meter.report(imported=imported)


def ours_in_memory(folder: Path, _: argparse.Namespace) -> None:
    """The cube, and a working model whose k changes; the files stay on disk and come from the page cache."""
    import torch

    from sftknow_core.model.io.adapter import open_source
    from sftknow_core.update.delta import ALL_SCORES, measure_delta
    from sftknow_core.update.pair import Pair
    from sftknow_core.update.restore import move_to
    from sftknow_core.update.select import plan_for
    from sftknow_core.update.spec import RestoreSpec

    meter = Meter()
    pair = Pair(open_source(folder / "base"), open_source(folder / "tuned"))
    imported = rss_anon()
    with meter.stage("first cube, compiling where nothing is kept"):
        delta = measure_delta(pair)
    cube = best(lambda: measure_delta(pair))
    whole_cube = best(lambda: measure_delta(pair, scores=ALL_SCORES), 2)
    cube_peak = meter.peak - imported
    working = {meta.name: torch.empty(meta.shape, dtype=meta.dtype).zero_() for meta in pair.metas}
    plan = plan_for(pair, RestoreSpec(k_percent="20"), delta=delta)  # type: ignore[arg-type]
    move_to(working, pair, plan)

    def new_k() -> None:
        move_to(working, pair, plan_for(pair, RestoreSpec(k_percent="40"), delta=delta))  # type: ignore[arg-type]

    result = {"new_k": best(new_k), "refined_k": best(lambda: move_to(working, pair, plan))}
    meter.report(cube=cube, whole_cube=whole_cube, cube_peak=cube_peak, n=pair.n_weights, **result)


def read_files(folder: Path, _: argparse.Namespace) -> None:
    """How fast both files come out of the page cache, one thread, into one buffer of 1 MB."""
    files = [f for side in ("base", "tuned") for f in sorted((folder / side).glob("*.safetensors"))]
    buffer = bytearray(1 << 20)

    def read() -> None:
        for file in files:
            with file.open("rb", buffering=0) as stream:
                while stream.readinto(buffer):
                    pass

    print(json.dumps({"bytes": sum(f.stat().st_size for f in files), "read": best(read, 5)}))


def best(work: Callable[[], Any], times: int = 3) -> float:
    """The shortest of several runs, seconds."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "pair": make_pair,
    "read_files": read_files,
    "plain_one": plain_one,
    "plain_seven": plain_seven,
    "warm_up": ours_one,
    "ours_one": ours_one,
    "ours_seven": ours_seven,
    "ours_in_memory": ours_in_memory,
}


def print_table(results: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    """The table of the README."""
    plain_1, plain_7 = results["plain_one"], results["plain_seven"]
    one, seven, memory = results["ours_one"], results["ours_seven"], results["ours_in_memory"]
    files = results["read_files"]
    print(f"{memory['n'] / 1e9:.2f} B parameters, bfloat16, {options.threads} threads; {machine()}")
    rows = [
        ("one k, disk to disk, whole process", plain_1["process"], one["process"]),
        ("seven k, disk to disk, whole process", plain_7["process"], seven["process"]),
        ("in memory, a new k", plain_7["new_k"], memory["new_k"]),
        ("in memory, a k already refined", plain_7["new_k"], memory["refined_k"]),
    ]
    print("| | plain, s | sftknow, s | ratio |\n|---|---|---|---|")
    for name, slow, fast in rows:
        print(f"| {name} | {slow:.2f} | {fast:.2f} | {slow / fast:.1f} |")
    print(
        f"| RssAnon, one k, GB | {plain_1['peak'] / 1e9:.2f} | {one['peak'] / 1e9:.2f} "
        f"| {plain_1['peak'] / one['peak']:.1f} |"
    )
    speed, read = files["bytes"] / memory["cube"] / 1e9, files["bytes"] / files["read"] / 1e9
    print(
        f"cube: {memory['cube']:.2f} s, {speed:.2f} GB/s = {speed / read:.2f} of reading ({read:.1f} GB/s);",
        end=" ",
    )
    print(
        f"with null and larger epsilons {memory['whole_cube']:.2f} s; +{memory['cube_peak'] / 1e6:.0f} MB RssAnon"
    )
    for name in ("plain_one", "plain_seven", "ours_one", "ours_seven"):
        stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in results[name]["seconds"].items())
        print(f"{name}: {stages} s")


# -- in memory, on a device


def on_device(options: argparse.Namespace) -> None:
    """Cube and change of k with both models and a working copy on one device, beside its copy bandwidth."""
    import torch

    from sftknow_core.model.io.tensors import ModelSource
    from sftknow_core.update.delta import measure_delta
    from sftknow_core.update.pair import Pair
    from sftknow_core.update.restore import move_to
    from sftknow_core.update.select import plan_for
    from sftknow_core.update.spec import RestoreSpec

    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; try --in-memory --shape tiny")
    base, tuned, working = (random_model(options.shape, device, seed) for seed in range(3))
    with torch.no_grad():
        for p, s in zip(base.parameters(), tuned.parameters(), strict=True):
            s.mul_(0.01).add_(p)  # a step of a hundredth of a weight's size
    pair = Pair(ModelSource(base), ModelSource(tuned))
    n_bytes = pair.n_weights * 2

    def timed(work: Callable[[], Any]) -> float:
        def synced() -> None:
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()

        synced()
        return best(synced)

    copy = timed(lambda: [w.copy_(p) for w, p in zip(working.parameters(), base.parameters(), strict=True)])
    bandwidth = 2 * n_bytes / copy
    delta = measure_delta(pair)
    plan = plan_for(pair, RestoreSpec(k_percent="20"), delta=delta)  # type: ignore[arg-type]
    figures = {
        "cube": (timed(lambda: measure_delta(pair)), 2 * n_bytes),
        "refine one k": (
            timed(lambda: plan_for(pair, RestoreSpec(k_percent="40"), delta=delta)),  # type: ignore[arg-type]
            2 * n_bytes,
        ),
        "change of k, refined": (timed(lambda: move_to(working, pair, plan)), 3 * n_bytes),
    }
    print(f"{options.shape}, {pair.n_weights / 1e9:.2f} B parameters, bfloat16, {device}; {machine()}")
    print(f"copy bandwidth {bandwidth / 1e9:.0f} GB/s\n| | s | floor, s |\n|---|---|---|")
    for name, (seconds, moved) in figures.items():
        print(f"| {name} | {seconds:.3f} | {moved / bandwidth:.3f} |")
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB, three models included")


def random_model(shape: str, device: Any, seed: int) -> Any:
    """A bfloat16 model with Gaussian weights, made on the device."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPES[shape]), dtype=torch.bfloat16)
    model = model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02, generator=generator).requires_grad_(False)
    return model


def machine() -> str:
    """Cores, memory and versions, so that a figure says where it is from."""
    import torch
    import transformers

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GB{gpu}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    main()
