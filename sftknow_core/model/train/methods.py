"""Training methods: which parameters of a base model are trained, each declared beside its function.

    @training_method("full", title="every parameter")
    def full(model, spec, base): ...                  the model to train

Listing them loads no torch. Of low-rank adapters also: what merging one into its base would change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.registry import Entry, Registry, plugin_of

if TYPE_CHECKING:
    import torch

    from sftknow_core.model.io.load import LanguageModel
    from sftknow_core.model.train.sft_spec import SftSpec

ALL_LINEAR = ("all-linear",)
Prepare = Callable[[Any, "SftSpec", Path], Any]


@dataclass(frozen=True, kw_only=True)
class TrainingMethod(Entry):
    """Which parameters are trained."""

    prepare: Prepare
    """(loaded base model, spec, its folder) -> the model whose trainable parameters are trained."""
    makes_adapter: bool = False
    """Whether an adapter on the base is saved, and no whole model."""


METHODS: Registry[TrainingMethod] = Registry("method")


def training_method(
    name: str, *, title: str, source: str = "", makes_adapter: bool = False
) -> Callable[[Prepare], Prepare]:
    """Register the decorated function (model, spec, folder of the base) -> model to train.

    Args:
        name: what a user types, e.g. "lora".
        title: a few words for a list of choices.
        source: paper and section, or reference code.
        makes_adapter: whether an adapter is saved, and no whole model.

    Raises PluginError for a name that is taken.
    """

    def register(function: Prepare) -> Prepare:
        METHODS.add(
            TrainingMethod(
                name=name, title=title, source=source, plugin=plugin_of(function),
                prepare=function, makes_adapter=makes_adapter,
            )
        )  # fmt: skip
        return function

    return register


@training_method("full", title="every parameter", source="Ye et al. 2025, section 3")
def train_all(model: Any, spec: SftSpec, base: Path) -> Any:
    """The model as it is."""
    return model


class MergeGap(NamedTuple):
    """How far next-token log-probabilities move, in nats, when the adapter is added into the weights."""

    max_nats: float
    mean_nats: float


@training_method(
    "lora", title="a low-rank adapter on a frozen base", source="LoRA (arXiv 2106.09685)", makes_adapter=True
)
def add_adapter(model: Any, spec: SftSpec, base: Path) -> Any:
    """A peft model around `model`, whose own weights are frozen; B = 0, so that it starts as the base does.

    The adapter's config names `base` by its absolute path. Raises SpecError when no module has a target's
    name.
    """
    from peft import LoraConfig, get_peft_model

    from sftknow_core.model.io.sources import first_line

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
    from sftknow_core.model.io.load import LanguageModel, load_model
    from sftknow_core.model.io.sources import is_adapter

    if not is_adapter(adapter):
        raise ModelError(f"{adapter} has no adapter_config.json; give an adapter folder")
    lm = load_model(adapter, base=base, device=device)
    apart = _log_probs(lm, prompts)
    merged = LanguageModel(lm.model.merge_and_unload(), lm.tokenizer, lm.device)
    gap = (_log_probs(merged, prompts) - apart).abs()
    return MergeGap(float(gap.max()), float(gap.mean()))


def _log_probs(lm: LanguageModel, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """[n, V] on the CPU."""
    import torch

    from sftknow_core.model.generate.logits import next_token_logits

    return torch.cat([logits.log_softmax(-1).cpu() for _, logits in next_token_logits(lm, prompts)])
