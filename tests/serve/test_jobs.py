"""Jobs: commands as processes that outlive whoever started them, and what the cache tells about them."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
import typer

from sftknow_core.cli.app import app
from sftknow_core.errors import SpecError
from sftknow_core.pipeline.reporter import BarReporter
from sftknow_core.serve import jobs as module
from sftknow_core.serve.job_specs import (
    ChainJob,
    DemoJob,
    JobSpec,
    SftJob,
    command_line,
)
from sftknow_core.serve.jobs import NICE_VARIABLE, Job, JobState, dismiss, job_of, jobs, start, stop
from sftknow_core.serve.process import JOB_VARIABLE, JobReporter, child_environment, recorded, reporter
from sftknow_core.store.cache import Cache
from sftknow_core.store.run_state import Owner

PATIENCE_SECONDS = 60.0
KINDS = (ChainJob, DemoJob, SftJob)

PARENT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in a shell's background
from dataclasses import dataclass
from typing import ClassVar
from sftknow_core.serve.job_specs import JobSpec
from sftknow_core.serve.jobs import start
from sftknow_core.store.cache import Cache

@dataclass(frozen=True)
class ListRuns(JobSpec):
    command: ClassVar = ("runs",)

print(start(Cache(sys.argv[1]), ListRuns()).job_id, flush=True)
time.sleep(600)
"""


@dataclass(frozen=True)
class ListRuns(JobSpec):
    """The quickest command there is."""

    command: ClassVar[tuple[str, ...]] = ("runs",)


def ended(cache: Cache, job_id: str, seconds: float = PATIENCE_SECONDS) -> Job:
    give_up = time.monotonic() + seconds
    while (job := job_of(cache, job_id)).state is JobState.RUNNING:
        assert time.monotonic() < give_up, f"still running after {seconds} s: {job}"
        time.sleep(0.05)
    return job


def on_record(cache: Cache, name: str = "made-up", **files: object) -> str:
    """A job folder as another process would have left it; returns its id."""
    folder = cache.root / "jobs" / name
    folder.mkdir(parents=True)
    asked = {
        "arguments": ["demo"],
        "cwd": "/",
        "command": "sftknow demo",
        "started_at": "2026-01-01T00:00:00Z",
        "started_seconds": time.time(),
    }
    for file, content in {"job.json": asked, **files}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / file.replace("__", ".")).write_text(text)
    return name


GONE = {"host": Owner.me().host, "pid": Owner.me().pid, "create_time": 1.0}
"""This pid, but of a process that lived long ago."""


def test_the_command_line_is_for_people() -> None:
    spec = ChainJob(base="my models/base", level="2", n=60, lora=True, lr=1e-3, ks=("5", "20"))
    expected = (
        "sftknow run --base 'my models/base' --data demo --level 2 --n 60 --seed 0 --lora --lr 0.001 --k 5,20"
    )
    assert command_line(spec) == expected
    assert shlex.split(command_line(spec, "/a b")) == ["sftknow", *spec.arguments(), "--cache", "/a b"]
    assert DemoJob(questions=5).arguments() == ("demo", "--no-app", "--questions", "5")
    assert "--tuned=-x" in ChainJob(tuned="-x").arguments()


def test_every_field_is_an_option_of_its_command() -> None:
    commands = typer.main.get_command(app).commands
    for kind in KINDS:
        known = {name for option in commands[kind.command[0]].params for name in option.opts}
        filled = replace(kind(), **{field.name: "1" for field in fields(kind)})
        given = {part for part in filled.arguments() if part.startswith("--") and part != "--no-app"}
        assert given <= known and len(given) == len(fields(kind))


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (ChainJob(level="7"), "level: got '7'"),
        (ChainJob(n="few"), "n: got 'few'"),
        (ChainJob(ks=("5", "101")), "k_percent: got 101"),
        (ChainJob(strategy="best"), "strategy: got 'best'"),
        (ChainJob(matcher="vague"), "matcher: got 'vague'"),
        (SftJob(lr=-1.0), "lr: got -1.0"),
        (ChainJob(tuned="a\0b"), "null character"),
    ],
)
def test_what_the_command_would_refuse_starts_nothing(tmp_path: Path, spec: JobSpec, text: str) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(SpecError, match=text):
        start(cache, spec)
    assert jobs(cache) == [] and not (cache.root / "jobs").exists()


def test_from_start_to_result(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    first = start(cache, ListRuns())
    assert first.state is JobState.RUNNING and first.process is not None
    assert first.process.pid != os.getpid() and os.getsid(first.process.pid) == first.process.pid
    done = ended(cache, first.job_id)
    assert (done.state, done.reason, done.progress) == (JobState.DONE, None, None)
    assert done.result == {"cache": str(tmp_path), "runs": []} and done.ended_at is not None
    assert done.command == f"sftknow runs --cache {tmp_path}"
    second = start(cache, ListRuns())  # the first has ended: this is another one
    assert [job.job_id for job in jobs(cache)] == [second.job_id, first.job_id]
    with pytest.raises(SpecError, match="is running"):
        dismiss(cache, second.job_id)
    ended(cache, second.job_id)
    dismiss(cache, first.job_id)
    assert [job.job_id for job in jobs(cache)] == [second.job_id]
    for unknown in (first.job_id, "", "../runs", f"../jobs/{second.job_id}"):
        with pytest.raises(SpecError, match="there is no job"):
            dismiss(cache, unknown)


def test_two_at_once_are_one(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(lambda _: start(cache, ListRuns()), range(4)))
    assert len({job.job_id for job in started}) == 1
    other = start(Cache(tmp_path / "other"), ListRuns())
    assert other.job_id != started[0].job_id
    ended(cache, started[0].job_id)
    ended(Cache(tmp_path / "other"), other.job_id)


def test_a_failed_one_says_why(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    failed = ended(cache, start(cache, ChainJob(tuned=str(tmp_path / "nowhere"))).job_id)
    assert failed.state is JobState.FAILED and failed.result is None
    assert failed.reason is not None and f"{tmp_path}/nowhere" in failed.reason
    assert "not found; check the path" in failed.reason and "sftknow" not in failed.reason


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_outlives_every_end_of_its_parent(tmp_path: Path, sent: signal.Signals) -> None:
    """A parent in its own process group, ended as a server is: by terminal, system or force."""
    cache = Cache(tmp_path)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(cache.root)],
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
        process_group=0,
    )
    job_id = parent.stdout.readline().strip()
    os.killpg(parent.pid, sent)
    assert parent.wait(10) == -sent
    parent.stdout.close()
    assert job_of(cache, job_id).state is JobState.RUNNING
    job = ended(cache, job_id)
    assert job.state is JobState.DONE, job.reason
    assert job.result == {"cache": str(tmp_path), "runs": []}


def test_stops_and_goes_on(memory_folder: Path, model: Path) -> None:
    """A chain on a tiny model with endless training: told by its runs, stopped by their stop file."""
    from small_chain import small_facts_file

    cache = Cache(memory_folder / "jobs-stop")
    facts = small_facts_file(memory_folder / "jobs.jsonl")
    small = {"data": str(facts), "sample": 1, "n": 2, "device": "cpu"}
    spec = ChainJob(base=str(model), **small, epochs=1_000.0, batch_size=1)
    now = job = start(cache, spec)
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not re.search("training|fine-tuning", now.progress.stage if now.progress else ""):
        now = job_of(cache, job.job_id)
        assert now.state is JobState.RUNNING, now.reason
        assert time.monotonic() < give_up
        time.sleep(0.05)
    stopped = stop(cache, job.job_id, wait_seconds=20)
    assert stopped.state is JobState.STOPPED and "goes on" in stopped.reason
    assert "stopped on request; the same command goes on there" in stopped.log  # the stop file, not a signal
    assert stop(cache, job.job_id).state is JobState.STOPPED  # again: nothing happens


def test_stops_by_a_signal_where_there_is_no_run_to_tell(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    job = start(cache, DemoJob())
    stopped = stop(cache, job.job_id, wait_seconds=20)  # it is still importing
    assert stopped.state is JobState.STOPPED and not stopped.stopping


@pytest.mark.skipif(os.name == "nt", reason="priorities have other names there")
@pytest.mark.parametrize("given", [None, "7"])
def test_gives_way_to_whoever_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.delenv(NICE_VARIABLE)
    if given is not None:
        monkeypatch.setenv(NICE_VARIABLE, given)
    cache, nice = Cache(tmp_path), given or "19"
    job = start(cache, DemoJob())
    try:
        assert os.getpriority(os.PRIO_PROCESS, job.process.pid) == int(nice)
        group = Path(f"/proc/{job.process.pid}/autogroup")
        if group.exists():  # what counts where processor time is dealt out between sessions
            assert group.read_text().split()[1:] == ["nice", nice]
    finally:
        stop(cache, job.job_id, wait_seconds=20)


@pytest.mark.parametrize("given", ["20", "-1", "low", ""])
def test_a_wrong_niceness_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(NICE_VARIABLE, given)
    with pytest.raises(SpecError, match=f"{NICE_VARIABLE} is '{given}'; allowed: 0 "):
        start(Cache(tmp_path), DemoJob())
    assert jobs(Cache(tmp_path)) == []


def test_killed_without_a_word(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    job = start(cache, DemoJob())
    os.kill(job.process.pid, signal.SIGKILL)
    gone = ended(cache, job.job_id)
    assert gone.state is JobState.INTERRUPTED
    assert f"process {job.process.pid} on {job.process.host} ended without a word" in gone.reason


def test_states_follow_from_what_lies_there(tmp_path: Path) -> None:
    """Folders as other processes leave them: pid reused, parent killed while starting, exit codes."""
    cache = Cache(tmp_path)
    now, old = time.time(), {"started_seconds": time.time() - 3600}
    asked = json.loads((cache.root / "jobs" / on_record(cache) / "job.json").read_text())
    names = {
        on_record(cache, "reused", process__json=GONE): JobState.INTERRUPTED,
        on_record(cache, "starting"): JobState.RUNNING,
        on_record(cache, "never", job__json=asked | old): JobState.INTERRUPTED,
        on_record(cache, "done", process__json=GONE, ended__json={"code": 0, "at": "x"}): JobState.DONE,
        on_record(cache, "asked", process__json=GONE, ended__json={"code": 130, "at": "x"}): JobState.STOPPED,
        on_record(cache, "told", process__json=GONE, STOP=""): JobState.STOPPED,
        on_record(cache, "failed", process__json=GONE, ended__json={"code": 1, "at": "x"}): JobState.FAILED,
        on_record(cache, "elsewhere", process__json=GONE | {"host": "another"}): JobState.RUNNING,
    }
    assert {name: job_of(cache, name).state for name in names} == names
    long_ago = now - 3600
    for path in (cache.root / "jobs" / "elsewhere").iterdir():
        os.utime(path, (long_ago, long_ago))
    assert job_of(cache, "elsewhere").state is JobState.INTERRUPTED
    assert job_of(cache, "failed").reason == "it ended with exit code 1"


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        (" 10%  asking\nsftknow: note: x\nsftknow: error: no such k; give 1\n", "no such k; give 1"),
        ("Traceback (most recent call last):\n  File x\n    f()\nValueError: odd\n", "ValueError: odd"),
        (" 10%  asking, about 1:30 left\n", "it ended with exit code 1"),
    ],
)
def test_reasons(tmp_path: Path, stderr: str, reason: str) -> None:
    cache = Cache(tmp_path)
    name = on_record(cache, process__json=GONE, ended__json={"code": 1, "at": "x"}, stderr__txt=stderr)
    assert job_of(cache, name).reason == reason


def test_progress_is_the_reporters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter done after 30 seconds leaves 90; half a second passes between two records of a stage."""
    cache = Cache(tmp_path)
    me = Owner.me()
    name = on_record(cache, process__json=me.__dict__)
    assert job_of(cache, name).progress is None
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with JobReporter(cache.root / "jobs" / name) as told:
        told.stage("asking")
        now = 29.0
        told.expect(8)
        now = 30.0
        told.advance(2)
        assert job_of(cache, name).progress == module.JobProgress("asking", 0.25, 90.0)
        now = 30.2
        told.advance(2)
        assert job_of(cache, name).progress.share == 0.25
        now = 31.0
        told.advance(0)
        assert job_of(cache, name).progress == module.JobProgress("asking", 0.5, 31.0)


def test_a_command_that_is_no_job_records_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB_VARIABLE, raising=False)
    with recorded():
        assert type(reporter()) is BarReporter
    monkeypatch.setenv(JOB_VARIABLE, str(tmp_path))
    with pytest.raises(SystemExit), recorded():
        assert type(reporter()) is JobReporter
        sys.exit(2)
    assert json.loads((tmp_path / "ended.json").read_text())["code"] == 2
    assert json.loads((tmp_path / "process.json").read_text())["pid"] == psutil.Process().pid
