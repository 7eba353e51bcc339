"""Masks of several fine-tunings against a slow count with numpy, and against numbers worked by hand.

By hand, one tensor of 10 weights p = 1..10, k = 20% (2 weights). d is 10 where a mask lies and 0.001 elsewhere, so the
largest relative changes are the planted ones: A takes places {0, 1}, B {1, 2}; the smallest |p| are {0, 1}. A and B
share 1 of 3 weights: Jaccard 1/3; by chance 0.2 / 1.8 = 1/9. A with the smallest |p|: 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.model.io.tensors import ModelSource
from sftknow_core.update.masks import overlaps, restore_by_donor
from sftknow_core.update.pair import Pair
from sftknow_core.update.restore import restore_into
from sftknow_core.update.select import plan_for
from sftknow_core.update.spec import RestoreSpec, percent


class Weights(torch.nn.Module):
    """Tensors named as those of a transformer's MLP."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList()
        for values in tensors.values():
            layer = torch.nn.Module()
            layer.mlp = torch.nn.Module()
            layer.mlp.up_proj = torch.nn.Linear(values.shape[1], values.shape[0], bias=False)
            with torch.no_grad():
                layer.mlp.up_proj.weight.copy_(values)
            self.layers.append(layer)


def pairs_of(base: list[torch.Tensor], changes: list[list[torch.Tensor]]) -> list[Pair]:
    def source(values: list[torch.Tensor]) -> ModelSource:
        return ModelSource(Weights({str(i): v for i, v in enumerate(values)}))

    return [
        Pair(source(base), source([b + d for b, d in zip(base, change, strict=True)])) for change in changes
    ]


def by_hand() -> list[Pair]:
    p = torch.arange(1.0, 11.0).view(1, 10)
    a, b = torch.full((1, 10), 0.001), torch.full((1, 10), 0.001)
    a[0, [0, 1]], b[0, [1, 2]] = 10.0, 10.0
    return pairs_of([p], [[a], [b]])


def row(found, first, second, k=20):
    (one,) = [o for o in found if (float(o.k_percent), o.first, o.second) == (k, first, second)]
    return one


def test_by_hand() -> None:
    found = overlaps(by_hand(), ["20"], region="all")
    both = row(found, 0, 1)
    assert (both.n, both.n_first, both.n_second, both.n_both) == (10, 2, 2, 1)
    assert both.jaccard == pytest.approx(1 / 3) and both.chance_jaccard == pytest.approx(1 / 9)
    smallest = row(found, 0, None)
    assert smallest.n_both == 2 and smallest.jaccard == 1
    assert row(found, 1, None).n_both == 1
    # every weight is a decile of its own: within deciles each is in a mask or not, and nothing is left to chance
    assert both.n_expected == pytest.approx(1) and both.expected_jaccard == pytest.approx(1 / 3)
    # of A's squared change, 200 + 8e-6, B's mask holds 100 + 1e-6; its own holds 200
    assert both.energy_share == pytest.approx((100 + 1e-6) / (200 + 8e-6)) and both.own_energy_share > 0.999


def slow(p, d, k):
    """Index of the k largest |d| / |p|, and of the k smallest |p|, over the flattened region; ties by place."""
    r = np.abs(d) / (np.abs(p) + np.float32(1e-8))
    return set(np.argsort(-r, kind="stable")[:k]), set(np.argsort(np.abs(p), kind="stable")[:k])


def test_against_a_slow_count_with_random_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    base = [torch.randn(40, 50, generator=generator), torch.randn(30, 70, generator=generator) * 0.1]
    changes = [[torch.randn(b.shape, generator=generator) * 0.01 for b in base] for _ in range(3)]
    pairs = pairs_of(base, changes)
    found = overlaps(pairs, ["5", "40"], region="all")
    p = np.concatenate([b.numpy().ravel() for b in base])
    ds = []
    for change in changes:
        tuned = [(b + d).numpy().ravel() for b, d in zip(base, change, strict=True)]
        ds.append(np.concatenate(tuned) - p)
    for k in (5, 40):
        count = len(p) * k // 100
        masks = [slow(p, d, count)[0] for d in ds]
        small = slow(p, ds[0], count)[1]
        for first, mask in enumerate(masks):
            assert row(found, first, None, k).n_both == len(mask & small)
            for second, other in enumerate(masks):
                if first != second:
                    one = row(found, first, second, k)
                    assert one.n_both == len(mask & other)
                    energy = ds[first].astype(np.float64) ** 2
                    assert one.energy_share == pytest.approx(
                        energy[list(other)].sum() / energy.sum(), rel=1e-5
                    )
    assert len(found) == 2 * 3 * 3


def test_seeds_agree_because_small_weights_do_and_not_beyond() -> None:
    """Independent changes of shared weights: masks overlap far more than chance, and as |p| alone foretells."""
    generator = torch.Generator().manual_seed(1)
    base = [torch.randn(200, 300, generator=generator)]
    changes = [[torch.randn(200, 300, generator=generator) * 0.01] for _ in range(2)]
    one = row(overlaps(pairs_of(base, changes), ["20"], region="all"), 0, 1)
    assert one.jaccard > one.chance_jaccard + 0.2
    assert one.jaccard == pytest.approx(one.expected_jaccard, abs=0.03)


def test_a_shared_choice_goes_beyond_small_weights() -> None:
    """The same random tenth of the weights changes in both runs: far more agreement than by |p|."""
    generator = torch.Generator().manual_seed(2)
    base = [torch.randn(200, 300, generator=generator)]
    where = torch.rand(200, 300, generator=generator) < 0.1
    changes = [[where * torch.randn(200, 300, generator=generator) * 0.01] for _ in range(2)]
    one = row(overlaps(pairs_of(base, changes), ["10"], region="all"), 0, 1, 10)
    assert one.jaccard > 0.9 and one.expected_jaccard < 0.4


def test_ties_are_counted_in_canonical_order() -> None:
    """Equal weights and equal changes everywhere: every mask is the first k% and they are all the same."""
    base = [torch.ones(10, 10)]
    found = overlaps(
        pairs_of(base, [[torch.full((10, 10), 0.5)], [torch.full((10, 10), 0.25)]]), ["7"], region="all"
    )
    assert {(o.n_first, o.n_both, o.jaccard) for o in found} == {(7, 7, 1.0)}


def test_nothing_changed_has_no_share() -> None:
    base = [torch.ones(10, 10)]
    found = overlaps(
        pairs_of(base, [[torch.zeros(10, 10)], [torch.full((10, 10), 0.25)]]), ["20"], region="all"
    )
    assert row(found, 0, 1).energy_share is None and row(found, 1, 0).energy_share == pytest.approx(0.2)


def test_the_donors_mask_restores_the_other_model() -> None:
    first, second = by_hand()
    plan = plan_for(second, RestoreSpec("top", "all", None, percent("20")))
    working = Weights({"0": torch.zeros(1, 10)})
    assert restore_by_donor(working, first, second, plan) == 2
    out = working.layers[0].mlp.up_proj.weight.detach().view(-1)
    tuned = first.tuned.read(first.metas[0].name, 0, 10)
    expected = tuned.clone()
    expected[[1, 2]] = torch.tensor([2.0, 3.0])
    assert torch.equal(out, expected)


def test_the_own_mask_is_what_restore_does() -> None:
    first, _ = by_hand()
    plan = plan_for(first, RestoreSpec("top", "all", None, percent("30")))
    one, other = Weights({"0": torch.zeros(1, 10)}), Weights({"0": torch.zeros(1, 10)})
    restore_by_donor(one, first, first, plan)
    restore_into(other, first, plan)
    assert torch.equal(one.layers[0].mlp.up_proj.weight, other.layers[0].mlp.up_proj.weight)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(SpecError, match="two or more"):
        overlaps(by_hand()[:1], ["20"], region="all")
    with pytest.raises(SpecError, match="takes alpha"):
        overlaps(by_hand(), ["20"], strategy="interpolation", region="all")
    other = pairs_of([torch.ones(2, 3)], [[torch.ones(2, 3)]])
    with pytest.raises(ModelError, match="masks are compared between"):
        overlaps([by_hand()[0], other[0]], ["20"], region="all")
