"""Listing, prefixes, removing runs, collecting checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
from fake_runs import accuracy_row, do_run, runs_on_record, save_weights, spec

from sftknow_core.errors import CacheError, SpecError
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.gc import Keep, What, gc, remove_runs, remove_weights
from sftknow_core.store.listing import find_run, list_runs, resolve_prefix
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_folder import SPEC, RunFolder
from sftknow_core.store.run_state import RunState

WEIGHTS_BYTES = len("{}") + len("weights")


def make_model(cache: Cache, name: str, role: str, base: str | None, accuracies: dict[str, float]) -> str:
    """A run that makes a checkpoint with model_id `<name>-id`, which holds its accuracy too; the run_id."""
    model_id = f"{name}-id"
    with open_run(cache, spec(name, "sft")) as run:
        run.write_folder("model", save_weights)
        made = {"path": f"runs/{run.run_id}/model", "made_by": run.run_id}
        run.write_part("models", 0, [{"model_id": model_id, "name": name, "role": role, **made}])
        state: dict[str, Any] = {"state_id": model_id, "kind": role, "base_id": base}
        run.write_part("states", 0, [{**state, "tuned_id": model_id if base else None}])
        rows = [accuracy_row(model_id, None, value, split=split) for split, value in accuracies.items()]
        run.write_part("accuracies", 0, rows)
        run.finish()
    return run.run_id


def has_weights(cache: Cache) -> set[str]:
    return {info.run_id for info in list_runs(cache) if info.has_weights}


# -- listing


def test_states_come_from_the_folders(cache: Cache) -> None:
    done = do_run(cache, "a")
    with pytest.raises(ZeroDivisionError):
        do_run(cache, "b", on_chunk=lambda chunk: 1 / (1 - chunk))
    (cache.runs / "junk").mkdir()
    with open_run(cache, spec("c")) as run:
        run.progress(1, 4, "half-way there")
        found = {info.run_id: info for info in list_runs(cache)}
        states = {info.spec.inputs["model"]: info.status.state for info in found.values()}
        assert states == {"a": RunState.DONE, "b": RunState.FAILED, "c": RunState.RUNNING}
        assert found[run.run_id].status.note == "half-way there"
    assert found[done].summary == {"n_facts": 6} and found[done].has_weights
    assert found[done].size_bytes > WEIGHTS_BYTES
    assert list_runs(cache, kind="sft") == []


def test_a_finished_run_is_read_anew_when_it_is_no_more_what_it_was(cache: Cache) -> None:
    done = do_run(cache, "a")
    assert list_runs(cache) == list_runs(cache) and has_weights(cache) == {done}
    remove_weights(cache, done)
    assert has_weights(cache) == set()
    spec_file = RunFolder(cache, done).root / SPEC
    spec_file.write_text(spec_file.read_text("utf-8") + "torn", "utf-8")
    assert list_runs(cache) == []


def test_prefixes(cache: Cache) -> None:
    run_id = make_model(cache, "abc", "base", None, {})
    make_model(cache, "abd", "tuned", "abc-id", {})
    assert resolve_prefix(cache, "abc") == cache.root / "runs" / run_id / "model"
    assert find_run(cache, run_id[:6]) == run_id
    with pytest.raises(SpecError, match="'ab' is the start of 2 model ids: abc-id, abd-id; give more of it"):
        resolve_prefix(cache, "ab")
    for prefix in ("x", ""):
        with pytest.raises(SpecError, match="no model id in the cache starts with"):
            resolve_prefix(cache, prefix)
    remove_weights(cache, run_id)
    with pytest.raises(SpecError, match=f"not at runs/{run_id}/model any more; the command of run {run_id}"):
        resolve_prefix(cache, "abc")


# -- removing


def test_folder_and_rows_go_together(cache: Cache) -> None:
    a, b = do_run(cache, "a"), do_run(cache, "b")
    assert len(runs_on_record(cache)) == 2
    assert remove_runs(cache, [a]) > WEIGHTS_BYTES
    assert list(runs_on_record(cache)["run_id"]) == [b]
    assert set(read_table(cache, "accuracies")["run_id"]) == {b}
    assert not cache.run_folder(a).exists() and not cache.run_lock(a).exists()
    assert {path.name for path in cache.root.iterdir()} == {"runs", "models", "locks", "sftknow.duckdb"}
    do_run(cache, "a")
    assert len(runs_on_record(cache)) == 2


def test_what_is_under_way_stays_and_nothing_else_goes(cache: Cache) -> None:
    a, b = do_run(cache, "a"), do_run(cache, "b")
    with open_run(cache, spec("c")) as run:
        with pytest.raises(CacheError, match=f"run {run.run_id} is under way; stop it first"):
            remove_runs(cache, [a, run.run_id])
        run.uses(b)
        with pytest.raises(CacheError, match=f"run {b} is a stage of run {run.run_id}, which is under way"):
            remove_runs(cache, [a, b])
        with pytest.raises(SpecError, match="there is no run 0123"):
            remove_runs(cache, [a, "0123"])
        assert cache.run_folder(a).is_dir() and cache.run_folder(b).is_dir()
        assert gc(cache, Keep.NONE, What.RUNS).removed == ()
    remove_runs(cache, [a, b])
    assert set(cache.runs.iterdir()) == {run.root}


def test_without_its_weights_a_run_keeps_its_numbers_and_can_make_them_again(cache: Cache) -> None:
    run_id = do_run(cache)
    before = read_table(cache, "accuracies")
    assert remove_weights(cache, run_id) == WEIGHTS_BYTES
    assert RunFolder(cache, run_id).problems(verify=True) == []
    assert read_table(cache, "accuracies").equals(before)
    with open_run(cache, spec()) as run:
        assert run.done and run.weights() is None
    with open_run(cache, spec(), need=["model"]) as run:
        assert not run.done and run.previous is not None and run.previous.summary == {"n_facts": 6}
        assert run.weights() is None and run.has_part("accuracies", 0)
        run.write_folder("model", save_weights)
        run.finish({"n_facts": 7})
    assert RunFolder(cache, run_id).problems(verify=True) == []
    with open_run(cache, spec(), need=["model"]) as run:
        assert run.done and run.weights() is not None


def test_weights_of_an_unfinished_run_go_with_the_run(cache: Cache) -> None:
    with open_run(cache, spec()) as run:
        run.write_folder("model", save_weights)
    with pytest.raises(CacheError, match="is not finished; `sftknow runs rm"):
        remove_weights(cache, run.run_id)
    assert has_weights(cache) == {run.run_id}


# -- collecting


def models(cache: Cache) -> dict[str, str]:
    """Two bases; "best" is best on dev though not on test; "lone" belongs to the other base."""
    return {
        "base": make_model(cache, "base", "base", None, {"test": 0.1}),
        "worse": make_model(cache, "worse", "tuned", "base-id", {"dev": 0.3, "test": 0.9}),
        "best": make_model(cache, "best", "tuned", "base-id", {"dev": 0.4, "test": 0.2}),
        "healed": make_model(cache, "healed", "restored", "base-id", {"dev": 0.2}),
        "new": make_model(cache, "new", "tuned", "base-id", {}),
        "lone": make_model(cache, "lone", "tuned", "base2-id", {"test": 0.1}),
    }


def test_keep_best(cache: Cache) -> None:
    ids = models(cache)
    planned = gc(cache, dry_run=True)
    assert planned.removed == (ids["worse"],) and planned.freed_bytes == WEIGHTS_BYTES
    assert has_weights(cache) == set(ids.values())
    kept = dict(planned.kept)
    assert kept[ids["base"]] == "no fine-tuned model" and kept[ids["new"]] == "not evaluated yet"
    assert kept[ids["best"]] == kept[ids["lone"]] == "best tuned model of its base"
    assert kept[ids["healed"]] == "best restored model of its base"
    assert gc(cache) == planned
    assert has_weights(cache) == set(ids.values()) - {ids["worse"]}
    assert len(read_table(cache, "accuracies", run_ids=[ids["worse"]])) == 2
    assert gc(cache).removed == ()


@pytest.mark.parametrize("what", What)
def test_keep_none(cache: Cache, what: What) -> None:
    ids = models(cache)
    planned = gc(cache, Keep.NONE, what, dry_run=True)
    assert gc(cache, Keep.NONE, what) == planned
    assert has_weights(cache) == {ids["base"]}
    assert len(runs_on_record(cache)) == (6 if what is What.WEIGHTS else 1)


def test_leftovers_of_a_kill_are_swept(cache: Cache) -> None:
    """Killed between taking the folder out of runs/ and deleting it."""
    run_id = do_run(cache)
    cache.run_folder(run_id).rename(cache.root / f".tmp-removed-{run_id}-1")
    gc(cache)
    assert list(cache.root.glob(".tmp*")) == []
