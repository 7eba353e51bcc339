"""Tiny pairs of model folders with tokenizers, as a base and its fine-tuned model lie on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tiny import make_tiny_llama


def nudge_folder(folder: Path, *, scale: float = 1e-3, seed: int = 1) -> Path:
    """Give every weight of a one-file model a random step, in place."""
    generator = torch.Generator().manual_seed(seed)
    stored = {
        name: (t.float() + torch.randn(t.shape, generator=generator) * scale).to(t.dtype)
        for name, t in load_file(folder / "model.safetensors").items()
    }
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_pair(folder: Path, *, dtype: torch.dtype = torch.float32, width: int = 16) -> tuple[Path, Path]:
    """Folders `base` and `tuned`: a random Llama, and a nudged copy of it."""
    base = make_tiny_llama(folder / "base", width=width, dtype=dtype)
    tuned = Path(shutil.copytree(base, folder / "tuned"))
    return base, nudge_folder(tuned)


def add_adapter(base: Path, folder: Path, *, seed: int = 0) -> Path:
    """A LoRA adapter on `base` in a new folder, named by its absolute path, with weights that do something."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"])
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder
