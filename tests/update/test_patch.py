"""A patch is small, is applied to the tuned model alone, gives the restored model bit for bit, and notices
damage."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import save_pair
from transformers import AutoModelForCausalLM

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.model.io import tensor_writer
from sftknow_core.model.io.adapter import open_source
from sftknow_core.update import pair as pair_module
from sftknow_core.update import patch as patch_module
from sftknow_core.update.lineage import Lineage
from sftknow_core.update.output_layout import layout_for, layout_of_tuned
from sftknow_core.update.pair import Pair
from sftknow_core.update.patch import check_patchable, write_patch, write_patched
from sftknow_core.update.patch_file import PatchReader, PatchWriter
from sftknow_core.update.restore import survey, write_restored
from sftknow_core.update.select import Plan, plan_for
from sftknow_core.update.spec import RestoreSpec

METADATA = {"format": "sftknow-patch", "format_version": "1"}
IDS = {"base_id": "0" * 16, "tuned_id": "1" * 16, "model_id": "2" * 16}


def lineage_of(plan: Plan, n_touched: int) -> Lineage:
    return Lineage(
        base_name="base",
        tuned_name="tuned",
        spec=plan.spec,
        output_dtype="tuned",
        n_region=plan.n_region,
        n_restored=plan.n_restored,
        n_touched=n_touched,
        **IDS,
    )


def make_patch(pair: Pair, plan: Plan, file: Path) -> int:
    """Write the patch of a plan; returns its size."""
    n_touched = survey(pair, plan).n_touched
    return write_patch(file, pair, plan, lineage_of(plan, n_touched), {"n_model": pair.n_weights})


def open_pair(base: Path, tuned: Path) -> Pair:
    return Pair(open_source(base), open_source(tuned))


def same_files(one: Path, other: Path) -> bool:
    names = {file.name for file in one.iterdir()}
    return names == {file.name for file in other.iterdir()} and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in names
    )


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mixtral", "qwen2_moe"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_patched_tuned_is_the_restored_model(model_type: str, dtype: torch.dtype, tmp_path: Path) -> None:
    base, tuned = save_pair(tmp_path, model_type, dtype=dtype, max_shard_size="20KB")
    pair = open_pair(base, tuned)
    for spec in (
        RestoreSpec(k_percent="7.5"),
        RestoreSpec("random", "all", k_percent="40"),
        RestoreSpec("interpolation", alpha="0.5"),
        RestoreSpec("block", block="1"),
    ):
        plan = plan_for(pair, spec)
        write_restored(pair, plan, tmp_path / "out", dtype="tuned")
        make_patch(pair, plan, tmp_path / "patch")
        with PatchReader(tmp_path / "patch") as patch:
            write_patched(open_source(tuned), patch, tmp_path / "patched")
        assert same_files(tmp_path / "out", tmp_path / "patched")
        for name in ("out", "patched"):
            for file in (tmp_path / name).iterdir():
                file.unlink()
            (tmp_path / name).rmdir()


def test_the_file_holds_only_what_changes_and_is_plain_safetensors(tmp_path: Path) -> None:
    """One MLP matrix [3, 6] of 18 weights, three of which differ: bits 1, 8 and 17, so bytes 2, 1 and 2, filled
    up to 8 bytes; the tensors that do not differ take no room."""
    base, tuned = save_pair(tmp_path, scale=0.0, hidden_size=8, intermediate_size=6)
    stored = load_file(tuned / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    flat = stored[name].view(-1)
    assert flat.numel() == 48
    old = flat[[1, 8, 17]].clone()
    flat[[1, 8, 17]] = torch.tensor([1.0, -0.0, 3.0])
    save_file(stored, tuned / "model.safetensors", metadata={"format": "pt"})
    pair = open_pair(base, tuned)
    size = make_patch(pair, plan_for(pair, RestoreSpec(region="mlp", k_percent="100")), tmp_path / "patch")
    assert size == (tmp_path / "patch").stat().st_size
    with safe_open(tmp_path / "patch", "pt") as file:
        assert set(file.keys()) == {name + ".changed", name + ".values"}
        assert file.get_tensor(name + ".changed").tolist() == [2, 1, 2, 0, 0, 0, 0, 0]
        assert torch.equal(file.get_tensor(name + ".values"), old)
        metadata = file.metadata()
    assert metadata["format"] == "sftknow-patch" and metadata["bit_order"] == "little"
    assert json.loads(metadata["restored"])["tuned_id"] == IDS["tuned_id"]


def test_values_stay_aligned_whatever_the_dtypes(tmp_path: Path) -> None:
    """bfloat16 tensors with an odd number of changes before float32 ones; safetensors reads them all."""
    base, tuned = save_pair(tmp_path, dtype=torch.bfloat16)
    for folder in (base, tuned):
        stored = load_file(folder / "model.safetensors")
        for name in stored:
            if "layers.1" in name:
                stored[name] = stored[name].float()
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    pair = open_pair(base, tuned)
    plan = plan_for(pair, RestoreSpec(region="all", k_percent="33.3"))
    make_patch(pair, plan, tmp_path / "patch")
    stored = load_file(tmp_path / "patch")
    n_new = sum(t.numel() for name, t in stored.items() if name.endswith(".values"))
    n_bits = sum(
        int(np.bitwise_count(t.numpy()).sum()) for name, t in stored.items() if name.endswith(".changed")
    )
    with PatchReader(tmp_path / "patch") as patch:
        assert n_new == n_bits == patch.lineage.n_touched
        write_patched(open_source(tuned), patch, tmp_path / "patched")
    write_restored(pair, plan, tmp_path / "out", dtype="tuned")
    assert same_files(tmp_path / "out", tmp_path / "patched")


def test_size_is_a_bit_a_weight_and_the_changed_values(tmp_path: Path) -> None:
    base, tuned = save_pair(tmp_path, dtype=torch.bfloat16, hidden_size=64, intermediate_size=256)
    pair = open_pair(base, tuned)
    plan = plan_for(pair, RestoreSpec(region="mlp", k_percent="5"))
    size = make_patch(pair, plan, tmp_path / "patch")
    header = int.from_bytes((tmp_path / "patch").open("rb").read(8), "little")
    with PatchReader(tmp_path / "patch") as patch:
        n_touched = patch.lineage.n_touched
    data = size - 8 - header
    assert abs(data - (plan.n_region / 8 + 2 * n_touched)) <= 8 * len(plan.metas)


def test_chunks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written and applied in chunks of 64 weights, the file and the model are the same."""
    base, tuned = save_pair(tmp_path, "gpt2")
    pair = open_pair(base, tuned)
    plan = plan_for(pair, RestoreSpec(region="all", k_percent="20"))
    make_patch(pair, plan, tmp_path / "patch")
    write_restored(pair, plan, tmp_path / "out", dtype="tuned")
    monkeypatch.setattr(pair_module, "CHUNK_WEIGHTS", 64)
    monkeypatch.setattr(patch_module, "SPAN_WEIGHTS", 64)
    make_patch(pair, plan, tmp_path / "patch64")
    assert (tmp_path / "patch64").read_bytes() == (tmp_path / "patch").read_bytes()
    with PatchReader(tmp_path / "patch") as patch:
        write_patched(open_source(tuned), patch, tmp_path / "patched")
    assert same_files(tmp_path / "out", tmp_path / "patched")


def test_adapter_on_its_base_can_be_patched(tmp_path: Path) -> None:
    base, _ = save_pair(tmp_path, dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    with torch.no_grad():
        tuned.get_parameter("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight").add_(1)
    tuned.save_pretrained(tmp_path / "adapter")
    pair = open_pair(base, tmp_path / "adapter")
    plan = plan_for(pair, RestoreSpec(k_percent="20"))
    make_patch(pair, plan, tmp_path / "patch")
    with PatchReader(tmp_path / "patch") as patch:
        write_patched(open_source(tmp_path / "adapter"), patch, tmp_path / "patched")
    write_restored(pair, plan, tmp_path / "out", dtype="tuned")
    assert same_files(tmp_path / "out", tmp_path / "patched")


def test_another_dtype_than_tuneds_is_refused(tmp_path: Path) -> None:
    base, tuned = save_pair(tmp_path)
    AutoModelForCausalLM.from_pretrained(base).to(torch.bfloat16).save_pretrained(tmp_path / "base16")
    pair = open_pair(tmp_path / "base16", tuned)
    check_patchable(layout_for(pair, "tuned"), pair, "tuned")
    check_patchable(layout_for(pair, "exact"), pair, "exact")
    with pytest.raises(SpecError, match=r"embed_tokens\.weight becomes bfloat16 where tuned has float32"):
        check_patchable(layout_for(pair, "base"), pair, "base")
    assert layout_of_tuned(pair.tuned) == layout_for(pair, "tuned")


def test_nothing_changed_is_no_patch(tmp_path: Path) -> None:
    pair = open_pair(*save_pair(tmp_path))
    with pytest.raises(SpecError, match="no weight changes"):
        make_patch(pair, plan_for(pair, RestoreSpec(k_percent="0")), tmp_path / "patch")


@pytest.fixture
def patched(tmp_path: Path) -> tuple[Path, Path]:
    """A tuned folder and the file of its patch."""
    base, tuned = save_pair(tmp_path)
    pair = open_pair(base, tuned)
    make_patch(pair, plan_for(pair, RestoreSpec(k_percent="20")), tmp_path / "patch")
    return tuned, tmp_path / "patch"


def test_every_single_damaged_bit_is_noticed(patched: tuple[Path, Path]) -> None:
    """Bits all over the file: length, header, bitmaps, values, the last byte. Spaces that fill up the header
    say nothing."""
    _, file = patched
    good = file.read_bytes()
    PatchReader(file).__exit__()
    data_at = 8 + int.from_bytes(good[:8], "little")
    header = good[8:data_at].rstrip()
    places = [0, *range(8, 8 + len(header), 97), *range(data_at, len(good), 1009), len(good) - 1]
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 7)
        file.write_bytes(bad)
        with pytest.raises((ModelError, SpecError)):
            PatchReader(file)


@pytest.mark.parametrize("n_left", [0, 5, 100, 5000, -1])
def test_truncated_file_is_refused(patched: tuple[Path, Path], n_left: int) -> None:
    _, file = patched
    file.write_bytes(file.read_bytes()[:n_left])
    with pytest.raises(ModelError):
        PatchReader(file)


def test_bytes_at_the_end_are_refused(patched: tuple[Path, Path]) -> None:
    _, file = patched
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(ModelError, match="do not fill it"):
        PatchReader(file)


def test_other_files_are_no_patches(patched: tuple[Path, Path], tmp_path: Path) -> None:
    tuned, _ = patched
    with pytest.raises(SpecError, match="is no patch"):
        PatchReader(tuned / "model.safetensors")
    with pytest.raises(ModelError, match=r"not a readable safetensors file|cut short"):
        PatchReader(tuned / "config.json")
    with pytest.raises(SpecError, match="is not there"):
        PatchReader(tmp_path / "none")


def test_patch_of_another_architecture_writes_nothing(patched: tuple[Path, Path], tmp_path: Path) -> None:
    _, file = patched
    other, _ = save_pair(tmp_path / "other", "gpt2")
    with PatchReader(file) as patch, pytest.raises(ModelError, match="is not so in the tuned model"):
        write_patched(open_source(other), patch, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bitmap_and_values_that_disagree_write_nothing(tmp_path: Path) -> None:
    """Files with right checksums that no plan would give: a value too few, and one too many."""
    base, tuned = save_pair(tmp_path)
    pair = open_pair(base, tuned)
    plan = plan_for(pair, RestoreSpec(region="mlp", k_percent="100"))
    meta = pair.tuned.metas[plan.metas[0].position]
    changed = np.zeros(meta.numel, dtype=np.bool_)
    changed[:3] = True
    for n_values, words in ((2, "fewer values"), (4, "more values")):
        with PatchWriter(tmp_path / "patch", [meta]) as writer:
            writer.add(meta, 0, changed, np.zeros(n_values, dtype=np.int32))
            writer.finish(METADATA | {"restored": json.dumps(lineage_of(plan, 3).to_json()), "report": "{}"})
        with PatchReader(tmp_path / "patch") as patch, pytest.raises(ModelError, match=words):
            write_patched(open_source(tuned), patch, tmp_path / "out")
        assert {p.name for p in tmp_path.iterdir()} == {"base", "tuned", "patch"}


def test_full_disk_and_existing_folder_leave_nothing(
    patched: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned, file = patched
    n_written = 0
    write = tensor_writer.CheckpointWriter.write

    def full(*arguments: object) -> None:
        nonlocal n_written
        n_written += 1
        if n_written == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments)  # type: ignore[arg-type]

    with PatchReader(file) as patch:
        monkeypatch.setattr(tensor_writer.CheckpointWriter, "write", full)
        with pytest.raises(ModelError, match="disk is full"):
            write_patched(open_source(tuned), patch, tmp_path / "out")
        monkeypatch.undo()
        (tmp_path / "there").mkdir()
        with pytest.raises(SpecError, match="already exists"):
            write_patched(open_source(tuned), patch, tmp_path / "there")
    assert n_written == 5
    assert {p.name for p in tmp_path.iterdir()} == {"base", "tuned", "patch", "there"}


def test_progress_counts_bytes_up_to_all(patched: tuple[Path, Path], tmp_path: Path) -> None:
    tuned, file = patched
    seen: list[tuple[int, int]] = []
    with PatchReader(file) as patch:
        write_patched(open_source(tuned), patch, tmp_path / "out", progress=lambda *n: seen.append(n))
    total = sum(meta.numel * 4 for meta in open_source(tuned).metas)
    assert seen[-1] == (total, total) and [done for done, _ in seen] == sorted(done for done, _ in seen)
