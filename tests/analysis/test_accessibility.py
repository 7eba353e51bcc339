"""Lost or inaccessible, counted by hand: six questions of level 3 and four of level 4, two seeds of one cell.

Base after exemplars answers all but q0. Tuned answers q1 and q9 in both seeds, so seven flip in each: q2 to
q5 of level 3, q6 to q8 of level 4. By completion prompt seed 0 still answers q2, q6 and q7, seed 1 only q6; both answer
q1 and not q9.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sftknow_core.analysis.accessibility import Accessibility
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import StudyTables
from sftknow_core.stats.intervals import wilson

FACTS = [f"q{i}" for i in range(10)]
STILL = {0: {"q1", "q2", "q6", "q7"}, 1: {"q1", "q6"}}


def answers(chain, state, prompt, right, rank=np.nan):
    return pd.DataFrame(
        {
            "chain": chain, "state_id": state, "prompt": prompt, "split": "test", "domain": "in",
            "level": [3] * 6 + [4] * 4, "topic": "P19", "fact_id": FACTS, "right": [f in right for f in FACTS],
            "exact": False, "stopped": True, "gold_rank": rank,
        }
    )  # fmt: skip


def study(completions=True, ranks=False) -> Study:
    parts = [answers("base", "base", "five-shot", set(FACTS) - {"q0"}), answers("base", "base", "qa", set())]
    chains, states = [], []
    for seed in (0, 1):
        chain = f"c{seed}"
        chains.append((chain, "2", "240", 240, seed, "full"))
        states.append((chain, f"{chain}/t", "tuned", None, 0.0, None, 0.0, 0.0, False))
        states.append((chain, f"{chain}/r", "restored", "top", 20.0, None, 0.2, 0.3, True))
        rank = np.where(np.arange(10) % 2 == 0, 3.0, 50.0) if ranks else np.nan
        parts.append(answers(chain, f"{chain}/t", "qa", {"q1", "q9"}, rank))
        parts.append(answers(chain, f"{chain}/r", "qa", {"q1", "q2", "q9"}, rank))
        if completions:
            parts.append(answers(chain, f"{chain}/t", "completion", STILL[seed]))
            parts.append(answers(chain, f"{chain}/r", "completion", set(FACTS)))
    names = ["chain", "level", "size", "n", "seed", "method"]
    kinds = [
        "chain",
        "state_id",
        "kind",
        "strategy",
        "k_percent",
        "layers",
        "share_of_r",
        "energy_taken_back",
        "chosen",
    ]
    return Study(
        StudyTables(pd.DataFrame(chains, columns=names), pd.DataFrame(states, columns=kinds),
                    pd.concat(parts, ignore_index=True))
    )  # fmt: skip


def test_flipped_questions_by_hand() -> None:
    table = Accessibility(study()).outcomes().set_index("level")
    both = table[table.index.isna()].iloc[0]
    assert (both["n"], both["inaccessible"], both["lost"]) == (14, 4, 10)
    assert (table.loc[3, "n"], table.loc[3, "inaccessible"]) == (8, 1)
    assert (table.loc[4, "n"], table.loc[4, "inaccessible"]) == (6, 3)
    assert (table.loc[4, "low"], table.loc[4, "high"]) == pytest.approx(wilson(3, 6))
    # of the questions kept, q1 and q9 in both seeds, completion prompts answer q1
    assert both["share_kept"] == 0.5 and table.loc[3, "share_kept"] == 1 and table.loc[4, "share_kept"] == 0


def test_the_restored_model_on_the_same_questions() -> None:
    rows = Accessibility(study()).rows()
    own = rows[(rows["state"] == "restored") & (rows["questions"] == "flipped") & rows["level"].isna()]
    assert own[["way", "n", "n_right"]].to_dict("records") == [{"way": "completion", "n": 14, "n_right": 14}]


def test_the_gold_token_among_the_ten() -> None:
    """Even questions have rank 3: of the seven flipped q2, q4, q6 and q8."""
    rows = Accessibility(study(ranks=True)).rows()
    own = rows[
        (rows["way"] == "gold in top 10") & (rows["state"] == "tuned") & (rows["questions"] == "flipped")
    ]
    assert own[own["level"].isna()][["n", "n_right"]].to_dict("records") == [{"n": 14, "n_right": 8}]


def test_a_null_and_a_planted_share_differ() -> None:
    """Were completion prompts as good on flipped as on kept questions, the fact would be there and only not said."""
    table = Accessibility(study()).outcomes()
    four = table[table["level"] == 4].iloc[0]
    assert four["low"] > four["share_kept"] == 0


def test_before_is_the_base_after_exemplars_else_as_it_was_asked() -> None:
    assert Accessibility(study()).before == "five-shot"
    tables = study().tables
    fewer = StudyTables(tables.chains, tables.states, tables.answers[tables.answers["prompt"] != "five-shot"])
    found = Accessibility(Study(fewer))
    assert found.before == "qa"
    (row,) = found.outcomes()[lambda t: t["level"].isna()].to_dict("records")
    assert row["n"] == 0 and np.isnan(row["share"]) and row["reason"] == "no such question"


def test_without_completion_prompts_it_says_so() -> None:
    found = Accessibility(study(completions=False))
    assert "completion prompts" in found.missing()
    assert found.rows().empty and found.outcomes().empty
    assert Accessibility(study()).missing() is None
