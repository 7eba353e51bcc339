"""Restored models on disk: loadable, laid out like their source, whole or not there at all."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from fake_source import bits_equal, fake_pair, random_tensors
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import ARCHITECTURES, save_pair
from transformers import AutoModelForCausalLM

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.model.io import tensor_writer
from sftknow_core.model.io.adapter import open_source
from sftknow_core.update.pair import Pair
from sftknow_core.update.restore import restore_into, write_restored
from sftknow_core.update.select import Plan, Region, select


def open_pair(base: Path, tuned: Path) -> Pair:
    return Pair(open_source(base), open_source(tuned))


def top(pair: Pair, k: str, region: str = "transformer") -> Plan:
    return select(pair, Region(region), "top", [k])[0]


@pytest.mark.parametrize(
    ("model_type", "shard"),
    [*((name, "1GB") for name in ARCHITECTURES), ("llama", "20KB"), ("gpt2", "20KB"), ("mixtral", "20KB")],
)
def test_written_model_is_the_one_restored_in_memory(model_type: str, shard: str, tmp_path: Path) -> None:
    base, tuned = save_pair(tmp_path, model_type, dtype=torch.bfloat16, max_shard_size=shard)
    pair = open_pair(base, tuned)
    plan = top(pair, "20")
    report = write_restored(pair, plan, tmp_path / "out", card="# Restored\n")
    working = AutoModelForCausalLM.from_pretrained(tuned)
    assert report == restore_into(working, pair, plan)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert loaded.dtype == torch.bfloat16
    for name, parameter in loaded.named_parameters():
        assert bits_equal(parameter.detach(), working.get_parameter(name).detach())
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in tuned.iterdir()} | {"README.md"}
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8") == "# Restored\n"


@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_endpoints_are_the_files_of_tuned_and_base(shard: str, tmp_path: Path) -> None:
    """0% of everything is tuned's tensors bit for bit, 100% base's, under the same names in the same
    files."""
    base, tuned = save_pair(tmp_path, "mixtral", max_shard_size=shard)
    pair = open_pair(base, tuned)
    for k, folder in (("0", tuned), ("100", base)):
        out = tmp_path / f"out{k}"
        write_restored(pair, top(pair, k, "all"), out)
        for file in folder.glob("*.safetensors"):
            expected, found = load_file(file), load_file(out / file.name)
            assert list(expected) == list(found)
            assert all(bits_equal(expected[name], found[name]) for name in expected)
    if shard != "1GB":
        name = "model.safetensors.index.json"
        assert json.loads((out / name).read_text()) == json.loads((tuned / name).read_text())


def test_tokenizer_and_configs_come_along_and_nothing_else(tmp_path: Path) -> None:
    base, tuned = save_pair(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        (tuned / name).write_text(f"{name} of tuned", encoding="utf-8")
    for name in ("trainer_state.json", "training_args.bin", "run.py", "README.md"):
        (tuned / name).write_text("left behind", encoding="utf-8")
    pair = open_pair(base, tuned)
    write_restored(pair, top(pair, "5"), tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
    }
    assert (tmp_path / "out" / "tokenizer.json").read_text(encoding="utf-8") == "tokenizer.json of tuned"


def test_stored_masks_and_both_copies_of_a_tie_are_written(tmp_path: Path) -> None:
    base, tuned = save_pair(tmp_path, "gpt2")
    for folder in (base, tuned):
        stored = load_file(folder / "model.safetensors")
        stored["lm_head.weight"] = stored["transformer.wte.weight"].clone()
        stored["transformer.h.0.attn.bias"] = torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8)
        save_file(stored, folder / "model.safetensors")
    pair = open_pair(base, tuned)
    write_restored(pair, top(pair, "50", "all"), tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found["transformer.h.0.attn.bias"].tolist() == [[1, 0], [1, 1]]
    assert bits_equal(found["lm_head.weight"], found["transformer.wte.weight"])
    assert not torch.equal(found["lm_head.weight"], stored["lm_head.weight"])


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("exact", "float32"), ("base", "bfloat16"), ("tuned", "float32"), ("float16", "float16")],
)
def test_output_dtype(dtype: str, expected: str, tmp_path: Path) -> None:
    base, tuned = save_pair(tmp_path)
    AutoModelForCausalLM.from_pretrained(base).to(torch.bfloat16).save_pretrained(tmp_path / "base16")
    pair = open_pair(tmp_path / "base16", tuned)
    write_restored(pair, top(pair, "100", "all"), tmp_path / "out", dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert str(model.dtype) == f"torch.{expected}"
    if expected != "float16":
        for meta in pair.metas:
            weights = pair.base.read(meta.name, 0, meta.numel)
            assert bits_equal(model.get_parameter(meta.name).detach().reshape(-1), weights.to(model.dtype))
    with pytest.raises(SpecError, match="dtype: got 'int8'; allowed: exact, base"):
        write_restored(pair, top(pair, "1"), tmp_path / "other", dtype="int8")


def test_rounding_is_counted(tmp_path: Path) -> None:
    """Base bfloat16, tuned float32 with three weights that bfloat16 does not hold: 1 + 2^-9 rounds down by 2^-9."""
    base, tuned = save_pair(tmp_path, dtype=torch.bfloat16, scale=0.0)
    tensors = {name: tensor.float() for name, tensor in load_file(tuned / "model.safetensors").items()}
    tensors["model.layers.0.mlp.up_proj.weight"].view(-1)[:3] = 1 + 2**-9
    save_file(tensors, tuned / "model.safetensors", {"format": "pt"})
    pair = open_pair(base, tuned)
    report = write_restored(pair, top(pair, "0"), tmp_path / "narrow", dtype="base")
    assert report.rounding is not None
    assert (report.rounding.n, report.rounding.largest) == (3, 2**-9)
    assert write_restored(pair, top(pair, "0"), tmp_path / "exact").rounding is None


def test_adapter_is_written_merged_in_the_layout_of_its_base(tmp_path: Path) -> None:
    base, _ = save_pair(tmp_path, dtype=torch.bfloat16)
    (base / "tokenizer.json").write_text("of base", encoding="utf-8")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    with torch.no_grad():
        tuned.get_parameter("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight").add_(1)
    tuned.save_pretrained(tmp_path / "adapter")
    pair = open_pair(base, tmp_path / "adapter")
    write_restored(pair, top(pair, "0"), tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert merged.dtype == torch.float32
    for meta in pair.metas:
        weights = pair.tuned.read(meta.name, 0, meta.numel).float()
        assert bits_equal(merged.get_parameter(meta.name).detach().reshape(-1), weights)
    assert (tmp_path / "out" / "tokenizer.json").read_text(encoding="utf-8") == "of base"
    assert not (tmp_path / "out" / "adapter_config.json").exists()


def test_existing_folder_is_refused(tmp_path: Path) -> None:
    pair = open_pair(*save_pair(tmp_path))
    (tmp_path / "out").mkdir()
    with pytest.raises(SpecError, match="already exists"):
        write_restored(pair, top(pair, "5"), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def left_behind(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} - {"base", "tuned"}


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = open_pair(*save_pair(tmp_path))
    plan = top(pair, "5")
    put = tensor_writer.CheckpointWriter._put
    n_written = 0

    def full(*arguments: object) -> None:
        nonlocal n_written
        n_written += 1
        if n_written == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tensor_writer.CheckpointWriter, "_put", full)
    with pytest.raises(ModelError, match="the disk is full; nothing was left behind"):
        write_restored(pair, plan, tmp_path / "out")
    assert n_written == 5
    assert left_behind(tmp_path) == set()


def test_too_small_disk_is_noticed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = open_pair(*save_pair(tmp_path))
    plan = top(pair, "5")
    usage = tensor_writer.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(tensor_writer.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ModelError, match=r"needs 0\.00 GB, 0\.00 GB are free; nothing was left behind"):
        write_restored(pair, plan, tmp_path / "out")
    assert left_behind(tmp_path) == set()


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    pair = open_pair(*save_pair(tmp_path))
    plan = top(pair, "5")

    def interrupt(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_restored(pair, plan, tmp_path / "out", progress=interrupt)
    assert left_behind(tmp_path) == set()


def test_a_pair_without_folders_cannot_be_written(tmp_path: Path) -> None:
    base = random_tensors()
    pair = fake_pair(base, base)
    with pytest.raises(SpecError, match="needs base or tuned as a folder"):
        write_restored(pair, top(pair, "5"), tmp_path / "out")
    assert left_behind(tmp_path) == set()
