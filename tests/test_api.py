"""The public interface on the small chain: what a notebook writes gives the numbers of the rooms behind it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_fixtures import model, undisturbed  # noqa: F401  (fixtures)

import sftknow_core as sk
from sftknow_core import api
from sftknow_core.specs import ChainSpec
from sftknow_core.store.listing import list_runs

HEAVY = {"torch", "pandas", "duckdb", "pyarrow", "transformers"}
SECONDS = 0.2
"""The most that `import sftknow_core` may take (measured: 0.01)."""


@pytest.fixture(scope="module")
def ws(undisturbed: Path) -> sk.Workspace:  # noqa: F811
    return sk.Workspace(undisturbed, device="cpu")


@pytest.fixture(scope="module")
def chain(ws: sk.Workspace) -> sk.Chain:
    (info,) = list_runs(ws.cache, "chain")
    return sk.open_chain(info.run_id[:6], ws)


def test_importing_the_package_is_quick_and_loads_nothing_heavy() -> None:
    program = (
        "import sys, time; start = time.perf_counter(); import sftknow_core; "
        "print(time.perf_counter() - start, *sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    seconds, *modules = ran.stdout.split()
    assert float(seconds) < SECONDS, ran.stderr
    assert HEAVY & set(modules) == set()


def test_using_it_loads_no_torch_before_a_model_is_needed() -> None:
    program = (
        "import sys, sftknow_core as sk; sk.Workspace; sk.load_facts('demo'); print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.strip() == "False", ran.stderr


def test_all_public_names_are_there_and_no_other() -> None:
    assert sk.__all__ == api.__all__
    assert all(getattr(sk, name) is getattr(api, name) for name in sk.__all__)
    assert set(sk.__all__) <= set(dir(sk))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = sk.no_such_name


def test_numbers_in_a_spec_are_the_text_they_stand_for() -> None:
    """What a notebook writes as numbers is the chain that the command line names in words."""
    ours = sk.ChainSpec(level=2, n=240, ks=[5, "20", 12.5])  # type: ignore[arg-type]
    theirs = ChainSpec(level="2", n=240, ks=("5", "20", "12.5"))
    assert ours.restore_specs() == theirs.restore_specs()
    assert (ours.level, ours.n, ours.seed) == (theirs.level, theirs.n, theirs.seed)


def test_accuracy_and_shift_come_with_their_n_and_intervals(chain: sk.Chain) -> None:
    accuracy = chain.accuracy(split="test")
    assert set(accuracy["state"]) == {"tuned", "restored", "hybrid", "base"}
    scored = accuracy.dropna(subset=["accuracy"])
    assert (scored["low"] <= scored["accuracy"]).all() and (scored["n"] > 0).all()
    assert chain.shift(level=0).n_questions == 4
    missing = chain.shift(level=4)  # the model knows nothing: no question has this level
    assert missing.nats is None and missing.reason


def test_the_chosen_k_and_its_gain(chain: sk.Chain) -> None:
    assert chain.best_k in (0.0, 20.0)
    assert chain.gain is not None and -1 <= chain.gain.value <= 1


def test_the_cube_answers_for_any_k(chain: sk.Chain) -> None:
    half = chain.cube.select(k=50, region="mlp", layers="0-1")
    assert half.n_restored == half.n_region // 2 and 0 < half.energy_taken_back <= 1
    assert chain.cube.select(k=0).energy_taken_back == 0
    with chain.cube.open() as con:
        (n_counted,) = con.sql("SELECT sum(n) FROM cube WHERE score = 'relative'").fetchall()
    assert n_counted[0] >= chain.cube.select(k=0).n_region


def test_questions_by_outcome(chain: sk.Chain) -> None:
    found = chain.questions(k=20)
    assert len(found) == 10 and len(chain.questions(k=20, split="dev")) == 4
    recovered = chain.questions(outcome="recovered", k=20)
    assert not recovered["tuned_right"].any() and recovered["restored_right"].all()
    for wrong in ({"outcome": "unknown"}, {"k": 7}):
        with pytest.raises(sk.SftknowError):
            chain.questions(**wrong)


def test_a_restored_model_is_saved_with_its_card(chain: sk.Chain, tmp_path: Path) -> None:
    facts = chain.restore(k=20).save(tmp_path / "restored", recipe=tmp_path / "recipe.json")
    assert facts["n_restored"] == chain.cube.select(k=20).n_restored and (tmp_path / "recipe.json").is_file()
    assert {"README.md", "config.json", "model.safetensors"} <= {
        p.name for p in (tmp_path / "restored").iterdir()
    }
    with pytest.raises(sk.SftknowError, match="exists"):
        chain.restore(k=20).save(tmp_path / "restored")


def test_what_is_not_there_is_said(ws: sk.Workspace, chain: sk.Chain) -> None:
    with pytest.raises(sk.SftknowError, match="`sftknow runs` lists them"):
        sk.open_chain("ffff", ws)
    delta = chain.cube.run_id
    with pytest.raises(sk.SftknowError, match=f"there is no chain {delta}"):
        sk.open_chain(delta, ws)
    with pytest.raises(sk.SftknowError, match="`sftknow runs` lists them"):
        sk.open_study("demo", ws)


def test_the_shipped_mastery_is_there_at_once(tmp_path: Path) -> None:
    ws = sk.Workspace(tmp_path, device="cpu")
    mastery = ws.mastery(ws.model("demo"), sk.load_facts("demo"))
    assert len(mastery.frame) == len(mastery.levels) == 28_000
    assert set(mastery.levels.values()) == {0, 1, 2, 3, 4}
