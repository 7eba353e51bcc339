"""What a fine-tuning is: its parameters, checked, and the training methods, each declared beside its function.

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


SCHEDULERS = ("cosine", "linear", "constant")
WEIGHTS_DTYPES = ("float32", "bfloat16")
COMPUTE_DTYPES = ("auto", "float32", "bfloat16")
OUTPUT_DTYPES = ("base", "float32", "bfloat16", "float16")


def _one_of(name: str, got: str, allowed: tuple[str, ...]) -> None:
    _check(name, got, got in allowed, ", ".join(allowed))


def _check(name: str, got: Any, fits: bool, allowed: str) -> None:
    if not fits:  # also when it is not a number: comparisons with nan are false
        raise SpecError(f"{name}: got {got!r}; allowed: {allowed}")


@dataclass(frozen=True)
class SftSpec:
    """One fine-tuning. The defaults are those of the paper; what it does not state has a common value."""

    method: str = "full"
    """A name in METHODS: full is every parameter, lora an adapter on a frozen base."""
    lr: float = 1e-5
    """Peak learning rate of AdamW."""
    epochs: float = 1.0
    """Passes over the examples."""
    batch_size: int = 8
    """Examples a step."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay, on weights without biases and norms."""
    warmup: float = 0.0
    """Share of the steps in which the rate rises from 0 to its peak; 0 to below 1."""
    grad_clip: float = 1.0
    """Largest norm of the gradient; 0: not clipped."""
    scheduler: str = "cosine"
    """How the rate falls to 0 over the steps: cosine, linear, or constant."""
    seed: int = 0
    """Order of the examples, dropout, and a new adapter's weights."""
    weights_dtype: str = "float32"
    """Of the weights while they are trained: float32 or bfloat16."""
    compute_dtype: str = "auto"
    """Of the matrix products: float32, bfloat16 (autocast), or auto: bfloat16 on a GPU that has it."""
    output_dtype: str = "base"
    """Of the weights as saved: the base's own, or a named one."""
    lora_r: int = 16
    """Rank of the adapter."""
    lora_alpha: float = 32.0
    """The adapter's update is scaled by lora_alpha / lora_r."""
    lora_dropout: float = 0.0
    """On the adapter's input; 0 to below 1."""
    lora_targets: tuple[str, ...] = ALL_LINEAR
    """Module names that get an adapter, or "all-linear": every linear layer but the LM head."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "lora_targets", tuple(self.lora_targets))
        METHODS.get(self.method)
        _one_of("scheduler", self.scheduler, SCHEDULERS)
        _one_of("weights_dtype", self.weights_dtype, WEIGHTS_DTYPES)
        _one_of("compute_dtype", self.compute_dtype, COMPUTE_DTYPES)
        _one_of("output_dtype", self.output_dtype, OUTPUT_DTYPES)
        _check("lr", self.lr, 0 < self.lr <= 1, "above 0 to 1")
        _check("epochs", self.epochs, 0 < self.epochs <= 1000, "above 0 to 1000")
        _check("batch_size", self.batch_size, self.batch_size >= 1, "1 or more")
        _check("weight_decay", self.weight_decay, 0 <= self.weight_decay <= 1, "0 to 1")
        _check("warmup", self.warmup, 0 <= self.warmup < 1, "0 to below 1")
        _check("grad_clip", self.grad_clip, 0 <= self.grad_clip < float("inf"), "0 (off) or more")
        _check("seed", self.seed, 0 <= self.seed < 2**32, "0 to 2**32 - 1")
        _check("lora_r", self.lora_r, self.lora_r >= 1, "1 or more")
        _check("lora_alpha", self.lora_alpha, 0 < self.lora_alpha < float("inf"), "above 0")
        _check("lora_dropout", self.lora_dropout, 0 <= self.lora_dropout < 1, "0 to below 1")
        _check("lora_targets", self.lora_targets, len(self.lora_targets) > 0, "all-linear or module names")


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


PAPER = SftSpec()
"""The paper's recipe for language models of billions of parameters."""
DEMO = SftSpec(lr=7e-4, batch_size=4, warmup=0.1, compute_dtype="float32")
"""For a model of a million parameters; rate, batch and warm-up were chosen on seeds 0-2 and dev questions."""
PRESETS = {"paper": PAPER, "demo": DEMO}


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
