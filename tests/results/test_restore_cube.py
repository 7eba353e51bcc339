"""What a selection takes, from the cube of a made-up pair: against its 16 weights counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_cube import small_model, write_cube

from sftknow_core.errors import SpecError
from sftknow_core.results import Cube
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import RestoreSpec


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cache, str]:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return cache, write_cube(cache, small_model())


def test_numbers_of_the_two_largest(pair: tuple[Cache, str]) -> None:
    """12.5% of 16 weights: r = 4 and 2 of a sum of 4+1+1+2+2(1+1/256)+.5+.5; d^2 = 4+1 of 9.5 (4+1+1+1+1+1+.25+.25)."""
    numbers = Cube(*pair).selection(RestoreSpec(k_percent="12.5"))
    assert (numbers.n_region, numbers.n_restored, numbers.n_model) == (16, 2, 28)
    assert numbers.share == pytest.approx(6 / (11 + 2 / 256))
    assert numbers.energy_taken_back == pytest.approx(5 / 9.5)
    assert numbers.null_share == pytest.approx(numbers.share)  # this cube's null repeats its r
    assert numbers.no_more_changes_from_k == 50  # 8 of 16 changed
    assert numbers.k_of_changed_percent == 25


def test_groups_add_up(pair: tuple[Cache, str]) -> None:
    taken = Cube(*pair).places(RestoreSpec(k_percent="12.5"))
    assert taken.layers["n_restored"].tolist() == [2, 0]
    assert taken.modules["n_restored"].tolist() == [1, 1]
    assert taken.layers["enrichment"].tolist() == [2, 0]
    assert Cube(*pair).places(RestoreSpec(region="embedding", k_percent="20")).layers.empty


def test_smallest_first_has_the_mirrored_null_and_absolute_has_none(pair: tuple[Cache, str]) -> None:
    low = Cube(*pair).selection(RestoreSpec("bottom", k_percent="87.5"))
    assert low.null_share == pytest.approx(1 - 6 / (11 + 2 / 256))
    assert low.share == pytest.approx(low.null_share)
    assert Cube(*pair).selection(RestoreSpec("largest", k_percent="5")).null_share is None


@pytest.mark.parametrize("strategy", ["top", "bottom", "largest", "smallest"])
def test_curve_agrees_with_single_ks(pair: tuple[Cache, str], strategy: str) -> None:
    curve = Cube(*pair).curve(RestoreSpec(strategy, k_percent="0", layers="0")).set_index("k_percent")
    for k in ("0", "37.5", "100"):
        numbers = Cube(*pair).selection(RestoreSpec(strategy, k_percent=k, layers="0"))
        assert curve.loc[float(k), "share"] == pytest.approx(numbers.share)
        assert curve.loc[float(k), "energy_taken_back"] == pytest.approx(numbers.energy_taken_back)


def test_what_the_cube_cannot_say_is_an_error(pair: tuple[Cache, str], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="strategy: got random"):
        Cube(*pair).selection(RestoreSpec("random", k_percent="5"))
    with pytest.raises(SpecError, match="the model has layers 0-1"):
        Cube(*pair).selection(RestoreSpec(k_percent="5", layers="2"))
    with pytest.raises(SpecError, match="no comparison of two models"):
        Cube(Cache(tmp_path), "0" * 16).selection(RestoreSpec(k_percent="5"))
