"""A LoRA adapter on its base reads like peft's merge in float32."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fake_source import bits_equal
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from tiny_models import tiny_model
from transformers import AutoModelForCausalLM

from sftknow_core.errors import ModelError
from sftknow_core.model.io import adapter
from sftknow_core.model.io.adapter import open_source

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def make_adapter(
    folder: Path, model_type: str = "llama", dtype: torch.dtype = torch.float32, **options: object
) -> tuple[Path, Path]:
    """(adapter folder, base folder) with random A and B; target modules in `options`."""
    base, path = folder / "base", folder / "adapter"
    tiny_model(model_type).to(dtype).save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    tuned = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 8, **options}))
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    tuned.save_pretrained(path)
    return path, base


def merged(path: Path, base: Path) -> dict[str, torch.Tensor]:
    """peft's own merge in float32, by canonical name."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(model, path).merge_and_unload()
    return {name: p.detach().reshape(-1) for name, p in tuned.named_parameters()}


LLAMA = ["q_proj", "v_proj", "down_proj"]
CASES: dict[str, tuple[str, dict[str, object]]] = {
    "plain": ("llama", {"target_modules": LLAMA}),
    "rank-stabilised": ("llama", {"target_modules": LLAMA, "use_rslora": True}),
    "conv1d": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "embedding": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    "patterns": (
        "llama",
        {
            "target_modules": LLAMA,
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"layers.1.mlp.down_proj": 3},
        },
    ),
    "biases": ("qwen2", {"target_modules": ["q_proj"], "bias": "lora_only"}),
    "bias of B": ("qwen2", {"target_modules": ["q_proj"], "lora_bias": True}),
    "whole modules": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "up_proj"]}),
}


@pytest.mark.parametrize("case", CASES)
def test_adapter_reads_like_pefts_merge(case: str, tmp_path: Path) -> None:
    model_type, options = CASES[case]
    path, base = make_adapter(tmp_path, model_type, **options)
    source, plain = open_source(path), open_source(base)
    n_changed = 0
    for name, expected in merged(path, base).items():
        found = source.read(name, 0, source.meta(name).numel)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        n_changed += not torch.equal(found, plain.read(name, 0, len(found)))
    assert n_changed >= 2


def test_untouched_tensors_keep_bits_and_dtype(tmp_path: Path) -> None:
    path, base = make_adapter(tmp_path, dtype=torch.bfloat16, target_modules=["q_proj"])
    source, plain = open_source(path), open_source(base)
    for meta in source.metas:
        if meta.module == "attn.q":
            assert meta.dtype == torch.float32
        else:
            assert bits_equal(source.read(meta.name, 0, meta.numel), plain.read(meta.name, 0, meta.numel))


def test_values_do_not_depend_on_the_range_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "BLOCK_WEIGHTS", 96)
    path, base = make_adapter(tmp_path, target_modules=LLAMA)
    one, other = open_source(path), open_source(path, base=base)
    name = "model.layers.1.self_attn.q_proj.weight"
    whole = one.read(name, 0, 1024)
    parts = [other.read(name, a, min(a + 37, 1024)) for a in reversed(range(0, 1024, 37))]
    assert bits_equal(torch.cat(parts[::-1]), whole)
    assert one.read(name, 5, 5).numel() == 0


def test_other_kinds_of_adapter_are_refused(tmp_path: Path) -> None:
    path, _ = make_adapter(tmp_path / "a", target_modules=["q_proj"], use_dora=True)
    with pytest.raises(ModelError, match="use_dora"):
        open_source(path)
    ia3 = get_peft_model(
        tiny_model(), IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM")
    )
    ia3.save_pretrained(tmp_path / "b")
    with pytest.raises(ModelError, match="IA3"):
        open_source(tmp_path / "b")


def test_one_side_of_a_tie_is_refused(tmp_path: Path) -> None:
    path, _ = make_adapter(tmp_path, "gpt2", target_modules=["wte"])
    with pytest.raises(ModelError, match="shares between input and output"):
        open_source(path)


def test_missing_base_is_named(tmp_path: Path) -> None:
    path, _ = make_adapter(tmp_path, target_modules=["q_proj"])
    config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    gone = config | {"base_model_name_or_path": "/nowhere/base"}
    (path / "adapter_config.json").write_text(json.dumps(gone), encoding="utf-8")
    with pytest.raises(ModelError, match="/nowhere/base"):
        open_source(path)


def test_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    path, _ = make_adapter(tmp_path / "a", target_modules=["up_proj"])
    tiny_model(intermediate_size=56).save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="another base model"):
        open_source(path, base=tmp_path / "other")
