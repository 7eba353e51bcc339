"""A study in processes of its own: killed, with one worker or two, and when the one who hands out the cells is gone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_chain import differences, everything
from small_study import small_study, write_study

from sftknow_core.pipeline.study.pool import InThisProcess
from sftknow_core.pipeline.study.run import run_study
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.registry import load_plugins
from sftknow_core.specs import Restoring
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.study_record import cell_records

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="needs fork to start killable children quickly"
)


def numbers(cache: Path) -> dict[str, dict[str, Any]]:
    """Everything in the cache but how long it took."""
    found = everything(cache)
    for run in found.values():
        for cell in run["summary"].get("cells", ()) if run["kind"] == "study" else ():
            cell["seconds"] = None
    return found


def die_at_replace(number: int) -> None:
    """Let this process kill itself right before its n-th os.replace from now (from 1)."""
    replace, seen = os.replace, 0

    def replace_or_die(*args: Any, **kwargs: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*args, **kwargs)

    os.replace = replace_or_die  # type: ignore[assignment]


def study_in_child(cache: Path, model: Path, facts: Path, killed_at_replace: int | None = None) -> int:
    """The small study in a forked child; returns how it ended (0: well, -9: killed)."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            if killed_at_replace is not None:
                die_at_replace(killed_at_replace)
            run_study(small_study(model, facts), Workspace(cache, device="cpu"), InThisProcess())
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def n_on_record(cache: Path) -> int:
    """Cells of the cache's only study that have an outcome."""
    return sum(len(file.read_text().splitlines()) for file in (cache / "runs").glob("*/cells.jsonl"))


def test_killed_three_times_gives_the_numbers_of_one_undisturbed(
    tmp_path: Path, finished: Path, model: Path, facts: Path
) -> None:
    """A cell makes some 65 replacements, so each stint gets about one cell further and dies in the next."""
    moments = random.Random(20_26)
    reached = []
    for _ in range(3):
        assert study_in_child(tmp_path, model, facts, moments.randint(60, 85)) == -signal.SIGKILL
        reached.append(n_on_record(tmp_path))
    assert 0 < reached[-1] < 4
    assert reached == sorted(reached)
    assert study_in_child(tmp_path, model, facts) == 0
    assert differences(numbers(tmp_path), numbers(finished)) == []


def start(cache: Path, study: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sftknow_core.cli", "study", "run", study, "--cache", cache]
    given = [*map(str, command), "--device", "cpu", "--workers", str(workers), "--json"]
    return subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_one_worker_and_two_give_the_numbers_of_this_process(
    tmp_path: Path, finished: Path, model: Path, facts: Path
) -> None:
    study = write_study(tmp_path, model, facts)
    study.write_text(study.read_text().replace("seeds = [0]", "seeds = [0, 1]"))
    expected = numbers(finished)
    for workers in (1, 2):
        process = start(tmp_path / str(workers), study, workers)
        _, err = process.communicate()
        assert process.returncode == 0, err.decode()
        assert differences(numbers(tmp_path / str(workers)), expected) == [], f"{workers} workers"
        assert b"model shards" not in err


@pytest.mark.slow
def test_workers_end_with_the_one_who_was_killed(tmp_path: Path, model: Path, facts: Path) -> None:
    process = start(tmp_path / "cache", write_study(tmp_path, model, facts), 1)
    runs = tmp_path / "cache" / "runs"
    give_up = time.monotonic() + 120
    while not any(runs.glob("*/spec.json")) or not psutil.Process(process.pid).children():
        assert time.monotonic() < give_up
        time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
    again = start(tmp_path / "cache", write_study(tmp_path, model, facts), 1)
    _, err = again.communicate()
    assert again.returncode == 0, err.decode()


@pytest.mark.slow
def test_ctrl_c_and_sigterm_stop_it_and_the_same_command_goes_on(
    tmp_path: Path, model: Path, facts: Path
) -> None:
    study = write_study(tmp_path, model, facts)
    process = start(tmp_path / "cache", study, 1)
    give_up = time.monotonic() + 120
    while not list((tmp_path / "cache" / "runs").glob("*/cells.jsonl")):
        assert time.monotonic() < give_up
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    (cells,) = (tmp_path / "cache" / "runs").glob("*/cells.jsonl")
    run = RunFolder(Cache(tmp_path / "cache"), cells.parent.name)
    assert run.status().state == "stopped"
    assert len(cell_records(run)) < 2
    again = start(tmp_path / "cache", study, 1)
    _, err = again.communicate()
    assert again.returncode == 0, err.decode()


EXAMPLE = Path(__file__).parents[3] / "examples" / "own_strategy.py"


@pytest.mark.usefixtures("own_plugins")
def test_a_worker_runs_the_plugin_that_the_study_names(tmp_path: Path, model: Path, facts: Path) -> None:
    """A worker is a fresh process: it loads the file again, and the cell's runs carry the same hash."""
    (plugin,) = load_plugins([EXAMPLE])
    spec = small_study(model, facts, sizes=(4,), seeds=(0,), restoring=(Restoring(strategy="heavy-first"),))
    done = run_study(spec, Workspace(tmp_path, device="cpu"))
    (cell,) = done.summary["cells"]
    assert cell["state"] == "done", cell["reason"]
    chain = RunFolder(Cache(tmp_path), cell["chains"][0]["run_id"])
    stored = {row["strategy"] for row in read_table(Cache(tmp_path), "restorations").to_dict("records")}
    assert stored == {f"heavy-first@{plugin.sha256[:16]}"}
    assert {one["plugin"] for one in chain.spec.params["restore"]} == {f"own_strategy@{plugin.sha256}"}
