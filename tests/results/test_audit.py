"""Completions drawn, judged and counted: by hand, on a made-up cache."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from math import sqrt
from pathlib import Path

import pytest
from fake_chain import make_chains

from sftknow_core.errors import DataError, GoneError, SpecError
from sftknow_core.results.audit import Audit, AuditRow, draw, read_audit
from sftknow_core.stats.intervals import weighted_sum, wilson
from sftknow_core.store.cache import Cache

ROW = AuditRow("r", "s", "f0", "2", "Where?", "Koro|KR", " Koro, in\nthe north", "right", 300)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cache, str]:
    root = tmp_path_factory.mktemp("audit")
    (run_id,) = make_chains(root, [("2", 240, 0)], per_level=4, cube=False)
    return Cache(root), run_id


def judged(*counts: tuple[str, str, int, int]) -> Audit:
    """(verdict, judged, how many, size of the stratum)."""
    rows = [
        replace(ROW, fact_id=f"{verdict}{said}{i}", verdict=verdict, judged=said, n_stratum=size)
        for verdict, said, n, size in counts
        for i in range(n)
    ]
    return Audit(tuple(rows))


def test_rates_by_hand() -> None:
    """300 completions are called right and 100 wrong: weights 3/4 and 1/4. 2 of 40 and 5 of 50 verdicts are wrong.

    Wrong verdicts 3/4 * 0.05 + 1/4 * 0.1 = 0.0625; the accuracy is too high by 0.0375 - 0.025 = 0.0125; right are
    3/4 * 0.95 + 1/4 * 0.1 = 0.7375.
    """
    rates = judged(
        ("right", "right", 38, 300), ("right", "wrong", 2, 300), ("right", "unsure", 3, 300), ("right", "", 1, 300),
        ("wrong", "wrong", 45, 100), ("wrong", "right", 5, 100),
    ).rates()  # fmt: skip
    assert (rates.false_positive.value, rates.false_positive.n) == (0.05, 40)
    assert (rates.false_positive.low, rates.false_positive.high) == wilson(2, 40)
    assert (rates.false_negative.value, rates.false_negative.n) == (0.1, 50)
    assert (rates.n_judged, rates.n_unsure, rates.n_open) == (90, 3, 1)
    assert rates.error.value == pytest.approx(0.0625)
    assert rates.accuracy_error.value == pytest.approx(0.0125)
    assert rates.accuracy.value == pytest.approx(0.7375)
    low1, high1 = wilson(2, 40)
    low0, _ = wilson(5, 50)
    assert rates.error.low == pytest.approx(
        0.0625 - sqrt((0.75 * (0.05 - low1)) ** 2 + (0.25 * (0.1 - low0)) ** 2)
    )
    too_high = sqrt((0.75 * (high1 - 0.05)) ** 2 + (0.25 * (0.1 - low0)) ** 2)
    assert rates.accuracy_error.high == pytest.approx(0.0125 + too_high)


def test_what_nobody_judged_is_not_measured() -> None:
    rates = judged(("right", "right", 3, 30), ("wrong", "unsure", 2, 10)).rates()
    assert rates.false_negative.value is None
    assert rates.false_negative.reason == "no completion called wrong is judged right or wrong yet"
    assert rates.error.value is None and rates.accuracy.reason == rates.false_negative.reason
    assert rates.false_positive.value == 0


def test_a_matcher_that_called_nothing_wrong() -> None:
    """One stratum is all there is, and its rate is the error of all."""
    rates = judged(("right", "right", 3, 30), ("right", "wrong", 1, 30)).rates()
    assert rates.error.value == rates.false_positive.value == 0.25
    assert rates.false_negative.reason == "no completion was called wrong"


def test_a_weighted_sum_with_one_part_is_wilson() -> None:
    assert weighted_sum([1.0], [3], [10]) == pytest.approx((0.3, *wilson(3, 10)))
    low, high = wilson(3, 10)
    assert weighted_sum([-1.0], [3], [10]) == pytest.approx((-0.3, -high, -low))
    for wrong in (([], [], []), ([1.0], [1, 2], [3, 4]), ([1.0], [0], [0])):
        with pytest.raises(SpecError):
            weighted_sum(*wrong)


def test_a_sample_is_half_right_and_half_wrong_and_repeats(chain: tuple[Cache, str]) -> None:
    cache, run_id = chain
    audit = draw(cache, [run_id], 20, seed=1)
    assert Counter(row.verdict for row in audit.rows) == {"right": 10, "wrong": 10}
    assert (
        {row.verdict for row in audit.rows[:8]}
        == {row.verdict for row in audit.rows[-8:]}
        == {"right", "wrong"}
    )
    assert draw(cache, [run_id], 20, seed=1) == audit
    assert draw(cache, [run_id], 20, seed=2) != audit
    keys = {(row.state_id, row.fact_id) for row in audit.rows}
    assert len(keys) == 20
    assert keys < {(row.state_id, row.fact_id) for row in draw(cache, [run_id], 30, seed=1).rows}
    everything = draw(cache, [run_id], 10**6)
    sizes = {row.verdict: row.n_stratum for row in everything.rows}
    assert Counter(row.verdict for row in everything.rows) == sizes
    assert {row.verdict: row.n_stratum for row in audit.rows} == sizes


def test_a_small_stratum_leaves_its_share_to_the_other(chain: tuple[Cache, str]) -> None:
    cache, run_id = chain
    sizes = {row.verdict: row.n_stratum for row in draw(cache, [run_id], 2).rows}
    n = 2 * min(sizes.values()) + 5
    assert len(draw(cache, [run_id], n).rows) == n


def test_what_cannot_be_drawn(chain: tuple[Cache, str]) -> None:
    cache, run_id = chain
    with pytest.raises(SpecError, match="n: got 0"):
        draw(cache, [run_id], 0)
    with pytest.raises(GoneError, match="no run 0123"):
        draw(cache, ["0123"])


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    audit = Audit(
        (ROW, replace(ROW, fact_id="f1", verdict="wrong", n_stratum=7, judged="unsure", completion='=1,"2"'))
    )
    path = tmp_path / "new" / "audit.csv"
    audit.save(path)
    assert read_audit(path) == audit
    assert audit.next_open == 0
    assert audit.judge(0, "wrong").next_open is None
    assert audit.judge(1, "").rows[1].judged == ""
    with pytest.raises(SpecError, match="judged: got 'yes'"):
        audit.judge(0, "yes")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"judged": "yes"}, "line 4: judged is 'yes'; allowed: right, wrong, unsure, or empty"),
        ({"verdict": ""}, "line 4: verdict is ''"),
        ({"n_stratum": "many"}, "line 4: n_stratum is 'many'"),
        ({"n_stratum": "5"}, "line 4: n_stratum is 5, but 300 in another row called right"),
        ({"fact_id": "f0"}, "line 4: the same completion"),
        ({"judged": None}, "line 4: the row has more or fewer columns"),
    ],
)
def test_a_bad_row_is_refused_by_its_line(tmp_path: Path, changes: dict[str, str | None], said: str) -> None:
    """The first row takes lines 2 and 3, for its completion has a line break; the bad one is the second."""
    path = tmp_path / "audit.csv"
    good = Audit((ROW, replace(ROW, fact_id="f1", completion="x")))
    good.save(path)
    with path.open(newline="") as lines:
        header, first, second = csv.reader(lines)
    row = [changes.get(name, value) for name, value in zip(header, second, strict=True)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, first, [value for value in row if value is not None]])
    with pytest.raises(DataError, match=said):
        read_audit(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "audit.csv"
    with pytest.raises(DataError, match="cannot read"):
        read_audit(path)
    path.write_text("run_id;state_id\n")
    with pytest.raises(DataError, match="line 1: the column run_id is missing"):
        read_audit(path)
    path.write_text(Audit((ROW,)).to_csv().splitlines()[0])
    with pytest.raises(DataError, match="holds no completions"):
        read_audit(path)
    path.write_bytes(b"\xff")
    with pytest.raises(DataError, match="not a CSV in UTF-8"):
        read_audit(path)


def test_judgements_may_be_written_in_any_case(tmp_path: Path) -> None:
    path = tmp_path / "audit.csv"
    Audit((replace(ROW, judged="right"),)).save(path)
    path.write_text("\ufeff" + path.read_text().replace(",right\n", ", RIGHT \n"))
    assert read_audit(path).rows[0].judged == "right"
