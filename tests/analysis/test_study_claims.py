"""Every claim in made-up studies: one after the paper, its mirror image, and ones with too little in them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_study import make, mean_of

from sftknow_core.analysis.advice import advice
from sftknow_core.analysis.claims import (
    all_claims,
    false_discovery,
    halves,
    part_table,
    repeated,
    verdict_table,
)
from sftknow_core.analysis.context import Plan, Study
from sftknow_core.analysis.grid import TUNED, Cell, StudyTables, Term, empty
from sftknow_core.analysis.scorecard import scorecard
from sftknow_core.analysis.verdict import Part, Status, conclude
from sftknow_core.errors import SpecError
from sftknow_core.specs import Rule


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
    for claim_id in ("P1d", "L1", "L2", "L3", "U2a", "U2b", "U2c", "U2d", "G1", "S1"):
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


def test_the_mirror_image_contradicts():
    """All answers turned round: what rose falls, what helped harms."""
    tables = make(lambda *about: 1 - mean_of(*about), ks=(0.0, 20.0, 60.0))
    found = {v.claim_id: v for v in all_claims(tables)}
    for claim_id in ("P1a", "P1b", "P1c", "P2b", "P2e", "R4", "R6"):
        assert found[claim_id].verdict is Status.CONTRADICTED, found[claim_id].sentence
        assert found[claim_id].high < 0


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


def test_an_empty_study_tests_nothing():
    tables = StudyTables(empty("chains"), empty("states"), empty("answers"))
    assert {v.verdict for v in all_claims(tables)} == {Status.NOT_TESTED}
    assert scorecard(Study(tables)).empty
    assert advice(Study(tables)) == []


def test_mixed_and_lora_are_chosen_on_dev():
    def by_name(level, size, k, test, strategy):
        return {"mixed": 0.45}.get(level, 0.55 if level == "2" else 0.5) + (0.05 if k == 20 else 0)

    tables = make(by_name, levels=("0", "2", "mixed"), sizes=("240",))
    verdict = next(v for v in all_claims(tables) if v.claim_id == "S1")
    assert [part.effect for part in verdict.parts[:2]] == pytest.approx([5, 10], abs=1.5)
    assert "divided: level 2, N = 240, of 2" in verdict.sentence
    assert verdict.verdict is Status.UNDECIDED  # LoRA was not run


def test_tables_of_verdicts(papers):
    found = papers[1]
    table = verdict_table(list(found.values()))
    assert list(table["claim_id"]) == list(found)
    assert table["sentence"].str.endswith(".").all()
    parts = part_table(list(found.values()))
    assert set(parts["claim_id"]) == set(found)
    again = repeated(make(mean_of, levels=("2",), per_level=20, ks=(0.0, 20.0)))
    assert list(again.columns) == ["claim_id", "domain", "verdict", "exact_match", "half_templates"]
    assert again["half_templates"].isna().all()  # no counts by template
    assert (again["verdict"] == again["exact_match"]).all()  # the fake's answers are exact


def test_p_adjusted_for_all_parts_of_all_claims():
    """Benjamini-Hochberg over p = .001, .03, .04, .5 (the part without p has none): p m / rank is .004, .06, .0533,
    .5, and none may lie above one of a higher rank: .004, .0533, .0533, .5."""
    parts = [
        Part("", effect, effect - 1, effect + 1, p)
        for effect, p in ((5.0, 0.001), (3.0, 0.04), (2.0, 0.03), (0.1, 0.5))
    ] + [Part("", reason="not run")]
    first = conclude("X", "x", parts[:2], Rule(), domain="in")
    second = conclude("X", "x", parts[2:], Rule(), domain="out")
    adjusted = false_discovery([first, second])
    assert adjusted["X", "in"] == pytest.approx([0.004, 0.16 / 3])
    assert adjusted["X", "out"][:2] == pytest.approx([0.16 / 3, 0.5]) and adjusted["X", "out"][2] is None
    table = verdict_table([first, second])
    assert (first.effect, second.effect) == (3.0, 0.1)  # the weakest part decides
    assert table["p_fdr"].tolist() == pytest.approx([0.16 / 3, 0.5])
    alone = verdict_table([first], [first, second])
    assert alone["p_fdr"].tolist() == table["p_fdr"].tolist()[:1]  # some claims of the list keep their value
    assert verdict_table([first])["p_fdr"].tolist() == [0.04]
    assert part_table([first], [first, second])["p_fdr"].tolist() == adjusted["X", "in"]


def test_claims_that_were_not_run_have_no_p():
    absent = conclude("X", "x", [Part("", reason="not run")], Rule())
    assert false_discovery([absent]) == {("X", ""): [None]}
    assert verdict_table([absent])["p_fdr"].tolist() == [None]


def test_borderline_facts_can_be_left_out():
    tables = make(mean_of, levels=("2",), ks=(0.0,))
    answers = tables.answers.assign(borderline=lambda t: t["fact_id"].str.endswith("7"))
    study = Study(replace(tables, answers=answers), Plan(without_borderline=True))
    assert len(study.grid().facts) == 5 * 108


def halved(tables):
    """Every tenth question of level 2 is of level 3 by the even templates and of 1 by the odd ones; one has none."""
    answers = tables.answers
    moved = (answers["level"] == 2) & answers["fact_id"].str.endswith("7")
    even = (answers["level"] + moved).astype("Int64").mask(answers["fact_id"] == "test0-0")
    odd = (answers["level"] - moved).astype("Int64")
    return replace(tables, answers=answers.assign(level_even=even, level_odd=odd))


def test_levels_of_half_the_templates_regroup_the_questions():
    """120 questions a level: 12 of level 2 become 3, and one of level 0 without counts drops out."""
    tables = halved(make(mean_of, levels=("2",), sizes=("1920",), ks=(0.0, 20.0)))
    grid = Study(tables, Plan(half_templates=True)).grid()
    assert np.bincount(grid.levels).tolist() == [119, 120, 108, 132, 120]
    again = repeated(tables)
    assert again["half_templates"].notna().all()
    assert (
        again["half_templates"] == again["verdict"]
    ).mean() > 0.9  # so little moves no verdict that is clear


def test_the_halves_are_compared_question_by_question():
    tables = halved(make(mean_of, levels=("2",), sizes=("60",), ks=(0.0,)))
    found = halves(tables).set_index("level_even")
    assert found.to_numpy().tolist() == [
        [119, 0, 0, 0, 0], [0, 120, 0, 0, 0], [0, 0, 108, 0, 0], [0, 12, 0, 120, 0], [0, 0, 0, 0, 120],
    ]  # fmt: skip
    assert "without the counts" in halves(make(mean_of, levels=("2",), sizes=("60",), ks=(0.0,))).reason
    none = tables.answers.assign(level_even=pd.NA, level_odd=pd.NA)
    assert "not in the cache" in halves(replace(tables, answers=none)).reason


def test_chains_that_answered_other_questions_are_not_compared():
    tables = make(mean_of, levels=("2",), sizes=("60", "240"), ks=(0.0,))
    answers = tables.answers
    gone = (answers["chain"] == "2-240-3") & (answers["fact_id"] == "test1-0")
    with pytest.raises(SpecError, match="did not answer the same questions"):
        all_claims(replace(tables, answers=answers[~gone]))


def some_asked_less(size: str, n: int) -> StudyTables:
    """Of every level, cells of a size were asked the first n questions of 120."""
    tables = make(mean_of, ks=(0.0, 20.0))
    of_size = set(tables.chains.loc[tables.chains["size"] == size, "chain"])
    number = tables.answers["fact_id"].str.rpartition("-")[2].astype(int)
    return replace(tables, answers=tables.answers[~tables.answers["chain"].isin(of_size) | (number < n)])


def test_sizes_with_fewer_questions_are_compared_on_those_that_both_were_asked():
    """Tuned on level 2: places are (i + 1/2) / 120, so the first 30 of 120 lie below .25, where all answer rightly:
    the difference over them is 0, whatever it is over all 120."""
    whole, less = make(mean_of, ks=(0.0, 20.0)), some_asked_less("240", 30)
    grid, before = Study(less).grid(), Study(whole).grid()
    cells = [Cell("2", size) for size in ("60", "240", "1920")]
    alone = grid.contrast([Term(1, cells[2])])
    assert (alone.n_questions, alone.value) == (5 * 120, before.contrast([Term(1, cells[2])]).value)
    both = grid.contrast([Term(1, cells[2]), Term(-1, cells[1])])
    assert (both.n_questions, both.n_smallest_level, both.value) == (5 * 30, 30, 0)
    assert before.contrast([Term(1, cells[2]), Term(-1, cells[1])]).value < -0.05
    outer = grid.contrast([Term(1, cells[2]), Term(-1, cells[0])])
    assert outer == before.contrast([Term(1, cells[2]), Term(-1, cells[0])])
    assert len(grid.facts) == 5 * 30 and len(grid.on(cells[:1]).facts) == 5 * 120  # of all sizes, of one
    assert grid.on(cells[:1]).on(cells).facts == grid.facts
    assert len(grid.on([]).facts) == 5 * 120  # base


def test_all_verdicts_of_a_study_that_asks_less_at_some_sizes():
    found = {v.claim_id: v for v in all_claims(some_asked_less("240", 30), Plan())}
    assert found["R1a"].n == 600 and found["P2e"].n == 600
    assert found["P1b"].n == 150 and found["P1b"].verdict is Status.UNDECIDED
    assert "30 questions in the smallest level" in found["P1b"].sentence


def test_shares_of_weights_are_of_the_size_that_has_all_seeds():
    """Five seeds at N = 1,920 and three at N = 60: means over five, of N = 1,920, and the label says so."""
    tables = make(
        mean_of, levels=("2",), sizes=("60", "1920"), seeds=(3, 4, 5, 6, 7), ks=(0.0,), per_level=4,
        concentration=lambda k: (0.75, 0.60),
    )  # fmt: skip
    few = set(tables.chains.loc[(tables.chains["size"] == "60") & (tables.chains["seed"] > 5), "chain"])
    frames = {name: frame[~frame["chain"].isin(few)] for name, frame in vars(tables).items()}
    rows = frames["concentration"]
    rows = rows[rows["k_percent"] == 20].assign(tenth=lambda t: t["chain"].str.contains("1920") * 0.1)
    part = Study(StudyTables(**frames)).over_seeds("share", rows, "tenth", 0.0, 1.0, 100)
    assert (part.label, part.seeds, part.effect) == ("share, N = 1920", 5, pytest.approx(10))
    every = make(
        mean_of,
        levels=("2",),
        sizes=("60", "1920"),
        ks=(0.0,),
        per_level=4,
        concentration=lambda k: (0.75, 0.6),
    )
    part = Study(every).over_seeds("share", every.concentration, "share", 0.0, 1.0, 100)
    assert (part.label, part.seeds) == ("share", 3)


def test_questions_of_which_none_is_among_those_of_another_size_are_not_compared():
    less = some_asked_less("240", 30)
    other = less.answers["chain"].str.contains("-60-") & less.answers["fact_id"].str.endswith("-3")
    with pytest.raises(SpecError, match="did not answer the same questions"):
        all_claims(replace(less, answers=less.answers[~other]))


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
