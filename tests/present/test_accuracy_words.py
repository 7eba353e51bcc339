"""Texts and number cards of the page of accuracies."""

from __future__ import annotations

import pandas as pd

from sftknow_core.present.text import accuracy, tokens
from sftknow_core.results.accuracy import Group
from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT
from sftknow_core.results.states import Chosen


def changes() -> pd.DataFrame:
    common = {"domain": "in", "level": None, "n": 1250, "before": 0.5, "after": 0.4}
    return pd.DataFrame(
        [
            common | {"step": "tuning", "difference": -0.1234, "low": -0.2, "high": -0.05, "n_lost": 52}
            | {"n_gained": 4, "p_value": 0.00009999},
            common | {"step": "restoring", "difference": 0.05, "low": None, "high": None, "n_lost": 3}
            | {"n_gained": 22, "p_value": 0.03},
        ]
    ).astype({"level": "Int64"})  # fmt: skip


def test_cards_have_the_differences_with_their_intervals_and_the_flips() -> None:
    tuning, lost, gained, restoring, recovered = accuracy.cards(changes(), 20.0, FIVE_SHOT)
    assert (tuning.parts[0].value, tuning.parts[0].interval) == ("−12.3", "−20.0 to −5.0")
    assert "both 5-shot" in tuning.sentence and "both 5-shot" in lost.sentence
    assert (lost.parts[0].value, gained.parts[0].value) == ("52", "4")
    assert (restoring.parts[0].value, restoring.parts[0].interval) == ("+5.0", "no spread")
    assert "k = 20%" in restoring.sentence and recovered.parts[0].interval == "(3 broken) of 1,250"


def chosen(k: float, best: float) -> Chosen:
    return Chosen(k, "s", best, "", {}, {}, {}, None)


def test_without_a_chosen_k_nothing_is_said_of_restoring() -> None:
    assert len(accuracy.cards(changes().iloc[:1], 0.0, ZERO_SHOT)) == 3
    none = accuracy.which_prompt(ZERO_SHOT, (ZERO_SHOT,), chosen(0.0, 0.0))
    assert "no restored model: on dev no k is better than k = 0" in none
    little = accuracy.which_prompt(ZERO_SHOT, (ZERO_SHOT,), chosen(0.0, 5.0))
    assert "no restored model: on dev k = 5% is best, but within one standard error of k = 0" in little


def test_which_prompt_is_shown_is_said() -> None:
    both = (FIVE_SHOT, ZERO_SHOT)
    assert "**5-shot**: base, tuned and restored" in accuracy.which_prompt(FIVE_SHOT, both, chosen(5.0, 5.0))
    zero = accuracy.which_prompt(ZERO_SHOT, both, chosen(5.0, 5.0))
    assert "answer format only" in zero and "not asked" not in zero
    older = accuracy.which_prompt(ZERO_SHOT, (ZERO_SHOT,), chosen(5.0, 5.0))
    assert "tuned and restored were not asked with five examples" in older


def test_flips_are_counted_and_a_p_is_never_smaller_than_can_be() -> None:
    tuning, restoring = accuracy.flipped(changes()).splitlines()
    assert (
        "**52** correct → incorrect, **4** incorrect → correct, of 1,250" in tuning and "p ≤ 0.0001" in tuning
    )
    assert "+5.0 pp (p = 0.03)" in restoring


def test_who_is_shown_says_what_the_intervals_cover() -> None:
    group = Group("a", ("a", "b"), 3)
    one = accuracy.who_is_shown(group, pd.DataFrame({"n_seeds": [1, 1]}), ZERO_SHOT)
    assert "2 comparable runs" in one and "cover questions, not seeds" in one and "3 more runs" in one
    several = accuracy.who_is_shown(Group("a", ("a",), 0), pd.DataFrame({"n_seeds": [1, 3]}), FIVE_SHOT)
    assert "1 comparable run " in several and "over seeds" in several and "more runs" not in several
    assert "zero-shot" in one and "5-shot" in several and "left out" in several


def test_the_paper_is_beside_the_heat_map_for_its_n_only() -> None:
    assert "other questions" in accuracy.about_heat("tuned", 1920, "LLaMA-3-8B", ZERO_SHOT)
    assert "1,920 only" in accuracy.about_heat("restored", 240, "LLaMA-3-8B", ZERO_SHOT)
    assert "paper" not in accuracy.about_heat("tuned", 1920, None, FIVE_SHOT)
    assert "other questions" in accuracy.about_paper("LLaMA-3-8B") and not accuracy.about_paper(None)


def test_kl_over_n_says_how_many_were_scored() -> None:
    rows = pd.DataFrame({"domain": ["in", "in"], "n_scored": [24, 24], "n": [25, 25]})
    assert "in-domain 24 of 25 scored" in tokens.about_kl_over_n(rows)


def test_a_bin_beyond_the_axis_is_explained() -> None:
    spread = pd.DataFrame(
        {
            "low": [0.0, 5.0],
            "high": [5.0, 9.0],
            "n_tuned": [90, 4],
            "n_restored": [91, 3],
            "beyond": [False, True],
        }
    )
    assert "Last bin: > 5.0 nats (4 tuned, 3 restored)" in tokens.about_spread(spread)
    assert tokens.about_spread(spread.iloc[:1]) == ""
