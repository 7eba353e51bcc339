"""Every claim of the paper (Ye et al. 2025, arXiv 2509.16596) as a statement the study's numbers decide.

`all_claims` gives one verdict a claim and domain, in the paper's order: sizes and levels (P), tokens (T), weights
(C, L), restoring (R, U), strategies and other tasks (S, G). Out-of-domain claims are a second family. Each part of a
claim is signed so that the claim says "positive".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
from scipy.stats import false_discovery_control

from sftknow_core.analysis.claims_restore import restore_claims
from sftknow_core.analysis.claims_size import size_claims
from sftknow_core.analysis.claims_strategy import strategy_claims
from sftknow_core.analysis.claims_tokens import token_claims
from sftknow_core.analysis.claims_unneeded import unneeded_claims
from sftknow_core.analysis.claims_weights import weight_claims
from sftknow_core.analysis.context import Plan, Study
from sftknow_core.analysis.grid import Gap, StudyTables
from sftknow_core.analysis.verdict import Verdict

_GROUPS = (size_claims, token_claims, weight_claims, restore_claims, unneeded_claims, strategy_claims)


def all_claims(tables: StudyTables, plan: Plan | None = None) -> list[Verdict]:
    """All verdicts. Raises SpecError when chains of the study answered different questions."""
    study = Study(tables, plan)
    return [verdict for claims in _GROUPS for verdict in claims(study)]


def false_discovery(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], list[float | None]]:
    """(claim_id, domain) -> p of each of its parts, adjusted for all parts of all these verdicts that have a p.

    Benjamini and Hochberg (1995): of the parts with an adjusted p up to q, a share of q at most is expected to be
    false. It is beside the verdicts and decides none: they are adjusted within a claim, and together by nothing.
    """
    parts = [(at, part.p) for at, v in enumerate(verdicts) for part in v.parts]
    there = [p for _, p in parts if p is not None]
    adjusted = iter(false_discovery_control(there).tolist() if there else [])
    found: dict[tuple[str, str], list[float | None]] = {}
    for at, p in parts:
        of = found.setdefault((verdicts[at].claim_id, verdicts[at].domain), [])
        of.append(None if p is None else float(next(adjusted)))
    return found


def _deciding(verdict: Verdict) -> int | None:
    """Which part's number stands beside the verdict."""
    number = (verdict.effect, verdict.low, verdict.high, verdict.p)
    same = (at for at, p in enumerate(verdict.parts) if (p.effect, p.low, p.high, p.p) == number)
    return next(same, None) if verdict.effect is not None else None


def verdict_table(verdicts: Sequence[Verdict], among: Sequence[Verdict] | None = None) -> pd.DataFrame:
    """One row a claim: all fields but the parts, and p_fdr: `false_discovery` of the part that decides.

    among: all verdicts of the study, where `verdicts` are some of them.
    """
    adjusted = false_discovery(verdicts if among is None else among)
    rows = []
    for verdict in verdicts:
        at, of = _deciding(verdict), adjusted[verdict.claim_id, verdict.domain]
        row = {name: value for name, value in asdict(verdict).items() if name != "parts"}
        rows.append({**row, "p_fdr": None if at is None else of[at]})
    return pd.DataFrame(rows)


def part_table(verdicts: Sequence[Verdict], among: Sequence[Verdict] | None = None) -> pd.DataFrame:
    """One row a part, with claim_id, domain and unit of its claim; what its label says already has no column.

    p_fdr and among: as in `verdict_table`.
    """
    adjusted = false_discovery(verdicts if among is None else among)
    rows = [
        {"claim_id": v.claim_id, "domain": v.domain, "unit": v.unit, **asdict(part), "p_fdr": p}
        for v in verdicts
        for part, p in zip(v.parts, adjusted[v.claim_id, v.domain], strict=True)
    ]
    return pd.DataFrame(rows).drop(columns=["level", "size", "k", "why"], errors="ignore")


def repeated(tables: StudyTables, plan: Plan | None = None) -> pd.DataFrame:
    """claim_id, domain and the verdict as planned, with exact match, without borderline facts, and with levels of half
    of the templates.

    A verdict that does not survive the second rests on long answers, one that does not survive the third on facts
    that may belong to the neighbouring level, one that does not survive the fourth on how levels were estimated: every
    question is grouped by the even-numbered completion templates alone (`halves` compares them with the others).
    half_templates is NULL where there are no counts by template, see `halves`.
    """
    plan = plan or Plan()
    variants = {
        "verdict": plan,
        "exact_match": replace(plan, score="exact"),
        "without_borderline": replace(plan, without_borderline=True),
        "half_templates": replace(plan, half_templates=True),
    }
    lacks_halves = isinstance(halves(tables), Gap)
    columns: dict[str, pd.Series[Any]] = {}
    for name, variant in variants.items():
        if name == "without_borderline" and "borderline" not in tables.answers:
            continue
        if name == "half_templates" and lacks_halves:
            columns[name] = pd.Series(None, index=columns["verdict"].index, dtype="object")
            continue
        found = verdict_table(all_claims(tables, variant))
        columns[name] = found.set_index(["claim_id", "domain"])["verdict"].map(str)
    return pd.DataFrame(columns).reset_index()


def halves(tables: StudyTables) -> pd.DataFrame | Gap:
    """Test questions by their level from the even-numbered templates (level_even, rows) and from the odd-numbered ones
    (columns "0" to "4"); what lies off the diagonal changes its level with the templates. Gap: why there is none."""
    answers = tables.answers
    if "level_even" not in answers or "level_odd" not in answers:
        return Gap("these results were read without the counts by completion template")
    on_test = answers[answers["split"] == "test"].drop_duplicates("fact_id")
    both = on_test[["level_even", "level_odd"]].dropna().astype(int)
    if both.empty:
        return Gap("the base's counts by completion template are not in the cache")
    counts = pd.crosstab(both["level_even"], both["level_odd"])
    square = counts.reindex(index=range(5), columns=range(5), fill_value=0)
    return square.rename(columns=str).rename_axis(columns=None).reset_index()
