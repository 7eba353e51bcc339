"""The rule by which a study's claims are decided: margins, level of significance, what is enough, and which N is which.

It is fixed before a study's first cell runs and is part of the study's identity. It changes no cell: another rule over
the same cells is another analysis of them.
"""

from __future__ import annotations

from sftknow_core.specs.base import Spec


class Rule(Spec):
    """Thresholds, fixed before the run."""

    what = "rule: "
    margin_pp: float = 1.0
    """Smallest accuracy difference that matters, percentage points."""
    margin_nats: float = 0.01
    margin_ratio: float = 0.05
    """Of an enrichment above 1."""
    margin_correlation: float = 0.1
    min_seeds: int = 3
    min_questions: int = 100
    """In the smallest level."""
    alpha: float = 0.05
