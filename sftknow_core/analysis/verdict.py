"""Effect, interval and adjusted p -> a verdict, by a rule that is fixed before the study runs.

    SHOWN         lower end > null, effect at least the margin above it, and p (Holm, within the family) < 0.05
    CONTRADICTED  upper end < null, and p (Holm) < 0.05
    NOT SHOWN     upper end < null + margin
    UNDECIDED     anything else; always with fewer than 3 seeds or fewer than 100 questions in a level
    NOT TESTED    not run

A claim of several parts needs all of them ("all"), or one of them ("any"); its family are its parts. The number shown
beside a verdict is that of a part with this verdict, so that the two never disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sftknow_core.analysis.grid import Gap
from sftknow_core.specs import Rule as Rule
from sftknow_core.stats.contrast import Contrast
from sftknow_core.stats.paired import holm
from sftknow_core.stats.seeds import SeedMean


class Status(StrEnum):
    """What the study says about a claim."""

    SHOWN = "SHOWN"
    NOT_SHOWN = "NOT SHOWN"
    CONTRADICTED = "CONTRADICTED"
    UNDECIDED = "UNDECIDED"
    NOT_TESTED = "NOT TESTED"


@dataclass(frozen=True)
class Part:
    """One number of a claim, in the claim's unit and signed so that the claim says it is positive."""

    label: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_questions: float | None = None
    """Sign-flip p: for these seeds, other questions."""
    n: int | None = None
    """Questions."""
    n_smallest: int | None = None
    """Questions of the smallest level; None where questions are not what varies."""
    seeds: int = 0
    margin: float = 0.0
    null: float = 0.0
    """-margin for "not worse by more than"."""
    population: str = ""
    p_holm: float | None = None
    status: Status = Status.NOT_TESTED
    reason: str = ""
    """Why nothing more than UNDECIDED, or why it was not tested."""
    level: str | None = None
    """Train level that it speaks of, where it is one of several."""
    size: str | None = None
    """N, likewise."""
    k: float | None = None
    """Percent restored, likewise."""
    why: str = ""
    """`reason` in the words of a sentence that goes on, where they differ."""


@dataclass(frozen=True)
class Verdict:
    """One claim, decided."""

    claim_id: str
    title: str
    verdict: Status
    effect: float | None
    """Of the part that decides, which has the claim's own verdict where any part has it: the weakest of these where
    all parts are needed, the strongest where one is enough."""
    low: float | None
    high: float | None
    unit: str
    n: int | None
    """Questions behind that part."""
    seeds: int
    p: float | None
    p_holm: float | None
    sentence: str
    table_ref: str
    """The study's table or figure that shows the numbers."""
    domain: str
    """in or out; "" where questions play no part."""
    population: str
    """What the interval speaks for."""
    parts: tuple[Part, ...]


def part_of(
    label: str,
    found: Contrast | SeedMean | Gap,
    margin: float,
    *,
    scale: float = 100.0,
    null: float = 0.0,
    n: int | None = None,
) -> Part:
    """A part from what a grid gave; scale: from the found unit to the claim's (100 for percentage points).

    margin and null are in the claim's unit; the found p must test null / scale.
    """
    if isinstance(found, Gap):
        return Part(label, reason=found.reason)
    if isinstance(found, Contrast):
        return Part(
            label, found.value * scale, found.low * scale, found.high * scale, found.p_value, found.p_questions,
            found.n_questions, found.n_smallest_level, found.n_seeds, margin, null, found.population,
        )  # fmt: skip
    ends = [None if end is None else end * scale for end in (found.low, found.high)]
    return Part(
        label, found.mean * scale, ends[0], ends[1], found.p_value, None, n, None, found.n, margin, null, "seeds",
        reason=found.note,
    )  # fmt: skip


def decide_parts(parts: Sequence[Part], rule: Rule, *, adjust: bool = True) -> tuple[Part, ...]:
    """Holm within these parts (unless adjust is False), then each part's status."""
    p_values = [part.p for part in parts]
    adjusted = holm(p_values) if adjust else p_values
    return tuple(_decided(replace(part, p_holm=p), rule) for part, p in zip(parts, adjusted, strict=True))


def conclude(
    claim_id: str,
    title: str,
    parts: Sequence[Part],
    rule: Rule,
    *,
    unit: str = "pp",
    domain: str = "",
    table_ref: str = "",
    needs: str = "all",
    note: str = "",
    adjust: bool = True,
    decided: bool = False,
) -> Verdict:
    """The verdict of a claim; needs: "all" or "any" of its parts. note: further words for the sentence.
    adjust: Holm over the parts. decided: the parts come with their status, as parts of a larger family.
    """
    judged = tuple(parts) if decided else decide_parts(parts, rule, adjust=adjust)
    status = _all_of(judged) if needs == "all" else _any_of(judged)
    shown = _deciding(judged, status, needs)
    return Verdict(
        claim_id, title, status, shown.effect, shown.low, shown.high, unit, shown.n, shown.seeds, shown.p,
        shown.p_holm, _sentence(status, judged, shown, unit, needs, note), table_ref, domain, shown.population, judged,
    )  # fmt: skip


def _decided(part: Part, rule: Rule) -> Part:
    if part.effect is None:
        return part
    if part.seeds < rule.min_seeds:
        reason = f"{part.seeds} of at least {rule.min_seeds} seeds"
        why = f"only {part.seeds} of the {rule.min_seeds} seeds that are needed have run"
        return replace(part, status=Status.UNDECIDED, reason=reason, why=why)
    if part.n_smallest is not None and part.n_smallest < rule.min_questions:
        asked = f"{part.n_smallest} questions in the smallest level or set"
        reason = f"{asked}, of at least {rule.min_questions}"
        why = f"only {asked} were asked, and {rule.min_questions} are needed"
        return replace(part, status=Status.UNDECIDED, reason=reason, why=why)
    if part.low is None or part.high is None:
        return replace(part, status=Status.UNDECIDED)
    sure = part.p_holm is not None and part.p_holm < rule.alpha
    status = Status.UNDECIDED
    if part.low > part.null and part.effect >= part.null + part.margin and sure:
        status = Status.SHOWN
    elif part.high < part.null and sure:
        status = Status.CONTRADICTED
    elif part.high < part.null + part.margin:
        status = Status.NOT_SHOWN
    return replace(part, status=status)


def _all_of(parts: Sequence[Part]) -> Status:
    found = {part.status for part in parts}
    if found <= {Status.NOT_TESTED}:
        return Status.NOT_TESTED
    for status in (Status.CONTRADICTED, Status.NOT_SHOWN):
        if status in found:
            return status
    return Status.SHOWN if found == {Status.SHOWN} else Status.UNDECIDED


def _any_of(parts: Sequence[Part]) -> Status:
    found = {part.status for part in parts}
    if found <= {Status.NOT_TESTED}:
        return Status.NOT_TESTED
    if Status.SHOWN in found:
        return Status.SHOWN
    if found <= {Status.CONTRADICTED}:
        return Status.CONTRADICTED
    return Status.NOT_SHOWN if found <= {Status.CONTRADICTED, Status.NOT_SHOWN} else Status.UNDECIDED


def _deciding(parts: Sequence[Part], status: Status, needs: str) -> Part:
    measured = [part for part in parts if part.effect is not None]
    if not measured:
        return parts[0] if parts else Part("", reason="nothing to compare")

    def strength(part: Part) -> float:
        assert part.effect is not None
        return (part.low if part.low is not None else part.effect) - part.null

    # a wide interval can reach lower than the one that decided: its number would belie the verdict
    deciding = [part for part in measured if part.status is status] or measured
    return min(deciding, key=strength) if needs == "all" else max(deciding, key=strength)


def _sentence(status: Status, parts: Sequence[Part], shown: Part, unit: str, needs: str, note: str) -> str:
    said = {
        Status.SHOWN: "The data show it",
        Status.NOT_SHOWN: f"The data do not show it: {_too_small(parts, shown, unit, needs)}",
        Status.CONTRADICTED: f"The data show the opposite{_of_parts(parts, shown, unit, needs)}",
        Status.UNDECIDED: "The data do not decide it",
        Status.NOT_TESTED: f"Not tested: {shown.reason or 'not run'}",
    }[status]
    words = [said]
    if len(parts) > 1 and status is not Status.NOT_TESTED:
        words.append(f"{sum(p.status is Status.SHOWN for p in parts)} of {len(parts)} parts are shown")
    if shown.effect is not None:
        words.append(f"{shown.label}: {number(shown, unit)}")
    reasons = dict.fromkeys(p.reason for p in parts if p.reason and p.status is not Status.SHOWN)
    if status is Status.UNDECIDED and reasons:
        words.append(next(iter(reasons)))
    return ". ".join(w.strip(". ") for w in [*words, note] if w) + "."


def _too_small(parts: Sequence[Part], shown: Part, unit: str, needs: str) -> str:
    """What NOT SHOWN means for these parts."""
    if (
        shown.null < 0
    ):  # "not worse by more than": the interval lies beyond the limit, and only p kept it from more
        whose = {"all": "at least one part", "any": "every part"}[needs] if len(parts) > 1 else "the effect"
        return f"{whose} lies below {_limit(shown, unit)}, though not with p adjusted for all parts"
    if len(parts) == 1:
        return "any effect as claimed is smaller than the margin"
    return f"{'at least one' if needs == 'all' else 'every'} part is smaller than the margin"


def _of_parts(parts: Sequence[Part], shown: Part, unit: str, needs: str) -> str:
    """Which parts CONTRADICTED speaks of, and of which limit."""
    whose = f" for {'at least one' if needs == 'all' else 'every'} part" if len(parts) > 1 else ""
    return whose + (f": below {_limit(shown, unit)}" if shown.null < 0 else "")


def _limit(part: Part, unit: str) -> str:
    return f"{part.null:g} {unit}, the most that is tolerated"


def number(part: Part, unit: str) -> str:
    """ "+3.2 pp [1.0, 5.4], 3 seeds, n = 500"."""
    digits = 1 if unit in ("pp", "% of the region") else 3
    text = f"{part.effect:+.{digits}f} {unit}"
    text += f" [{part.low:.{digits}f}, {part.high:.{digits}f}]" if part.low is not None else " (no interval)"
    text += f", {part.seeds} seed" + ("s" if part.seeds != 1 else "")
    return text + (f", n = {part.n:,}" if part.n is not None else "")
