"""Which prompts run together: like lengths in one batch, fewer at a time when memory runs out.

Notation: B prompts of a batch, L the longest of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch

from sftknow_core.errors import ModelError
from sftknow_core.model.io.load import LanguageModel

T = TypeVar("T")

TOKENS_AT_ONCE = {"cpu": 2**14, "mps": 2**15, "cuda": 2**17}


class PaddedBatch(NamedTuple):
    """Prompts of unlike length as one rectangle."""

    ids: torch.Tensor
    """[B, L] int64, the pad id where there is no token."""
    mask: torch.Tensor
    """[B, L] int64: 1 where there is a token."""
    positions: torch.Tensor
    """[B, L] int64: each token's place in its own prompt, 0 on padding."""


def pad_left(prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> PaddedBatch:
    """Prompts as a rectangle that ends with every prompt's last token."""
    longest = max(len(p) for p in prompts)
    ids = torch.tensor([[pad_id] * (longest - len(p)) + list(p) for p in prompts])
    n_tokens = torch.tensor([len(p) for p in prompts])
    positions = torch.arange(longest)[None, :] - (longest - n_tokens)[:, None]
    mask = (positions >= 0).long()
    return PaddedBatch(ids.to(device), mask.to(device), positions.clamp(min=0).to(device))


def by_length(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The indices of the prompts, longest first (memory runs out at once or never), ties in order."""
    return sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))


def tokens_at_once(device: torch.device) -> int:
    """How many tokens a default batch may hold on this device."""
    return TOKENS_AT_ONCE.get(device.type, TOKENS_AT_ONCE["cpu"])


def shrinking_batches(
    order: Sequence[int], size_at: Callable[[int], int], run: Callable[[list[int]], T]
) -> Iterator[tuple[list[int], T]]:
    """Call `run` on consecutive pieces of `order`, at most size_at(first index) long; yield each with its
    result.

    When memory runs out, that piece is halved and so is every later one. Raises ModelError when one prompt
    alone does not fit.
    """
    start, limit = 0, len(order)
    while start < len(order):
        size = max(1, min(limit, size_at(order[start])))
        batch = list(order[start : start + size])
        try:
            result = run(batch)
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise ModelError(
                    "memory ran out with a single prompt in the batch; use a smaller model, dtype bfloat16 "
                    "or float16, or a device with more memory"
                ) from error
            limit = len(batch) // 2
        else:
            start += len(batch)
            yield batch, result
            continue
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory, on whatever device."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate" in text


# One forward pass of a model, giving the logits of the last position only where the model can do so.


def last_logits(
    lm: LanguageModel, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any = None
) -> torch.Tensor:
    """[B, V] logits after the last of ids [B, L] (padded on the left), in the model's dtype.

    mask [B, all tokens, the cached ones too]; positions [B, L]. A cache is extended in place.
    """
    return forward_logits(lm, ids, mask, positions, cache, keep=1)[:, -1]


def forward_logits(
    lm: LanguageModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor,
    cache: Any = None,
    *,
    keep: int = 0,
) -> torch.Tensor:
    """[B, L or fewer, V] logits; keep: only the last so many positions where the model supports it (0:
    all)."""
    extra: dict[str, Any] = {"position_ids": positions, "logits_to_keep": keep}
    taken = {name: value for name, value in extra.items() if name in lm.forward_arguments}
    out = lm.plain(
        input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=cache is not None, **taken
    )
    logits: torch.Tensor = out.logits
    return logits
