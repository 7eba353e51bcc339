"""The rule by which a study's claims are decided: margins, level of significance, what is enough, and which N is which.

It is fixed before a study's first cell runs and is part of the study's identity. It changes no cell: another rule over
the same cells is another analysis of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator

from sftknow_core.errors import SpecError
from sftknow_core.specs.base import Spec, between, one_of, wrong
from sftknow_core.update.spec import Percent

ENRICHMENT_KS = ("1", "20")
"""The k at which a study's tables say where the most changed weights sit."""
NAMED = ("small", "middle", "large")
"""The roles that a size of train set can have, in increasing order."""
_PAPER = {"small": 60, "middle": 240, "large": 1920}


def _above_zero(given: float) -> float:
    if not (math.isfinite(given) and given > 0):
        raise wrong("a number above 0")
    return given


def _percent_restored(given: float) -> float:
    if not 0 < given < 100:
        raise wrong("a number above 0 and below 100")
    return given


def _enrichment(given: float) -> float:
    if given not in map(float, ENRICHMENT_KS):
        raise wrong(" or ".join(ENRICHMENT_KS))
    return given


def _alpha(given: float) -> float:
    if not 0 < given <= 0.5:
        raise wrong("a number above 0 and at most 0.5")
    return given


_Margin = Annotated[float, AfterValidator(_above_zero)]


class Roles(Spec):
    """Which N and k the claims speak of where they say "small", "large" or "at a fixed k"."""

    what = "roles: "
    small: Annotated[int, between(1)] | None = None
    """Train-set size; None: the paper's 60 where the study has it, else its smallest."""
    middle: Annotated[int, between(1)] | None = None
    """None: the paper's 240 where the study has it, else one between the others."""
    large: Annotated[int, between(1)] | None = None
    """None: the paper's 1,920 where the study has it, else its largest."""
    fixed_k: Annotated[float, AfterValidator(_percent_restored)] = 20.0
    """The k of the claim about a k that is fixed instead of chosen, percent."""
    enrichment_k: Annotated[float, AfterValidator(_enrichment)] = 20.0
    """The k at which claims say where the most changed weights sit, percent: 1 or 20."""
    kl_measure: Annotated[str, one_of("shift", "aligned")] = "shift"
    """The KL that claims about tokens are about: of the first token as published, or of the answer's, aligned."""

    def among(self, sizes: Sequence[int | None]) -> Roles:
        """With every size named: those that are left open are filled from a study's sizes.

        A size that the study does not have stays the paper's: what needs it is then not tested.
        """
        numbers = sorted(size for size in sizes if size is not None)
        named = {name: size for name in NAMED if (size := getattr(self, name)) is not None}
        for name, size in _PAPER.items():
            if size in numbers and size not in named.values():
                named.setdefault(name, size)
        free = [size for size in numbers if size not in named.values()]
        if "large" not in named and free and free[-1] == numbers[-1]:
            named["large"] = free.pop()
        if "small" not in named and free and free[0] == numbers[0]:
            named["small"] = free.pop(0)
        between_them = [n for n in free if named.get("small", 0) < n < named.get("large", 0)]
        if "middle" not in named and between_them and "small" in named:
            named["middle"] = between_them[len(between_them) // 2]
        return self.but(**{**_PAPER, **named})


class Rule(Spec):
    """Thresholds, fixed before the run."""

    what = "rule: "
    margin_pp: _Margin = 1.0
    """Smallest accuracy difference that matters, percentage points."""
    margin_nats: _Margin = 0.01
    """Smallest difference of KL that matters."""
    margin_ratio: _Margin = 0.05
    """Of an enrichment above 1."""
    margin_correlation: _Margin = 0.1
    """Of a rank correlation."""
    min_seeds: Annotated[int, between(2)] = 3
    """With fewer nothing is decided."""
    min_questions: Annotated[int, between(2)] = 100
    """In the smallest level; with fewer nothing is decided."""
    alpha: Annotated[float, AfterValidator(_alpha)] = 0.05
    """p below this is significant; over which parts it is adjusted: analysis/verdict.py."""
    roles: Roles = Roles()

    def for_study(self, sizes: Sequence[int | None], ks: Sequence[Percent]) -> Rule:
        """The rule as it is fixed for a study: all roles named.

        Raises SpecError for a role of a size or k that the study does not have, and for sizes that do not increase.
        """
        roles = self.roles
        given = [(name, size) for name in NAMED if (size := getattr(roles, name)) is not None]
        for name, size in given:
            if size not in sizes:
                have = ", ".join(str(n) for n in sizes if n is not None) or "none with a number"
                raise SpecError(f"rule: roles: {name}: got {size}; allowed: sizes of the study, {have}")
        for (one, lower), (other, upper) in pairwise(given):
            if lower >= upper:
                raise SpecError(f"rule: roles: {one} {lower} and {other} {upper}; allowed: increasing sizes")
        if "fixed_k" in roles.model_fields_set and roles.fixed_k not in map(float, ks):
            have = ", ".join(map(str, ks))
            raise SpecError(f"rule: roles: fixed_k: got {roles.fixed_k:g}; allowed: k of the study, {have}")
        return self.but(roles=roles.among(sizes))

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Rule:
        """From what a study's run holds. Raises SpecError."""
        return cls(**{**plain, "roles": Roles(**plain.get("roles", {}))})
