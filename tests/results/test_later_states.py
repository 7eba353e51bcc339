"""A k measured after a chain stands among its own, as if the chain had measured it itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_chain import make_chains

from sftknow_core.results import question_detail, questions
from sftknow_core.results.strategies import later_states
from sftknow_core.store.cache import Cache


def test_a_later_k_joins_the_chains_own(tmp_path: Path) -> None:
    """The second chain asks the same model the same questions, at 10% too: what the first one shows then is equal."""
    cache = Cache(tmp_path)
    (first,) = make_chains(tmp_path, per_level=4)
    before = questions.gather(cache, first)
    assert later_states(cache, first) == () and before.ks == (5.0, 20.0, 60.0, 100.0)
    (second,) = make_chains(tmp_path, per_level=4, ks=(5, 10, 20, 60))
    (later,) = later_states(cache, first)
    assert (later.kind, later.k_percent) == ("restored", 10.0) and later_states(cache, second) == ()
    joined, whole = questions.gather(cache, first), questions.gather(cache, second)
    assert joined.ks == whole.ks and joined.questions.equals(whole.questions)
    by_state = [("fact_id", "ascending"), ("k", "ascending")]
    assert joined.states.sort_by(by_state).equals(whole.states.sort_by(by_state))
    assert not joined.questions.equals(before.questions)  # some come back at 10 now
    fact = joined.questions["fact_id"][0].as_py()
    assert (
        question_detail.first_token(cache, first, fact, 10.0) is None
    )  # known; made-up rows hold no ten tokens


def test_other_questions_and_lost_answers_do_not_count(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (run_id,) = make_chains(tmp_path, per_level=4)
    make_chains(tmp_path, per_level=5, ks=(10,))
    assert later_states(cache, run_id) == ()
    make_chains(tmp_path, per_level=4, ks=(40,))
    (later,) = later_states(cache, run_id)
    shutil.rmtree(cache.run_folder(later.run_id))
    assert later_states(cache, run_id) == ()
    assert questions.gather(cache, run_id).ks == (5.0, 20.0, 60.0, 100.0)


def test_a_k_never_measured_names_all_that_were(tmp_path: Path) -> None:
    (run_id,) = make_chains(tmp_path, per_level=4)
    make_chains(tmp_path, per_level=4, ks=(10,))
    with pytest.raises(Exception, match="measured: 5, 10, 20, 60, 100"):
        question_detail.first_token(Cache(tmp_path), run_id, "f", 7.0)
