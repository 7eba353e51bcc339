"""Effect, interval and p -> a verdict, by a rule that is fixed before the study runs.

    SHOWN         lower end > null, effect at least the margin above it, and p < alpha
    CONTRADICTED  upper end < null, and p < alpha
    NOT SHOWN     upper end < null + margin, and p of "the effect is null + margin" < alpha
    UNDECIDED     anything else; always with fewer than 3 seeds or fewer than 100 questions in a level
    NOT TESTED    not run

SHOWN says "above the null, and estimated at the margin or more"; "at least the margin" would need the lower end there,
and the sentence says so where it holds.

A claim of several parts needs all of them ("all"), or one of them ("any"). Where every part has to agree, each is
tested at alpha (an intersection-union test: Berger, Technometrics 24, 1982); where one part is enough, it has had as
many chances as there are parts, and p is adjusted over them (Holm). So for "all" SHOWN is not adjusted, and NOT SHOWN
and CONTRADICTED, for which one part is enough, are; for "any" it is the other way round. The number shown beside a
verdict is that of a part with this verdict, so that the two never disagree.
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
    """Two-sided, of "the effect is `null`"."""
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
    p_margin: float | None = None
    """Two-sided, of "the effect is `null` + `margin`"."""
    p_holm: float | None = None
    """`p` as it decided: adjusted over the claim's parts where one part on this side of the null is enough."""
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
    at_margin = found.p_at((null + margin) / scale)
    if isinstance(found, Contrast):
        return Part(
            label, found.value * scale, found.low * scale, found.high * scale, found.p_value, found.p_questions,
            found.n_questions, found.n_smallest_level, found.n_seeds, margin, null, found.population, at_margin,
        )  # fmt: skip
    ends = [None if end is None else end * scale for end in (found.low, found.high)]
    return Part(
        label, found.mean * scale, ends[0], ends[1], found.p_value, None, n, None, found.n, margin, null, "seeds",
        at_margin, reason=found.note,
    )  # fmt: skip


def decide_parts(parts: Sequence[Part], rule: Rule, *, needs: str = "all") -> tuple[Part, ...]:
    """Each part's p_holm and status, as parts of a claim that needs "all" or "any" of them."""
    above = [part.effect is not None and part.effect > part.null for part in parts]
    enough = [side is (needs == "any") for side in above]  # one part on this side is enough
    adjusted = _holm([part.p for part in parts], enough)
    small = _holm([part.p_margin for part in parts], [_below_margin(part) for part in parts])
    decided = []
    for part, p, alone, p_small in zip(parts, adjusted, enough, small, strict=True):
        p = p if alone else part.p
        p_small = p_small if needs == "all" else part.p_margin
        # a single part has no family: without this p its interval says it all
        too_small = len(parts) == 1 if p_small is None else p_small < rule.alpha
        decided.append(_decided(replace(part, p_holm=p), rule, too_small))
    return tuple(decided)


def _below_margin(part: Part) -> bool:
    return part.effect is not None and part.effect < part.null + part.margin


def _holm(p_values: Sequence[float | None], counts: Sequence[bool]) -> list[float | None]:
    """Holm over all of them; those on the other side can't decide, but are of the family."""
    return holm([p if own or p is None else 1.0 for p, own in zip(p_values, counts, strict=True)])


def weakest(label: str, parts: Sequence[Part], rule: Rule) -> Part:
    """A conjunction as one part of a larger claim: the numbers of the part that decides it, and its p values.

    p is the largest where all are shown, and adjusted over these parts where one is enough. A conjunction with parts
    that were not measured is at most UNDECIDED: its p is 1.
    """
    judged = decide_parts(parts, rule, needs="all")
    status = _all_of(judged)
    shown = _deciding(judged, status, "all")
    if status is Status.SHOWN:
        p_values = [part.p for part in judged if part.p is not None]
        return replace(shown, label=f"{label}, {shown.label}", p=max(p_values), p_margin=1.0)
    reason, why = shown.reason, shown.why
    if status is Status.UNDECIDED and not reason:
        # the weakest part may be open for no reason but its interval, while another is for want of questions
        reason, why = next(
            ((part.reason, part.why) for part in judged if part.status is Status.UNDECIDED and part.reason),
            ("", ""),
        )
    p, p_margin = shown.p_holm, (shown.p_margin if status is Status.NOT_SHOWN else shown.p_holm)
    if missing := ", ".join(part.label for part in judged if part.status is Status.NOT_TESTED):
        reason, why = f"not measured: {missing}", ""
    if status in (Status.UNDECIDED, Status.NOT_TESTED):
        p = p_margin = None if shown.p is None else 1.0
    return replace(shown, label=f"{label}, {shown.label}", p=p, p_margin=p_margin, reason=reason, why=why)


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
) -> Verdict:
    """The verdict of a claim; needs: "all" or "any" of its parts. note: further words for the sentence."""
    judged = decide_parts(parts, rule, needs=needs)
    status = _all_of(judged) if needs == "all" else _any_of(judged)
    shown = _deciding(judged, status, needs)
    return Verdict(
        claim_id, title, status, shown.effect, shown.low, shown.high, unit, shown.n, shown.seeds, shown.p,
        shown.p_holm, _sentence(status, judged, shown, unit, needs, note), table_ref, domain, shown.population, judged,
    )  # fmt: skip


def _decided(part: Part, rule: Rule, too_small: bool) -> Part:
    """too_small: whether p, over the claim's parts, leaves out an effect of the margin."""
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
    elif part.high < part.null + part.margin and too_small:
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
        Status.SHOWN: f"The data show it{_at_least(parts, needs)}",
        Status.NOT_SHOWN: f"The data do not show it: {_too_small(parts, needs)}",
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


def _at_least(parts: Sequence[Part], needs: str) -> str:
    """What SHOWN says of the margin: that the effect is above it, where its interval is."""
    sure = [part.low is not None and part.low >= part.null + part.margin for part in parts if part.margin]
    if not sure:
        return ""
    return ", at least the margin" if (all(sure) if needs == "all" else any(sure)) else ""


def _too_small(parts: Sequence[Part], needs: str) -> str:
    """What NOT SHOWN means for these parts."""
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
