"""What a study's runs were trained on, beside what is known of every fact: for analyses of single questions."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from sftknow_core.errors import GoneError
from sftknow_core.results.study_frames import study_chains
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.run_folder import RunFolder


@dataclass(frozen=True)
class TrainFacts:
    """Facts and train sets."""

    facts: pd.DataFrame
    """One row a fact with a mastery score: fact_id, topic, split, object (the main right answer), r (0 to 1)."""
    trained: pd.DataFrame
    """One row a run and train fact: chain, fact_id. A fact without a score has no row in `facts`."""


def train_facts(cache: Cache, run_id: str) -> TrainFacts:
    """Of a study's finished cells. Raises SpecError when the run is no study, GoneError where its scores are gone."""
    found = study_chains(cache, run_id)
    runs = {str(summary["stages"]["mastery"]) for summary in found.summaries.values()}
    if gone := sorted(run for run in runs if RunFolder(cache, run).manifest() is None):
        raise GoneError(
            f"study {run_id}: its mastery scores ({gone[0]}) are gone; `sftknow mastery` makes them again"
        )
    columns = ["fact_id", "topic", "split", "gold", "r"]
    facts = read_table(cache, "mastery", run_ids=sorted(runs), columns=columns)
    facts = facts[facts["r"].notna()].drop_duplicates("fact_id").rename(columns={"gold": "object"})
    chain_of = {str(cell["sft"]): str(cell["chains"][0]["run_id"]) for cell in found.cells}
    trained = read_table(cache, "train_set", run_ids=sorted(chain_of), columns=["run_id", "fact_id"])
    trained = trained.assign(chain=trained["run_id"].map(chain_of))[["chain", "fact_id"]]
    return TrainFacts(facts.reset_index(drop=True), trained)
