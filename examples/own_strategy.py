"""A restoring strategy of your own: weights go back by squared change times the size of the base weight.

sftknow --plugin examples/own_strategy.py restore --strategy heavy-first --tuned TUNED --k 20 --out restored
"""

import torch

import sftknow_core as sk


@sk.strategy("heavy-first", title="largest squared change x |base|", source="examples/own_strategy.py")
def heavy_first(p: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """p: base weights, s: tuned weights (1-D float32); a score of 0 or more for each, the largest goes back first."""
    return (s - p) ** 2 * p.abs()
