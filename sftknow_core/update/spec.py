"""What to restore, as a value: checked once, with one JSON form and one identity.

`RestoreSpec` says which strategy takes back how much of which region. Its `state_id` names the model that
comes out, so that results about it can be kept and never be mixed up with another's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sftknow_core.errors import PluginError, SpecError, unknown_field
from sftknow_core.registry import plugin_text, stored_name
from sftknow_core.update.region import Region, block_text, layers_text
from sftknow_core.update.strategies import STRATEGIES

ALGORITHM_VERSION = 1
"""Goes up whenever the same spec would give other weights."""


_ALPHA_RANGE = (Decimal("-0.5"), Decimal("1.5"))


@dataclass(frozen=True, order=True)
class Percent:
    """A share of a region's weights, exact to 4 decimal places of a percent; text is made by str(), "12.5".

    Compared and counted with as a whole number; float() is for drawing and for tables. Raises SpecError.
    """

    units: int
    """Ten-thousandths of a percent, 0 to 1,000,000."""

    def __post_init__(self) -> None:
        if not 0 <= self.units <= 100 * UNITS_PER_PERCENT:
            raise SpecError(f"k_percent: got {self}; allowed: 0 to 100")

    def __str__(self) -> str:
        whole, rest = divmod(self.units, UNITS_PER_PERCENT)
        return f"{whole}.{rest:04d}".rstrip("0").removesuffix(".")

    def __float__(self) -> float:
        return self.units / UNITS_PER_PERCENT

    def __bool__(self) -> bool:
        """False for 0%."""
        return self.units > 0

    @property
    def rest(self) -> Percent:
        """What is left to 100%."""
        return Percent(EVERYTHING.units - self.units)


UNITS_PER_PERCENT = 10_000
NOTHING, EVERYTHING = Percent(0), Percent(100 * UNITS_PER_PERCENT)
Number = Percent | Decimal | str | int | float


def percent(value: Number) -> Percent:
    """k, 0 to 100 with at most 4 decimal places; SpecError otherwise."""
    if isinstance(value, Percent):
        return value
    number = _decimal(value, "k_percent")
    if not 0 <= number <= 100:
        raise SpecError(f"k_percent: got {value}; allowed: 0 to 100")
    return Percent(int(number * UNITS_PER_PERCENT))


def rounded_percent(value: float) -> Percent:
    """The k nearest to a float, as widgets and tables have it. Raises SpecError beyond 0 to 100."""
    return percent(f"{value:.4f}")


def count_for(n_region: int, k_percent: Number) -> int:
    """floor(n_region * k_percent / 100), exact: the number of weights that k percent of a region are."""
    return n_region * percent(k_percent).units // (100 * UNITS_PER_PERCENT)


@dataclass(frozen=True)
class RestoreSpec:
    """Which weights go back to base. Give k_percent, or alpha for interpolation, or a block for the block
    strategies."""

    strategy: str = "top"
    """A name in STRATEGIES."""
    region: str = "transformer"
    """One of REGIONS."""
    layers: str | None = None
    """Layers from 0, as "0-3,5"; None: all."""
    k_percent: Percent | None = None
    """Share of the region's weights to restore, 0 to 100, at most 4 decimal places."""
    alpha: Decimal | None = None
    """Interpolation only, -0.5 to 1.5: 0 is base, 1 is tuned."""
    seed: int | None = None
    """Random strategies only; 0 when left out."""
    block: str | None = None
    """Block strategies only: a part of the region, as a region's name, layers from 0, or both: "mlp", "0-3",
    "mlp 0-3"."""
    plugin: str | None = None
    """Name and hash of the code that the strategy is, where a plugin registered it; found by itself when left out."""
    version: int | None = None
    """Of the strategy's algorithm; the present one when left out."""

    def __post_init__(self) -> None:
        self._check_strategy()
        Region(self.region, self.layers)
        object.__setattr__(self, "layers", layers_text(self.layers))
        self._check_amount()
        self._check_seed()

    @property
    def stored_strategy(self) -> str:
        """What table `restorations` holds: states of two versions of a plugin never stand under one name."""
        return stored_name(self.strategy, self.plugin)

    @property
    def is_tuned(self) -> bool:
        """Whether nothing is restored, so that the state is the tuned model itself."""
        return self.k_percent == NOTHING or self.alpha == 1

    def to_json(self) -> dict[str, object]:
        """A plain dict, the same for equal specs; numbers as text ("20", "0.5"); block and plugin where there is
        one, version where it is not 1."""
        fields: dict[str, object] = {
            "strategy": str(self.strategy),
            "region": self.region,
            "layers": self.layers,
            "k_percent": None if self.k_percent is None else str(self.k_percent),
            "alpha": None if self.alpha is None else f"{self.alpha:f}",
            "seed": self.seed,
        }
        more = {
            "block": self.block,
            "plugin": self.plugin,
            "version": None if self.version == 1 else self.version,
        }
        return fields | {name: value for name, value in more.items() if value is not None}

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> RestoreSpec:
        """The spec of a dict made by `to_json`; SpecError for unknown fields or values."""
        unknown = sorted(set(stored) - set(cls.__dataclass_fields__))
        if unknown:
            raise unknown_field("restore spec: ", unknown[0], cls.__dataclass_fields__)
        return cls(**{"version": 1, **stored})  # type: ignore[arg-type]

    def state_id(self, base_id: str, tuned_id: str) -> str:
        """16 hex digits that name the restored model: both models' ids, this spec and the algorithm's
        version."""
        parts = {"base": base_id, "tuned": tuned_id, "spec": self.to_json(), "version": ALGORITHM_VERSION}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _check_strategy(self) -> None:
        """The strategy is known, and the code behind it is the code that is asked for."""
        if self.plugin is not None and self.strategy not in STRATEGIES:
            raise PluginError(
                f"strategy {self.strategy} is code of the plugin {plugin_text(self.plugin)}, which is not loaded; "
                "give it by --plugin FILE"
            )
        found = STRATEGIES.get(self.strategy)
        here = found.plugin
        if self.plugin not in (None, here):
            loaded = "of sftknow itself" if here is None else f"of {plugin_text(here)}"
            raise PluginError(
                f"strategy {self.strategy} is needed from the plugin {plugin_text(self.plugin)}, but here it is "
                f"{loaded}; give the same file by --plugin FILE"
            )
        object.__setattr__(self, "strategy", str(self.strategy))
        object.__setattr__(self, "plugin", here)
        if self.version not in (None, found.version):
            raise SpecError(
                f"strategy {self.strategy}: got version {self.version}; this sftknow has {found.version}, which "
                "restores other weights"
            )
        object.__setattr__(self, "version", found.version)

    def _check_amount(self) -> None:
        wanted = STRATEGIES.get(self.strategy).takes
        others = [name for name in ("k_percent", "alpha", "block") if name != wanted]
        given = [name for name in others if getattr(self, name) is not None]
        if getattr(self, wanted) is None or given:
            raise SpecError(f"strategy {self.strategy} takes {wanted} and no {(given or others)[0]}")
        if self.alpha is not None:
            alpha = _decimal(self.alpha, "alpha")
            if not _ALPHA_RANGE[0] <= alpha <= _ALPHA_RANGE[1]:
                raise SpecError(f"alpha: got {alpha}; allowed: {_ALPHA_RANGE[0]} to {_ALPHA_RANGE[1]}")
            object.__setattr__(self, "alpha", alpha)
        elif self.k_percent is not None:
            object.__setattr__(self, "k_percent", percent(self.k_percent))
        elif self.block is not None:
            object.__setattr__(self, "block", block_text(self.block))

    def _check_seed(self) -> None:
        if STRATEGIES.get(self.strategy).seeded:
            seed = 0 if self.seed is None else self.seed
            if not isinstance(seed, int) or not 0 <= seed < 2**32:
                raise SpecError(f"seed: got {seed!r}; allowed: a whole number from 0 to {2**32 - 1}")
            object.__setattr__(self, "seed", seed)
        elif self.seed is not None:
            raise SpecError(f"strategy {self.strategy} takes no seed; leave it out")


NO_PROJECTION = (
    "projection taken back: not measured by the version that evaluated this; delete its run (sftknow runs rm) and "
    "evaluate again"
)


def stored_projection(row: Mapping[str, Any]) -> float | None:
    """Projection taken back, of a stored row about a restored model; None where nobody can say (NO_PROJECTION).

    Rows of older versions lack it. Where whole weights went back it is the energy taken back, exactly; where all
    weights moved (alpha) it is not known.
    """
    found, alpha = row.get("projection_taken_back"), row.get("alpha")
    if _missing(found) and _missing(alpha):
        found = row.get("energy_taken_back")
    return None if _missing(found) else float(found)  # type: ignore[arg-type]


def _missing(value: Any) -> bool:
    return value is None or value != value  # NaN in a frame's column, None in a manifest


def _decimal(value: Decimal | str | int | float, name: str) -> Decimal:
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value).normalize()
    except (InvalidOperation, TypeError, ValueError):
        raise SpecError(f"{name}: got {value!r}; allowed: a decimal number such as 20 or 0.5") from None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -4:
        raise SpecError(f"{name}: got {value}; allowed: at most 4 decimal places")
    return number + 0  # no negative zero
