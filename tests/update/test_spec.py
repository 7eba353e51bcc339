"""Amounts, regions and specs: exact counts, one spelling, clear refusals."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import floor

import pytest
from fake_source import FakeSource, random_tensors
from hypothesis import given
from hypothesis import strategies as st

from sftknow_core.errors import SpecError
from sftknow_core.update.region import Region, layers_text, parse_layers
from sftknow_core.update.select import count_for
from sftknow_core.update.spec import RestoreSpec

METAS = FakeSource(random_tensors()).metas


@given(n=st.integers(0, 10**12), k=st.integers(0, 1_000_000))
def test_count_is_the_floor_of_the_exact_product(n: int, k: int) -> None:
    text = f"{k // 10_000}.{k % 10_000:04d}"
    assert count_for(n, text) == floor(n * Fraction(k, 1_000_000))
    assert count_for(n, Decimal(text)) == count_for(n, text)


def test_count_by_hand() -> None:
    """29% of 100 is 29, which binary floats get wrong (100 * 0.29 = 28.999...); 1% of 23,552 is 235.52."""
    assert count_for(100, "29") == 29
    assert count_for(23_552, 1.0) == 235
    assert count_for(10, "0.0001") == 0
    assert count_for(7, 100) == 7


@pytest.mark.parametrize("k", ["-1", "100.0001", "0.00001", "many", "nan", "inf", None])
def test_bad_amounts_are_refused(k: object) -> None:
    with pytest.raises(SpecError, match="k_percent"):
        count_for(100, k)  # type: ignore[arg-type]


def test_layers_are_read_and_spelled_one_way() -> None:
    assert parse_layers("0-3,5") == {0, 1, 2, 3, 5}
    assert parse_layers(None) is None
    assert layers_text(" 5, 0-2,3 ") == "0-3,5"


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1,,2", "0-3;5"])
def test_bad_layers_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="layers"):
        parse_layers(text)


@pytest.mark.parametrize(
    ("name", "layers", "kinds", "n"),
    [
        ("transformer", None, {"attention", "mlp", "other"}, 896),
        ("attention", None, {"attention"}, 256),
        ("mlp", None, {"mlp"}, 576),
        ("embedding", None, {"embedding", "lm_head"}, 256),
        ("all", None, {"attention", "mlp", "other", "norm", "embedding", "lm_head"}, 1176),
        ("transformer", "1", {"attention", "mlp", "other"}, 448),
        ("all", "0-1", {"attention", "mlp", "other", "norm"}, 912),
    ],
)
def test_regions(name: str, layers: str | None, kinds: set[str], n: int) -> None:
    found = Region(name, layers).resolve(METAS)
    assert {m.kind for m in found} == kinds
    assert sum(m.numel for m in found) == n
    assert list(found) == sorted(found, key=lambda m: m.position)


def test_regions_that_do_not_exist_are_refused() -> None:
    with pytest.raises(SpecError, match=r"region: got 'head'; allowed: transformer"):
        Region("head")
    with pytest.raises(SpecError, match=r"the model has layers 0-1"):
        Region("mlp", "0-2").resolve(METAS)
    with pytest.raises(SpecError, match="is empty"):
        Region("embedding", "0").resolve(METAS)
    with pytest.raises(SpecError, match="is empty"):
        Region("attention").resolve([m for m in METAS if m.kind != "attention"])


@pytest.mark.parametrize(
    "fields",
    [
        {"k_percent": "20"},
        {"strategy": "random", "k_percent": 0.5, "seed": 3, "layers": "0-1"},
        {"strategy": "interpolation", "alpha": "-0.25"},
        {"strategy": "random-reference", "k_percent": 1},
    ],
)
def test_json_round_trip(fields: dict[str, object]) -> None:
    spec = RestoreSpec(**fields)  # type: ignore[arg-type]
    assert RestoreSpec.from_json(spec.to_json()) == spec


def test_equal_specs_have_one_json_form_and_one_state() -> None:
    one = RestoreSpec("top", layers="0,1", k_percent=Decimal("20.0"))
    other = RestoreSpec("top", layers="0-1", k_percent=20)  # type: ignore[arg-type]
    assert one == other
    assert one.to_json() == other.to_json()
    assert one.to_json()["k_percent"] == "20"
    assert one.state_id("a", "b") == other.state_id("a", "b")
    assert len(one.state_id("a", "b")) == 16


def test_state_id_tells_states_apart() -> None:
    specs = [
        RestoreSpec(k_percent=Decimal(20)),
        RestoreSpec(k_percent=Decimal("20.0001")),
        RestoreSpec("bottom", k_percent=Decimal(20)),
        RestoreSpec(region="mlp", k_percent=Decimal(20)),
        RestoreSpec(layers="0", k_percent=Decimal(20)),
        RestoreSpec("random", k_percent=Decimal(20)),
        RestoreSpec("random", k_percent=Decimal(20), seed=1),
        RestoreSpec("interpolation", alpha=Decimal("0.2")),
    ]
    ids = {spec.state_id("base", "tuned") for spec in specs} | {specs[0].state_id("tuned", "base")}
    assert len(ids) == len(specs) + 1


def test_state_id_is_stable() -> None:
    """Results are kept under it: a change here orphans them and needs a new ALGORITHM_VERSION."""
    assert RestoreSpec(k_percent=Decimal(20)).state_id("base", "tuned") == "a383e3aa2daf0e92"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strategy": "up", "k_percent": 1}, "strategy: got 'up'; allowed: top, bottom"),
        ({}, "strategy top takes k_percent and no alpha"),
        ({"k_percent": 1, "alpha": 1}, "takes k_percent and no alpha"),
        ({"strategy": "interpolation", "k_percent": 1}, "takes alpha and no k_percent"),
        ({"strategy": "interpolation", "alpha": 1.6}, "alpha: got 1.6; allowed: -0.5 to 1.5"),
        ({"k_percent": 1, "seed": 1}, "takes no seed"),
        ({"strategy": "random", "k_percent": 1, "seed": -1}, "seed: got -1"),
        ({"k_percent": 1, "region": "heads"}, "region: got 'heads'"),
    ],
)
def test_bad_specs_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        RestoreSpec(**fields)  # type: ignore[arg-type]


def test_unknown_stored_field_is_refused() -> None:
    with pytest.raises(SpecError, match="unknown field 'kpercent'"):
        RestoreSpec.from_json({"kpercent": 3})


def test_nothing_restored_is_the_tuned_model() -> None:
    assert RestoreSpec(k_percent=Decimal(0)).is_tuned
    assert RestoreSpec("interpolation", alpha=Decimal(1)).is_tuned
    assert not RestoreSpec(k_percent=Decimal(1)).is_tuned
