"""The scorecard: shares worked by hand, and that the base model cannot win it."""

import pandas as pd
import pytest
from fake_study import make, rows
from statsmodels.stats.proportion import proportion_confint

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import StudyTables
from sftknow_core.analysis.scorecard import COLUMNS, MEANINGS, scorecard


def small(seeds=(3,), flips=()):
    """One cell. Ten level-3 questions the base knows; after tuning 6 of 10 are right, restoring heals 3 of the 4 and
    breaks 1 of the 6. Four trained facts, one of which the base knew: of the other three 2 are learnt, 1 retained.
    flips: seeds whose tuned model gets the last question right as well."""
    chains, states, answers = [], [], []
    known = {"base": [1] * 10, "tuned": [1] * 6 + [0] * 4, "restored": [0] + [1] * 8 + [0]}
    trained = {"base": [1, 0, 0, 0], "tuned": [1, 1, 1, 0], "restored": [1, 1, 0, 0]}
    for seed in seeds:
        chain = f"c{seed}"
        chains.append((chain, "2", "240", 240, seed, "full"))
        states += [(chain, "tuned", "tuned", None, 0.0, None, 0.0, 0.0, False)]
        states += [(chain, "restored", "restored", "top", 20.0, None, 0.9, 0.5, True)]
        for state in ("tuned", "restored"):
            right = [bool(v) for v in known[state]]
            right[9] = right[9] or (state == "tuned" and seed in flips)
            answers.append(rows(chain, state, "qa", "test", 3, right))
            answers.append(
                rows(chain, state, "qa", "train", 2, [bool(v) for v in trained[state]], f"{chain}-")
            )
        answers.append(
            rows("base", "base", "qa", "train", 2, [bool(v) for v in trained["base"]], f"{chain}-")
        )
    answers.append(rows("base", "base", "qa", "test", 3, [True] * 10, stopped=False))
    answers.append(rows("base", "base", "qa", "test", 0, [False] * 5, stopped=False))
    for seed in seeds:
        answers += [rows(f"c{seed}", state, "qa", "test", 0, [False] * 5) for state in ("tuned", "restored")]
    names = [
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
    return StudyTables(
        pd.DataFrame(chains, columns=["chain", "level", "size", "n", "seed", "method"]),
        pd.DataFrame(states, columns=names),
        pd.concat(answers, ignore_index=True),
    )


def shares(table):
    return {(row.measure, row.state): row.share for row in table.itertuples()}


def test_one_seed_by_hand():
    card = scorecard(Study(small()))
    assert list(card.columns) == COLUMNS
    found = shares(card)
    assert found["kept", "tuned"] == 0.6
    assert found["damaged", "tuned"] == 0.4
    assert found["healed", "restored"] == 0.75
    assert found["broken", "restored"] == pytest.approx(1 / 6)
    assert found["learnt", "tuned"] == pytest.approx(2 / 3)
    assert found["retained", "restored"] == 0.5
    assert found["format", "tuned"] == 1
    assert ("churn", "tuned") not in found  # one seed has none
    healed = card[card["measure"] == "healed"].iloc[0]
    assert (healed["low"], healed["high"]) == pytest.approx(proportion_confint(3, 4, method="wilson"))
    assert (healed["n"], healed["seeds"], healed["population"]) == (4, 1, "questions")


def test_the_base_cannot_win():
    """It keeps everything, but has learnt nothing and does not stop: its smallest share is 0."""
    found = shares(scorecard(Study(small())))
    assert found["kept", "base"] == 1
    assert found["learnt", "base"] == 0
    assert found["format", "base"] == 0
    assert found["all three", "base"] == 0 < found["all three", "restored"]
    assert found["all three", "tuned"] == 0.6


def test_seeds_are_replicates():
    """Kept 0.6, 0.7, 0.6: the mean, an interval over seeds and questions, and n of all three."""
    card = scorecard(Study(small(seeds=(3, 4, 5), flips=(4,))))
    kept = card[(card["measure"] == "kept") & (card["state"] == "tuned")].iloc[0]
    assert kept["share"] == pytest.approx(1.9 / 3)
    assert (kept["n"], kept["seeds"], kept["population"]) == (30, 3, "seeds and questions")
    assert 0 <= kept["low"] < kept["share"] < kept["high"] <= 1
    churn = card[card["measure"] == "churn"].iloc[0]
    # of seed 4's seven kept questions both others lose one; they lose none of theirs
    assert churn["share"] == pytest.approx((0 + 1 / 7 + 0) / 3)


def test_every_measure_is_explained():
    card = scorecard(Study(small(seeds=(3, 4, 5))))
    assert set(card["measure"]) == set(MEANINGS)
    inside = card.dropna(subset=["low"])
    assert ((inside["low"] <= inside["share"]) & (inside["share"] <= inside["high"])).all()


def test_a_study_without_train_questions_has_no_learnt_row():
    card = scorecard(Study(make(lambda *_: 0.5, levels=("2",), sizes=("60",), ks=(0.0, 20.0))))
    assert set(card["measure"]) == {"kept", "damaged", "healed", "broken", "churn", "format"}
