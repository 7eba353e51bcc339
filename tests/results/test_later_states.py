"""A k measured after a chain stands among its own, as if the chain had measured it itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import fake_chain
import pytest
from fake_chain import make_chains

from sftknow_core.errors import SpecError
from sftknow_core.results import Chain, Questions
from sftknow_core.results.states import State
from sftknow_core.store.cache import Cache


def later(cache: Cache, run_id: str) -> list[State]:
    """The states that the chain did not measure itself."""
    chain = Chain(cache, run_id)
    return [state for state in chain.states if state.state_id not in chain.stages.evaluate]


def test_a_later_k_joins_the_chains_own(tmp_path: Path) -> None:
    """The second chain asks the same model the same questions, at 10% too: what the first one shows then is equal."""
    cache = Cache(tmp_path)
    (first,) = make_chains(tmp_path, per_level=4, five_shot=False)  # a k measured later has no such answers
    before, stamp = Questions(cache, first).table, Chain(cache, first).stamp
    assert later(cache, first) == [] and before.ks == (5.0, 20.0, 60.0, 100.0)
    (second,) = make_chains(tmp_path, per_level=4, ks=(5, 10, 20, 60), five_shot=False)
    (found,) = later(cache, first)
    assert (found.kind, found.k_percent) == ("restored", 10.0) and later(cache, second) == []
    assert Chain(cache, first).stamp != stamp
    curves = [Chain(cache, run_id).curve("test") for run_id in (first, second)]
    assert curves[0].equals(curves[1]) and 10.0 in set(curves[0]["k_percent"])
    joined, whole = Questions(cache, first).table, Questions(cache, second).table
    assert joined.ks == whole.ks and joined.questions.equals(whole.questions)
    by_state = [("fact_id", "ascending"), ("k", "ascending")]
    assert joined.states.sort_by(by_state).equals(whole.states.sort_by(by_state))
    assert not joined.questions.equals(before.questions)  # some come back at 10 now
    fact = joined.questions["fact_id"][0].as_py()
    assert Questions(cache, first).first_token(fact, 10.0) is None  # known; made-up rows hold no ten tokens


def test_other_questions_and_lost_answers_do_not_count(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (run_id,) = make_chains(tmp_path, per_level=4)
    make_chains(tmp_path, per_level=5, ks=(10,))
    assert later(cache, run_id) == []
    make_chains(tmp_path, per_level=4, ks=(40,))
    (found,) = later(cache, run_id)
    shutil.rmtree(cache.run_folder(found.run_id))
    assert later(cache, run_id) == []
    assert Questions(cache, run_id).table.ks == (5.0, 20.0, 60.0, 100.0)


def test_what_another_version_of_the_matcher_judged_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both directions: verdicts of two versions make no curve."""
    cache = Cache(tmp_path)
    (run_id,) = make_chains(tmp_path, per_level=4)
    monkeypatch.setattr(fake_chain, "RULES_ID", "matcher 1")
    (other,) = make_chains(tmp_path, per_level=4, ks=(10,))
    assert later(cache, run_id) == later(cache, other) == []
    chain = Chain(cache, run_id)
    assert 10.0 not in set(chain.ways()["k_percent"]) and 10.0 in set(Chain(cache, other).ways()["k_percent"])
    assert chain.question_sets()["n_states"].tolist() == [6]


def test_a_k_never_measured_names_all_that_were(tmp_path: Path) -> None:
    (run_id,) = make_chains(tmp_path, per_level=4)
    make_chains(tmp_path, per_level=4, ks=(10,))
    with pytest.raises(SpecError, match="measured: 5, 10, 20, 60, 100"):
        Questions(Cache(tmp_path), run_id).first_token("f", 7.0)
