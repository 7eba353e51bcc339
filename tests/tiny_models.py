"""Tiny random models on disk, a few kilobytes each: real architectures, two layers, made in milliseconds."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

torch.set_num_threads(1)
logging.disable_progress_bar()
logging.set_verbosity_error()

_COMMON = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
    "max_position_embeddings": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
_SPECIAL = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_CONFIGS: dict[str, dict[str, object]] = {
    "gpt2": {**_SPECIAL, **_GPT},
    "opt": {**_COMMON, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "mixtral": {**_COMMON, "num_local_experts": 3},
    "qwen2_moe": {
        **_COMMON,
        "num_experts": 3,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "mamba": {**_SPECIAL, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
}

ARCHITECTURES = (
    "llama", "gpt2", "gpt_neox", "opt", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "phi", "phi3", "mixtral",
    "qwen2_moe", "bloom",
)  # fmt: skip
"""Decoders with plain, fused and Conv1D projections, tied and untied heads, learned positions, experts."""


def tiny_config(model_type: str = "llama", **overrides: object) -> object:
    """A two-layer config of that architecture, about 20,000 weights."""
    return CONFIG_MAPPING[model_type](**{**_CONFIGS.get(model_type, _COMMON), **overrides})


def tiny_model(model_type: str = "llama", *, seed: int = 0, **overrides: object) -> PreTrainedModel:
    """A random model in float32; every parameter random, norms and biases too."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(model_type, **overrides))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def nudge(model: PreTrainedModel, *, seed: int = 1, scale: float = 1e-3) -> PreTrainedModel:
    """The same model after a random step, in place: what fine-tuning does to weights, roughly."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            step = torch.randn(parameter.shape, generator=generator) * scale
            parameter.copy_((parameter.float() + step).to(parameter.dtype))
    return model


def save_pair(
    folder: Path,
    model_type: str = "llama",
    *,
    dtype: torch.dtype = torch.float32,
    scale: float = 1e-3,
    max_shard_size: str = "1GB",
    **overrides: object,
) -> tuple[Path, Path]:
    """Folders of a base model and of a nudged copy of it."""
    model = tiny_model(model_type, **overrides).to(dtype)
    base, tuned = folder / "base", folder / "tuned"
    model.save_pretrained(base, max_shard_size=max_shard_size)
    nudge(model, scale=scale).save_pretrained(tuned, max_shard_size=max_shard_size)
    return base, tuned
