"""What restoring did to a model: counts, and how much of the update it took back."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from sftknow_core.update.apply import SpanResult
from sftknow_core.update.pair import Pair
from sftknow_core.update.select import Plan
from sftknow_core.update.spec import EVERYTHING, Percent, RestoreSpec


@dataclass(frozen=True)
class TensorCount:
    """What happened to one tensor of the region."""

    name: str
    layer: int | None
    kind: str
    module: str
    numel: int
    n_restored: int
    """Weights the plan takes; for interpolation those that moved."""
    n_touched: int
    """Weights whose value is no longer tuned's."""


@dataclass(frozen=True)
class Rounding:
    """What writing in a narrower dtype changed."""

    n: int
    """Weights that the dtype does not hold exactly."""
    largest: float
    """Largest |written - exact|."""


@dataclass(frozen=True)
class RestoreReport:
    """What a plan does to a model, counted in the pass that applies it."""

    spec: RestoreSpec
    n_model: int
    """Weights in the model, tied ones once."""
    n_region: int
    n_changed: int
    """Weights of the region whose bits differ between base and tuned."""
    n_restored: int | None
    """floor(n_region * k / 100), or the weights of a block; None for interpolation."""
    n_touched: int
    """Weights whose value is no longer tuned's: the restored ones that had changed."""
    sum_r: float
    """Sum of the relative change over the region."""
    sum_d2: float
    """||s - p||^2 over the region."""
    sum_out_d2: float
    """||out - p||^2 over the region."""
    sum_out_d: float
    """<out - p, s - p> over the region; sum_out_d2 where each weight is wholly base's or tuned's."""
    sum_r_restored: float | None
    """Sum of the relative change over the restored weights; None for interpolation."""
    threshold: float | None
    """Score of the last weight taken; None where no score ranks."""
    ties_taken: int
    """Weights taken among those that score exactly the threshold."""
    no_more_changes_from_k: Percent | None
    """k in percent from which on more k restores nothing more; None where that is only at the very end."""
    tensors: tuple[TensorCount, ...]
    """The region's tensors in canonical order."""
    rounding: Rounding | None = None
    """Of the written model; None where every weight is exact by its dtype, or nothing was written."""

    @property
    def k_percent(self) -> Percent | None:
        """The k asked for, or the share of the region that a block is; None for interpolation."""
        if self.spec.k_percent is None and self.n_restored is not None:
            return Percent(round(Fraction(self.n_restored * EVERYTHING.units, self.n_region)))
        return self.spec.k_percent

    @property
    def k_of_changed_percent(self) -> float | None:
        """Touched weights as a percentage of the region's changed ones; None when nothing changed."""
        return 100 * self.n_touched / self.n_changed if self.n_changed else None

    @property
    def energy_taken_back(self) -> float | None:
        """1 - ||out - p||^2 / ||s - p||^2 on the region: 0 is tuned, 1 is base; None when nothing changed.

        Negative where interpolation goes beyond tuned.
        """
        return 1 - self.sum_out_d2 / self.sum_d2 if self.sum_d2 else None

    @property
    def projection_taken_back(self) -> float | None:
        """1 - <out - p, s - p> / ||s - p||^2 on the region: 0 is tuned, 1 is base; None when nothing changed.

        How far the model went back along the update. Putting whole weights back, it is `energy_taken_back`;
        interpolating, it is 1 - alpha where that is 1 - alpha^2.
        """
        return 1 - self.sum_out_d / self.sum_d2 if self.sum_d2 else None

    @property
    def r_share_restored(self) -> float | None:
        """Restored weights' share of the sum of r, 0 to 1; None for interpolation and when nothing
        changed."""
        if self.sum_r_restored is None or not self.sum_r:
            return None
        return self.sum_r_restored / self.sum_r


class Tally:
    """The counts and sums of a report, taken span by span in canonical order."""

    def __init__(self, pair: Pair, plan: Plan) -> None:
        self.pair = pair
        self.plan = plan
        self.n_changed = 0
        self.sum_r = self.sum_d2 = self.sum_r_restored = self.sum_out_d2 = self.sum_out_d = 0.0
        self.counts = {meta.name: [0, 0] for meta in plan.metas}

    def add(self, name: str, result: SpanResult) -> None:
        """Take in one span of a tensor of the region."""
        self.n_changed += result.n_changed
        self.sum_r += result.sum_r
        self.sum_d2 += result.sum_d2
        self.sum_r_restored += result.sum_r_restored
        self.sum_out_d2 += result.sum_out_d2
        # out - p is 0 or d where whole weights go back, so that the two sums are one
        self.sum_out_d += result.sum_out_d2 if self.plan.spec.alpha is None else result.sum_out_d
        self.counts[name][0] += result.n_restored
        self.counts[name][1] += result.n_touched

    def report(self) -> RestoreReport:
        """The finished report."""
        plan = self.plan
        tensors = tuple(
            TensorCount(m.name, m.layer, m.kind, m.module, m.numel, *self.counts[m.name]) for m in plan.metas
        )
        return RestoreReport(
            spec=plan.spec,
            n_model=self.pair.n_weights,
            n_region=plan.n_region,
            n_changed=self.n_changed,
            n_restored=plan.n_restored,
            n_touched=sum(t.n_touched for t in tensors),
            sum_r=self.sum_r,
            sum_d2=self.sum_d2,
            sum_out_d2=self.sum_out_d2,
            sum_out_d=self.sum_out_d,
            sum_r_restored=None if plan.spec.alpha is not None else self.sum_r_restored,
            threshold=plan.threshold,
            ties_taken=plan.cut.ties if plan.cut is not None else 0,
            no_more_changes_from_k=plan.no_more_changes_from_k,
            tensors=tensors,
        )
