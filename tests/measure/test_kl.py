"""KL over the first model's ten tokens, against numpy and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measure.slow_kl import slow_kl

from sftknow_core.errors import ModelError
from sftknow_core.measure import shift
from sftknow_core.measure.kl import NextTokens, top_ids


def compare(first, second):
    """All rows of the first against all rows of the second."""
    every = torch.arange(len(first))
    return shift.compare(NextTokens.of(first), every, NextTokens.of(second), every)


def test_two_tokens_by_hand():
    """p = (3/4, 1/4), q = (1/2, 1/2): KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.130812 nats."""
    found = compare(torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[5.0, 5.0]]).log())
    assert found.ids.tolist() == [[0, 1]]
    assert found.p_first.tolist()[0] == pytest.approx([0.75, 0.25])
    assert found.kl_nats.item() == pytest.approx(0.130812, abs=1e-6)
    assert found.outside_first.item() == pytest.approx(0.0, abs=1e-12)


def test_mass_outside_the_ten_by_hand():
    """Twenty equally likely tokens: the ten smallest ids, half of the mass outside. The second model has all
    its mass on token 19, outside the ten, and is flat within: KL 0."""
    first = torch.zeros(1, 20)
    second = torch.zeros(1, 20)
    second[0, 19] = 50.0
    found = compare(first, second)
    assert found.ids.tolist() == [list(range(10))]
    assert (found.outside_first.item(), found.kl_nats.item()) == (pytest.approx(0.5), 0.0)
    assert found.outside_second.item() == pytest.approx(1.0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 60), st.booleans())
def test_against_numpy(seed, n_vocab, tied):
    rng = np.random.default_rng(seed)
    first, second = (rng.normal(scale=3, size=(3, n_vocab)).astype(np.float32) for _ in range(2))
    if tied:  # as 16-bit logits are
        first, second = np.round(first), np.round(second)
    found = compare(torch.from_numpy(first), torch.from_numpy(second))
    for row in range(3):
        ids, nats, outside_first, outside_second = slow_kl(first[row], second[row])
        assert found.ids[row].tolist() == ids
        assert found.kl_nats[row].item() == pytest.approx(nats, abs=1e-9)
        assert found.outside_first[row].item() == pytest.approx(outside_first, abs=1e-9)
        assert found.outside_second[row].item() == pytest.approx(outside_second, abs=1e-9)
    assert (found.kl_nats >= 0).all()
    assert found.p_first.sum(dim=1).tolist() == pytest.approx([1.0] * 3)
    assert found.p_second.sum(dim=1).tolist() == pytest.approx([1.0] * 3)


def test_a_model_against_itself_has_not_moved():
    logits = torch.randn(50, 400, generator=torch.Generator().manual_seed(0))
    assert compare(logits, logits).kl_nats.tolist() == [0.0] * 50


def test_nearly_equal_models_never_go_below_zero():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2000, 30, generator=generator)
    nearly = logits + 1e-7 * torch.randn(2000, 30, generator=generator)
    assert (compare(logits, nearly).kl_nats >= 0).all()


def test_a_token_the_second_excludes_makes_it_infinite():
    second = torch.zeros(1, 3)
    second[0, 1] = -torch.inf
    assert compare(torch.zeros(1, 3), second).kl_nats.item() == torch.inf


def test_ties_at_the_tenth_place_take_the_smaller_id():
    logits = torch.tensor([[0.0] * 12 + [5.0], [1.0, *([2.0] * 12)]])
    assert top_ids(logits).tolist() == [[12, *range(9)], list(range(1, 11))]


def test_gold_by_hand():
    """Probabilities 0.5, 0.3, 0.1, 0.1: the last two share rank 3."""
    logits = torch.tensor([[0.5, 0.3, 0.1, 0.1]]).log()
    found = shift.gold(NextTokens.of(logits), torch.tensor([0, 0, 0]), torch.tensor([0, 1, 3]))
    assert found.p.tolist() == pytest.approx([0.5, 0.3, 0.1])
    assert found.rank.tolist() == [1, 2, 3]


def test_rows_are_picked_independently():
    generator = torch.Generator().manual_seed(2)
    first, second = torch.randn(5, 40, generator=generator), torch.randn(3, 40, generator=generator)
    here, there = torch.tensor([4, 0]), torch.tensor([2, 2])
    found = shift.compare(NextTokens.of(first), here, NextTokens.of(second), there)
    alone = compare(first[here], second[there])
    assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True))


def test_nan_is_refused():
    with pytest.raises(ModelError, match="NaN"):
        NextTokens.of(torch.full((1, 4), torch.nan))
