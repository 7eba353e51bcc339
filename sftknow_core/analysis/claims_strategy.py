"""Claims about ways to train (S1: restored > divided > mixed > LoRA) and about other tasks (G1).

Every strategy's level, N and k are chosen on dev, over what the study ran; the comparison is on test. k: each chain's
smallest within one standard error of its best (stats/choose.py). N: the smallest of a cell within one standard error
of the best cell. Levels have no order: at this N the best of those within it. Strategies are compared, none is chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import CHOSEN, LEVELS, TUNED, Cell, Gap, Grid, Term, Which, size_number
from sftknow_core.analysis.verdict import Part, Verdict, conclude

TASKS = ("gsm8k", "xsum")


class Picked(NamedTuple):
    """A strategy as dev chose it."""

    cell: Cell
    which: Which
    n_candidates: int


def strategy_claims(study: Study) -> list[Verdict]:
    """S1 by domain, then G1."""
    return [*(_strategies(study, domain) for domain in study.domains()), _other_tasks(study)]


def pick(study: Study, cells: Iterable[Cell], which: Which) -> Picked | None:
    """A cell by in-domain dev accuracy, mean over its seeds: of those within one standard error of the best (of the
    paired difference, seeds and questions) those of the smallest N, and of these the best. None when dev was not asked.
    """
    grid, cells = study.grid("in", split="dev"), list(cells)
    scored = [(_value(grid, cell, which, cells), cell) for cell in cells]
    found = [(value, cell) for value, cell in scored if value is not None]
    if not found:
        return None
    best = max(found, key=lambda pair: pair[0])[1]
    near = [(value, cell) for value, cell in found if cell == best or _within(grid, best, cell, which)]
    smallest = min(size_number(cell.size) for _, cell in near)
    chosen = max((pair for pair in near if size_number(pair[1].size) == smallest), key=lambda pair: pair[0])[
        1
    ]
    return Picked(chosen, which, len(found))


def _within(grid: Grid, best: Cell, cell: Cell, which: Which) -> bool:
    """Whether a cell is at most one standard error below the best one; not where no seed has both."""
    found = grid.contrast([Term(1, best, which), Term(-1, cell, which)])
    return not isinstance(found, Gap) and found.value <= found.se


def _value(grid: Grid, cell: Cell, which: Which, among: Iterable[Cell]) -> float | None:
    """Accuracy on the questions that all candidates were asked."""
    found = grid.contrast([Term(1, cell, which)], among=among)
    return None if isinstance(found, Gap) else found.value


def picked_strategies(study: Study) -> dict[str, Picked | None]:
    """restored, divided, mixed, LoRA -> what dev chose."""
    cells = study.grid("in").cells()
    single = [c for c in cells if c.method == "full" and c.level in LEVELS]
    return {
        "restored": pick(study, single, CHOSEN),
        "divided": pick(study, single, TUNED),
        "mixed": pick(study, [c for c in cells if c.method == "full" and c.level == "mixed"], TUNED),
        "LoRA": pick(study, [c for c in cells if c.method == "lora"], TUNED),
    }


def _strategies(study: Study, domain: str) -> Verdict:
    found = picked_strategies(study)
    names = list(found)
    parts = []
    for better, worse in pairwise(names):
        first, second = found[better], found[worse]
        label = f"{better} - {worse}"
        if first is None or second is None:
            parts.append(Part(label, reason=f"not run: {worse if second is None else better}"))
            continue
        terms = [Term(1, first.cell, first.which), Term(-1, second.cell, second.which)]
        parts.append(study.part(label, terms, domain=domain))
    picked = [f"{name}: {p.cell}, of {p.n_candidates}" for name, p in found.items() if p is not None]
    note = f"Chosen on dev (smallest N within one standard error): {'; '.join(picked)}" if picked else ""
    title = "Restored models beat divided ones, these mixed ones, and these LoRA"
    return conclude("S1", title, parts, study.rule, domain=domain, table_ref="Table 7", note=note)


def _other_tasks(study: Study) -> Verdict:
    """Named, so that a scorecard lists what the paper claims; no study runs these tasks."""
    parts = [Part(task, reason=f"{task} was not run") for task in TASKS]
    return conclude("G1", "Restoring helps on other tasks", parts, study.rule, table_ref="Table 5")
