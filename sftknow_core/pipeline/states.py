"""The states of a model that are asked: base, tuned, and restored ones that exist only in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from math import isnan, sqrt
from typing import TYPE_CHECKING, Any

from sftknow_core.pipeline.delta import ModelPair
from sftknow_core.pipeline.workspace import ModelHandle, Workspace
from sftknow_core.results.cube import open_cube
from sftknow_core.results.cube_selection import k_at_energy, selection
from sftknow_core.specs import check_comparable, with_masks
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import EVERYTHING, NOTHING, Percent, RestoreSpec, rounded_percent
from sftknow_core.update.strategies import STRATEGIES

if TYPE_CHECKING:
    from sftknow_core.model.io.load import LanguageModel
    from sftknow_core.update.restore import RestoreReport
    from sftknow_core.update.select import Plan


@dataclass(frozen=True)
class State:
    """One thing to ask, with its identity."""

    state_id: str
    """A model_id, or the hash of (base, tuned, selection)."""
    kind: str
    """base, tuned, restored or hybrid."""
    base: ModelHandle
    tuned: ModelHandle | None = None
    spec: RestoreSpec | None = None
    """What is restored; None for whole models."""

    @property
    def label(self) -> str:
        """For people."""
        if self.spec is None:
            return self.kind
        if self.spec.block is not None:
            return f"restored {'all but ' if self.spec.strategy == 'all-but-block' else ''}{self.spec.block}"
        amount = (
            f"{self.spec.k_percent}%" if self.spec.k_percent is not None else f"alpha {self.spec.alpha:f}"
        )
        return f"restored {amount}" if self.kind == "restored" else f"hybrid ({amount})"


def base_state(base: ModelHandle) -> State:
    """The model before fine-tuning."""
    return State(base.model_id, "base", base)


def tuned_state(base: ModelHandle, tuned: ModelHandle) -> State:
    """The model after fine-tuning."""
    return State(tuned.model_id, "tuned", base, tuned)


def restored_state(base: ModelHandle, tuned: ModelHandle, spec: RestoreSpec) -> State:
    """The model with part of its update taken back."""
    kind = "hybrid" if spec.k_percent == EVERYTHING else "restored"
    return State(spec.state_id(base.model_id, tuned.model_id), kind, base, tuned, spec)


@dataclass
class StateLoader:
    """Brings the states of one pair into memory: base and tuned as loaded, restored ones in a working copy.

    Memory: base and tuned are kept by the workspace; the working copy is a third model, made when first needed.
    """

    ws: Workspace
    base: ModelHandle
    pair: ModelPair | None = None
    """None: only the base is asked."""
    upcoming: Sequence[RestoreSpec] = ()
    """What will be asked for too: their selections are refined in one pass with the first."""
    reports: dict[str, RestoreReport] = field(default_factory=dict)
    """state_id -> what restoring did, for the restored states loaded so far."""
    _working: LanguageModel | None = None
    _holds: str | None = None
    """The state_id that the working copy is now."""

    def load(self, state: State) -> LanguageModel:
        """The state's model, ready to be asked; a restored one until the next restored one is loaded."""
        if state.spec is None:
            return self.ws.load(state.tuned or self.base)
        from sftknow_core.update.restore import restore_into

        assert self.pair is not None
        working = self._working_copy()
        if self._holds != state.state_id:
            self._holds = None  # neither the one nor the other while it is written
            plan = self._plan(state.spec)
            self.reports[state.state_id] = restore_into(working.model, self.pair.weights, plan)
            self._holds = state.state_id
        return working

    def report(self, state: State) -> RestoreReport | None:
        """What restoring the state does, without a model in memory; None for whole models."""
        if state.spec is None or self.pair is None:
            return None
        if state.state_id not in self.reports:
            from sftknow_core.update.restore import survey

            self.reports[state.state_id] = survey(self.pair.weights, self._plan(state.spec))
        return self.reports[state.state_id]

    def _plan(self, spec: RestoreSpec) -> Plan:
        assert self.pair is not None
        return self.pair.plans([spec, *self.upcoming])[0]

    def _working_copy(self) -> LanguageModel:
        """A model of the pair's architecture whose weights may be overwritten."""
        if self._working is None:
            assert self.pair is not None
            tuned = self.pair.tuned
            # an adapter's sum with its base is float32: rounded to the base's dtype it would be another model
            is_adapter = tuned.base is not None
            self._working = (
                self.ws.load_fresh(self.base, "float32") if is_adapter else self.ws.load_fresh(tuned)
            )
        return self._working


def restoration_row(state: State, report: RestoreReport) -> dict[str, Any]:
    """One row of table `restorations`."""
    assert state.spec is not None and state.tuned is not None
    spec = state.spec
    return {
        "base_id": state.base.model_id,
        "tuned_id": state.tuned.model_id,
        "state_id": state.state_id,
        "strategy": spec.stored_strategy,
        "params": {"layers": spec.layers, "seed": spec.seed, **({"block": spec.block} if spec.block else {})},
        "region": spec.region,
        "k_percent": None if report.k_percent is None else float(report.k_percent),
        "alpha": None if spec.alpha is None else float(spec.alpha),
        "n_region": report.n_region,
        "n_restored": report.n_touched if report.n_restored is None else report.n_restored,
        "share_of_r": report.r_share_restored,
        "energy_taken_back": report.energy_taken_back,
        "projection_taken_back": report.projection_taken_back,
        "k_of_changed_percent": report.k_of_changed_percent,
    }


def state_row(state: State) -> dict[str, Any]:
    """One row of table `states`."""
    return {
        "state_id": state.state_id,
        "kind": state.kind,
        "base_id": state.base.model_id,
        "tuned_id": state.tuned.model_id if state.tuned else None,
        "spec": state.spec.to_json() if state.spec else None,
    }


# Top k% of a pair -> other restorations that take back the same part of its update: what restoring is compared with.
#
# Equal k of two strategies is not equal damage. Two measures of how much of the update is gone:
#
#     energy       1 - ||out - p||^2 / ||s - p||^2
#     projection   1 - <out - p, s - p> / ||s - p||^2: how far back along the update
#
# Putting whole weights back, both are the share of ||s - p||^2 that these weights hold: e. An interpolation of equal
# energy goes less far back, 1 - sqrt(1 - e) < e, and so keeps more of what was learned; at equal projection the two
# differ by nothing but which weights. By strategy:
#
#     interpolation                    alpha = sqrt(1 - e) for energy, 1 - e for projection: exact
#     random                           k = e in percent, its expectation; once a mask
#     top, bottom, largest, smallest   the k whose weights hold e, from the delta cube
#
# What a restoration then took back indeed stands in its row of table `restorations`.


class Part(StrEnum):
    """Of what two restorations take back equal parts."""

    ENERGY = "energy"
    PROJECTION = "projection"


_MEASURED = {found.name: found for found in STRATEGIES.entries if found.measured}
"""Strategies that rank by a score of the cube."""


def at_equal_part(
    cache: Cache,
    delta_id: str,
    specs: Sequence[RestoreSpec],
    strategies: Sequence[str],
    part: Part = Part.PROJECTION,
    masks: Sequence[int] = (0,),
) -> dict[RestoreSpec, Percent]:
    """What takes back as much as each of `specs` does -> the k of that one, which it stands beside.

    Empty where nothing changed. Raises SpecError for a strategy that cannot be set to a part of the update.

    Args:
        cache: where the delta lies.
        delta_id: the pair's comparison.
        specs: k of one ranked strategy, region and layers; what another strategy cannot reach, and the hybrid, where
            all of the region goes back, have no counterpart.
        strategies: what is set to the same part.
        part: of energy or of projection; only interpolations differ.
        masks: seeds of random draws, each a restoration of its own.
    """
    check_comparable(strategies, f"equal_{part}")
    asked = [
        spec for spec in specs if spec.strategy in _MEASURED and spec.k_percent not in (None, EVERYTHING)
    ]
    if not asked or not strategies:
        return {}
    first = asked[0]
    with open_cube(cache, delta_id) as con:
        ks = [spec.k_percent for spec in asked if spec.k_percent is not None]
        found = selection(con, ks, region=first.region, layers=first.layers, **_ranking(first.strategy))[
            "energy_taken_back"
        ]
        energies = [float(energy) for energy in found]
        if any(isnan(energy) for energy in energies):
            return {}
        beside: dict[RestoreSpec, Percent] = {}
        for strategy in strategies:
            if strategy == first.strategy:
                continue
            if strategy in _MEASURED:
                amounts: Sequence[Percent | Decimal | None] = k_at_energy(
                    con, energies, region=first.region, layers=first.layers, **_ranking(strategy)
                )
            else:
                amounts = _amounts(strategy, energies, part)
            for k, amount in zip(ks, amounts, strict=True):
                if amount is not None and (spec := _spec(first, strategy, amount)) is not None:
                    beside |= {one: beside.get(one, k) for one in with_masks(spec, masks)}
    return beside


def _ranking(strategy: str) -> dict[str, str]:
    """What a strategy ranks by, and which end goes back first."""
    found = _MEASURED[strategy]
    return {"score": str(found.measured), "direction": found.direction}


def _amounts(strategy: str, energies: Sequence[float], part: Part) -> Sequence[Percent | Decimal | None]:
    """alpha of an interpolation, or k of random weights."""
    if strategy == "interpolation":
        left = [max(0.0, 1 - energy) for energy in energies]
        return [Decimal(f"{one if part is Part.PROJECTION else sqrt(one):.4f}") for one in left]
    return [rounded_percent(100 * energy) for energy in energies]


def _spec(like: RestoreSpec, strategy: str, amount: Decimal | Percent) -> RestoreSpec | None:
    """The restoration; None where it would be the tuned model or take all back."""
    if isinstance(amount, Percent):
        if amount in (NOTHING, EVERYTHING):
            return None
        return replace(like, strategy=strategy, version=None, k_percent=amount)
    if amount in (0, 1):
        return None
    return replace(like, strategy=strategy, version=None, k_percent=None, alpha=amount)
