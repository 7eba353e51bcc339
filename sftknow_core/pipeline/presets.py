"""Which fine-tuning settings a base model gets unless the user says otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sftknow_core.model.train.sft_spec import DEMO, PAPER, SftSpec
from sftknow_core.pipeline.workspace import ModelHandle

SMALL_MODEL_BYTES = 200_000_000
"""Weights below this (50 M float32 parameters) need the demo's learning rate; the paper's would hardly move them."""
DEMO_LORA_LR = 3e-3


def sft_spec(base: ModelHandle, seed: int = 0, **given: Any) -> SftSpec:
    """The paper's settings for large models, the demo's for small ones; `given` overrides. Raises SpecError."""
    size = sum(file.stat().st_size for file in base.path.glob("*.safetensors"))
    preset = DEMO if size < SMALL_MODEL_BYTES else PAPER
    if preset is DEMO and given.get("method") == "lora":
        preset = replace(preset, lr=DEMO_LORA_LR)
    return replace(preset, seed=seed, **given)
