"""The sentences beside the numbers: what they say, and that they never say more than the interval allows."""

from __future__ import annotations

from typing import Any

import pytest

from sftknow_core.present.text import story
from sftknow_core.results.chain import Chain
from sftknow_core.results.states import Accuracy, Shift, State
from sftknow_core.store.cache import Cache

NOTHING = "no significant change"


def accuracy(value: float | None, half: float = 0.04, reason: str | None = None) -> dict[str, Any]:
    ends = {} if value is None else {"low": value - half, "high": value + half}
    return {"accuracy": value, "low": None, "high": None, **ends, "n": 300, "reason": reason}


def gain(value: float, half: float) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "population": "questions"}


def details(**changes: Any) -> dict[str, Any]:
    kl = {"aligned": {"mean_nats": 1.4, "low_nats": 1.2, "high_nats": 1.6, "n": 54, "n_questions": 60}}
    less = {"aligned": {**kl["aligned"], "mean_nats": 0.5, "low_nats": 0.4, "high_nats": 0.6}}
    values = {"b": (0.02, {}), "t": (0.2, kl), "r": (0.3, less)}
    table = [
        {"state_id": state, "test_in": accuracy(value), "test_out": accuracy(value + 0.05), "kl": shift}
        for state, (value, shift) in values.items()
    ]
    found = {
        "base_id": "b",
        "tuned_id": "t",
        "tuned_name": "my tuned",
        "matcher": "words",
        "table": table,
        "chosen": {
            "k_percent": 20.0,
            "state_id": "r",
            "gain": {"test_in": gain(0.1, 0.03), "test_out": gain(0.1, 0.2)},
        },
        "changed_share": {"transformer": 0.999, "mlp": 1.0, "all": 0.95},
        "concentration": [{"k_percent": 1.0, "share": 0.75, "null_share": 0.7}],
        "five_shot": {"test_in": accuracy(0.4)},
        "stages": {"five_shot_states": {}},
        "train_set": {"level": "2", "n": 1920, "seed": 0},
        "params": {"restore": [{"strategy": "top", "region": "transformer"}]},
    }
    return found | changes


def both_prompts(**changes: Any) -> dict[str, Any]:
    """After five examples base 80, tuned 50, restored 65 in-domain, and 2, 20, 30 zero-shot."""
    found = details(**changes)
    for row, value in zip(found["table"], (0.8, 0.5, 0.65), strict=True):
        row["five_shot"] = {"test_in": accuracy(value), "test_out": accuracy(value - 0.1)}
    found["stages"] = {"five_shot_states": {"b": "1", "t": "2", "r": "3"}}
    tuning, won = ({f"test_{d}": gain(v, 0.05) for d in ("in", "out")} for v in (-0.3, 0.15))
    found["chosen"] = found["chosen"] | {"five_shot": {"tuning": tuning, "gain": won}}
    return found


def chosen(k: float, **gains: Any) -> dict[str, Any]:
    return {"k_percent": k, "state_id": "t" if k == 0 else "r", "gain": gains}


def as_chain(found: dict[str, Any]) -> Chain:
    """A handle that has read all this already."""

    def score(row: dict[str, Any] | None) -> Accuracy | None:
        return Accuracy(**row) if row else None

    def state(row: dict[str, Any]) -> State:
        groups = {"in": score(row["test_in"]), "out": score(row["test_out"])}
        scores = {("test", name): one for name, one in groups.items() if one}
        five = {("test", k[5:]): Accuracy(**one) for k, one in row.get("five_shot", {}).items()}
        kind = {"b": "base", "t": "tuned"}.get(row["state_id"], "restored")
        shift = Shift(*row["kl"]["aligned"].values()) if row["kl"] else None
        return State(row["state_id"], kind, None, "", scores, five, score(row.get("train")), shift)

    chosen = {"rule": "", **found["chosen"]}
    for gains in (chosen, *([chosen["five_shot"]] if "five_shot" in chosen else [])):
        for what in {"gain", "tuning"} & gains.keys():
            gains[what] = {
                name: one and {"p_value": None, "n_questions": 0, **one} for name, one in gains[what].items()
            }
    chain = Chain(Cache.__new__(Cache), "c")
    identity = {"kind": "chain", "inputs": {}, "params": found["params"], "versions": {}}
    known = {"_summary": found | {"chosen": chosen}, "states": tuple(map(state, found["table"]))}
    chain.__dict__.update(known | {"_description": identity})
    return chain


def key_numbers(found: dict[str, Any]) -> tuple[story.KeyNumber, ...]:
    return story.key_numbers(as_chain(found))


def how_measured(found: dict[str, Any]) -> str:
    return story.how_measured(as_chain(found))


def mean_shift(found: dict[str, Any]) -> str:
    return story.mean_shift(as_chain(found))


def test_numbers_with_units_and_intervals() -> None:
    base, tuned, restored, won, changed = key_numbers(details(five_shot=None))
    assert [(p.label, p.value, p.interval) for p in tuned.parts] == [
        ("in-domain, zero-shot", "20.0%", "16.0 to 24.0"),
        ("out-of-domain, zero-shot", "25.0%", "21.0 to 29.0"),
    ]
    assert restored.name == "Restored, k = 20%" and won.name == "Recovery (pp)"
    assert (won.parts[0].value, won.parts[0].interval) == ("+10.0", "+7.0 to +13.0")
    assert [p.value for p in changed.parts] == ["99.9%", "95.0%"] and base.parts[0].value == "2.0%"


def test_both_prompts_stand_in_blocks_of_their_own() -> None:
    base, tuned, restored, won, _ = key_numbers(both_prompts())
    labels = [f"{d}, {p}" for p in ("5-shot", "zero-shot") for d in ("in-domain", "out-of-domain")]
    assert all([p.label for p in number.parts] == labels for number in (base, tuned, restored, won))
    assert [p.value for p in base.parts] == ["80.0%", "70.0%", "2.0%", "7.0%"]
    assert [p.value for p in tuned.parts] == ["50.0%", "40.0%", "20.0%", "25.0%"]
    assert [p.value for p in won.parts] == ["+15.0", "+15.0", "+10.0", "+10.0"]
    assert "Minus base, both 5-shot: -30.0 pp in-domain (-35.0 to -25.0)" in tuned.sentence
    assert won.sentence.startswith(
        "5-shot: improved in both domains. Zero-shot: improved in-domain; no significant"
    )
    assert "within one prompt" in how_measured(both_prompts())


def test_a_base_asked_alone_after_examples_is_compared_with_nothing() -> None:
    base, tuned, restored, won, _ = key_numbers(details())
    assert [p.value for p in base.parts] == ["40.0%", "–", "2.0%", "7.0%"]
    for number in (tuned, restored, won):
        first = number.parts[0]
        assert (first.label, first.value) == ("in-domain, 5-shot", "–")
        assert first.interval == "not asked with five examples"
    assert "not asked under a prompt comparable with fine-tuned" in base.sentence
    assert "base" not in tuned.sentence and "base has no comparable number" in how_measured(details())


@pytest.mark.parametrize(("prompt", "said"), [("five-shot", "5-shot"), ("completion", "completion prompts")])
def test_a_run_asked_by_another_way_alone_is_labelled_so(prompt: str, said: str) -> None:
    found = details(params={"evaluate": {"prompt": prompt}})
    base, *_ = key_numbers(found)
    assert [p.label for p in base.parts] == [f"in-domain, {said}", f"out-of-domain, {said}"]
    assert "comparable" not in base.sentence and said in how_measured(found)


def test_each_sentence_says_what_was_done() -> None:
    _, tuned, restored, _, changed = (number.sentence for number in key_numbers(details()))
    assert "1,920 other facts of mastery level 2" in tuned
    assert (
        "20% of transformer-layer weights reverted (ranking: largest relative change)" in restored
        and "chosen on dev" in restored
    )
    assert "top 1% contain 75%" in changed and "(70% if changes were shuffled)" in changed


@pytest.mark.parametrize(
    ("in_domain", "out_of_domain", "said"),
    [
        (gain(0.1, 0.03), gain(0.1, 0.2), f"Improved in-domain; {NOTHING} out-of-domain"),
        (gain(0.1, 0.03), gain(0.2, 0.1), "Improved in both domains"),
        (gain(0.0, 0.03), gain(0.01, 0.03), f"{NOTHING.capitalize()} in both domains"),
        (gain(-0.1, 0.03), None, "Worse in-domain"),
        (gain(0.03, 0.03), None, f"{NOTHING.capitalize()} in-domain"),
        (None, None, "Not evaluated"),
    ],
)  # fmt: skip
def test_the_gain_claims_no_more_than_its_interval(in_domain: Any, out_of_domain: Any, said: str) -> None:
    found = key_numbers(details(chosen=chosen(20, test_in=in_domain, test_out=out_of_domain)))[3]
    said = f"Zero-shot: {said[0].lower()}{said[1:]}"
    assert found.sentence == f"{said}. Restored minus tuned, same questions and prompt."


def test_k_0_has_no_recovery() -> None:
    found = key_numbers(details(five_shot=None, chosen=chosen(0, test_in=gain(0, 0), test_out=gain(0, 0))))
    assert found[3].parts[0].value == "–" and "No weight was reverted" in found[3].sentence
    assert "The tuned model (k = 0)" in found[2].sentence


def test_other_strategies_and_given_models_are_named() -> None:
    other = {"restore": [{"strategy": "bottom", "region": "mlp"}]}
    found = key_numbers(details(params=other, train_set=None))
    assert "20% of mlp weights reverted (ranking: smallest relative change)" in found[2].sentence
    assert found[1].sentence == "External fine-tuned model: my tuned."


def test_what_was_not_scored_is_a_dash_with_its_reason() -> None:
    table = details()["table"]
    table[0]["test_out"] = None
    table[1]["test_in"] = accuracy(None, reason="no question")
    base, tuned, *_ = key_numbers(details(table=table, five_shot=None))
    assert (base.parts[1].value, base.parts[1].interval) == ("–", "not evaluated")
    assert (tuned.parts[0].value, tuned.parts[0].interval) == ("–", "no question")


def test_how_it_was_measured_names_n_matcher_population_and_gaps() -> None:
    table = details()["table"]
    table[0]["test_in"] = accuracy(0.1, reason="mean without level 3: no questions")
    said = how_measured(details(table=table, matcher="substring"))
    assert "300 in-domain, 300 out-of-domain" in said and "In-domain: mean without level 3" in said
    assert "(matcher “substring”)" in said and "does not cover seeds" in said


def test_mean_shift_of_tuned_and_restored() -> None:
    said = mean_shift(details())
    assert "n = 54 of 60" in said
    assert "1.40 nats (95% CI 1.20 to 1.60) after tuning, 0.50 nats" in said
    table = details()["table"]
    table[1]["kl"] = {}
    assert mean_shift(details(table=table)) == "No level-4 test question could be scored."


def test_the_floor_the_train_facts_and_the_optimism_are_told_where_they_were_measured() -> None:
    plain = key_numbers(details())
    assert not any("Majority" in n.sentence or "train facts" in n.sentence for n in plain)
    found = details(majority={"test_in": accuracy(0.048)})
    found["table"][1]["train"] = accuracy(0.554, reason="mean without level 0: no questions") | {"n": 300}
    picked = {"k_percent": 40.0, "optimism": 0.016}
    found["chosen"] = found["chosen"] | {"test_picked": picked}
    base, tuned, restored, *_ = key_numbers(found)
    assert base.sentence.endswith("Majority baseline: 4.8%.")
    assert tuned.sentence.endswith("Accuracy on 300 train facts: 55.4% (51.4 to 59.4).")
    assert "Choosing k on test (k = 40%) would report 1.6 pp more in-domain, zero-shot" in restored.sentence
    found["chosen"]["test_picked"] = picked | {"optimism": 0.0}
    assert key_numbers(found)[2].sentence.endswith("Also the best k on test.")
    found["train_set"] = {"level": "mixed", "n": 300, "seed": 0}
    assert "Accuracy on train facts: 55.4% (51.4 to 59.4; mean without level 0: no questions)." in (
        key_numbers(found)[1].sentence
    )
