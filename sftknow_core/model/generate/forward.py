"""One forward pass of a model, giving the logits of the last position only where the model can do so."""

from __future__ import annotations

from typing import Any

import torch

from sftknow_core.model.io.load import LanguageModel


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
