"""What drives a study's results: rates and steps, masks, forgetting and access, each worked out once when asked for.

StudyResults + masks, donors, facts and train sets of the cache --> Drives --> tables, or a reason why there are none
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from sftknow_core.analysis.accessibility import Accessibility
from sftknow_core.analysis.forgetting import Forgetting
from sftknow_core.analysis.grid import Cell
from sftknow_core.analysis.masks import donor_rows, overlap_rows
from sftknow_core.analysis.rates import Rates
from sftknow_core.analysis.study import StudyResults, read_study_results
from sftknow_core.errors import GoneError
from sftknow_core.results.masks import donors_between, masks_between
from sftknow_core.results.studies import Study
from sftknow_core.results.train_facts import TrainFacts, train_facts
from sftknow_core.store.cache import Cache


@dataclass(frozen=True)
class Drives:
    """The four analyses of one study."""

    results: StudyResults
    masks: pd.DataFrame
    """Results.masks.masks_between of its own cells' models."""
    donors: pd.DataFrame
    cells: Mapping[str, str]
    """model_id -> its cell's name, seeds aside."""
    facts: TrainFacts | None
    """None where the mastery scores are gone."""

    @property
    def rates(self) -> Rates:
        """Learning rate x steps x N."""
        return self.results.rates

    @cached_property
    def overlaps(self) -> pd.DataFrame:
        """See masks.overlap_rows; empty where `sftknow masks` was not run."""
        return overlap_rows(self.masks, self.cells)

    @cached_property
    def donor_test(self) -> pd.DataFrame:
        """See masks.donor_rows; empty where `sftknow masks --ask` was not run."""
        return donor_rows(self.donors, self.cells)

    @cached_property
    def forgetting(self) -> Forgetting | None:
        """Of the facts known by their mastery."""
        return None if self.facts is None else Forgetting(self.results.study, self.facts)

    @cached_property
    def forgetting_five_shot(self) -> Forgetting | None:
        """Of those that the base answers after five exemplars too."""
        return None if self.facts is None else Forgetting(self.results.study, self.facts, five_shot=True)

    @cached_property
    def accessibility(self) -> Accessibility:
        """Flipped questions asked in another way."""
        return Accessibility(self.results.study)

    @property
    def large(self) -> str:
        """The size whose runs are compared question by question: the plan's large one, else the largest there is."""
        sizes = self.results.study.sizes() or sorted(set(self.results.study.tables.chains["size"]))
        return self.results.plan.large if self.results.plan.large in sizes else sizes[-1]


def drives_of(cache: Cache, results: StudyResults) -> Drives:
    """The analyses of results that are read. Raises SpecError, GoneError and DamagedError as they do."""
    study = Study(cache, results.about.run_id)
    cells = {
        cell.model_id: str(Cell(cell.level, "all" if cell.n is None else str(cell.n), cell.method))
        for cell in study.cells
        if cell.model_id is not None and (cell.rate, cell.repeats) == (1.0, 1.0)
    }
    try:
        facts = train_facts(cache, study.run_id)
    except GoneError:
        facts = None
    return Drives(results, masks_between(cache, cells), donors_between(cache, cells), cells, facts)


def read_drives(cache: Cache, run_id: str) -> Drives:
    """The analyses of a study's finished cells. Raises as read_study_results."""
    return drives_of(cache, read_study_results(cache, run_id))
