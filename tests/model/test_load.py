"""Loading: what is refused is named, and nothing but safetensors is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_tiny_llama

from sftknow_core.errors import ModelError
from sftknow_core.model.io.adapter import open_source
from sftknow_core.model.io.identity import model_id
from sftknow_core.model.io.load import load_model, load_tokenizer, pick_device, resolve_source
from sftknow_core.model.io.safetensors_files import read_header
from sftknow_core.model.io.sources import check_causal


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


@pytest.mark.parametrize("change", ["unused", "missing", "renamed"])
def test_an_adapter_is_used_whole_or_not_at_all(made: Path, tmp_path: Path, change: str) -> None:
    """Loaded and read as weights alike: a tensor without a place, and a module without its tensors, are errors."""
    adapter = adapter_on(made, tmp_path / "adapter")
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    if change == "unused":
        tensors[first.replace("layers.0", "layers.7")] = tensors[first].clone()
    elif change == "missing":
        config = json.loads((adapter / "adapter_config.json").read_text())
        config["target_modules"] = ["q_proj", "v_proj", "o_proj"]
        (adapter / "adapter_config.json").write_text(json.dumps(config))
        wanted = [n for n in tensors if any(f".{m}." in n for m in config["target_modules"])]
        tensors = {n: tensors[n] for n in wanted if "layers.0.self_attn.q_proj" not in n}
    else:
        tensors = {name.replace(".layers.", ".blocks."): values for name, values in tensors.items()}
    save_file(tensors, file)
    said = "lacks . tensors" if change == "missing" else "have no place in"
    with pytest.raises(ModelError, match=said):
        load_model(adapter, device="cpu")
    with pytest.raises(ModelError, match=said):
        open_source(adapter)


def test_a_dora_adapter_is_loaded_whole(made: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    options = {
        "use_dora": True,
        "use_rslora": True,
        "modules_to_save": ["lm_head"],
        "rank_pattern": {"q_proj": 1},
    }
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], bias="lora_only", **options)
    model = get_peft_model(load_model(made, device="cpu", dtype="float32").model, config)
    model.save_pretrained(tmp_path / "adapter")
    loaded = load_model(tmp_path / "adapter", base=made, device="cpu", dtype="float32")
    ids = torch.tensor([[3, 4, 5]])
    with torch.inference_mode():
        assert torch.equal(loaded.model(ids).logits, model.eval()(ids).logits)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"architectures": ["BertForMaskedLM"], "model_type": "bert"},
            "BertForMaskedLM does not continue a text",
        ),
        (
            {"architectures": ["RobertaForCausalLM"], "model_type": "roberta"},
            "RobertaForCausalLM does not continue",
        ),
        (
            {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
            "T5ForConditionalGeneration",
        ),
        (
            {"architectures": None, "model_type": "bart", "is_encoder_decoder": True},
            "bart does not continue a text",
        ),
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            "LlamaForSequenceClassification does not continue",
        ),
        ({"architectures": ["LlavaForConditionalGeneration"], "vision_config": {}}, "is a multimodal model"),
        (
            {"architectures": ["Qwen2AudioForConditionalGeneration"], "audio_config": {}},
            "is a multimodal model",
        ),
    ],
)
def test_only_causal_language_models_are_loaded(folder: Path, config: dict[str, object], said: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(ModelError, match=said):
        load_model(folder, device="cpu")


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["LlamaForCausalLM"]},
        {"architectures": None},
        {"architectures": []},
        {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"},
        {"architectures": ["LlamaModel"]},
        {"architectures": ["BertLMHeadModel"], "model_type": "bert", "is_decoder": True},
    ],
)
def test_models_that_continue_text_are_not_refused(tmp_path: Path, config: dict[str, object]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    check_causal(tmp_path)


def test_two_checkpoints_in_one_folder_are_refused_everywhere(folder: Path) -> None:
    """transformers would take the single file, and an index would name others: nothing says which is meant."""
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00001.safetensors")
    index = {
        "weight_map": dict.fromkeys(
            load_file(folder / "model.safetensors"), "model-00001-of-00001.safetensors"
        )
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for use in (
        lambda: load_model(folder, device="cpu"),
        lambda: open_source(folder),
        lambda: model_id(folder),
    ):
        with pytest.raises(ModelError, match="holds two checkpoints"):
            use()


def test_what_lies_there_instead_of_weights_is_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(ModelError, match="1 shards without an index"):
        load_model(folder, device="cpu")
    shutil.move(folder / "model-00001-of-00002.safetensors", folder / "a.safetensors")
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")
    with pytest.raises(ModelError, match=r"several weight files \(a.safetensors, b.safetensors\)"):
        load_model(folder, device="cpu")
    for extra in ("a.safetensors", "b.safetensors"):
        (folder / extra).unlink()
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    with pytest.raises(ModelError, match="is a Git LFS pointer"):
        open_source(folder)
    weights.unlink()
    (folder / "config.json").unlink()
    (folder / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="is a GGUF file"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-1, 2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 60]},
        {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]},
        {"shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0]},
    ],
)
def test_a_header_that_lies_is_refused_before_anything_is_read(
    tmp_path: Path, entry: dict[str, object]
) -> None:
    header = json.dumps({"w": entry}).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(ModelError, match=r"not a readable safetensors file|is cut short"):
        read_header(file)
