"""Loading: what is refused is named, and nothing but safetensors is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from tiny import make_tiny_llama

from sftknow_core.errors import ModelError
from sftknow_core.model.io.load import load_model, load_tokenizer, pick_device, resolve_source


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("load") / "base", dtype=torch.bfloat16)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


def test_dtype_is_the_checkpoints_own_unless_asked(made: Path) -> None:
    assert load_model(made, device="cpu").model.dtype == torch.bfloat16
    assert load_model(made, device="cpu", dtype="float32").model.dtype == torch.float32


def test_model_is_in_eval_mode_with_its_special_ids(made: Path) -> None:
    lm = load_model(made, device="cpu")
    assert not lm.model.training
    assert lm.eos_ids == (lm.tokenizer.eos_token_id,)
    assert lm.pad_id == lm.tokenizer.eos_token_id  # it has no pad token
    assert lm.path == made


def test_missing_folder_is_not_taken_for_a_hub_id(tmp_path: Path) -> None:
    for source in ("./no/such/model", str(tmp_path / "none"), tmp_path / "none"):
        with pytest.raises(ModelError, match="not found"):
            load_model(source)


def test_a_file_instead_of_a_folder(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a file; give the folder"):
        load_model(folder / "config.json")


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_model(folder)


def test_pickled_weights_are_refused_by_name(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*convert"):
        load_model(folder)


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        load_model(folder)


def test_no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        load_model(folder)


def test_damaged_weights_and_config(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot load the model"):
        load_model(folder)
    (folder / "config.json").write_text('{"model_type": "no_such_model"}')
    with pytest.raises(ModelError, match="cannot load the model"):
        load_model(folder)


def test_missing_parameters_are_never_random(folder: Path) -> None:
    """A config with one layer more than the weights: transformers only warns."""
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"lacks the weights of 9 parameters \(first: model\.layers\.2"):
        load_model(folder)


def test_code_in_the_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError):
        load_model(folder)
    assert not (tmp_path / "ran").exists()


def test_device_and_dtype_names(made: Path) -> None:
    with pytest.raises(ModelError, match="got device 'tpu'; allowed: auto, cpu, cuda, mps"):
        pick_device("tpu")
    with pytest.raises(ModelError, match="got dtype 'int8'; allowed: auto, float32"):
        load_model(made, dtype="int8")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")


def test_hub_id_is_downloaded_without_pickles(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def fake(hub_id: str, **options: object) -> str:
        asked.update(options, hub_id=hub_id)
        return str(made)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    assert resolve_source("org/name", revision="abc") == made
    assert asked["hub_id"] == "org/name" and asked["revision"] == "abc"
    patterns = asked["allow_patterns"]
    assert isinstance(patterns, list) and "*.safetensors" in patterns
    assert not any(p.endswith((".bin", ".pt", ".py")) for p in patterns)


def test_hub_failure_says_what_the_hub_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise OSError("Cannot reach the hub\nlong trace")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(
        ModelError, match="'org/name' is not a folder here, and the hub said: Cannot reach the hub;"
    ):
        resolve_source("org/name")


def adapter_on(base: Path, out: Path, named: str | None = None) -> Path:
    """A LoRA adapter with random B, saved by peft."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(load_model(base, device="cpu").model, LoraConfig(r=2, target_modules="all-linear"))
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    model.save_pretrained(out)
    config = json.loads((out / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = named or str(base)
    (out / "adapter_config.json").write_text(json.dumps(config))
    return out


def test_adapter_is_loaded_unmerged_on_its_base(made: Path, tmp_path: Path) -> None:
    adapter = adapter_on(made, tmp_path / "adapter")
    lm = load_model(adapter, device="cpu", dtype="float32")
    base = load_model(made, device="cpu", dtype="float32")
    ids = torch.tensor([[3, 4, 5]])
    with torch.inference_mode():
        assert not torch.allclose(lm.model(ids).logits, base.model(ids).logits)
        with lm.model.disable_adapter():
            assert torch.equal(lm.model(ids).logits, base.model(ids).logits)
    assert type(lm.plain) is type(base.model)
    assert load_tokenizer(adapter).get_vocab() == base.tokenizer.get_vocab()  # its base's


def test_adapter_base_relative_overridden_or_missing(folder: Path, tmp_path: Path) -> None:
    adapter = adapter_on(folder, tmp_path / "adapter", named="../model")
    load_model(adapter, device="cpu")
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match=r"base model of the adapter .* cannot be found"):
        load_model(adapter, device="cpu")
    load_model(adapter, device="cpu", base=moved)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter_model\.bin"):
        load_model(adapter, device="cpu", base=moved)


def test_adapter_of_another_base_does_not_fit(made: Path, tmp_path: Path) -> None:
    wide = make_tiny_llama(tmp_path / "wide", width=64)
    with pytest.raises(ModelError, match="does not fit"):
        load_model(adapter_on(made, tmp_path / "adapter"), base=wide, device="cpu")
