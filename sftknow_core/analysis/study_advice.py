"""What to do, from the data: which level and size to train on, which k, and when restoring will not help.

Every piece of advice rests on one difference of accuracies on in-domain test questions; what is advised was chosen on
dev. It is silent where the 95% interval of that difference includes zero, where p adjusted within its family (the
alternatives to one choice) is 0.05 or more, and with fewer seeds than the plan asks for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sftknow_core.analysis.claims_strategy import pick
from sftknow_core.analysis.context import Study, gain, minus
from sftknow_core.analysis.grid import CHOSEN, TUNED, Cell, at_k
from sftknow_core.analysis.study_tables import LEVELS
from sftknow_core.analysis.verdict import Part, number
from sftknow_core.stats.paired import holm


@dataclass(frozen=True)
class Advice:
    """One thing to do, and why."""

    topic: str
    """level, size, k or limit."""
    text: str
    """A plain sentence."""
    evidence: str
    """The differences it rests on, with intervals, seeds and questions."""
    parts: tuple[Part, ...]


def advice(study: Study, region: str = "transformer") -> list[Advice]:
    """All advice the data give, maybe none. region: where the study restored, for the words."""
    cells = [c for c in study.grid("in").cells() if c.method == "full" and c.level in LEVELS]
    best = pick(study, cells, TUNED)
    found = []
    if best is not None:
        found += _which(study, best.cell, [c for c in cells if c.size == best.cell.size], "level")
        found += _which(study, best.cell, [c for c in cells if c.level == best.cell.level], "size")
    found += _restore(study, cells, region)
    return found + _limits(study, cells)


def certain(parts: Sequence[Part], study: Study) -> list[Part]:
    """The parts whose interval lies on one side of zero, with p adjusted within them, on enough seeds."""
    adjusted = holm([part.p for part in parts])
    return [
        part
        for part, p in zip(parts, adjusted, strict=True)
        if part.low is not None and part.high is not None and (part.low > 0 or part.high < 0)
        if p is not None and p < study.rule.alpha and part.seeds >= study.rule.min_seeds
    ]


def _which(study: Study, best: Cell, alternatives: Sequence[Cell], topic: str) -> list[Advice]:
    others = [cell for cell in alternatives if cell != best]
    parts = [study.part(_name(cell, topic), minus(best, cell)) for cell in others]
    beaten = [part for part in certain(parts, study) if (part.low or 0) > 0]
    if not beaten:
        return []
    where = f"with N = {best.size}" if topic == "level" else f"with facts of level {best.level}"
    rather = ", ".join(part.label for part in beaten)
    text = f"Train on {_name(best, topic)} rather than {rather} ({where}; chosen on dev)."
    return [Advice(topic, text, _evidence(beaten), tuple(beaten))]


def _name(cell: Cell, topic: str) -> str:
    return f"level {cell.level}" if topic == "level" else f"N = {cell.size}"


def _restore(study: Study, cells: Sequence[Cell], region: str) -> list[Advice]:
    """Cells in which the k chosen on dev gains, one family."""
    parts = [study.part(str(cell), gain(cell, CHOSEN)) for cell in cells]
    helped = [part for part in certain(parts, study) if (part.low or 0) > 0]
    harmed = [part for part in certain(parts, study) if (part.high or 0) < 0]
    names = {str(cell): cell for cell in cells}
    found = []
    if helped:
        where = "; ".join(f"{part.label}: k = {_ks(study, names[part.label])}" for part in helped)
        text = f"Restore the most changed weights of the region '{region}' ({where}; chosen on dev)."
        found.append(Advice("k", text, _evidence(helped), tuple(helped)))
    if harmed:
        where = "; ".join(part.label for part in harmed)
        text = f"Do not restore after training on {where}: even the k that dev chose lowers accuracy on test."
        found.append(Advice("limit", text, _evidence(harmed), tuple(harmed)))
    return found


def _ks(study: Study, cell: Cell) -> str:
    """The chosen k of a cell's seeds, the most frequent first: "20% (2 of 3 seeds)"."""
    chains = study.tables.chains
    own = chains.loc[(chains[["level", "size", "method"]] == list(cell)).all(axis=1), "chain"]
    states = study.tables.states
    chosen = states[states["chain"].isin(own) & states["chosen"].astype(bool)]
    counts = Counter(chosen["k_percent"].astype(float).tolist())
    n = sum(counts.values())
    k, count = min(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return f"{k:g}%" if count == n else f"{k:g}% ({count} of {n} seeds)"


def _limits(study: Study, cells: Sequence[Cell]) -> list[Advice]:
    """The smallest k from which on every larger k of the grid does harm, by cell."""
    found = []
    for cell in cells:
        parts = [study.part(f"{k:g}", gain(cell, at_k(k))) for k in study.ks()]
        harmful = {part.label for part in certain(parts, study) if (part.high or 0) < 0}
        tail: list[Part] = []
        for part in reversed([p for p in parts if p.effect is not None]):
            if part.label not in harmful:
                break
            tail.insert(0, part)
        if tail:
            text = f"After training on {cell}, do not restore {tail[0].label}% or more: it costs accuracy."
            found.append(Advice("limit", text, _evidence(tail[:1], "k = "), tuple(tail)))
    return found


def _evidence(parts: Sequence[Part], prefix: str = "") -> str:
    said = "; ".join(f"{prefix}{part.label}: {number(part, 'pp')}" for part in parts)
    return f"Difference of accuracies on in-domain test questions: {said}."
