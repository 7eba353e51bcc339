"""Top k% of a pair -> other restorations that take back the same part of its update: what restoring is compared with.

Equal k of two strategies is not equal damage, equal energy ||s - out||^2 / ||s - p||^2 is nearer to it. By strategy:

    interpolation           alpha = sqrt(1 - energy), exact
    random                  k = the energy in percent: its expectation
    top, bottom, largest, smallest   the k whose weights hold this energy, from the delta cube

What a restoration then took back indeed stands in its row of table `restorations`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from math import isnan, sqrt

from sftknow_core.errors import SpecError
from sftknow_core.results.cube import open_cube
from sftknow_core.results.cube_selection import k_at_energy, selection
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import RestoreSpec, Strategy, percent

_RANKED: Mapping[Strategy, tuple[str, str]] = {
    Strategy.TOP: ("relative", "highest"),
    Strategy.BOTTOM: ("relative", "lowest"),
    Strategy.LARGEST: ("absolute", "highest"),
    Strategy.SMALLEST: ("absolute", "lowest"),
}
"""Strategy -> what it ranks by, and which end first."""
COMPARABLE = (*_RANKED, Strategy.RANDOM, Strategy.INTERPOLATION)
"""Strategies that can be set to an energy."""


def check_comparable(strategies: Sequence[str]) -> None:
    """Raise SpecError for a strategy that cannot be set to an energy."""
    for name in strategies:
        if name not in list(COMPARABLE):
            raise SpecError(f"equal_energy: got {name!r}; allowed: {', '.join(COMPARABLE)}")


def at_equal_energy(
    cache: Cache, delta_id: str, specs: Sequence[RestoreSpec], strategies: Sequence[str]
) -> dict[RestoreSpec, Decimal]:
    """What takes back as much as each of `specs` does -> the k of that one, which it stands beside.

    specs: k of one ranked strategy, region and layers; what another strategy cannot reach, and the hybrid, where all of
    the region goes back, have no counterpart. Empty where nothing changed. Raises SpecError for a strategy that cannot
    be set to an energy.
    """
    check_comparable(strategies)
    asked = [spec for spec in specs if spec.strategy in _RANKED and spec.k_percent not in (None, 100)]
    if not asked or not strategies:
        return {}
    first = asked[0]
    score, direction = _RANKED[first.strategy]
    with open_cube(cache, delta_id) as con:
        ks = [spec.k_percent for spec in asked if spec.k_percent is not None]
        found = selection(
            con, ks, region=first.region, layers=first.layers, score=score, direction=direction
        )["energy_taken_back"]
        energies = [float(energy) for energy in found]
        if any(isnan(energy) for energy in energies):
            return {}
        beside: dict[RestoreSpec, Decimal] = {}
        for strategy in map(Strategy, strategies):
            if strategy == first.strategy:
                continue
            if strategy in _RANKED:
                score, direction = _RANKED[strategy]
                amounts = k_at_energy(
                    con, energies, region=first.region, layers=first.layers, score=score, direction=direction
                )
            else:
                amounts = [_amount(strategy, energy) for energy in energies]
            for k, amount in zip(ks, amounts, strict=True):
                if amount is not None and (spec := _spec(first, strategy, amount)) is not None:
                    beside.setdefault(spec, k)
    return beside


def _amount(strategy: Strategy, energy: float) -> Decimal:
    """alpha of an interpolation, or k of random weights."""
    kept = sqrt(max(0.0, 1 - energy)) if strategy is Strategy.INTERPOLATION else 100 * energy
    return Decimal(f"{kept:.4f}")


def _spec(like: RestoreSpec, strategy: Strategy, amount: Decimal) -> RestoreSpec | None:
    """The restoration; None where it would be the tuned model or take all back."""
    if strategy is Strategy.INTERPOLATION:
        return None if amount in (0, 1) else replace(like, strategy=strategy, k_percent=None, alpha=amount)
    k = percent(amount)
    return None if k in (0, 100) else replace(like, strategy=strategy, k_percent=k)
