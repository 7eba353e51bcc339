"""Every claim in made-up studies: one after the paper, its mirror image, and ones with too little in them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_study import frame, make, mean_of

from sftknow_core.errors import SpecError
from sftknow_core.report.study_advice import advice
from sftknow_core.report.study_claims import all_claims, part_table, repeated, verdict_table
from sftknow_core.report.study_claims_restore import optimism_note
from sftknow_core.report.study_claims_size import peak_decided
from sftknow_core.report.study_claims_strategy import pick
from sftknow_core.report.study_context import Plan, Study
from sftknow_core.report.study_grid import TUNED, Cell
from sftknow_core.report.study_scorecard import scorecard
from sftknow_core.report.study_tables import StudyTables, empty
from sftknow_core.report.study_verdict import Part, Rule, Status


def kl_of(level, size):
    return {"60": 1.0, "240": 0.5, "1920": 1.2}[size] + {"0": 0.6, "1": 0.3}.get(level, 0.0)


@pytest.fixture(scope="module")
def papers():
    """Claims in a world made after the paper."""
    tables = make(
        mean_of,
        kl=kl_of,
        train_accuracy=lambda level, size, k: 0.9 if k < 60 else 0.2,
        concentration=lambda k: {1.0: (0.75, 0.60), 20.0: (0.92, 0.85)}[k],
    )
    return tables, {v.claim_id: v for v in all_claims(tables)}


SHOWN = [
    "P1a",
    "P1b",
    "P1c",
    "P2a",
    "P2b",
    "P2d",
    "P2e",
    "T1",
    "T2",
    "C1a",
    "C1b",
    "C2a",
    "C2b",
    "R2",
    "R3",
    "R4",
    "R6",
]


@pytest.mark.parametrize("claim_id", SHOWN)
def test_the_papers_world_shows_the_papers_claims(papers, claim_id):
    verdict = papers[1][claim_id]
    assert verdict.verdict is Status.SHOWN, verdict.sentence
    assert verdict.low > 0 or verdict.claim_id == "R2"
    assert verdict.seeds == 3


def test_what_was_not_run_is_not_tested(papers):
    for claim_id in ("P1d", "L1", "L2", "L3", "U2a", "U2b", "U2c", "G1", "S1"):
        verdict = papers[1][claim_id]
        wanted = Status.UNDECIDED if claim_id == "S1" else Status.NOT_TESTED  # restored - divided was run
        assert verdict.verdict is wanted, (claim_id, verdict.sentence)
        assert verdict.effect is None or claim_id == "S1"


def test_effects_are_those_of_the_formula(papers):
    """P1a at every level: 0.56 - 0.50 and 0.2 of the penalty; the weakest of the parts is level 2 with 6.0 pp."""
    parts = {part.label: part.effect for part in papers[1]["P1a"].parts}
    assert parts["level 2"] == pytest.approx(6.0, abs=1.0)
    assert parts["level 0"] == pytest.approx(8.0, abs=1.0)
    gains = [part.effect for part in papers[1]["R1a"].parts]
    assert gains == pytest.approx([6, 5, 4, 3, 2], abs=1.0)
    assert papers[1]["R4"].effect == pytest.approx(4.0, abs=1.0)
    assert papers[1]["C1a"].effect == pytest.approx(5.0, abs=0.5)
    assert papers[1]["T1"].effect == pytest.approx(0.5, abs=0.05)


def test_tolerance_is_a_k_of_the_grid(papers):
    parts = papers[1]["R5"].parts
    assert [part.effect for part in parts] == [20.0] * 15
    assert [part.label for part in parts][4:6] == ["k* at level 4, N = 60", "k* at level 0, N = 240"]
    assert papers[1]["R5"].low == 20.0


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


def test_the_mirror_image_contradicts():
    """All answers turned round: what rose falls, what helped harms."""
    tables = make(lambda *about: 1 - mean_of(*about), ks=(0.0, 20.0, 60.0))
    found = {v.claim_id: v for v in all_claims(tables)}
    for claim_id in ("P1a", "P1b", "P1c", "P2b", "P2e", "R4", "R6"):
        assert found[claim_id].verdict is Status.CONTRADICTED, found[claim_id].sentence
        assert found[claim_id].high < 0


@pytest.mark.parametrize(
    ("share", "lead", "low", "high", "status"),
    [
        (0.95, 2, 0.1, 4, Status.SHOWN),  # just enough
        (0.949, 2, -0.1, 4, Status.UNDECIDED),
        (0.97, 0.5, 0.1, 0.9, Status.NOT_SHOWN),  # by less than the margin of 1
        (0.05, -2, -4, -0.1, Status.CONTRADICTED),
        (0.06, -2, -4, 0.1, Status.NOT_SHOWN),
    ],
)
def test_a_size_is_the_best_in_at_least_95_percent_of_bootstraps(share, lead, low, high, status):
    part = Part("x", lead, low, high, None, None, 500, 100, 3, 1.0)
    found = peak_decided(part, share, Rule())
    assert (found.status, found.p) == (status, pytest.approx(min(share, 1 - share)))
    assert peak_decided(replace(part, seeds=2), share, Rule()).status is Status.UNDECIDED


def test_no_difference_anywhere_shows_nothing():
    tables = make(lambda level, size, k, test, strategy: 0.5, noise=0.0, per_level=200)
    found = {v.claim_id: v for v in all_claims(tables)}
    for claim_id in ("P1a", "P1b", "R1a", "P2e"):
        assert found[claim_id].verdict is Status.NOT_SHOWN, found[claim_id].sentence
    assert found["R5"].verdict is Status.SHOWN  # taking part back costs nothing


@pytest.mark.parametrize(
    ("options", "reason"), [({"seeds": (3, 4)}, "2 of at least 3 seeds"), ({"per_level": 40}, "40 questions")]
)
def test_too_little_data_decides_nothing(options, reason):
    for verdict in all_claims(make(mean_of, **options)):
        assert verdict.verdict in (Status.UNDECIDED, Status.NOT_TESTED), verdict.sentence
        if verdict.verdict is Status.UNDECIDED and verdict.claim_id == "P1a":
            assert reason in verdict.sentence


def test_a_level_that_was_not_run_leaves_the_claim_open():
    found = {v.claim_id: v for v in all_claims(make(mean_of, levels=("0", "2", "4")))}
    assert found["P1a"].verdict is Status.UNDECIDED
    assert "not run: level 1" in found["P1a"].sentence
    assert [part.status for part in found["P1a"].parts].count(Status.SHOWN) == 3
    assert found["P2a"].verdict is Status.NOT_TESTED


def test_only_what_was_not_run_is_called_missing():
    """N = 60 ran and N = all did not. Of two sizes with other seeds, neither is missing."""
    found = {v.claim_id: v for v in all_claims(make(mean_of, levels=("0", "2"), ks=(0.0,)))}
    assert found["P1d"].parts[0].reason == "not run: level 0, N = all"
    one, other = (
        make(mean_of, levels=("2",), sizes=(s,), seeds=of, ks=(0.0,))
        for s, of in (("60", (3,)), ("240", (4,)))
    )
    answers = pd.concat([one.answers, other.answers[other.answers["chain"] != "base"]])
    both = StudyTables(pd.concat([one.chains, other.chains]), pd.concat([one.states, other.states]), answers)
    found = {v.claim_id: v for v in all_claims(both)}
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
    found = {v.claim_id: v for v in all_claims(make(lambda *_: 0.5, prompts=("qa", "completion"), **options))}
    part = found["U1a"].parts[0]
    assert (part.status, part.reason) == (
        Status.UNDECIDED,
        "90 questions in the smallest level or set, of at least 100",
    )
    assert part.label.endswith("train")


def test_an_empty_study_tests_nothing():
    tables = StudyTables(empty("chains"), empty("states"), empty("answers"))
    assert {v.verdict for v in all_claims(tables)} == {Status.NOT_TESTED}
    assert scorecard(Study(tables)).empty
    assert advice(Study(tables)) == []


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
    both = {v.claim_id: v for v in all_claims(make(kept, prompts=("qa", "completion"), **options))}
    assert both["U1a"].verdict is Status.SHOWN, both["U1a"].sentence
    without = {v.claim_id: v for v in all_claims(make(kept, **options))}
    assert without["U1a"].verdict is Status.UNDECIDED
    assert "not measured: completion prompts" in without["U1a"].sentence
    assert {part.label.split(",")[2].strip() for part in both["U1a"].parts} == {"k = 60%"}


def no_change(*about):
    return 0.9


@pytest.mark.parametrize(("n_train", "verdict"), [(250, Status.SHOWN), (120, Status.UNDECIDED)])
def test_nothing_changed_in_few_train_questions_is_no_proof(n_train, verdict):
    """No answer changes. Floor of a seed: 1 / (n + 2) squared; of the mean of three, a third of that. n = 250: half
    width 1.96 * 100 / 252 / sqrt(3) = 0.449 pp and z = 1 / 0.2291 = 4.36, shown over five levels; n = 120: 0.928 pp,
    z = 2.11, p = 0.035, times five."""
    tables = make(lambda *_: 0.5, train_accuracy=no_change, n_train=n_train, sizes=("1920",))
    found = next(v for v in all_claims(tables) if v.claim_id == "R2")
    assert found.verdict is verdict, found.sentence
    assert {part.effect for part in found.parts} == {0.0}
    half = {250: 0.449, 120: 0.928}[n_train]
    assert (found.low, found.high) == pytest.approx((-half, half), abs=0.001)
    assert {part.n_smallest for part in found.parts} == {n_train}
    assert {part.n for part in found.parts} == {3 * n_train}


def test_few_train_questions_decide_nothing():
    tables = make(lambda *_: 0.5, train_accuracy=no_change, n_train=60, sizes=("1920",))
    found = next(v for v in all_claims(tables) if v.claim_id == "R2")
    assert found.verdict is Status.UNDECIDED
    assert "60 questions in the smallest level or set" in found.sentence


def test_states_that_answered_other_train_questions_are_not_compared():
    tables = make(lambda *_: 0.5, train_accuracy=no_change, levels=("2",), sizes=("1920",))
    answers = tables.answers
    gone = (answers["split"] == "train") & (answers["state_id"] == "2-1920-3/top-20")
    gone &= answers["fact_id"].str.endswith("-7")
    with pytest.raises(SpecError, match="same train questions"):
        all_claims(replace(tables, answers=answers[~gone]))


def test_top_against_random_of_the_same_count_and_of_the_same_energy():
    """Random weights of the same count are there as k = 20; those of the same energy stand beside k = 20."""

    def better(level, size, k, test, strategy):
        return 0.5 + (0.08 if strategy == "top" and k == 20 else 0.0)

    tables = make(better, strategies=("top", "random"), sizes=("1920",))
    found = {v.claim_id: v for v in all_claims(tables)}
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
        found = {v.claim_id: v for v in all_claims(replace(tables, states=set_to))}
        assert found[claim_id].verdict is Status.SHOWN, found[claim_id].sentence
        assert found[claim_id].effect == pytest.approx(8, abs=1)
        assert "0: 20% (31% against 31%)" in found[claim_id].sentence
        assert found["U2a"].verdict is Status.NOT_TESTED


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
    found = {v.claim_id: v for v in all_claims(tables)}
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
    held = [*own, *((chain, 0.10) for chain in adapters["chain"]), ("4-1920-3", 0.95)]
    shares = pd.concat(
        frame(chain=[chain], k_percent=1.0, share=share, null_share=0.7, energy_share=0.1, changed_share=1.0)
        for chain, share in held
    )
    places = pd.concat(
        frame(chain=chain, k_percent=20.0, by="kind", group=["mlp", "attention"], n=50,
              n_restored=[share * 10, 10 - share * 10], n_restored_null=5)
        for chain, share in held
    )  # fmt: skip
    chains = pd.concat([tables.chains, adapters])
    found = {
        v.claim_id: v
        for v in all_claims(replace(tables, chains=chains, concentration=shares, enrichment=places))
    }
    assert found["C1a"].effect == pytest.approx(10)
    assert found["C1b"].effect == pytest.approx(10)
    assert "they hold 80.0%" in found["C1a"].sentence
    assert found["L2"].effect == pytest.approx(0.6)  # 8 of 10 with half of the weights


def test_other_tasks_pair_restored_with_tuned():
    tables = make(mean_of, sizes=("1920",), levels=("2",))
    scores = [
        frame(chain=chain, state_id=f"{chain}/top-{k}", task="gsm8k", item=range(100), score=score)
        for chain in tables.chains["chain"]
        for k, score in ((0, 0.3), (20, 0.4))
    ]
    found = {
        v.claim_id: v for v in all_claims(replace(tables, other_tasks=pd.concat(scores, ignore_index=True)))
    }
    assert found["G1"].parts[0].effect == pytest.approx(10)
    assert found["G1"].verdict is Status.UNDECIDED  # XSum was not run
    assert "xsum was not run" in found["G1"].sentence


def test_kl_tracks_loss():
    """The more KL a run has the lower its accuracy: the rank correlation over runs is -1 up to noise."""

    def kl(level, size):
        return 2 - mean_of(level, size, 0.0, 4)

    found = {v.claim_id: v for v in all_claims(make(mean_of, kl=kl, ks=(0.0,)))}
    assert found["T3a"].verdict is Status.SHOWN, found["T3a"].sentence
    assert found["T3a"].effect > 0.8
    part = found["T3a"].parts[0]
    assert (part.n, part.n_smallest, part.population) == (120, 120, "cells, for these questions")
    assert found["T3b"].effect > 0


def test_few_level_4_questions_do_not_show_that_kl_tracks_loss():
    tables = make(mean_of, kl=lambda level, size: 2 - mean_of(level, size, 0.0, 4), ks=(0.0,), per_level=19)
    found = next(v for v in all_claims(tables) if v.claim_id == "T3a")
    assert found.verdict is Status.UNDECIDED
    assert "19 questions in the smallest level" in found.sentence


def test_mixed_and_lora_are_chosen_on_dev():
    def by_name(level, size, k, test, strategy):
        return {"mixed": 0.45}.get(level, 0.55 if level == "2" else 0.5) + (0.05 if k == 20 else 0)

    tables = make(by_name, levels=("0", "2", "mixed"), sizes=("240",))
    verdict = next(v for v in all_claims(tables) if v.claim_id == "S1")
    assert [part.effect for part in verdict.parts[:2]] == pytest.approx([5, 10], abs=1.5)
    assert "divided: level 2, N = 240, of 2" in verdict.sentence
    assert verdict.verdict is Status.UNDECIDED  # LoRA was not run


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


def test_tables_of_verdicts(papers):
    found = papers[1]
    table = verdict_table(list(found.values()))
    assert list(table["claim_id"]) == list(found)
    assert table["sentence"].str.endswith(".").all()
    parts = part_table(list(found.values()))
    assert set(parts["claim_id"]) == set(found)
    again = repeated(make(mean_of, levels=("2",), per_level=20, ks=(0.0, 20.0)))
    assert list(again.columns) == ["claim_id", "domain", "verdict", "exact_match"]
    assert (again["verdict"] == again["exact_match"]).all()  # the fake's answers are exact


def test_borderline_facts_can_be_left_out():
    tables = make(mean_of, levels=("2",), ks=(0.0,))
    answers = tables.answers.assign(borderline=lambda t: t["fact_id"].str.endswith("7"))
    study = Study(replace(tables, answers=answers), Plan(without_borderline=True))
    assert len(study.grid().facts) == 5 * 108


def test_chains_that_answered_other_questions_are_not_compared():
    tables = make(mean_of, levels=("2",), sizes=("60", "240"), ks=(0.0,))
    answers = tables.answers
    gone = (answers["chain"] == "2-240-3") & (answers["fact_id"] == "test1-0")
    with pytest.raises(SpecError, match="did not answer the same questions"):
        all_claims(replace(tables, answers=answers[~gone]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"answers": t.answers.drop(columns="right")}, "answers: lacks right"),
        (lambda t: {"answers": pd.concat([t.answers, t.answers.head(1)])}, "rows stand twice"),
        (lambda t: {"states": t.states.assign(chain="who")}, "unknown chains who"),
        (
            lambda t: {"chains": pd.concat([t.chains, t.chains.head(1).assign(chain="x")])},
            "two chains of the same",
        ),
    ],
)
def test_bad_tables_are_refused(change, message):
    tables = make(mean_of, levels=("2",), sizes=("60",), ks=(0.0,))
    with pytest.raises(SpecError, match=message):
        replace(tables, **change(tables))


def test_grid_gives_the_answers_by_question():
    tables = make(mean_of, levels=("2",), sizes=("60",), noise=0.0)
    grid = Study(tables).grid()
    rows = grid.by_seed(Cell("2", "60"), TUNED)
    shares = [np.mean(rows[3][grid.levels == level]) for level in range(5)]
    assert shares == pytest.approx([mean_of("2", "60", 0.0, level) for level in range(5)], abs=0.006)
