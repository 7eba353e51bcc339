"""Requests: exact types, unknown fields refused with the nearest known one, one plain form that is read back."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.specs import (
    ChainSpec,
    Checkpoints,
    EvaluateSpec,
    QuestionSpec,
    Restoring,
    Spec,
    StudySpec,
    value_of,
)
from sftknow_core.update.spec import RestoreSpec, percent

FULL_CHAIN = ChainSpec(
    level="mixed",
    n=None,
    seed=3,
    ks=(percent("0.5"), percent(20)),
    strategy="largest",
    region="mlp",
    layers="0-1",
    questions=QuestionSpec(per_level=7, seed=1),
    evaluate=EvaluateSpec(prompt="chat", matcher="exact", max_new_tokens=4, first_tokens=False),
    train_questions=None,
    controls=(
        RestoreSpec("block", block="mlp"),
        RestoreSpec("random", k_percent=percent(5), seed=2),
    ),
    equal_energy=("random", "interpolation"),
)
FULL_STUDY = StudySpec(
    name="mine",
    base="demo",
    data=FactsRef(data="x.csv", sample=4),
    levels=("mixed", "0"),
    sizes=(None, 60),
    seeds=(1, 0),
    methods=("lora",),
    preset="demo",
    training={"lr": 1e-3, "lora_targets": ("q_proj",)},
    ks=(percent(20),),
    restoring=(Restoring(strategy="bottom"),),
    controls=FULL_CHAIN.controls,
    control_sizes=(60,),
    checkpoints=Checkpoints.BEST,
)


@pytest.mark.parametrize(
    "spec", [FULL_CHAIN, FULL_STUDY, ChainSpec(), StudySpec(name="s")], ids=lambda spec: type(spec).__name__
)
def test_the_plain_form_is_read_back(spec: Spec) -> None:
    plain = json.loads(json.dumps(spec.model_dump(mode="json")))
    assert type(spec).model_validate(plain) == spec == pickle.loads(pickle.dumps(spec))


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        (ChainSpec, {"sede": 1}, "unknown field 'sede'; did you mean 'seed'?"),
        (
            ChainSpec,
            {"questions": {"per_leve": 1}},
            "questions: unknown field 'per_leve'; did you mean 'per_level'?",
        ),
        (ChainSpec, {"level": "7"}, "level: got '7'; allowed: 0, 1, 2, 3, 4, mixed, natural"),
        (ChainSpec, {"n": 0}, "n: got 0; allowed: at least 1, or 'all'"),
        (ChainSpec, {"n": "few"}, "n: got 'few'; allowed: a whole number, or \"all\""),
        (ChainSpec, {"seed": "1"}, "seed: got '1'; allowed: a whole number"),
        (ChainSpec, {"seed": True}, "seed: got True; allowed: a whole number"),
        (ChainSpec, {"baselines": 1}, "baselines: got 1; allowed: true or false"),
        (
            ChainSpec,
            {"five_shot": True, "evaluate": {"prompt": "five-shot"}},
            "five_shot: got true with prompt five-shot",
        ),
        (ChainSpec, {"ks": "5"}, "ks: got '5'; allowed: a list"),
        (ChainSpec, {"ks": ["101"]}, "k_percent: got 101; allowed: 0 to 100"),
        (ChainSpec, {"ks": [True]}, "ks: 0: got True; allowed: a number, or text"),
        (ChainSpec, {"region": "heads"}, "region: got 'heads'"),
        (ChainSpec, {"strategy": "interpolation"}, "strategy interpolation takes no k"),
        (
            ChainSpec,
            {"controls": [{"strategi": "top"}]},
            "unknown field 'strategi'; did you mean 'strategy'?",
        ),
        (ChainSpec, {"equal_energy": ["block"]}, "equal_energy: got 'block'; allowed: top, bottom"),
        (ChainSpec, {"equal_projection": ["block"]}, "equal_projection: got 'block'; allowed: top, bottom"),
        (QuestionSpec, {"per_level": 0}, "questions per level: got 0; allowed: at least 1, or 'all'"),
        (EvaluateSpec, {"max_new_tokens": 0}, "max_new_tokens: got 0; allowed: 1 or more"),
        (EvaluateSpec, {"matcher": "vague"}, "matcher: got 'vague'; allowed: words, substring, exact"),
        (StudySpec, {}, "name is missing"),
        (StudySpec, {"name": "a", "data": {"dat": "x"}}, "facts: unknown field 'dat'; did you mean 'data'?"),
        (
            StudySpec,
            {"name": "a", "data": {"sample": "x"}},
            "facts: sample: got 'x'; allowed: a whole number",
        ),
        (StudySpec, {"name": "a", "training": {"lr": "x"}}, "lr: got 'x'; allowed: a number"),
        (StudySpec, {"name": "a", "training": {"lr": -1}}, "lr: got -1"),
        (StudySpec, {"name": "a", "control_sizes": [7]}, "control_sizes: got 7; allowed: sizes of the study"),
        (
            StudySpec,
            {"name": "a", "controls": [{"strategy": "random"}]},
            "got none of them; allowed: one of k",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_way(kind: type[Spec], given: dict[str, Any], text: str) -> None:
    with pytest.raises(SpecError) as caught:
        kind(**given)
    assert text in str(caught.value)
    with pytest.raises(SpecError) as caught:
        kind.model_validate(given)
    assert text in str(caught.value)


def test_a_changed_copy_is_checked_too() -> None:
    assert FULL_CHAIN.but(n=5).but(n=None) == FULL_CHAIN
    with pytest.raises(SpecError, match="n: got 0"):
        FULL_CHAIN.but(n=0)
    with pytest.raises(SpecError, match="unknown field 'size'"):
        FULL_CHAIN.but(size=1)


def test_controls_of_a_study_are_one_restoration_an_amount() -> None:
    spec = StudySpec.model_validate(
        {"name": "a", "controls": [{"strategy": "random", "k": [5, "12.5"], "seed": 1}]}
    )
    assert spec.controls == tuple(RestoreSpec("random", k_percent=percent(k), seed=1) for k in (5, "12.5"))


DRAWN = ChainSpec(
    ks=("5", "20"),
    controls=(
        RestoreSpec("random", k_percent=percent(5)),
        RestoreSpec("random", k_percent=percent(9), seed=2),
    ),
    equal_energy=("random", "largest", "interpolation"),
    equal_projection=("random", "largest", "interpolation"),
)


def test_random_masks_are_the_chains_own() -> None:
    """Three each, no two alike between seeds, levels, sizes and given models; the same at every k, and asked again.

    All chains had the one mask of seed 0 before, which no number of chains averages out.
    """
    others = [DRAWN, DRAWN.but(seed=1), DRAWN.but(level="1"), DRAWN.but(n=60), DRAWN.but(n=None)]
    seeds = [one.mask_seeds() for one in others] + [DRAWN.mask_seeds("0a36"), DRAWN.mask_seeds("0b11")]
    assert all(len(set(one)) == 3 for one in seeds) and len({seed for one in seeds for seed in one}) == 21
    assert DRAWN.but(ks=("40",)).mask_seeds() == DRAWN.mask_seeds()
    first, second = DRAWN.but(random_masks=1).mask_seeds(), DRAWN.but(random_masks=2).mask_seeds()
    assert first == second[:1] and second == DRAWN.mask_seeds()[:2]
    with pytest.raises(SpecError, match="random_masks: got 0; allowed: 1 or more"):
        DRAWN.but(random_masks=0)


def test_a_random_control_without_a_seed_is_one_restoration_a_mask() -> None:
    *drawn, named = DRAWN.control_specs()
    assert [spec.seed for spec in drawn] == [*DRAWN.mask_seeds()] and named.seed == 2
    assert {str(spec.k_percent) for spec in drawn} == {"5"}
    given = DRAWN.control_specs("0a36")
    assert {spec.seed for spec in given} == {*DRAWN.mask_seeds("0a36"), 2}


def test_a_random_way_of_restoring_takes_the_chains_first_mask() -> None:
    way = ChainSpec(strategy="random", ks=("20",))
    assert {spec.seed for spec in way.restore_specs()} == {way.mask_seeds()[0]}
    assert way.restore_specs() != way.but(seed=1).restore_specs()
    assert {spec.seed for spec in ChainSpec(ks=("20",)).restore_specs()} == {None}


def test_controls_of_equal_energy_and_projection_are_counted_once() -> None:
    """Two k: own random 3 + 1, random 3 x 2, largest 2, interpolation 2 of either part."""
    assert DRAWN.n_controls == 4 + 6 + 2 + 4
    assert DRAWN.but(equal_projection=()).n_controls == 4 + 6 + 2 + 2
    assert DRAWN.but(equal_projection=("smallest",), equal_energy=(), random_masks=1).n_controls == 2 + 2


@pytest.mark.parametrize(
    ("changed", "draws"),
    [
        ({}, True),
        ({"equal_energy": (), "equal_projection": ()}, True),
        ({"controls": (), "equal_energy": ()}, True),
        ({"controls": (RestoreSpec("random", k_percent=percent(9), seed=2),), "equal_energy": ()}, True),
        ({"controls": (), "equal_energy": ("largest",), "equal_projection": ("interpolation",)}, False),
        (
            {
                "controls": (RestoreSpec("random", k_percent=percent(9), seed=2),),
                "equal_energy": (),
                "equal_projection": (),
            },
            False,
        ),
    ],
)
def test_only_what_is_drawn_depends_on_masks(changed: dict[str, Any], draws: bool) -> None:
    assert DRAWN.but(**changed).draws_masks is draws


def test_a_value_of_a_floor_below_is_read_by_its_own_fields() -> None:
    class Asked(Spec):
        """Something about facts."""

        facts: value_of(FactsRef) = FactsRef()  # type: ignore[valid-type]

    assert (
        Asked.model_validate({"facts": {"data": "x"}}).facts
        == FactsRef("x")
        == Asked(facts=FactsRef("x")).facts
    )
