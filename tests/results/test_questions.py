"""Browsing a chain's questions: six of them, worked by hand.

fact   level  base  five  tuned  5%   20%   KL of tuned  KL at 20%
f0       4     ✗     ✓     ✗     ✗     ✓       2.0         0.5      healed; back at 20
f1       4     ✗     ✓     ✓     ✗     ✓       0.5         0.5      broken at 5 only
f2       3     ✗     ✗     ✓     ✓     ✗       NULL        NULL     learnt, broken at 20
f3       3     ✗     ✓     ✗     ✓     ✓       1.0         0.1      healed; back at 5
f4       0     ✗     ✗     ✗     ✗     ✗       NULL        NULL     always wrong
f5       0     ✓     ✓     ✓     ✓     ✓       0.25        0.25     always right
"""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sftknow_core.errors import GoneError, SpecError
from sftknow_core.results import Questions, question_detail, questions
from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT
from sftknow_core.results.questions import PAGE_SIZE, Filters, QuestionTable, browse
from sftknow_core.store.cache import Cache
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_spec import RunSpec

LEVELS = (4, 4, 3, 3, 0, 0)
RIGHT = {"base": "000001", "tuned": "011001", "r5": "001101", "r20": "110101"}
AFTER_FIVE = {"base": "110101", "tuned": "010100", "r5": "010101", "r20": "110001"}
"""Tuned and restored answered all but f5 so, which is a dev question."""
KL = {
    "base": (0.0,) * 6,
    "tuned": (2.0, 0.5, None, 1.0, None, 0.25),
    "r5": (1.0,) * 6,
    "r20": (0.5, 0.5, None, 0.1, None, 0.25),
}
KS = {"r5": 5.0, "r20": 20.0}
TEN = [f" t{i}" for i in range(10)]
P_TUNED = [0.5, 0.2, 0.1, 0.05, 0.05, 0.04, 0.03, 0.01, 0.01, 0.01]


def answers(name: str, right: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "state_id": name, "fact_id": f"f{i}", "row": i, "topic": "P19" if i % 2 else "P50",
            "split": "dev" if i == 5 else "test", "domain": "out" if i == 4 else "in", "level": level,
            "question": f"Where was X{i} born?", "gold": f"Gold{i}", "completion": f" said {name} {i} ",
            "words": mark == "1", "substring": True, "exact": False, "stopped": True, "n_tokens": 3,
            "answer_in_question": False,
        }
        for i, (level, mark) in enumerate(zip(LEVELS, right[name], strict=True))
    ]  # fmt: skip


def tokens(state: str) -> list[dict[str, Any]]:
    ids = [100, 0, 1, 2, 3, 4, 5, 6, 7, 8] if state == "r20" else list(range(10))
    return [
        {
            "state_id": state, "fact_id": f"f{i}", "topic": "P19", "level": LEVELS[i], "template": 2, "kept": True,
            "kept_within3": True, "kl_aligned_nats": kl, "kl_nats": kl, "top_ids": ids,
            "top_tokens": [" gold" if t == 100 else f" t{t}" for t in ids], "p_state": P_TUNED,
            "p_base": P_TUNED[::-1], "mass_outside_state": 0.2, "mass_outside_base": 0.5, "gold_token": " gold",
            "gold_p_state": 0.4 if state == "r20" else 0.001 * (i + 1), "gold_p_base": 0.3 + i / 100,
            "gold_rank_state": 1 if state == "r20" else 50 - i, "gold_rank_base": 2, "base_completion": "Gold",
        }
        for i, kl in enumerate(KL[state])
    ]  # fmt: skip


def restored(state: str) -> dict[str, Any]:
    pair = {"base_id": "base", "tuned_id": "tuned", "state_id": state}
    return pair | {"strategy": "top", "region": "all", "k_percent": KS[state], "n_region": 9, "n_restored": 1}


def make(root: Path) -> str:
    cache, evaluate, after_five = Cache(root), {}, {}
    for name, prompt in product(RIGHT, ("paper", "five-shot")):
        with open_run(cache, RunSpec("evaluate", {"state": name}, {"prompt": prompt})) as run:
            if prompt == "paper":
                given = {"answers": answers(name, RIGHT), "first_token": tokens(name)}
                given |= {"restorations": [restored(name)]} if name in KS else {}
                evaluate[name] = run.run_id
            else:
                rows = answers(name, AFTER_FIVE)
                given = {"answers": [row for row in rows if name == "base" or row["split"] == "test"]}
                after_five[name] = run.run_id
            for part in range(2):  # as in real runs, rows lie in several parts
                run.write_chunk(part, {table: rows[3 * part :][:3] for table, rows in given.items()})
            run.finish()
    summary = {
        "base_id": "base", "tuned_id": "tuned", "matcher": "words",
        "stages": {"evaluate": evaluate, "five_shot": after_five["base"], "five_shot_states": after_five},
    }  # fmt: skip
    with open_run(cache, RunSpec("chain", {"base": "base"})) as run:
        run.finish(summary)
    return run.run_id


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cache, str]:
    root = tmp_path_factory.mktemp("cache")
    return Cache(root), make(root)


@pytest.fixture(scope="module")
def asked(chain: tuple[Cache, str]) -> QuestionTable:
    return Questions(*chain).table


def found(asked: QuestionTable, **wishes: Any) -> list[str]:
    return browse(asked, Filters(**{"k_percent": 20.0} | wishes)).rows["fact_id"].tolist()


def test_one_row_a_question_and_one_a_state(asked: QuestionTable) -> None:
    assert (asked.questions.num_rows, asked.states.num_rows) == (6, 24)
    assert asked.ks == (5.0, 20.0) and asked.prompts == (FIVE_SHOT, ZERO_SHOT)
    assert asked.topics == ["P19", "P50"] and asked.splits == ["dev", "test"]
    first = questions.one(asked, "f0")
    assert first is not None and first["tuned_answer"] == "said tuned 0"
    assert first["gold_p_tuned"] == 0.001 and first["gold_rank_tuned"] == 50 and first["gold_p_base"] == 0.3
    assert questions.one(asked, "f9") is None


def test_back_at_k_is_the_smallest_k_that_answers_rightly_what_tuned_does_not(asked: QuestionTable) -> None:
    back = asked.questions.column("back_at_k").to_pylist()
    assert back == [20.0, None, None, 5.0, None, None]
    after_five = asked.questions.column("five_back_at_k").to_pylist()
    assert after_five == [20.0, None, None, None, None, None]


@pytest.mark.parametrize(
    ("prompt", "flip", "k", "expected"),
    [
        (ZERO_SHOT, "right → wrong by tuning", 20, set()),
        (FIVE_SHOT, "right → wrong by tuning", 20, {"f0"}),
        (FIVE_SHOT, "wrong → right by tuning", 20, set()),
        (FIVE_SHOT, "healed by restoring", 20, {"f0"}),
        (FIVE_SHOT, "healed by restoring", 5, set()),
        (FIVE_SHOT, "broken by restoring", 20, {"f3"}),
        (ZERO_SHOT, "wrong → right by tuning", 20, {"f1", "f2"}),
        (ZERO_SHOT, "healed by restoring", 20, {"f0", "f3"}),
        (ZERO_SHOT, "healed by restoring", 5, {"f3"}),
        (ZERO_SHOT, "broken by restoring", 20, {"f2"}),
        (ZERO_SHOT, "broken by restoring", 5, {"f1"}),
        (ZERO_SHOT, "always right", 20, {"f5"}),
        (FIVE_SHOT, "always right", 20, {"f1"}),
        (FIVE_SHOT, "always wrong", 20, {"f2", "f4"}),
    ],
)
def test_flips_are_within_one_prompt(
    asked: QuestionTable, prompt: str, flip: str, k: float, expected: set[str]
) -> None:
    filters = Filters(float(k), prompt, flip)
    assert set(browse(asked, filters).rows["fact_id"]) == expected
    counts = questions.flip_counts(asked, filters)
    assert counts[flip] == len(expected) and counts["all"] == (6 if prompt == ZERO_SHOT else 5)


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({"levels": (3, 0)}, {"f2", "f3", "f4", "f5"}),
        ({"topics": ("P50",)}, {"f0", "f2", "f4"}),
        ({"domain": "out"}, {"f4"}),
        ({"split": "dev"}, {"f5"}),
        ({"kl_from": 0.5}, {"f0", "f1", "f3"}),
        ({"kl_from": 0.5, "kl_to": 1.0}, {"f1", "f3"}),
        ({"search": "  gOLD3 "}, {"f3"}),
        ({"search": "said r20 2"}, {"f2"}),
        ({"search": "100%_'; DROP"}, set()),
        ({"levels": (4,), "search": "x1"}, {"f1"}),
    ],
)
def test_filters(asked: QuestionTable, wishes: dict[str, Any], expected: set[str]) -> None:
    assert set(found(asked, **wishes)) == expected


def test_sorting_puts_null_last_both_ways_and_keeps_the_order_asked_for_ties(asked: QuestionTable) -> None:
    assert found(asked) == ["f0", "f3", "f1", "f5", "f2", "f4"]
    assert found(asked, descending=False) == ["f5", "f1", "f3", "f0", "f2", "f4"]
    assert found(asked, sort="level") == ["f0", "f1", "f2", "f3", "f4", "f5"]
    assert found(asked, sort="gold rank, tuned", descending=False) == ["f5", "f4", "f3", "f2", "f1", "f0"]


def test_wrong_wishes_are_refused() -> None:
    for wrong in ({"flip": "lost"}, {"sort": "1; DROP"}, {"prompt": "x"}, {"kl_from": 2.0, "kl_to": 1.0}):
        with pytest.raises(SpecError):
            Filters(20.0, **wrong)  # type: ignore[arg-type]


def test_a_page_knows_its_neighbours(asked: QuestionTable) -> None:
    page = browse(asked, Filters(20.0), opened="f3")
    assert (page.place, page.previous_id, page.next_id, page.n) == (2, "f0", "f1", 6)
    page = browse(asked, Filters(20.0, levels=(0,)), opened="f3")
    assert (page.place, page.previous_id, page.next_id) == (None, None, "f5")
    assert browse(asked, Filters(20.0), 99).number == 1
    assert questions.n_pages(0) == 1 and questions.n_pages(PAGE_SIZE + 1) == 2


def test_course_goes_from_base_over_tuned_to_the_largest_k(asked: QuestionTable) -> None:
    course = questions.course(asked, "f0")
    assert course["state"].tolist() == ["base", "tuned", "restored", "restored"]
    assert course["k_percent"].tolist()[1:] == [0, 5, 20]
    assert course["is_right"].tolist() == [False, False, False, True]
    assert course["gold_p"].tolist() == [0.001, 0.001, 0.001, 0.4]


def test_spread_counts_every_scored_question_once(asked: QuestionTable) -> None:
    spread = question_detail.spread(asked, Filters(20.0))
    assert spread["n_tuned"].sum() == 4 and spread["n_restored"].sum() == 4
    assert spread["low"].iloc[0] == 0 and spread["high"].iloc[-1] == pytest.approx(2.0)
    assert spread["n_tuned"].iloc[-1] == 1 and spread["n_tuned"].iloc[10] == 1  # 2.0; 0.5 of bins of 0.05
    assert question_detail.spread(asked, Filters(20.0, domain="out")).empty
    assert question_detail.moved_less(asked, Filters(20.0, flip="always right"), 1.0) == (2, 4)
    assert question_detail.moved_less(asked, Filters(20.0, split="test"), None) == (0, 3)


def test_levels_have_accuracy_over_all_and_kl_over_the_scored(asked: QuestionTable) -> None:
    rows = question_detail.by_level(asked, Filters(20.0)).set_index(["state", "level"])
    assert rows.loc[("tuned", 4), ["n", "accuracy", "n_scored", "kl_nats"]].tolist() == [2, 0.5, 2, 1.25]
    assert rows.loc[("restored", 3), ["n", "accuracy", "n_scored"]].tolist() == [2, 0.5, 1]
    assert rows.loc[("restored", 3), "kl_nats"] == pytest.approx(0.1)


def test_tokens_become_probabilities_over_the_vocabulary(chain: tuple[Cache, str]) -> None:
    first = Questions(*chain).first_token("f0", 20.0)
    assert first is not None and first.kl_nats == 2.0 and first.template == 2
    rows = first.tokens.set_index("token")
    assert rows.index.tolist() == [*TEN, " gold"] and rows["is_gold"].tolist() == [False] * 10 + [True]
    assert rows.loc[" t0", "p_tuned"] == pytest.approx(0.5 * 0.8)
    assert rows.loc[" t0", "p_base"] == pytest.approx(0.01 * 0.5)
    assert rows.loc[" t0", "p_restored"] == pytest.approx(0.2 * 0.8)  # second of its own ten
    assert rows["p_restored"].isna().tolist() == [False] * 9 + [True, False]
    assert rows.loc[" gold", ["p_base", "p_tuned", "p_restored"]].tolist() == pytest.approx([0.3, 0.001, 0.4])
    assert rows.loc[" gold", ["rank_base", "rank_tuned", "rank_restored"]].tolist() == [2, 50, 1]
    assert first.outside == {"base": 0.5, "tuned": 0.2, "restored": 0.2}
    assert first.bounds["restored"] == pytest.approx(0.008)
    assert first.tokens["share_tuned"].sum() == pytest.approx(1)


def test_unknown_questions_and_k(chain: tuple[Cache, str]) -> None:
    assert Questions(*chain).first_token("f9", 20.0) is None
    with pytest.raises(SpecError, match="5, 20"):
        Questions(*chain).first_token("f0", 7.0)


def test_a_lost_evaluation_is_named_and_another_run_does_not_matter(
    chain: tuple[Cache, str], tmp_path: Path
) -> None:
    shutil.copytree(chain[0].root, tmp_path / "cache")
    cache = Cache(tmp_path / "cache")
    stamp = Questions(cache, chain[1]).stamp
    with open_run(cache, RunSpec("evaluate", {"state": "another"})) as run:
        run.finish()
    assert Questions(cache, chain[1]).stamp == stamp
    lost = RunSpec("evaluate", {"state": "r5"}, {"prompt": "paper"}).run_id
    shutil.rmtree(cache.run_folder(lost))
    assert Questions(cache, chain[1]).stamp != stamp
    with pytest.raises(GoneError, match=lost):
        _ = Questions(cache, chain[1]).table


def test_a_few_far_kls_do_not_squeeze_the_others() -> None:
    kls = [i / 100 for i in range(1, 101)] + [50.0, 60.0]
    ids = [f"f{i}" for i in range(len(kls))]
    texts = dict.fromkeys(
        ("topic", "question", "gold", "base_answer", "five_base_answer", "tuned_answer", "five_tuned_answer"),
        ["x"] * len(kls),
    )
    flags = dict.fromkeys(
        ("base_right", "five_base_right", "tuned_right", "five_tuned_right"), [True] * len(kls)
    )
    table = {"fact_id": ids, "place": list(range(len(kls))), "split": ["test"] * len(kls), "kl": kls}
    back = dict.fromkeys(("back_at_k", "five_back_at_k"), [20.0] * len(kls))
    table |= {"domain": ["in"] * len(kls), "level": [4] * len(kls), **texts, **flags, **back}
    states = {
        "fact_id": ids,
        "k": [20.0] * len(kls),
        "answer": ["x"] * len(kls),
        "is_right": [True] * len(kls),
    }
    states |= {"kl": [kl / 2 for kl in kls], "gold_p": [0.5] * len(kls), "gold_rank": [1] * len(kls)}
    asked = QuestionTable(pa.table(table), pa.table(states), (20.0,), (FIVE_SHOT, ZERO_SHOT))
    spread = question_detail.spread(asked, Filters(20.0))
    assert len(spread) == question_detail.N_BINS + 1 and spread["beyond"].tolist() == [False] * 40 + [True]
    end = spread["high"].iloc[39]
    last = spread.iloc[-1]
    assert 0.95 < end < 1.0 and last["low"] == pytest.approx(end) and last["high"] == 60
    assert last["n_tuned"] == sum(kl > end for kl in kls) and last["n_restored"] == 2
    assert spread["n_tuned"].sum() == spread["n_restored"].sum() == len(kls)
