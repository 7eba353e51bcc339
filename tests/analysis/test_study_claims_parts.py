"""Single claims and choices in made-up studies: what counts as evidence, what is compared, and why one is open."""

from dataclasses import replace

import pandas as pd
import pytest
from fake_study import frame, held, make, mean_of

from sftknow_core.analysis.claims_restore import optimism_note, restore_claims
from sftknow_core.analysis.claims_size import size_claims
from sftknow_core.analysis.claims_strategy import pick
from sftknow_core.analysis.claims_tokens import token_claims
from sftknow_core.analysis.claims_unneeded import unneeded_claims
from sftknow_core.analysis.claims_weights import weight_claims
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import TUNED, StudyTables
from sftknow_core.analysis.verdict import Status
from sftknow_core.errors import SpecError


def test_optimism_is_that_of_picking_chain_by_chain():
    """Of 100 questions a level the chosen k = 20 answers 50 rightly in all three seeds, k = 60 answers 56, 50 and 44.
    Picked on test the chains gain 6, 0 and 0 points (of A, when all levels do so): 2.0. The mean over seeds of
    k = 60 is 50 as well, and would say 0."""
    tables = make(lambda *_: 0.5, levels=("2",), sizes=("1920",), noise=0.0, per_level=100)
    number = tables.answers["fact_id"].str.split("-").str[1].astype(int)
    limit = tables.answers["state_id"].map({"2-1920-3/top-60": 56, "2-1920-5/top-60": 44})
    turned = (number < limit).where(limit.notna(), tables.answers["right"].astype(bool))
    study = Study(replace(tables, answers=tables.answers.assign(right=turned)))
    assert optimism_note(study, "in") == "Picking k on test would have claimed 2.0 pp more"
    assert optimism_note(study, "out") == ""


def test_the_best_size_beats_each_other_size():
    """N = 240 leads 60 by 20 points and 1,920 by 30 at level 0. At level 2 they are alike: not shown there."""

    def peak(level, size, k, test, strategy):
        return {"60": 0.4, "240": 0.6, "1920": 0.3}[size] if level == "0" else 0.5

    found = {
        v.claim_id: v for v in size_claims(Study(make(peak, levels=("0", "2"), ks=(0.0,), per_level=150)))
    }["P1c"]
    parts = {part.label: part for part in found.parts}
    assert parts["level 0: N = 240 - 60"].effect == pytest.approx(20, abs=3)
    assert parts["level 0: N = 240 - 1920"].effect == pytest.approx(30, abs=3)
    assert [parts[f"level 0: N = 240 - {n}"].status for n in (60, 1920)] == [Status.SHOWN] * 2
    assert {parts[f"level 2: N = 240 - {n}"].status for n in (60, 1920)}.isdisjoint({Status.SHOWN})


def test_only_what_was_not_run_is_called_missing():
    """N = 60 ran and N = all did not. Of two sizes with other seeds, neither is missing."""
    found = {v.claim_id: v for v in size_claims(Study(make(mean_of, levels=("0", "2"), ks=(0.0,))))}
    assert found["P1d"].parts[0].reason == "not run: level 0, N = all"
    one, other = (
        make(mean_of, levels=("2",), sizes=(s,), seeds=of, ks=(0.0,))
        for s, of in (("60", (3,)), ("240", (4,)))
    )
    answers = pd.concat([one.answers, other.answers[other.answers["chain"] != "base"]])
    both = StudyTables(pd.concat([one.chains, other.chains]), pd.concat([one.states, other.states]), answers)
    found = {v.claim_id: v for v in size_claims(Study(both))}
    assert found["P1a"].parts[2].reason == "no seed has all of: level 2, N = 240; level 2, N = 60"


def test_a_conjunction_gives_the_reason_of_any_open_part():
    """On test too few questions: k = 60 costs nothing on train, which lies lower and has no reason of its own."""
    options = {
        "train_accuracy": lambda *_: 0.9,
        "n_train": 100,
        "noise": 0.0,
        "per_level": 90,
        "sizes": ("1920",),
    }
    found = {
        v.claim_id: v
        for v in unneeded_claims(Study(make(lambda *_: 0.5, prompts=("qa", "completion"), **options)))
    }
    part = found["U1a"].parts[0]
    assert (part.status, part.reason) == (
        Status.UNDECIDED,
        "90 questions in the smallest level or set, of at least 100",
    )
    assert part.label.endswith("train")


def test_unneeded_needs_test_train_and_completion_prompts():
    """60 / 62 of sum r is 97%: k = 60 counts, costs nothing, and stands only when all three ways were asked."""

    def kept(level, size, k, test, strategy):
        return 0.5

    options = {
        "train_accuracy": lambda level, size, k: 0.9,
        "noise": 0.0,
        "per_level": 200,
        "sizes": ("1920",),
    }
    both = {
        v.claim_id: v for v in unneeded_claims(Study(make(kept, prompts=("qa", "completion"), **options)))
    }
    assert both["U1a"].verdict is Status.SHOWN, both["U1a"].sentence
    without = {v.claim_id: v for v in unneeded_claims(Study(make(kept, **options)))}
    assert without["U1a"].verdict is Status.UNDECIDED
    assert "not measured: completion prompts" in without["U1a"].sentence
    assert {part.label.split(",")[2].strip() for part in both["U1a"].parts} == {"k = 60%"}


def no_change(*about):
    return 0.9


@pytest.mark.parametrize(("n_train", "verdict"), [(120, Status.SHOWN), (100, Status.UNDECIDED)])
def test_nothing_changed_in_few_train_questions_is_no_proof(n_train, verdict):
    """No answer changes. Floor of a seed: 1 / (n + 2) squared; of the mean of three, a third of that. n = 120: half
    width 1.96 * 100 / 122 / sqrt(3) = 0.928 pp, p = 0.035, and all five levels are so; n = 100: 1.109 pp."""
    tables = make(lambda *_: 0.5, train_accuracy=no_change, n_train=n_train, sizes=("1920",))
    found = next(v for v in restore_claims(Study(tables)) if v.claim_id == "R2")
    assert found.verdict is verdict, found.sentence
    assert {part.effect for part in found.parts} == {0.0}
    half = {120: 0.928, 100: 1.109}[n_train]
    assert (found.low, found.high) == pytest.approx((-half, half), abs=0.001)
    assert {part.n_smallest for part in found.parts} == {n_train}
    assert {part.n for part in found.parts} == {3 * n_train}


def test_few_train_questions_decide_nothing():
    tables = make(lambda *_: 0.5, train_accuracy=no_change, n_train=60, sizes=("1920",))
    found = next(v for v in restore_claims(Study(tables)) if v.claim_id == "R2")
    assert found.verdict is Status.UNDECIDED
    assert "60 questions in the smallest level or set" in found.sentence


def test_states_that_answered_other_train_questions_are_not_compared():
    tables = make(lambda *_: 0.5, train_accuracy=no_change, levels=("2",), sizes=("1920",))
    answers = tables.answers
    gone = (answers["split"] == "train") & (answers["state_id"] == "2-1920-3/top-20")
    gone &= answers["fact_id"].str.endswith("-7")
    with pytest.raises(SpecError, match="same train questions"):
        restore_claims(Study(replace(tables, answers=answers[~gone])))


def test_enrichment_of_layers_and_mlp():
    """Eight layers of 100 weights; the top 160 take 40 from each of the first three, 5 from the last two and 10
    from the others: 120 / 160 against 3 / 8 is twice as many as chance, 10 / 160 against 2 / 8 a quarter."""
    tables = make(mean_of, sizes=("1920",), ks=(0.0,))
    taken = [40, 40, 40, 10, 10, 10, 5, 5]
    parts = [
        frame(chain=chain, k_percent=20.0, by="layer", group=[str(i) for i in range(8)], n=100, n_restored=taken,
              n_restored_null=20)
        for chain in tables.chains["chain"]
    ]  # fmt: skip
    parts += [
        frame(chain=chain, k_percent=20.0, by="kind", group=["mlp", "attention"], n=[600, 200], n_restored=[120, 40],
              n_restored_null=20)
        for chain in tables.chains["chain"]
    ]  # fmt: skip
    tables = replace(tables, enrichment=pd.concat(parts, ignore_index=True))
    found = {v.claim_id: v for v in weight_claims(Study(tables))}
    assert found["L1"].verdict is Status.SHOWN, found["L1"].sentence
    assert [part.effect for part in found["L1"].parts] == pytest.approx([1.0, 0.75])
    assert found["L2"].verdict is Status.NOT_SHOWN  # 75% of the updates, 75% of the weights
    assert found["L2"].effect == pytest.approx(0)
    # under the null the MLP takes 20 of 40 restored with 6 / 8 of the weights: 2 / 3
    assert "permuted within each tensor it would be -0.333" in found["L2"].sentence


def test_where_weights_sit_is_asked_of_full_fine_tunings_of_cells_that_all_seeds_have():
    """The top 1% hold 80% in the three chains of level 2. An adapter's 10% in every seed and a second cell's 95%, of
    which one seed has run, would make it less or more."""
    tables = make(mean_of, sizes=("1920",), levels=("2", "4"), ks=(0.0,))
    adapters = tables.chains[tables.chains["level"] == "2"]
    adapters = adapters.assign(chain="lora-" + adapters["chain"], method="lora")
    own = [(chain, 0.80) for chain in tables.chains.loc[tables.chains["level"] == "2", "chain"]]
    shares_of = [*own, *((chain, 0.10) for chain in adapters["chain"]), ("4-1920-3", 0.95)]
    shares = pd.concat(
        frame(chain=[chain], k_percent=1.0, energy_share=0.1, changed_share=1.0, **held(share, 0.7))
        for chain, share in shares_of
    )
    places = pd.concat(
        frame(chain=chain, k_percent=20.0, by="kind", group=["mlp", "attention"], n=50,
              n_restored=[share * 10, 10 - share * 10], n_restored_null=5)
        for chain, share in shares_of
    )  # fmt: skip
    chains = pd.concat([tables.chains, adapters])
    found = {
        v.claim_id: v
        for v in weight_claims(Study(replace(tables, chains=chains, concentration=shares, enrichment=places)))
    }
    assert found["C1a"].effect == pytest.approx(10)
    assert found["C1b"].effect == pytest.approx(10)
    assert "they hold 80.0%" in found["C1a"].sentence
    assert found["L2"].effect == pytest.approx(0.6)  # 8 of 10 with half of the weights


def test_kl_tracks_loss():
    """The more KL a run has the lower its accuracy: the rank correlation over runs is -1 up to noise."""

    def kl(level, size):
        return 2 - mean_of(level, size, 0.0, 4)

    found = {v.claim_id: v for v in token_claims(Study(make(mean_of, kl=kl, ks=(0.0,))))}
    assert found["T3a"].verdict is Status.SHOWN, found["T3a"].sentence
    assert found["T3a"].effect > 0.8
    part = found["T3a"].parts[0]
    assert (part.n, part.n_smallest, part.population) == (120, 120, "cells, for these questions")
    assert found["T3b"].effect > 0


def test_few_level_4_questions_do_not_show_that_kl_tracks_loss():
    tables = make(mean_of, kl=lambda level, size: 2 - mean_of(level, size, 0.0, 4), ks=(0.0,), per_level=19)
    found = next(v for v in token_claims(Study(tables)) if v.claim_id == "T3a")
    assert found.verdict is Status.UNDECIDED
    assert "19 questions in the smallest level" in found.sentence


@pytest.mark.parametrize(
    ("at_240", "chosen"),
    [(65, ("2", "60")), (78, ("2", "240"))],
)
def test_the_smallest_size_within_one_standard_error_is_chosen(at_240, chosen):
    """100 questions a level, no noise. Level 2 answers 64% at N = 60; at N = 240 its seeds answer 68, 62 and 65%, in
    the mean 1 point more. se^2 = 3^2 / 3 over seeds and, 1 of 100 questions more in each of 5 levels, 0.01 * 0.99 / 99
    / 5 over questions: 1.8 points. So N = 60 is chosen, and level 2, not 0 with 60%. At 81, 75 and 78% it is not."""

    def by_size(level, size, k, test, strategy):
        return (0.60 if level == "0" else {"60": 0.64, "240": at_240 / 100}[size]) - (0.2 if k else 0)

    tables = make(by_size, levels=("0", "2"), sizes=("60", "240"), noise=0.0, per_level=100, ks=(0.0, 20.0))
    number = tables.answers["fact_id"].str.split("-").str[1].astype(int)
    moved = {"2-240-3/top-0": 3, "2-240-4/top-0": -3}
    limit = at_240 + tables.answers["state_id"].map(moved)
    turned = (number < limit).where(limit.notna(), tables.answers["right"].astype(bool))
    study = Study(replace(tables, answers=tables.answers.assign(right=turned)))
    found = pick(study, study.grid().cells(), TUNED)
    assert (found.cell.level, found.cell.size, found.n_candidates) == (*chosen, 4)


def test_top_against_random_of_the_same_count_and_of_the_same_energy():
    """Random weights of the same count are there as k = 20; those of the same energy stand beside k = 20."""

    def better(level, size, k, test, strategy):
        return 0.5 + (0.08 if strategy == "top" and k == 20 else 0.0)

    tables = make(better, strategies=("top", "random"), sizes=("1920",))
    found = {v.claim_id: v for v in unneeded_claims(Study(tables))}
    assert found["U2a"].verdict is Status.SHOWN, found["U2a"].sentence
    assert found["U2a"].effect == pytest.approx(8, abs=1)
    assert {found[c].verdict for c in ("U2b", "U2c")} == {Status.NOT_TESTED}

    states = tables.states
    other = (states["strategy"] == "random") & (states["k_percent"] == 20)
    for claim_id, strategy, amounts in (
        ("U2b", "random", (31.7, None)),
        ("U2c", "interpolation", (None, 0.83)),
    ):
        set_to = states.assign(beside_k=20.0 * other.where(other))
        set_to.loc[other, "strategy"] = strategy
        set_to = set_to.assign(alpha=None)
        set_to.loc[other, ["k_percent", "alpha"]] = amounts
        found = {v.claim_id: v for v in unneeded_claims(Study(replace(tables, states=set_to)))}
        assert found[claim_id].verdict is Status.SHOWN, found[claim_id].sentence
        assert found[claim_id].effect == pytest.approx(8, abs=1)
        assert "0: 20% (31% against 31%)" in found[claim_id].sentence
        assert found["U2a"].verdict is Status.NOT_TESTED
