"""Low-rank adapters: put one on a base model for training, and measure what merging it would change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.model.generate.logits import next_token_logits
from sftknow_core.model.io.load import LanguageModel, load_model
from sftknow_core.model.io.sources import first_line, is_adapter
from sftknow_core.model.train.sft_spec import ALL_LINEAR, SftSpec


class MergeGap(NamedTuple):
    """How far next-token log-probabilities move, in nats, when the adapter is added into the weights."""

    max_nats: float
    mean_nats: float


def add_adapter(model: Any, spec: SftSpec, base: Path) -> Any:
    """A peft model around `model`, whose own weights are frozen; B = 0, so that it starts as the base does.

    The adapter's config names `base` by its absolute path. Raises SpecError when no module has a target's
    name.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=spec.lora_r,
        lora_alpha=spec.lora_alpha,  # type: ignore[arg-type]  # any number will do
        lora_dropout=spec.lora_dropout,
        target_modules=ALL_LINEAR[0] if spec.lora_targets == ALL_LINEAR else list(spec.lora_targets),
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        names = sorted({n.rsplit(".", 1)[-1] for n, m in model.named_modules() if hasattr(m, "weight")})
        raise SpecError(
            f"lora_targets: got {spec.lora_targets}; allowed: all-linear, or some of {', '.join(names)} "
            f"({first_line(error)})"
        ) from error
    config.base_model_name_or_path = str(base.resolve())
    return adapted


def merge_gap(
    base: Path | None, adapter: Path, prompts: Sequence[Sequence[int]], *, device: str = "auto"
) -> MergeGap:
    """Largest and mean |log p merged - log p unmerged| over all next tokens of the prompts.

    base: None takes the one that the adapter names. Raises ModelError when `adapter` is no adapter.
    """
    if not is_adapter(adapter):
        raise ModelError(f"{adapter} has no adapter_config.json; give an adapter folder")
    lm = load_model(adapter, base=base, device=device)
    apart = _log_probs(lm, prompts)
    merged = LanguageModel(lm.model.merge_and_unload(), lm.tokenizer, lm.device)
    gap = (_log_probs(merged, prompts) - apart).abs()
    return MergeGap(float(gap.max()), float(gap.mean()))


def _log_probs(lm: LanguageModel, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """[n, V] on the CPU."""
    return torch.cat([logits.log_softmax(-1).cpu() for _, logits in next_token_logits(lm, prompts)])
