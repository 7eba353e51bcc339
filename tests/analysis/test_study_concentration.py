"""C1b and C2b against permuted changes: by hand, with permutations that nothing distinguishes, and without any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_study import frame, held, make

from sftknow_core.analysis.claims_weights import _beyond, weight_claims
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import StudyTables
from sftknow_core.analysis.verdict import Status, Verdict
from sftknow_core.update.null import against


@pytest.fixture(scope="module")
def tables() -> StudyTables:
    """One cell, three seeds."""
    return make(lambda *_: 0.5, levels=("2",), sizes=("60",), ks=(0.0,), per_level=1)


def c1b(tables: StudyTables, rows: list[dict[str, object]]) -> Verdict:
    chains = tables.chains["chain"]
    beside = {"k_percent": 1.0, "energy_share": 0.1, "changed_share": 1.0}
    found = pd.concat(
        [frame(chain=[chain], **beside, **row) for chain, row in zip(chains, rows, strict=True)]
    )
    return _beyond(Study(replace(tables, concentration=found)), "C1b", 1)


def row(
    share: float, null: float, half: float, p_more: float, p_two: float, n: int = 196
) -> dict[str, object]:
    return {"share": share, "null_share": null, "null_sd": half / 2, "null_low": null - half, "null_high": null + half,
            "n_permutations": n, "p_more": p_more, "p_two_sided": p_two, "top_20_share": 0.4}  # fmt: skip


def test_every_chain_must_agree_by_hand(tables: StudyTables) -> None:
    """Excesses 10, 8 and 6 points, half widths 4, 3 and 2: 8 on average, 3 on either side and 1.96 times the mean sd
    (1.5) by the root of 196 (14) more: 8 - 3.21 to 8 + 3.21. The largest p counts: 2 * 0.02."""
    rows = [
        row(0.7, 0.6, 0.04, 0.005, 0.01),
        row(0.68, 0.6, 0.03, 0.005, 0.01),
        row(0.66, 0.6, 0.02, 0.02, 0.04),
    ]
    found = c1b(tables, rows)
    (part,) = found.parts
    assert (part.effect, part.low, part.high) == pytest.approx((8, 4.79, 11.21))
    assert part.p == pytest.approx(0.04) and part.seeds == 3
    assert found.verdict is Status.SHOWN
    assert found.population == "this base model's weights"
    assert "196 permutations a chain" in found.sentence and "this base model only" in found.sentence


def test_one_chain_within_its_null_leaves_it_open(tables: StudyTables) -> None:
    rows = [
        row(0.7, 0.6, 0.01, 0.005, 0.01),
        row(0.7, 0.6, 0.01, 0.005, 0.01),
        row(0.61, 0.6, 0.01, 0.1, 0.2),
    ]
    assert c1b(tables, rows).verdict is Status.UNDECIDED
    assert c1b(tables, rows).p == pytest.approx(0.2)


def test_chains_that_lie_on_opposite_sides_decide_nothing(tables: StudyTables) -> None:
    """Each alone is far from its null; "more" holds for one only, so its largest rank p is that of the others."""
    rows = [
        row(0.9, 0.6, 0.01, 0.005, 0.01),
        row(0.55, 0.6, 0.01, 1.0, 0.01),
        row(0.55, 0.6, 0.01, 1.0, 0.01),
    ]
    found = c1b(tables, rows)
    assert found.p == 1 and found.verdict is Status.UNDECIDED


def test_less_than_every_null_is_the_opposite(tables: StudyTables) -> None:
    found = c1b(tables, [row(0.55, 0.6, 0.02, 1.0, 0.01)] * 3)
    assert found.verdict is Status.CONTRADICTED and found.effect == pytest.approx(-5)
    assert found.p == pytest.approx(0.01)


def test_one_permutation_is_no_null(tables: StudyTables) -> None:
    """Chains of earlier versions: no columns, or empty ones. Beside measured ones they do not count."""
    old = {"share": 0.7, "null_share": 0.6}
    why = "measured with one permutation; measure the pair again"
    found = c1b(tables, [old] * 3)
    assert found.verdict is Status.NOT_TESTED and why in found.sentence
    new = row(0.7, 0.6, 0.04, 0.005, 0.01)
    empty = dict.fromkeys(new, np.nan) | old
    assert why in c1b(tables, [empty] * 3).sentence
    mixed = c1b(tables, [empty, new, new])
    assert mixed.parts[0].seeds == 2 and mixed.verdict is Status.UNDECIDED


def test_what_never_was_measured_says_so(tables: StudyTables) -> None:
    assert "not measured" in {v.claim_id: v for v in weight_claims(Study(tables))}["C2b"].sentence


def test_permuted_changes_are_rarely_called_anything(tables: StudyTables) -> None:
    """200 studies of a base of 2 tensors of 1,000 weights, whose changes are permuted: the true null. Their three
    chains are as dependent as can be (the same changes), and every study has the same |p|. A verdict at 0.05 comes in
    10 of 200 studies, in more than 20 with a probability of 0.1%. Judged by seeds as replicates against one permutation
    for all, most of them get one."""
    rng = np.random.default_rng(5)
    p = np.abs(rng.normal(0, 0.02, (2, 1000))) + 1e-8
    n, decided, naive = 59, 0, 0

    def shares(d: np.ndarray) -> np.ndarray:
        """d [..., 2, 1000] -> share of the 20 largest r."""
        r = (d / p).reshape(*d.shape[:-2], 2000)
        return np.partition(r, -20, axis=-1)[..., -20:].sum(-1) / r.sum(-1)

    def null(d: np.ndarray, draws: int) -> np.ndarray:
        return shares(rng.permuted(np.broadcast_to(d, (draws, 2, 1000)), axis=-1))

    for _ in range(200):
        d = np.abs(rng.normal(0, 1e-3, (2, 1000)))
        share = float(shares(d))
        once = float(null(d, 1)[0])
        rows = []
        for _ in range(3):
            a = against(null(d, n), share)
            rows.append(
                {"share": share, "null_share": a.mean, "null_sd": a.sd, "null_low": a.low, "null_high": a.high,
                 "n_permutations": a.n, "p_more": a.p_more, "p_two_sided": a.p_two_sided, "top_20_share": 0.4}
            )  # fmt: skip
        decided += c1b(tables, rows).verdict in (Status.SHOWN, Status.CONTRADICTED)
        naive += abs(share - once) > 0.01  # the same in all seeds, so their interval has no width
    assert decided <= 20
    assert naive > 100


def test_shares_beside_even_permutations() -> None:
    """What the made-up studies take: 0.64 is 2 sd above 0.6, and 2 of 199 evenly spread permutations hold more."""
    found = held(0.64, 0.6)
    assert found["p_more"] < 0.05 and found["p_two_sided"] == 2 * found["p_more"]
