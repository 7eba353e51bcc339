"""Study tables -> differences between states on the questions a model was trained on.

Unlike test questions every seed has its own, so seeds are the replicates, and nothing pairs between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sftknow_core.analysis.grid import TUNED, Array, Cell, Gap, Which, state_index
from sftknow_core.analysis.study_tables import StudyTables
from sftknow_core.errors import SpecError
from sftknow_core.stats.contrast import level_variance
from sftknow_core.stats.seeds import SeedMean, over_seeds


@dataclass(frozen=True)
class TrainDifference:
    """A difference of accuracies on the own train sets."""

    mean: SeedMean
    n: int
    """Questions of all seeds."""
    n_smallest: int
    """Of the seed with the fewest."""


class TrainGrid:
    """Answers to the train-set questions, of which every seed has its own: seeds are the replicates."""

    def __init__(self, tables: StudyTables, value: str = "right") -> None:
        answers = tables.answers[(tables.answers["split"] == "train") & (tables.answers["prompt"] == "qa")]
        by_fact = answers.sort_values("fact_id").groupby(["chain", "state_id"])
        self._rows: dict[Any, tuple[list[str], Array]] = {
            key: (list(rows["fact_id"]), rows[value].to_numpy(np.float64)) for key, rows in by_fact
        }
        self._states = state_index(tables.states)
        self._chains = tables.chains

    def difference(
        self, cell: Cell, after: Which, before: Which = TUNED, null: float = 0.0
    ) -> TrainDifference | Gap:
        """Accuracy on the own train set, after - before, paired by question, over seeds.

        The variance of drawing the questions comes on top of the spread over seeds, which holds it as well where
        seeds have their own questions: wide rather than narrow, and never zero because nothing changed in few.
        Raises SpecError when two states of a chain answered different train questions.
        """
        of_cell = self._chains[(self._chains[["level", "size", "method"]] == list(cell)).all(axis=1)]
        moved = []
        for chain in of_cell["chain"]:
            was, now = (
                self._rows.get((chain, self._states.get((chain, which)))) for which in (before, after)
            )
            if was is not None and now is not None:
                if was[0] != now[0]:
                    raise SpecError(f"the states of chain {chain} did not answer the same train questions")
                moved.append(now[1] - was[1])
        if not moved:
            return Gap(f"the train questions of {cell} were not asked")
        drawn = sum(level_variance(one[None, :], step=1.0) for one in moved) / len(moved) ** 2
        counts = [len(one) for one in moved]
        mean = over_seeds([float(one.mean()) for one in moved], null, extra_variance=drawn)
        return TrainDifference(mean, sum(counts), min(counts))
