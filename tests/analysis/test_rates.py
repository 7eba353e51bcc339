"""Learning rate x steps x N on a made-up study whose accuracies are given: what was put in comes out, with its sign.

Tuned, all levels alike: 60% at half the rate, 50% at the study's, 40% at twice; restored (k = 20) 55% at the study's
rate. So restoring gains 5 points over the same rate and loses 5 to the best untouched rate. N = 240 eight times 52%.
"""

import numpy as np
import pytest
from fake_study import make, mean_of
from varied_study import frames_of

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import StudyTables
from sftknow_core.analysis.rates import MEAN, Rates, Recipe, every, plain
from sftknow_core.analysis.study import About, StudyResults
from sftknow_core.results.studies import FixedRule
from sftknow_core.specs import Rule

TUNED = {0.5: 0.6, 1.0: 0.5, 2.0: 0.4}
SEEDS = (3, 4, 5, 6, 7)


def world(rate, repeats=1.0):
    def accuracy(level, size, k, test, strategy="top"):
        tuned = TUNED[rate] + (0.02 if repeats > 1 else 0.0)
        return tuned + {0.0: 0.0, 20.0: 0.05 if rate == 1 else 0.0, 60.0: -0.3}[k]

    return accuracy


@pytest.fixture(scope="module")
def frames():
    worlds = {Recipe(rate): world(rate) for rate in TUNED} | {Recipe(1.0, 8.0): world(1.0, 8.0)}
    return frames_of(
        worlds, levels=("0", "2"), sizes=("240", "1920"), seeds=SEEDS, per_level=100, noise=0.004
    )


@pytest.fixture(scope="module")
def rates(frames):
    return Rates(Study(every(frames)))


def row_of(table, **place):
    keep = np.logical_and.reduce([table[name] == value for name, value in place.items()])
    (row,) = table[keep].to_dict("records")
    return row


def test_accuracies_by_rate_and_state(rates):
    table = rates.accuracies()
    for level in ("0", "2", MEAN):
        for rate, value in TUNED.items():
            place = {"train_level": level, "size": "1920", "rate": rate, "repeats": 1.0}
            row = row_of(table, **place, state="tuned")
            assert row["accuracy"] == pytest.approx(value, abs=0.01) and row["low"] < value < row["high"]
            assert row["n"] == 500 and row["n_seeds"] == 5
    chosen = row_of(table, train_level="0", size="1920", rate=1.0, repeats=1.0, state="restored")
    assert chosen["accuracy"] == pytest.approx(0.55, abs=0.01) and chosen["mean_k"] == 20


def test_restoring_is_held_against_the_best_untouched_rate(rates):
    for level in ("2", MEAN):
        row = row_of(rates.gains(), train_level=level, size="1920", rate=1.0, repeats=1.0)
        assert row["best_rate"] == "0.5"
        assert row["effect"] == pytest.approx(-0.05, abs=0.01) and row["high"] < 0 and row["p"] < 0.001
        assert row["same_rate"] == pytest.approx(0.05, abs=0.01) and row["same_low"] > 0


def test_the_best_rate_is_chosen_on_dev_alone(frames):
    """On dev the double rate is made the best, on test it stays the worst: R is held against it all the same."""
    answers = frames["answers"].copy()
    fast = answers["chain"].str.startswith("2x1-") & (answers["split"] == "dev")
    answers.loc[fast, "right"] = True
    study = Study(every({**frames, "answers": answers}))
    row = row_of(Rates(study).gains(), train_level="0", size="1920", rate=1.0, repeats=1.0)
    assert row["best_rate"] == "2" and row["effect"] == pytest.approx(0.15, abs=0.01)


def test_equal_steps_and_equal_facts(rates):
    """0.52 - 0.50 against many facts once, and against the same facts once; the mean over levels says the same."""
    table = rates.steps()
    for level in ("0", MEAN):
        for name, other in (("data", "1920"), ("steps", "240")):
            row = row_of(table, train_level=level, comparison=name, state="tuned")
            assert (row["size"], row["other_size"], row["repeats"]) == ("240", other, 8.0)
            assert row["effect"] == pytest.approx(0.02, abs=0.01)


def test_accuracy_over_the_norm_of_the_update(rates):
    """||d|| / ||p|| is 0.01 times the rate; k = 20 takes back 20 / 64 of the energy."""
    table = rates.norms()
    tuned = row_of(table, train_level="2", size="240", rate=2.0, repeats=1.0, seed=3, k_percent=0.0)
    assert tuned["update_norm"] == pytest.approx(0.02) and tuned["accuracy"] == pytest.approx(0.4, abs=0.02)
    restored = row_of(table, train_level="2", size="240", rate=2.0, repeats=1.0, seed=3, k_percent=20.0)
    assert restored["update_norm"] == pytest.approx(0.02 * np.sqrt(1 - 20 / 64))


def test_other_analyses_see_the_studys_own_training_alone(frames):
    tables = StudyTables(**plain(frames))
    assert set(tables.chains["rate"]) == {1.0} and set(tables.chains["repeats"]) == {1.0}
    assert len(tables.chains) == 2 * 2 * len(SEEDS)
    assert set(tables.answers["chain"]) == {*tables.chains["chain"], "base"}
    assert (
        len(
            StudyTables(
                **{n: f for n, f in frames.items() if n != "chains"}, chains=every(frames).chains
            ).chains
        )
        > 20
    )


def test_two_seeds_have_no_interval_and_what_was_not_run_a_reason():
    frames = frames_of(
        {Recipe(): world(1.0)}, levels=("0",), sizes=("240",), seeds=(3, 4), per_level=20, ks=(0.0,)
    )
    rates = Rates(Study(every(frames)))
    assert not rates.varied and rates.steps().empty
    (tuned, restored) = rates.accuracies().to_dict("records")
    assert np.isnan(tuned["low"]) and "seeds" in tuned["reason"]
    assert np.isnan(restored["accuracy"]) and "not run" in restored["reason"]


def test_a_study_without_such_columns_has_its_own_training():
    study = Study(make(mean_of, seeds=(3, 4, 5), per_level=20))
    fixed = FixedRule(Rule().for_study((60, 240, 1920), ()), None, None, None, in_identity=False)
    about = About("r", "s", "t", "b", "done", "", "words", "transformer", (3,), 1, 1, {}, {}, fixed)
    results = StudyResults(study, about)
    assert not results.rates.varied and set(results.rates.accuracies()["rate"]) == {1.0}
