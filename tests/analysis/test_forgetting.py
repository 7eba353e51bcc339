"""Who is forgotten, on made-up answers whose truth is known.

By hand: four known facts, two seeds of one cell. Wrong in seed 0: a, b; in seed 1: b, c. P(forgotten) = 1/2 in both;
wrong in one and right in the other: 1 of 4 in both directions, churn 1/4; wrong in both: b, net 1/4. Restored: seed 0
answers a and b, seed 1 only c: recovered 2/4 and 1/4, mean 3/8, beyond churn 1/8.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.forgetting import BETWEEN, KNOWN_R, WITH_KL, WITHIN, Forgetting, reference_level
from sftknow_core.analysis.grid import StudyTables
from sftknow_core.results.train_facts import TrainFacts

SEEDS = (0, 1, 2, 3, 4)
LEVELS = ("0", "2", "mixed")
N_QUESTIONS = 150


def facts_of(n: int, seed: int = 0) -> pd.DataFrame:
    """Test facts of two topics and 40 objects of unequal frequency, all known; and train facts that hold them."""
    rng = np.random.default_rng(seed)
    objects = np.array([f"Object {'x' * int(i % 12)} {i}" for i in range(40)])
    frequency = rng.integers(0, 30, 40)
    which = rng.integers(0, 40, n)
    test = pd.DataFrame(
        {
            "fact_id": [f"t{i}" for i in range(n)],
            "topic": rng.choice(["P19", "P20"], n),
            "split": "test",
            "object": objects[which],
            "r": rng.uniform(KNOWN_R, 1, n),
        }
    )
    repeated = np.repeat(objects, frequency)
    train = pd.DataFrame(
        {
            "fact_id": [f"r{i}" for i in range(len(repeated))],
            "topic": rng.choice(["P19", "P20"], len(repeated)),
            "split": "train",
            "object": repeated,
            "r": rng.uniform(0, 1, len(repeated)),
        }
    )
    return pd.concat([test, train], ignore_index=True)


def study_of(wrong, given: TrainFacts, chains: pd.DataFrame, restored=None, kl=None) -> Study:
    """wrong(chain row, test facts) -> bool [n]; restored(...) -> right; kl(...) -> nats."""
    test = given.facts[given.facts["split"] == "test"]
    states, answers, shifts = [], [], []
    for chain in chains.to_dict("records"):
        for kind, right in (
            ("tuned", ~wrong(chain, test)),
            ("restored", restored(chain, test) if restored else None),
        ):
            if right is None:
                continue
            state = f"{chain['chain']}/{kind}"
            states.append((chain["chain"], state, kind, "top" if kind == "restored" else None,
                           20.0 if kind == "restored" else 0.0, None, 0.0, 0.0, kind == "restored"))  # fmt: skip
            answers.append(
                pd.DataFrame(
                    {
                        "chain": chain["chain"], "state_id": state, "prompt": "qa", "split": "test", "domain": "in",
                        "level": 4, "topic": test["topic"], "fact_id": test["fact_id"], "right": right, "exact": right,
                        "stopped": True,
                    }
                )
            )  # fmt: skip
        if kl is not None:
            shifts.append(
                pd.DataFrame(
                    {
                        "chain": chain["chain"], "state_id": f"{chain['chain']}/tuned", "measure": "aligned",
                        "split": "test", "domain": "in", "level": 4, "fact_id": test["fact_id"],
                        "kl_nats": kl(chain, test),
                    }
                )
            )  # fmt: skip
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
    more = {"shifts": pd.concat(shifts, ignore_index=True)} if shifts else {}
    return Study(
        StudyTables(
            chains, pd.DataFrame(states, columns=names), pd.concat(answers, ignore_index=True), **more
        )
    )


def chains_of(levels=LEVELS, seeds=SEEDS) -> pd.DataFrame:
    rows = [(f"{level}-{seed}", level, "240", 240, seed, "full") for level in levels for seed in seeds]
    return pd.DataFrame(rows, columns=["chain", "level", "size", "n", "seed", "method"])


def trained_on(facts: pd.DataFrame, chains: pd.DataFrame, n: int = 60) -> pd.DataFrame:
    """Each run draws some of the train facts, more of one topic in some runs."""
    train = facts[facts["split"] == "train"]
    parts = []
    for number, chain in enumerate(chains["chain"]):
        rng = np.random.default_rng(1000 + number)
        weight = np.where(train["topic"] == "P19", rng.uniform(0.1, 0.9), 0.5)
        drawn = rng.choice(train["fact_id"], n, replace=False, p=weight / weight.sum())
        parts.append(pd.DataFrame({"chain": chain, "fact_id": drawn}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def given() -> TrainFacts:
    facts = facts_of(N_QUESTIONS)
    return TrainFacts(facts, trained_on(facts, chains_of()))


def log_odds(given: TrainFacts, chain, test, *, level, seen, frequency):
    """What the world is made of; every question has its own intercept."""
    train = given.trained[given.trained["chain"] == chain["chain"]].merge(given.facts, on="fact_id")
    own = np.random.default_rng(7).normal(0, 0.7, len(test))
    counts = given.facts[given.facts["split"] == "train"]["object"].value_counts()
    log = np.log2(1 + test["object"].map(counts).fillna(0).to_numpy(float))
    is_seen = test["object"].isin(train["object"]).to_numpy(float)
    return own + level * (chain["level"] == "0") + seen * is_seen + frequency * (log - log.mean())


def world(given: TrainFacts, **effects):
    def wrong(chain, test):
        rng = np.random.default_rng(LEVELS.index(chain["level"]) * 100 + chain["seed"])
        return rng.random(len(test)) < 1 / (1 + np.exp(-log_odds(given, chain, test, **effects)))

    return wrong


def term(table, model, name):
    (row,) = table[(table["model"] == model) & (table["term"] == name)].to_dict("records")
    return row


def test_planted_effects_are_found_in_their_model(given: TrainFacts) -> None:
    """Level 0 forgets (+1.2), a seen object protects (-1.0), a frequent object protects (-0.4 a doubling)."""
    study = study_of(world(given, level=1.2, seen=-1.0, frequency=-0.4), given, chains_of())
    found = Forgetting(study, given)
    assert found.n_known == N_QUESTIONS
    table = found.coefficients("240")
    level, seen = (term(table, WITHIN, name) for name in ("level_0", "seen"))
    assert level["low"] > 0 and level["low"] < 1.2 < level["high"]
    assert seen["high"] < 0 and seen["low"] < -1.0 < seen["high"]
    assert level["n_seeds"] == 5 and level["odds_ratio"] == pytest.approx(np.exp(level["value"]))
    frequency = term(table, BETWEEN, "log_frequency")
    assert frequency["high"] < 0 and frequency["p"] < 0.01


def test_null_effects_are_not_found(given: TrainFacts) -> None:
    study = study_of(world(given, level=0.0, seen=0.0, frequency=0.0), given, chains_of())
    table = Forgetting(study, given).coefficients("240")
    fitted = table[table["term"].notna() & table["value"].notna()]
    assert len(fitted) == 4 + 3
    assert (fitted["low"] < 0).sum() >= 6 and (fitted["high"] > 0).sum() >= 6


def test_kl_stands_in_a_model_of_its_own(given: TrainFacts) -> None:
    wrong = world(given, level=0.5, seen=0.0, frequency=0.0)

    def kl(chain, test):
        noise = np.random.default_rng(chain["seed"]).gamma(1.0, 0.3, len(test))
        return 0.5 * wrong(chain, test) + noise

    study = study_of(wrong, given, chains_of(), kl=kl)
    table = Forgetting(study, given).coefficients("240")
    assert term(table, WITH_KL, "kl_nats")["low"] > 0
    assert "kl_nats" not in set(table.loc[table["model"] != WITH_KL, "term"])


def test_what_cannot_be_told_has_a_reason(given: TrainFacts) -> None:
    study = study_of(world(given, level=0.0, seen=0.0, frequency=0.0), given, chains_of(seeds=(0, 1)))
    table = Forgetting(study, given).coefficients("240")
    assert table["value"].isna().all() and table["reason"].str.contains("clusters|KL was not").all()
    unknown = TrainFacts(given.facts.assign(r=0.1), given.trained)
    none = Forgetting(study, unknown)
    assert none.n_known == 0
    assert "no known fact" in none.coefficients("240")["reason"].iloc[0]
    assert none.probabilities()["share"].isna().all()


def test_known_after_five_exemplars_too(given: TrainFacts) -> None:
    """The base answers every second question after exemplars: only those are known then."""
    study = study_of(world(given, level=0.0, seen=0.0, frequency=0.0), given, chains_of(levels=("0",)))
    test = given.facts[given.facts["split"] == "test"]
    right = np.arange(len(test)) % 2 == 0
    five = study.tables.answers.iloc[: len(test)].assign(
        chain="base", state_id="base", prompt="five-shot", fact_id=test["fact_id"].to_numpy(), right=right
    )
    tables = study.tables
    more = StudyTables(tables.chains, tables.states, pd.concat([tables.answers, five], ignore_index=True))
    assert Forgetting(Study(more), given, five_shot=True).n_known == N_QUESTIONS // 2
    assert Forgetting(study, given, five_shot=True).n_known == 0


def test_probabilities_by_hand() -> None:
    facts = pd.DataFrame(
        {
            "fact_id": list("abcd"),
            "topic": "P19",
            "split": "test",
            "object": list("ABCD"),
            "r": [0.5, 0.6, 0.7, 1.0],
        }
    )
    given = TrainFacts(facts, pd.DataFrame({"chain": ["2-0"], "fact_id": ["a"]}))
    lost = {0: {"a", "b"}, 1: {"b", "c"}}
    back = {0: {"a", "b"}, 1: {"c"}}
    study = study_of(
        lambda chain, test: test["fact_id"].isin(lost[chain["seed"]]).to_numpy(),
        given,
        chains_of(levels=("2",), seeds=(0, 1)),
        restored=lambda chain, test: (
            ~test["fact_id"].isin(lost[chain["seed"]]) | test["fact_id"].isin(back[chain["seed"]])
        ).to_numpy(),
    )
    table = Forgetting(study, given).probabilities().set_index("outcome")
    forgotten, recovered = table.loc["forgotten"], table.loc["recovered"]
    assert (forgotten["share"], forgotten["churn"], forgotten["net"]) == (0.5, 0.25, 0.25)
    assert (recovered["share"], recovered["churn"], recovered["net"]) == (0.375, 0.25, 0.125)
    assert np.isnan(forgotten["low"]) and "fewer than 3 seeds" in forgotten["reason"]
    assert forgotten["n"] == 4 and forgotten["n_seeds"] == 2


def test_levels_are_compared_with_mixed() -> None:
    assert reference_level(["0", "2", "mixed"]) == "mixed" and reference_level(["0", "2"]) == "2"
