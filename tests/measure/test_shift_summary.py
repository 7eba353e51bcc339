"""Mean shifts by level, by hand."""

import pytest

from sftknow_core.measure.shift_summary import kept_by_topic, summarise_shift
from sftknow_core.stats.intervals import t_interval


def row(level, kl, *, kept=True, within3=True, aligned=None, topic="P19"):
    return {
        "topic": topic,
        "level": level,
        "kept": kept,
        "kept_within3": within3,
        "kl_nats": kl,
        "kl_aligned_nats": aligned,
        "kl_same_qa_nats": None if kl is None else kl / 2,
        "kl_same_completion_nats": kl,
        "kl_floor_nats": kl,
    }


@pytest.fixture
def rows():
    return [
        row(4, 0.2, aligned=0.2),
        row(4, 0.4, aligned=0.4),
        row(4, 0.9, kept=False, aligned=0.3),
        row(4, 5.0, kept=False, within3=False),
        row(4, None, topic="P20"),
        row(0, 1.0, kept=False, within3=False),
        row(None, 0.5),
    ]


def pick(summary, level, measure):
    (found,) = [r for r in summary if (r["level"], r["measure"]) == (level, measure)]
    return found


def test_kept_questions_only(rows):
    """Level 4: 0.2 and 0.4 are kept; with 0.9 within three tokens; aligned 0.2, 0.4, 0.3."""
    summary = summarise_shift(rows)
    shift = pick(summary, 4, "shift")
    estimate = t_interval([0.2, 0.4])
    assert (shift["n"], shift["n_questions"], shift["mean_nats"]) == (2, 5, pytest.approx(0.3))
    assert (shift["low_nats"], shift["high_nats"]) == (0.0, estimate.high)
    assert pick(summary, 4, "shift_within3")["mean_nats"] == pytest.approx(0.5)
    assert pick(summary, 4, "aligned")["mean_nats"] == pytest.approx(0.3)
    assert pick(summary, 4, "aligned")["n"] == 3
    assert pick(summary, 4, "same_qa")["mean_nats"] == pytest.approx(0.15)


def test_a_level_without_kept_questions_has_no_mean(rows):
    zero = pick(summarise_shift(rows), 0, "shift")
    assert (zero["n"], zero["n_questions"], zero["mean_nats"], zero["low_nats"]) == (0, 1, None, None)
    assert "no question of this level" in zero["reason"]


def test_one_question_has_no_interval(rows):
    unknown = pick(summarise_shift(rows), None, "shift")
    assert (unknown["mean_nats"], unknown["sd_nats"], unknown["low_nats"]) == (0.5, None, None)


def test_kept_by_topic(rows):
    found = {(r["topic"], r["level"]): r for r in kept_by_topic(rows)}
    assert list(found) == [("P19", None), ("P19", 0), ("P19", 4), ("P20", 4)]
    four = found["P19", 4]
    assert (four["n_questions"], four["n_kept"], four["n_within3"], four["n_aligned"]) == (4, 2, 3, 3)
