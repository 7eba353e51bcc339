"""Reading weights: every architecture gives what transformers holds in memory, in its order, whatever the
files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from fake_source import bits_equal
from safetensors.torch import load_file, save_file
from tiny_models import ARCHITECTURES, tiny_model
from transformers import AutoModelForCausalLM

from sftknow_core.errors import ModelError
from sftknow_core.model.io.adapter import open_source
from sftknow_core.model.io.tensors import ModelSource, TensorSource


def save(folder: Path, model_type: str = "llama", **options: object) -> Path:
    tiny_model(model_type).save_pretrained(folder, **options)
    return folder


def values(source: TensorSource) -> dict[str, torch.Tensor]:
    return {m.name: source.read(m.name, 0, m.numel).clone() for m in source.metas}


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_source_is_what_transformers_holds_in_memory(model_type: str, tmp_path: Path) -> None:
    model = tiny_model(model_type)
    model.save_pretrained(tmp_path)
    source = open_source(tmp_path)
    expected = dict(model.named_parameters())
    assert [m.name for m in source.metas] == list(expected)
    assert [m.position for m in source.metas] == list(range(len(expected)))
    for meta in source.metas:
        assert meta.shape == tuple(expected[meta.name].shape)
        assert bits_equal(source.read(meta.name, 0, meta.numel), expected[meta.name].detach().reshape(-1))
    assert not source.fallback


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mixtral"])
def test_shards_and_ranges_give_the_same_weights(model_type: str, tmp_path: Path) -> None:
    one = open_source(save(tmp_path / "one", model_type))
    shards = open_source(save(tmp_path / "shards", model_type, max_shard_size="20KB"))
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    for name, expected in values(one).items():
        parts = [shards.read(name, a, min(a + 100, len(expected))) for a in range(0, len(expected), 100)]
        assert bits_equal(torch.cat(parts), expected)
    shards.close()
    assert bits_equal(shards.read(name, 0, 3), expected[:3])


def test_a_single_file_beside_its_config_can_be_named(tmp_path: Path) -> None:
    folder = save(tmp_path)
    assert len(open_source(folder / "model.safetensors").metas) == len(open_source(folder).metas)


def test_llama_modules_and_layers(tmp_path: Path) -> None:
    found = [(m.layer, m.kind, m.module) for m in open_source(save(tmp_path)).metas]
    layer = [
        ("attention", "attn.q"),
        ("attention", "attn.k"),
        ("attention", "attn.v"),
        ("attention", "attn.o"),
        ("mlp", "mlp.gate"),
        ("mlp", "mlp.up"),
        ("mlp", "mlp.down"),
        ("norm", "norm.input_layernorm"),
        ("norm", "norm.post_attention_layernorm"),
    ]
    inside = [(i, *entry) for i in range(2) for entry in layer]
    head = (None, "lm_head", "lm_head")
    assert found == [
        (None, "embedding", "embedding.embed_tokens"),
        *inside,
        (None, "norm", "norm.norm"),
        head,
    ]


@pytest.mark.parametrize(
    ("model_type", "inside", "outside"),
    [
        ("gpt2", {"attn.qkv", "attn.o", "mlp.up", "mlp.down"}, {"embedding.wte", "embedding.wpe"}),
        ("gpt_neox", {"attn.qkv", "attn.o", "mlp.up", "mlp.down"}, {"embedding.embed_in", "lm_head"}),
        (
            "opt",
            {"attn.q", "attn.k", "attn.v", "attn.o", "mlp.up", "mlp.down"},
            {"embedding.embed_tokens", "embedding.embed_positions"},
        ),
        ("phi", {"attn.q", "attn.k", "attn.v", "attn.o", "mlp.up", "mlp.down"}, {"lm_head"}),
        ("mixtral", {"attn.q", "mlp.router", "mlp.gate_up", "mlp.down"}, {"lm_head"}),
        ("qwen2_moe", {"mlp.router", "mlp.gate", "mlp.shared_expert_gate"}, {"lm_head"}),
    ],
)
def test_modules_of_other_architectures(
    model_type: str, inside: set[str], outside: set[str], tmp_path: Path
) -> None:
    metas = open_source(save(tmp_path, model_type)).metas
    assert inside <= {m.module for m in metas if m.layer is not None}
    assert outside <= {m.module for m in metas if m.layer is None}
    assert {m.kind for m in metas if m.layer is not None} == {"attention", "mlp", "norm"}


def test_biases_follow_their_module_and_qk_norms_are_norms(tmp_path: Path) -> None:
    gpt2 = {m.name: m for m in open_source(save(tmp_path / "a", "gpt2")).metas}
    assert gpt2["transformer.h.1.attn.c_attn.bias"].module == "attn.qkv"
    assert gpt2["transformer.h.1.attn.c_attn.bias"].layer == 1
    qwen3 = {m.name: m for m in open_source(save(tmp_path / "b", "qwen3")).metas}
    assert qwen3["model.layers.0.self_attn.q_norm.weight"].kind == "norm"


def test_conv1d_keeps_its_input_first_layout(tmp_path: Path) -> None:
    metas = {m.name: m for m in open_source(save(tmp_path, "gpt2")).metas}
    assert metas["transformer.h.0.attn.c_attn.weight"].shape == (32, 96)


def test_names_without_the_model_prefix_and_stored_masks(tmp_path: Path) -> None:
    """The hub's gpt2 is stored as "h.0.attn...", with causal masks that are no weights."""
    folder = save(tmp_path, "gpt2")
    expected = values(open_source(folder))
    stored = load_file(folder / "model.safetensors")
    old = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    old["h.0.attn.bias"] = torch.ones(1, 1, 4, 4)
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    source = open_source(folder)
    assert {n: t.tolist() for n, t in values(source).items()} == {n: t.tolist() for n, t in expected.items()}
    assert "h.0.attn.bias" in source.notes[-1]


def test_tied_embeddings_count_once(tmp_path: Path) -> None:
    source = open_source(save(tmp_path, "gpt2"))
    assert source.tied == {"lm_head.weight": "transformer.wte.weight"}
    assert sum(m.shape == (64, 32) for m in source.metas) == 1


@pytest.mark.parametrize("same", [True, False])
def test_tied_by_config_but_both_stored(same: bool, tmp_path: Path) -> None:
    """transformers ties them only when their values agree, and so do we."""
    folder = save(tmp_path, "gpt2")
    stored = load_file(folder / "model.safetensors")
    head = stored["transformer.wte.weight"].clone()
    head[3, 3] += 0.0 if same else 1.0
    save_file(stored | {"lm_head.weight": head}, folder / "model.safetensors", metadata={"format": "pt"})
    source = open_source(folder)
    loaded = dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())
    assert [m.name for m in source.metas] == list(loaded)
    assert ("lm_head.weight" in loaded) is not same
    assert any("not tied" in note for note in source.notes) is not same
    if not same:
        assert source.meta("lm_head.weight").kind == "lm_head"


def test_only_the_alias_stored(tmp_path: Path) -> None:
    folder = save(tmp_path, "gpt2")
    stored = load_file(folder / "model.safetensors")
    embedding = stored.pop("transformer.wte.weight")
    save_file(stored | {"lm_head.weight": embedding}, folder / "model.safetensors")
    source = open_source(folder)
    assert bits_equal(source.read("transformer.wte.weight", 0, 64 * 32), embedding.reshape(-1))


def test_unknown_architecture_falls_back_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "made_up"}', encoding="utf-8")
    tensors = {
        "decoder.10.mix.weight": torch.zeros(2, 2),
        "decoder.9.mix.weight": torch.zeros(2, 3),
        "decoder.9.scale": torch.zeros(2),
        "words": torch.zeros(5, 2),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    source = open_source(tmp_path)
    assert source.fallback
    assert "made_up" in source.notes[0]
    assert "first number" in source.notes[0]
    assert [(m.name, m.layer, m.kind) for m in source.metas] == [
        ("decoder.9.mix.weight", 9, "other"),
        ("decoder.9.scale", 9, "norm"),
        ("decoder.10.mix.weight", 10, "other"),
        ("words", None, "embedding"),
    ]


def test_no_attention_is_said(tmp_path: Path) -> None:
    source = open_source(save(tmp_path, "mamba"))
    assert source.fallback
    assert "attention" in source.notes[0]
    assert {m.kind for m in source.metas if m.layer is not None} == {"other", "norm"}


def test_loaded_model_is_the_same_source(tmp_path: Path) -> None:
    folder = save(tmp_path, "gpt2")
    source = ModelSource(AutoModelForCausalLM.from_pretrained(folder))
    stored = open_source(folder)
    assert source.metas == stored.metas
    assert source.tied == stored.tied
    assert all(bits_equal(value, stored.read(name, 0, len(value))) for name, value in values(source).items())


def test_loaded_model_with_an_adapter_is_refused() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ModelError, match="unmerged adapter"):
        ModelSource(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stored_dtype_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    tiny_model().to(dtype).save_pretrained(tmp_path)
    source = open_source(tmp_path)
    assert {m.dtype for m in source.metas} == {dtype}
    assert source.read(source.metas[0].name, 1, 4).dtype == dtype


def test_missing_folder_is_said() -> None:
    with pytest.raises(ModelError, match="no such folder"):
        open_source(Path("/nowhere/model"))


def test_unknown_tensor_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no tensor made\.up"):
        open_source(save(tmp_path)).read("made.up", 0, 1)


def test_pickle_weights_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only pytorch_model\.bin, a pickle format"):
        open_source(folder)


def test_cut_file_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ModelError, match="cut short"):
        open_source(tmp_path)
    file.write_bytes(b"nonsense and more nonsense")
    with pytest.raises(ModelError, match=r"cut short|not a readable"):
        open_source(tmp_path)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path, max_shard_size="20KB")
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ModelError, match=re.escape(shard.name)):
        open_source(folder)


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path)
    stored = load_file(folder / "model.safetensors")
    del stored["model.layers.1.mlp.up_proj.weight"]
    save_file(stored, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"tensor model\.layers\.1\.mlp\.up_proj\.weight is missing"):
        open_source(folder)


def test_config_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 56}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"has shape \[.*\] on disk, but config\.json makes it"):
        open_source(folder)


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    quantised = config | {"quantization_config": {"quant_method": "bitsandbytes"}}
    (folder / "config.json").write_text(json.dumps(quantised), encoding="utf-8")
    with pytest.raises(ModelError, match="quantised"):
        open_source(folder)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    stored = load_file(folder / "model.safetensors")
    stored["model.norm.weight"] = stored["model.norm.weight"].to(torch.int8)
    save_file(stored, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"tensor model\.norm\.weight is I8"):
        open_source(folder)


def test_layouts_that_permute_values_are_refused(tmp_path: Path) -> None:
    """Rules other than stacking, joining and cutting have no pieces; the message names the rule."""
    from transformers.core_model_loading import Transpose, WeightConverter

    from sftknow_core.model.io import disk_mapping

    rule = WeightConverter("a.weight", "b.weight", [Transpose(0, 1)])
    with pytest.raises(ModelError, match=r"tensor a\.weight becomes b\.weight in memory by Transpose"):
        disk_mapping._convert(rule, "b.weight", {"a.weight": ["a.weight"]}, {"a.weight": (2, 2)}, "here")
