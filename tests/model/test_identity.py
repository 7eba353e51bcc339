"""Identity: the same weights in other shards are the same model; one bit more is another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_tiny_llama

from sftknow_core.errors import ModelError
from sftknow_core.model.io import identity
from sftknow_core.model.io.identity import model_id
from sftknow_core.model.io.load import load_model
from sftknow_core.model.io.save import save_model
from sftknow_core.model.train.sft import SftSpec, finetune


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("id") / "base", dtype=torch.bfloat16)


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "copy"))


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_sixteen_hex_digits_that_do_not_name_the_place(base: Path, copy: Path) -> None:
    assert len(model_id(base)) == 16 and int(model_id(base), 16) >= 0
    assert model_id(copy) == model_id(base)


def test_resharding_keeps_it(base: Path, tmp_path: Path) -> None:
    lm = load_model(base, device="cpu")
    lm.model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    lm.tokenizer.save_pretrained(tmp_path / "sharded")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    assert model_id(tmp_path / "sharded") == model_id(base)


def test_one_bit_of_one_weight_changes_it(base: Path, copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    bits = weights["model.norm.weight"].view(torch.int16)
    bits[0] ^= 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert model_id(copy) != model_id(base)


def test_zeros_of_both_signs_and_of_two_dtypes_differ(copy: Path) -> None:
    ids = set()
    for norm in (torch.zeros(32), -torch.zeros(32), torch.zeros(32, dtype=torch.int32)):
        weights = load_file(copy / "model.safetensors") | {"model.norm.weight": norm}
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        ids.add(model_id(copy))
    assert len(ids) == 3


def test_config_tokenizer_and_eos_change_it(base: Path, tmp_path: Path) -> None:
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-1]
    changes: list[tuple[str, dict[str, object]]] = [
        ("config.json", {"rope_theta": 5.0}),
        ("tokenizer.json", tokenizer),
        ("generation_config.json", {"eos_token_id": [1, 2]}),
    ]
    ids = {model_id(base)}
    for i, (name, change) in enumerate(changes):
        folder = Path(shutil.copytree(base, tmp_path / str(i)))
        edit_json(folder / name, **change)
        ids.add(model_id(folder))
    assert len(ids) == 4


def test_volatile_keys_and_the_old_name_of_dtype_do_not(base: Path, copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    config |= {"transformers_version": "0.0", "_name_or_path": "/somewhere/else"}
    (copy / "config.json").write_text(json.dumps(config, indent=4))
    edit_json(copy / "generation_config.json", transformers_version="0.0", temperature=0.5)
    (copy / "README.md").write_text("notes")
    assert model_id(copy) == model_id(base)


def test_stale_shards_beside_the_weights_are_not_read(base: Path, copy: Path) -> None:
    save_file({"x": torch.ones(1)}, copy / "model-00001-of-00009.safetensors")
    assert model_id(copy) == model_id(base)


def test_adapter_is_its_base_and_its_own_weights(base: Path, copy: Path, tmp_path: Path) -> None:
    def adapter(name: str, seed: int) -> Path:
        spec = SftSpec(method="lora", lr=1e-2, lora_r=2, seed=seed, compute_dtype="float32")
        return finetune(base, [("Where?", "Oslo")], spec, tmp_path / name, device="cpu").out

    one, two = adapter("one", 0), adapter("two", 1)
    moved = Path(shutil.copytree(one, tmp_path / "moved"))
    edit_json(moved / "adapter_config.json", base_model_name_or_path=str(copy))
    assert len({model_id(base), model_id(one), model_id(two)}) == 3
    assert model_id(moved) == model_id(one) == model_id(one, base=copy)
    edit_json(copy / "config.json", rope_theta=5.0)
    assert model_id(moved) != model_id(one)


def test_memo_spares_reading_and_never_serves_a_changed_file(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memo, read = tmp_path / "cache" / "memo.json", []
    real = identity.tensor_hashes
    monkeypatch.setattr(identity, "tensor_hashes", lambda path: (read.append(path), real(path))[1])
    first = model_id(copy, memo=memo)
    assert model_id(copy, memo=memo) == first == model_id(copy) and len(read) == 2
    assert model_id(copy, memo=memo, rehash=True) == first and len(read) == 3
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert model_id(copy, memo=memo) != first and len(read) == 4
    assert len(json.loads(memo.read_text())) == 1  # the file's old state is forgotten
    memo.write_text("{torn")
    assert model_id(copy, memo=memo) == model_id(copy)
    assert sorted(p.name for p in memo.parent.iterdir()) == ["memo.json"]


def test_a_file_that_changes_while_it_is_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = identity.tensor_hashes

    def touching(path: Path) -> dict[str, str]:
        hashes = real(path)
        path.write_bytes(path.read_bytes() + b"x")
        return hashes

    monkeypatch.setattr(identity, "tensor_hashes", touching)
    with pytest.raises(ModelError, match="changed while it was read"):
        model_id(copy)


def test_damaged_cut_and_missing_weights(base: Path, copy: Path, tmp_path: Path) -> None:
    weights = copy / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-10])
    with pytest.raises(ModelError, match="cut short"):
        model_id(copy)
    weights.write_bytes(b"\x05\0\0\0\0\0\0\0 junk")
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        model_id(copy)
    weights.unlink()
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        model_id(copy)
    lm = load_model(base, device="cpu")
    lm.model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    next((tmp_path / "sharded").glob("*.safetensors")).unlink()
    with pytest.raises(ModelError, match=r"shard .* is missing"):
        model_id(tmp_path / "sharded")


def test_saving_again_keeps_it(base: Path, tmp_path: Path) -> None:
    lm = load_model(base, device="cpu")
    assert model_id(save_model(lm, lm.tokenizer, tmp_path / "again")) == model_id(base)
