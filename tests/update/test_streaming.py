"""Memory stays bounded: a pair several times larger than what the process may allocate is compared and restored."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

N_TENSORS, N_EACH = 12, 10_000_000
"""Two models of 240 MB each in bfloat16, in three shards."""
LIMIT_BYTES = 96_000_000
"""Beyond what the process holds when it has imported everything: a fifth of what it has to read."""

WORK = """
import json, resource, sys
from pathlib import Path
from sftknow_core.model.io.tensors import FolderSource
from sftknow_core.update.delta import measure_delta
from sftknow_core.update.pair import Pair
from sftknow_core.update.restore import restore_into, write_restored
from sftknow_core.update.select import Region, select
import torch

def status(name):
    text = Path("/proc/self/status").read_text()
    return int(text.split(name + ":")[1].split()[0]) * 1024

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(2)
pair = Pair(FolderSource(folder / "base"), FolderSource(folder / "tuned"))
select(pair, Region("all", "0"), "top", ["5"])  # compile, start threads: before the limit counts
held = status("VmData")
resource.setrlimit(resource.RLIMIT_DATA, (held + limit, held + limit))
if sys.argv[3] == "hold":  # the limit is real: one model does not fit
    try:
        torch.ones(pair.n_weights, dtype=torch.bfloat16)
    except RuntimeError:
        print(json.dumps("refused"))
    sys.exit()
delta = measure_delta(pair)
plans = select(pair, Region("all"), "top", ["5", "60"], delta=delta)
report = write_restored(pair, plans[0], folder / "out", sync=False)
print(json.dumps({"restored": report.n_restored, "n": pair.n_weights, "changed": delta.n_changed}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an unknown architecture; sparse files, so that making them costs little."""
    folder = tmp_path_factory.mktemp("large")
    for side in ("base", "tuned"):
        (folder / side).mkdir()
        (folder / side / "config.json").write_text('{"model_type": "large"}')
        weight_map = {}
        for shard in range(3):
            names = ["small.0.weight"] if shard == 0 else []
            names += [f"layers.{i}.weight" for i in range(1, N_TENSORS + 1) if i % 3 == shard]
            write_sparse(folder / side / f"part-{shard}.safetensors", names, changed=side == "tuned")
            weight_map |= dict.fromkeys(names, f"part-{shard}.safetensors")
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / side / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def write_sparse(file: Path, names: list[str], changed: bool) -> None:
    """Zeros, and ones in the first thousand weights of the tuned model's tensors."""
    header, offset = {}, 0
    for name in names:
        n = 64 if name.startswith("small") else N_EACH
        header[name] = {"dtype": "BF16", "shape": [n // 2, 2], "data_offsets": [offset, offset + 2 * n]}
        offset += 2 * n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + offset)
        for entry in header.values():
            if changed and entry["shape"][0] > 1000:
                stream.seek(8 + len(text) + entry["data_offsets"][0])
                stream.write(b"\x80\x3f" * 1000)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mapped memory on Linux only")
@pytest.mark.parametrize("mode", ["hold", "stream"])
def test_a_pair_larger_than_memory_is_restored(mode: str, folder: Path) -> None:
    """12,000 of 120 million weights changed, all by r = 1e8: 5% takes all of them back."""
    command = [sys.executable, "-c", WORK, str(folder), str(LIMIT_BYTES), mode]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout)
    if mode == "hold":
        assert found == "refused"
        return
    n = N_TENSORS * N_EACH + 64
    assert found == {"restored": n * 5 // 100, "n": n, "changed": N_TENSORS * 1000}
    out = folder / "out"
    for shard in out.glob("*.safetensors"):
        assert shard.stat().st_size == (folder / "base" / shard.name).stat().st_size
        with shard.open("rb") as stream:
            while block := stream.read(1 << 24):
                assert not block.strip(b"\0") or b"dtype" in block  # base: zeros but for the header
        shard.unlink()
