"""How far a weight moved, as a float32 score whose bits can be ranked.

    relative r = |s - p| / (|p| + eps)     absolute a = |s - p|     (p base, s tuned, all in float32)

r is the paper's measure (arXiv 2509.16596, section on parameter restoration) with the 1e-8 of its reference
code (github UmeanNever/ParamRestore), computed in float32 whatever the weights are stored in: in fp16 the
1e-8 would vanish and 0/0 rank first. A score is never negative, so its bit pattern, read as an integer,
orders as its value.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from sftknow_core.errors import ModelError

if TYPE_CHECKING:  # names of scores are listed without loading torch
    import torch

    from sftknow_core.update.pair import Chunk

EPS = 1e-8
"""Added to |p|, as in the reference code."""

MAX_BITS = 0x7FFFFFFF
"""Largest non-negative int32; flipping all 31 bits of a score's pattern reverses its order."""

LOW_BITS = 16
"""Bits of a pattern below its bin."""

INFINITE = 0x7F800000
"""Pattern of infinity; NaNs lie above it."""

N_BINS = 1 << 15
"""Bins by the top 16 bits of a non-negative float32 (the sign bit is 0)."""


class Score(StrEnum):
    """A measure of change."""

    RELATIVE = "relative"
    ABSOLUTE = "absolute"
    RELATIVE_1E6 = "relative_1e-6"
    """r with epsilon 1e-6, which silences weights near zero; likewise below."""
    RELATIVE_1E4 = "relative_1e-4"
    PERMUTED = "permuted"
    """r after the changes were dealt out at random within each tensor: what concentration is without
    choice."""


EPSILONS: dict[Score, float] = {Score.RELATIVE: EPS, Score.RELATIVE_1E6: 1e-6, Score.RELATIVE_1E4: 1e-4}
"""What is added to |p|."""


def relative(chunk: Chunk, eps: float = EPS) -> torch.Tensor:
    """r of every weight, float32 [n]; ModelError naming the tensor for NaN, infinity or overflow."""
    return checked(ratio(chunk.d, chunk.p, eps), chunk)


def ratio(d: torch.Tensor, p: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    """|d| / (|p| + eps), float32 [n], unchecked."""
    return d.abs().div_(p.abs().add_(eps))


def absolute(chunk: Chunk) -> torch.Tensor:
    """|s - p| of every weight, float32 [n]; ModelError naming the tensor for NaN, infinity or overflow."""
    return checked(chunk.d.abs(), chunk)


def bits(values: torch.Tensor) -> torch.Tensor:
    """The bit patterns of non-negative float32 values as int32, in the order of the values."""
    import torch

    return values.view(torch.int32)


def value_of(pattern: int) -> float:
    """The float32 value of a bit pattern."""
    import torch

    return float(torch.tensor(pattern, dtype=torch.int32).view(torch.float32).item())


def check_pattern(largest: int, chunk: Chunk) -> None:
    """Raise ModelError naming the tensor when the largest pattern of its scores is no finite number."""
    if largest >= INFINITE:
        _explain(chunk)


def checked(values: torch.Tensor, chunk: Chunk) -> torch.Tensor:
    """The scores unchanged. One maximum finds everything: NaN wins it, and no infinity can hide in a
    ratio."""
    if values.numel() and not values.max().isfinite():
        _explain(chunk)
    return values


def check_weights(chunk: Chunk) -> None:
    """Raise ModelError naming the tensor when a weight is no finite number."""
    for side, weights in (("base", chunk.p), ("tuned", chunk.s)):
        if not weights.isfinite().all():
            raise ModelError(
                f"tensor {chunk.meta.name} of {side} holds NaN or infinite weights; "
                "the training or the download went wrong."
            )


def _explain(chunk: Chunk) -> NoReturn:
    check_weights(chunk)
    raise ModelError(
        f"tensor {chunk.meta.name}: the change of a weight overflows float32; these are not two states "
        "of one model, or one of them diverged."
    )
