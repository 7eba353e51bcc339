"""Cache hits, attaching, going on, stopping, failing, damage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fake_runs import do_chunks, do_run, mastery_rows, save_weights, spec, template_rows
from processes import started

from sftknow_core.errors import SftknowError, SpecError, Stopped
from sftknow_core.store.cache import Cache
from sftknow_core.store.files import CacheWarning
from sftknow_core.store.open_run import open_run, request_stop
from sftknow_core.store.run import Run
from sftknow_core.store.run_folder import DONE, EVENTS, PARTS, RunFolder
from sftknow_core.store.run_state import STALE_SECONDS, Owner, RunState, fold

ID = spec().run_id


def never(chunk: int) -> None:
    raise AssertionError(f"chunk {chunk} was done again")


def state(cache: Cache) -> RunState:
    return RunFolder(cache, ID).status().state


def test_a_finished_run_is_a_hit(cache: Cache) -> None:
    do_run(cache)
    assert state(cache) is RunState.DONE
    with open_run(cache, spec()) as run:
        assert run.done
        assert run.summary == {"n_facts": 6}
        assert run.read("mastery")["fact_id"].to_pylist()[:2] == ["fact-0-0", "fact-0-1"]
        assert run.read("mastery")["r"].to_pylist() == [0.0, 0.1, 0.2] * 2
        weights = run.weights()
        assert weights is not None and (weights / "shards" / "1.safetensors").read_bytes() == b"weights"
        with pytest.raises(SftknowError, match="is finished: nothing can be added"):
            run.write_part("mastery", 2, [])
        assert run.manifest().n_rows == {"mastery": 6, "mastery_templates": 6, "accuracies": 2}  # type: ignore[union-attr]


def test_goes_on_at_the_first_missing_chunk(cache: Cache) -> None:
    with pytest.raises(ZeroDivisionError), open_run(cache, spec()) as run:
        do_chunks(run, on_chunk=lambda chunk: 1 / (1 - chunk))
    status = RunFolder(cache, ID).status()
    assert (status.state, status.done, status.total) == (RunState.FAILED, 1, 2)
    assert status.reason == "ZeroDivisionError('division by zero')"
    done_again: list[int] = []
    do_run(cache, on_chunk=done_again.append)
    assert done_again == [1]


def test_a_refused_chunk_leaves_none_of_its_tables(cache: Cache) -> None:
    with pytest.raises(SftknowError, match="has no column x"), open_run(cache, spec()) as run:
        run.write_chunk(0, {"mastery": mastery_rows(0), "mastery_templates": [{"x": 1}]})
    assert not list(run.root.rglob("*.parquet"))
    assert RunFolder(cache, ID).read("mastery").num_rows == 0


def test_a_part_written_again_replaces(cache: Cache) -> None:
    with open_run(cache, spec()) as run:
        run.write_part("mastery", 0, mastery_rows(0))
        run.write_part("mastery", 0, mastery_rows(1)[:1])
        assert run.read("mastery")["fact_id"].to_pylist() == ["fact-1-0"]


def test_replacing_a_chunk_is_all_or_nothing(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the first of two tables was replaced: the chunk is to be made again, not half old."""
    with pytest.raises(KeyboardInterrupt), open_run(cache, spec()) as run:
        run.write_chunk(0, {"mastery": mastery_rows(0), "mastery_templates": template_rows(0)})
        monkeypatch.setattr(Path, "replace", replace_once_then_stop())
        run.write_chunk(0, {"mastery": mastery_rows(1), "mastery_templates": template_rows(1)})
    monkeypatch.undo()
    with open_run(cache, spec()) as run:
        assert not run.has_part("mastery", 0) and not run.has_part("mastery_templates", 0)


def replace_once_then_stop() -> Callable[[Path, Path], Path]:
    replace, calls = Path.replace, iter(range(2))

    def replace_or_stop(source: Path, target: Path) -> Path:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return replace(source, target)

    return replace_or_stop


def test_a_run_that_asks_for_itself_does_not_wait_for_ever(cache: Cache) -> None:
    with (
        pytest.raises(SftknowError, match="asks for itself"),
        open_run(cache, spec()),
        open_run(cache, spec()),
    ):
        raise AssertionError("it opened twice")


def test_parts_that_were_never_committed_are_gone_at_the_end(cache: Cache) -> None:
    with open_run(cache, spec()) as run:
        run.write_part("mastery", 0, mastery_rows(0))
        stray = run.root / "mastery" / "part-00009.parquet"
        stray.write_bytes(b"of an owner that was killed")
        run.finish()
    assert not stray.exists() and run.problems() == []


def test_left_without_finish_is_interrupted(cache: Cache) -> None:
    with open_run(cache, spec()):
        assert state(cache) is RunState.RUNNING
    assert state(cache) is RunState.INTERRUPTED


# -- stopping


def test_stop_on_request(cache: Cache) -> None:
    with pytest.raises(Stopped), open_run(cache, spec()) as run:
        run.check_stop()
        request_stop(cache, ID)
        run.check_stop()
    assert state(cache) is RunState.STOPPED
    do_run(cache)  # the request was for the run before
    assert state(cache) is RunState.DONE
    with pytest.raises(SpecError, match="there is no run 0123"):
        request_stop(cache, "0123")


def test_stopping_a_run_stops_its_stages(cache: Cache) -> None:
    with (
        pytest.raises(Stopped),
        open_run(cache, spec(kind="chain")) as chain,
        open_run(cache, spec(), parent=chain) as stage,
    ):
        assert RunFolder(cache, chain.run_id).status().uses == (stage.run_id,)
        request_stop(cache, chain.run_id)
        stage.check_stop()
    assert state(cache) is RunState.STOPPED


# -- attaching


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def owner(cache: Cache, ready: threading.Event, go: threading.Event, end: Callable[[Run], None]) -> None:
    try:
        with open_run(cache, spec()) as run:
            do_chunks(run)
            ready.set()
            assert go.wait(10)
            run.progress(2, 2, "nearly")
            end(run)
    except (Stopped, ValueError):
        pass


def fail(run: Run) -> None:
    raise ValueError("bad luck")


def stop(run: Run) -> None:
    raise Stopped("on request")


@pytest.mark.parametrize(
    ("end", "raised"), [(Run.finish, None), (fail, "bad luck"), (stop, "stopped on request")]
)
def test_attaching_gives_progress_and_the_same_end(cache: Cache, end: Any, raised: str | None) -> None:
    ready, go = threading.Event(), threading.Event()
    notes: list[str] = []

    def on_progress(event: Any) -> None:
        notes.append(event["note"])
        go.set()

    thread = in_thread(lambda: owner(cache, ready, go, end))
    assert ready.wait(10)
    if raised is None:
        with open_run(cache, spec(), on_progress=on_progress) as run:
            assert run.done and run.read("mastery").num_rows == 6
    else:
        with pytest.raises(SftknowError, match=raised), open_run(cache, spec(), on_progress=on_progress):
            raise AssertionError("it went on")
    thread.join()
    assert notes == ["chunk 1", "nearly"]


def test_waiting_ends_when_the_parent_is_stopped(cache: Cache) -> None:
    ready, go = threading.Event(), threading.Event()
    thread = in_thread(lambda: owner(cache, ready, go, Run.finish))
    assert ready.wait(10)
    with pytest.raises(Stopped), open_run(cache, spec(kind="chain")) as chain:
        request_stop(cache, chain.run_id)
        with open_run(cache, spec(), parent=chain):
            raise AssertionError("it did not wait")
    go.set()
    thread.join()
    assert state(cache) is RunState.DONE


def test_who_waits_for_a_process_that_dies_goes_on_in_its_place(cache: Cache) -> None:
    with started("hold", cache.root) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
        status = RunFolder(cache, ID).status()
        assert (status.state, status.note) == (RunState.RUNNING, "holding")
        assert status.owner is not None and status.owner.pid == holder.pid
        notes: list[str] = []

        def on_progress(event: Any) -> None:
            notes.append(event["note"])
            holder.kill()  # not waited for, so it becomes a zombie: dead all the same
            deadline = time.monotonic() + STALE_SECONDS / 2  # long before the heartbeat would tell
            while state(cache) is RunState.RUNNING and time.monotonic() < deadline:
                time.sleep(0.01)
            assert state(cache) is RunState.INTERRUPTED

        with open_run(cache, spec(), on_progress=on_progress) as run:
            assert not run.done
            assert run.has_chunk(0, ("mastery", "mastery_templates")) and not run.has_part("mastery", 1)
            run.finish()
        assert notes == ["holding"]


# -- whether the owner lives


def test_owner_is_alive_only_as_itself(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    me = Owner.me()
    lock = cache.run_lock("x")
    assert me.alive(0.0, lock)
    assert not me.alive(3600.0, lock)  # lives, but has neither a heartbeat nor the lock
    assert not Owner(me.host, me.pid, me.create_time - 100).alive(0.0, lock)
    assert not Owner(me.host, 2**22 + 1, me.create_time).alive(0.0, lock)
    elsewhere = Owner("another-host", 1, 0.0)
    assert elsewhere.alive(1.0, lock) and not elsewhere.alive(3600.0, lock)


def test_heartbeat(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sftknow_core.store.run.HEARTBEAT_SECONDS", 0.02)
    with open_run(cache, spec()) as run:
        time.sleep(0.2)
        assert sum(event["type"] == "heartbeat" for event in run.events()[0]) >= 3


def test_time_at_work_leaves_out_the_time_between_a_kill_and_the_next_start() -> None:
    """10 s and then killed, an hour later 5 s: 15 s of work."""
    owner = asdict(Owner("h", 1, 0.0))
    events: list[dict[str, Any]] = [
        {"t": 200.0, "type": "state", "state": "running", "owner": owner},
        {"t": 204.0, "type": "progress", "done": 3, "total": 4},
        {"t": 210.0, "type": "heartbeat"},
        {"t": 3800.0, "type": "state", "state": "running", "owner": owner},
        {"t": 3805.0, "type": "state", "state": "stopped", "reason": "on request"},
    ]
    assert fold(events).seconds == 15.0
    assert fold(events[:3]).done == 3 and fold(events[:4]).done == 0


# -- damage


def test_torn_and_damaged_event_lines_are_passed_over(cache: Cache) -> None:
    with open_run(cache, spec()) as run:
        run.metric({"loss": float("nan"), "lr": 0.1}, step=1)
    path = run.root / EVENTS
    n_events = len(run.events()[0])
    with path.open("ab") as file:
        file.write(b'\x00\x00\n[1]\n{"t": 1, "type": "progr')
    assert len(run.events()[0]) == n_events
    assert state(cache) is RunState.INTERRUPTED
    do_run(cache)  # cuts the torn line off instead of gluing the next one to it
    events, end = run.events()
    assert end == path.stat().st_size and events[n_events]["state"] == RunState.RUNNING
    metric = next(event for event in events if event["type"] == "metric")
    assert metric["values"] == {"loss": None, "lr": 0.1}
    assert run.events(end) == ([], end)


def damage_size(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def damage_content(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage", "verify", "redone"),
    [
        ("mastery/part-00001.parquet", damage_size, False, [1]),
        ("mastery_templates/part-00000.parquet", Path.unlink, False, [0]),
        ("mastery/part-00000.parquet", damage_content, True, [0]),
        ("model/shards/1.safetensors", damage_content, True, []),
        (DONE, damage_size, False, []),
    ],
)
def test_damage_is_no_hit_and_is_made_good(
    cache: Cache, file: str, damage: Callable[[Path], object], verify: bool, redone: list[int]
) -> None:
    do_run(cache)
    run = RunFolder(cache, ID)
    before = run.read("mastery_templates")
    damage(run.root / file)
    assert run.problems(verify=True) == [file]
    chunks: list[int] = []
    with (
        pytest.warns(CacheWarning, match=f"{file} in .* do not fit what was written there"),
        open_run(cache, spec(), verify=verify) as again,
    ):
        assert not again.done
        do_chunks(again, chunks.append)
        if again.weights() is None:
            again.write_folder("model", save_weights)
        again.finish({"n_facts": 6})
    assert chunks == redone
    assert run.problems(verify=True) == [] and run.read("mastery_templates") == before


def test_unnoticed_by_size_alone(cache: Cache) -> None:
    do_run(cache)
    damage_content(RunFolder(cache, ID).root / "mastery/part-00000.parquet")
    with open_run(cache, spec()) as run:
        assert run.done


def test_lost_commits_are_made_again(cache: Cache) -> None:
    do_run(cache)
    run = RunFolder(cache, ID)
    (run.root / DONE).unlink()
    (run.root / PARTS).unlink()
    assert run.status().state is RunState.INTERRUPTED
    chunks: list[int] = []
    do_run(cache, on_chunk=chunks.append)
    assert chunks == [0, 1] and run.read("mastery").num_rows == 6


def test_files_that_vanish_meanwhile_are_noticed_at_the_end(cache: Cache) -> None:
    with (
        pytest.raises(SftknowError, match=r"mastery/part-00000\.parquet vanished"),
        open_run(cache, spec()) as run,
    ):
        run.write_chunk(0, {"mastery": mastery_rows(0), "mastery_templates": template_rows(0)})
        (run.root / "mastery/part-00000.parquet").unlink()
        run.finish()
    assert state(cache) is RunState.FAILED


def test_a_folder_of_weights_is_there_as_a_whole_or_not(cache: Cache) -> None:
    def half(path: Path) -> None:
        save_weights(path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_run(cache, spec()) as run:
        run.write_folder("model", half)
    assert state(cache) is RunState.STOPPED
    assert run.weights() is None and not (run.root / "model").exists()
    with open_run(cache, spec()) as run:
        run.write_folder("model", save_weights)
        final = run.write_folder("model", save_weights)  # over the one before
        assert run.weights() == final
        run.finish()
    assert [path.name for path in run.root.iterdir() if path.is_dir()] == ["model"]
