"""Every claim of the paper (Ye et al. 2025, arXiv 2509.16596) as a statement the study's numbers decide.

`all_claims` gives one verdict a claim and domain, in the paper's order: sizes and levels (P), tokens (T), weights
(C, L), restoring (R, U), strategies and other tasks (S, G). Out-of-domain claims are a second family. Each part of a
claim is signed so that the claim says "positive".
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pandas as pd

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


def verdict_table(verdicts: list[Verdict]) -> pd.DataFrame:
    """One row a claim: all fields but the parts."""
    return pd.DataFrame([{k: v for k, v in asdict(verdict).items() if k != "parts"} for verdict in verdicts])


def part_table(verdicts: list[Verdict]) -> pd.DataFrame:
    """One row a part, with claim_id, domain and unit of its claim; what its label says already has no column."""
    rows = [
        {"claim_id": v.claim_id, "domain": v.domain, "unit": v.unit, **asdict(part)}
        for v in verdicts
        for part in v.parts
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
