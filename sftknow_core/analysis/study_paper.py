"""The paper's tables and figures for the user's study, in its order: eleven, each with the paper's numbers beside ours.

    Study  --study_paper_accuracy, study_paper_weights-->  PaperTable

What the study did not run is said, with how to get it; the paper's numbers are shown all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.paper_accuracy import figure2, figure4, figure5, table2, table4, table6, table7
from sftknow_core.analysis.paper_table import PaperTable
from sftknow_core.analysis.paper_weights import table3, table9, table10, table11

TABLES = {
    "figure2": figure2, "table2": table2, "figure4": figure4, "figure5": figure5, "table3": table3, "table4": table4,
    "table6": table6, "table7": table7, "table9": table9, "table10": table10, "table11": table11,
}  # fmt: skip


def paper_table(
    name: str, study: Study, matcher: str = "words", majority: Mapping[str, Any] | None = None
) -> PaperTable:
    """One of TABLES. matcher: how answers were judged, for the captions.

    majority: domain -> accuracy of always giving the topic's most frequent train answer; a baseline of figure 2.
    """
    return figure2(study, matcher, majority) if name == "figure2" else TABLES[name](study, matcher)
