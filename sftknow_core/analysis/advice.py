"""What to do, from a study's data, and a user's four questions answered in plain sentences with what they rest on.

Advice: which level and size to train on, which k, and when restoring will not help. Every piece rests on one
difference of accuracies on in-domain test questions; what is advised was chosen on dev. It is given only where the
study's rule would call that difference SHOWN: interval clear of zero, at least the margin, p adjusted within its family
(the alternatives to one choice), and as many seeds and questions as the rule asks for. Where there is none, `no_advice`
names the reason.

Answers: a sentence claims no more than its verdict; where the data do not decide, it says UNDECIDED and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile

from sftknow_core.analysis.claims_size import HARDLY_KNOWN
from sftknow_core.analysis.claims_strategy import pick
from sftknow_core.analysis.context import Plan, Study, gain, minus
from sftknow_core.analysis.grid import CHOSEN, LEVELS, TUNED, Cell, at_k
from sftknow_core.analysis.verdict import Part, Status, Verdict, decide_parts, number
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
    cells = _trained(study)
    best = pick(study, cells, TUNED)
    found = []
    if best is not None:
        found += _which(study, best.cell, [c for c in cells if c.size == best.cell.size], "level")
        found += _which(study, best.cell, [c for c in cells if c.level == best.cell.level], "size")
    found += _restore(study, cells, region)
    return found + _limits(study, cells)


def certain(parts: Sequence[Part], study: Study) -> tuple[list[Part], list[Part]]:
    """(better, worse): parts that the study's rule shows to lie above zero, or below, with p adjusted within them."""
    return _shown(parts, parts, study), _shown(parts, [_turned(part) for part in parts], study)


def _shown(parts: Sequence[Part], signed: Sequence[Part], study: Study) -> list[Part]:
    """Those parts that are SHOWN with these signs."""
    adjusted = [replace(one, p=p) for one, p in zip(signed, holm([one.p for one in signed]), strict=True)]
    decided = [decide_parts([one], study.rule)[0] for one in adjusted]  # one by one: p is adjusted already
    return [part for part, one in zip(parts, decided, strict=True) if one.status is Status.SHOWN]


def _turned(part: Part) -> Part:
    """The same difference, the other way round."""
    effect, low, high = (None if end is None else -end for end in (part.effect, part.high, part.low))
    return replace(part, effect=effect, low=low, high=high)


def no_advice(study: Study) -> str:
    """Why there may be none, as the end of a sentence: too few questions or seeds, else what no difference reaches."""
    cells = _trained(study)
    gains = [study.part(str(cell), gain(cell, CHOSEN)) for cell in cells]
    pairs = [study.part(str(cell), minus(cell, other)) for cell, other in pairwise(cells)]
    measured = [part for part in decide_parts([*gains, *pairs], study.rule) if part.effect is not None]
    if not measured:
        return "no cell has answers on in-domain test questions"
    if all(part.reason for part in measured):
        return Counter(part.why or part.reason for part in measured).most_common(1)[0][0]
    rule = study.rule
    return (
        f"no level, N or k differs from the others by {rule.margin_pp:g} pp with a 95% interval clear of zero and "
        f"p < {rule.alpha:g}, on at least {rule.min_seeds} seeds and {rule.min_questions} questions in a level"
    )


def _trained(study: Study) -> list[Cell]:
    return [c for c in study.grid("in").cells() if c.method == "full" and c.level in LEVELS]


def _which(study: Study, best: Cell, alternatives: Sequence[Cell], topic: str) -> list[Advice]:
    others = [cell for cell in alternatives if cell != best]
    parts = [study.part(_name(cell, topic), minus(best, cell)) for cell in others]
    beaten, _ = certain(parts, study)
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
    parts = {cell: study.part(str(cell), gain(cell, CHOSEN)) for cell in cells}
    helped, harmed = certain(list(parts.values()), study)
    found = []
    if helped:
        where = "; ".join(f"{cell}: k = {_ks(study, cell)}" for cell in cells if parts[cell] in helped)
        text = f"Restore the most changed weights of the region '{region}' ({where}; chosen on dev)."
        found.append(Advice("k", text, _evidence(helped), tuple(helped)))
    if harmed:
        where = "; ".join(part.label for part in harmed)
        text = f"Do not restore after training on {where}: even the k that dev chose lowers accuracy on test."
        found.append(Advice("limit", text, _evidence(harmed), tuple(harmed)))
    return found


def _ks(study: Study, cell: Cell) -> str:
    """The chosen k of a cell's seeds, the most frequent first: "20% (2 of 3 seeds)"."""
    states = study.tables.states_of(cell)
    chosen = states[states["chosen"].astype(bool)]
    counts = Counter(chosen["k_percent"].astype(float).tolist())
    n = sum(counts.values())
    k, count = min(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return f"{k:g}%" if count == n else f"{k:g}% ({count} of {n} seeds)"


def _limits(study: Study, cells: Sequence[Cell]) -> list[Advice]:
    """The smallest k from which on every larger k of the grid does harm, by cell."""
    found = []
    for cell in cells:
        parts = [replace(study.part(f"{k:g}", gain(cell, at_k(k))), k=k) for k in study.ks()]
        _, harmful = certain(parts, study)
        measured = reversed([part for part in parts if part.effect is not None])
        tail = list(takewhile(lambda part: part in harmful, measured))[::-1]  # noqa: B023 - used up at once
        if tail:
            text = f"After training on {cell}, do not restore {tail[0].label}% or more: it costs accuracy."
            found.append(Advice("limit", text, _evidence(tail[:1], "k = "), tuple(tail)))
    return found


def _evidence(parts: Sequence[Part], prefix: str = "") -> str:
    said = "; ".join(f"{prefix}{part.label}: {number(part, 'pp')}" for part in parts)
    return f"Difference of accuracies on in-domain test questions: {said}."


@dataclass(frozen=True)
class Answer:
    """One question of a user, answered."""

    question: str
    short: str
    """The answer in some words, e.g. "Yes" or "UNDECIDED"."""
    text: str
    """The answer in a sentence or some."""
    evidence: tuple[str, ...]
    """What it rests on, one line a claim: verdict, effect, 95% interval, seeds, questions."""


_SAID: dict[str, dict[Status, str]] = {
    "P1b": {
        Status.SHOWN: "N = {large} leaves less accuracy than N = {middle}, whatever the train level",
        Status.NOT_SHOWN: "At one train level at least, going from N = {middle} to N = {large} costs less than "
        "{margin:g} pp",
        Status.CONTRADICTED: "At one train level at least, N = {large} leaves more accuracy than N = {middle}",
    },
    HARDLY_KNOWN: {
        Status.SHOWN: "At N = {large}, training on level 0 leaves less accuracy than training on any other level",
        Status.NOT_SHOWN: "At N = {large}, one other level at least leaves no {margin:g} pp more accuracy than level 0",
        Status.CONTRADICTED: "At N = {large}, one other level at least leaves less accuracy than level 0",
    },
    "P2b": {
        Status.SHOWN: "Going from N = {middle} to N = {large}, facts of level 0 cost more than those of any other",
        Status.NOT_SHOWN: "Going from N = {middle} to N = {large}, some other level costs as much as level 0, within "
        "{margin:g} pp",
        Status.CONTRADICTED: "Some other level costs more than level 0 when N grows from {middle} to {large}",
    },
    "P2a": {
        Status.SHOWN: "The level trained on matters more than the seed does",
        Status.NOT_SHOWN: "The level trained on matters no more than the seed does",
        Status.CONTRADICTED: "The level trained on matters less than the seed does",
    },
    "U1a": {
        Status.SHOWN: "Up to 90% of the summed relative change can be taken back at no cost, at some level",
        Status.NOT_SHOWN: "At no level can 90% of the summed relative change be taken back at no cost",
        Status.CONTRADICTED: "Taking back 90% of the summed relative change costs something at every level",
    },
    "U1b": {
        Status.SHOWN: "The same holds for 90% of the squared change (the update's energy)",
        Status.NOT_SHOWN: "At no level can 90% of the squared change be taken back at no cost",
        Status.CONTRADICTED: "Taking back 90% of the squared change costs something at every level",
    },
}
"""Claim -> what each decided verdict means to a user."""
_WHERE = {"P1b": "at", HARDLY_KNOWN: "against"}
"""Claims that have one part a train level -> how a level is joined to its verdict."""
_QUESTIONS = (
    ("Does more data hurt?", ("P1b",)),
    # that level 0 falls most says nothing about where it ends: it can fall most and still be the best
    ("Does it hurt to train on facts the base hardly knows?", (HARDLY_KNOWN, "P2b", "P2a")),
    ("How much of the update is unnecessary?", ("U1a", "U1b")),
)
_AMOUNT = "U1a"
"""Its question asks how much, not whether."""
_SHORT = {
    Status.SHOWN: "Yes",
    Status.NOT_SHOWN: "Not shown",
    Status.CONTRADICTED: "No, the opposite",
    Status.UNDECIDED: "UNDECIDED",
    Status.NOT_TESTED: "NOT TESTED",
}


def answers(
    verdicts: Sequence[Verdict], advice: Sequence[Advice], plan: Plan, reason: str = ""
) -> tuple[Answer, ...]:
    """The four questions of a user, in this order; a claim that is not in the list is left out.

    verdicts: of claims.all_claims, and of claims_size.hardly_known, which the paper does not claim. reason: of
    `no_advice`.
    """
    found = [_answer(question, claims, verdicts, plan) for question, claims in _QUESTIONS]
    return (*found, _what_to_do(advice, reason))


def _answer(question: str, claims: Sequence[str], verdicts: Sequence[Verdict], plan: Plan) -> Answer:
    used = [v for claim in claims for v in verdicts if v.claim_id == claim]
    first = [v for v in used if v.domain != "out"]
    sentences = [_said(v, plan) for v in first]
    if claims[0] == _AMOUNT:
        sentences += _tolerated(verdicts, plan)
    short = _short(first[0]) if first else _SHORT[Status.NOT_TESTED]
    return Answer(question, short, " ".join(sentences), tuple(evidence(v) for v in used))


def _short(verdict: Verdict) -> str:
    if verdict.claim_id == _AMOUNT and verdict.verdict in (Status.NOT_SHOWN, Status.CONTRADICTED):
        return "Less than 90% of it"
    if verdict.claim_id == _AMOUNT and verdict.verdict is Status.SHOWN:
        return "Up to 90% of it"
    return _at_some(verdict) or _SHORT[verdict.verdict]


def _at_some(verdict: Verdict) -> str:
    """ "At 4 of 5 levels: 0, 1, 2, 4" where only some levels show it, or its opposite; else ""."""
    where, parts = _WHERE.get(verdict.claim_id), verdict.parts
    if not where:
        return ""
    for status, lead in ((Status.SHOWN, ""), (Status.CONTRADICTED, "the opposite ")):
        there = [p.level or "" for p in parts if p.status is status]
        if 0 < len(there) < len(parts):
            words = f"{lead}{where} {len(there)} of {len(parts)} levels: {', '.join(there)}"
            return words[0].upper() + words[1:]
    return ""


def _said(verdict: Verdict, plan: Plan) -> str:
    """One decided verdict as a sentence, or why it is open."""
    if verdict.verdict in (Status.UNDECIDED, Status.NOT_TESTED):
        text = f"{verdict.title}: {verdict.verdict}, because {why(verdict)}"
    else:
        said = _SAID[verdict.claim_id][verdict.verdict]
        text = said.format(middle=plan.middle, large=plan.large, margin=plan.rule.margin_pp)
    return f"{text}.{_by_level(verdict)}"


def _by_level(verdict: Verdict) -> str:
    """ " SHOWN at level 0, 1; UNDECIDED at level 2." where the levels differ, else nothing."""
    where = _WHERE.get(verdict.claim_id)
    if not where or len({p.status for p in verdict.parts}) < 2:
        return ""
    found = {status: [p.level or "" for p in verdict.parts if p.status is status] for status in Status}
    there = {status: levels for status, levels in found.items() if levels}
    return " " + "; ".join(f"{status} {where} level {', '.join(of)}" for status, of in there.items()) + "."


def why(verdict: Verdict) -> str:
    """Why a verdict is UNDECIDED or NOT TESTED, as the end of a sentence."""
    unshown = [p for p in verdict.parts if p.status is not Status.SHOWN]
    # of a claim that is open because parts were not run, no part need be UNDECIDED itself
    not_run = [p for p in unshown if p.status is Status.NOT_TESTED]
    own = [p for p in unshown if p.status is verdict.verdict] or not_run or unshown
    reasons = list(dict.fromkeys(map(_because, own))) or ["it was not run"]
    return reasons[0] + (f" (and {len(reasons) - 1} more such parts)" if len(reasons) > 1 else "")


def _because(part: Part) -> str:
    """Why a part is no more than UNDECIDED, by the rule that decided it."""
    if part.reason:
        return part.why or part.reason
    if part.effect is None:
        return "it was not run"
    if part.low is None or part.low <= part.null:
        return "the interval holds both no effect and one that would matter"
    above = f"the interval lies above {part.null:g}"
    if part.effect < part.null + part.margin:
        return f"{above}, but the effect is smaller than one that would matter, and could be larger"
    return (
        f"{above}, but p, adjusted for all parts, is {part.p_holm:.2g}"
        if part.p_holm
        else f"{above} without p"
    )


def _tolerated(verdicts: Sequence[Verdict], plan: Plan) -> list[str]:
    """k* by level from R5, at the largest N: how much can be put back without harm."""
    found = next((v for v in verdicts if v.claim_id == "R5" and v.domain != "out"), None)
    parts = [p for p in found.parts if p.size == plan.large and p.effect is not None] if found else []
    if not parts:
        return []
    said = "; ".join(f"level {p.level} up to {p.effect:g}% (shown: {_sure(p)})" for p in parts)
    cost = f"at most {plan.rule.margin_pp:g} pp of accuracy (N = {plan.large})"
    return [f"The most weights that went back for {cost}: {said}."]


def _sure(part: Part) -> str:
    return f"up to {part.low:g}%" if part.low else "none"


def _what_to_do(advice: Sequence[Advice], reason: str) -> Answer:
    question = "What should I do?"
    if advice:
        first = [one.text for one in advice if one.topic != "limit"]
        limits = len(advice) - len(first)
        more = [f"{limits} limits on restoring are listed with the evidence."] if limits else []
        return Answer(question, "Advice", " ".join([*first, *more]), ())
    return Answer(question, "UNDECIDED", f"No advice: {reason or 'no difference is shown'}.", ())


def evidence(verdict: Verdict) -> str:
    """ "P1b, in-domain: UNDECIDED. level 0: +4.5 pp [-36.8, 45.8], 2 seeds, n = 100"."""
    where = {"in": ", in-domain", "out": ", out-of-domain"}.get(verdict.domain, "")
    head = f"{verdict.claim_id}{where}: {verdict.verdict}"
    number_of = (verdict.effect, verdict.low, verdict.high)
    shown = next((p for p in verdict.parts if (p.effect, p.low, p.high) == number_of), None)
    if shown is None or shown.effect is None:
        return f"{head}; {why(verdict)}."
    label = f"{shown.label}: " if shown.label else ""
    return f"{head}. {label}{number(shown, verdict.unit)}. The interval speaks for {shown.population or 'nothing yet'}."
