"""What a fine-tuning is: its parameters, checked. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sftknow_core.errors import SpecError
from sftknow_core.model.train.methods import ALL_LINEAR, METHODS

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


PAPER = SftSpec()
"""The paper's recipe for language models of billions of parameters."""
DEMO = SftSpec(lr=7e-4, batch_size=4, warmup=0.1, compute_dtype="float32")
"""For a model of a million parameters; rate, batch and warm-up were chosen on seeds 0-2 and dev questions."""
PRESETS = {"paper": PAPER, "demo": DEMO}
