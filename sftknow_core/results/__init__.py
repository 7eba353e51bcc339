"""What a cache holds, read by typed, lazy, read-only handles: the only way to read results.

    Run(cache, run_id)         kind, spec, about, state, finished_at, tables, table(name)
    Chain(cache, run_id)       base, tuned, restored: State; states, state_at(k); level, n, seed, method; best_k,
                               chosen, gain (.low, .high); accuracy(split), curve(split), levels(), shift(level);
                               questions(outcome, k), all_questions, cube, mastery; measured(), ways(),
                               question_sets(), flip_counts(), flipped()
    Mastery(cache, run_id)     model, sampling, chains; frame, levels, facts; numbers(), by_level(), by_topic(),
                               histogram(), against_expected(); passing(filters), page(...), one(fact_id)
    Cube(cache, run_id)        select(k, region, layers) -> .energy_taken_back and the like; curve, places, spread, heat
    Questions(cache, run_id)   of a chain: filters(...), frame, page, one(fact_id), spread, by_level, first_token
    Study(cache, run_id)       name, cells, frame, n_questions; find_study(cache, name_or_id)

A handle costs nothing until something is asked, then reads each thing once; a new handle looks again. All have
`.stamp`, which is cheap and changes exactly when what they read does: cache by (run_id, stamp). They raise GoneError,
DamagedError and NotFinishedError (errors.py). All chains of a cache together: chains.survey; several in one figure:
accuracy.group_of. SQL that reads results stands in this room alone, and no torch is loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sftknow_core.results.chain import Chain
    from sftknow_core.results.mastery import Mastery
    from sftknow_core.results.question_detail import Questions
    from sftknow_core.results.run import Run
    from sftknow_core.results.studies import Study, find_study
    from sftknow_core.results.weights import Cube

__all__ = ["Chain", "Cube", "Mastery", "Questions", "Run", "Study", "find_study"]
_HOMES = {
    "Chain": "chain", "Cube": "weights", "Mastery": "mastery", "Questions": "question_detail", "Run": "run",
    "Study": "studies", "find_study": "studies",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a handle's module when it is first named."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
