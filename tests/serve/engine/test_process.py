"""The engine as a process of its own, and the client that a dashboard's sessions share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from engine_requests import Chain
from small_chain import small_facts_file

from sftknow_core.errors import SftknowError, SpecError
from sftknow_core.registry import PLUGINS_VARIABLE
from sftknow_core.serve.engine.client import AnswerState, EngineClient
from sftknow_core.serve.process import child_environment
from sftknow_core.update.spec import RestoreSpec

PATIENCE_SECONDS = 60.0
K20 = RestoreSpec(k_percent="20")

PARENT = """
import sys, time
from sftknow_core.serve.engine.client import EngineClient
client = EngineClient(sys.argv[1], "cpu")
print(client.wait(client.submit("ping"), 60).result["pid"], flush=True)
time.sleep(600)
"""

NOISE = """
import os
from sftknow_core.serve.engine import __main__ as engine
from sftknow_core.serve.engine.worker import Engine

def noisy(self):
    print("from python")
    os.write(1, b"from a library in C\\n")
    os.system("echo from a child")
    self._send({"id": "x", "event": "done", "result": {"stdin": os.read(0, 10).decode()}})

Engine.run = noisy
engine.main(["--cache", os.environ["TEST_CACHE"], "--device", "cpu"])
"""


@pytest.fixture(scope="module")
def chain(undisturbed: Path, model: Path, memory_folder: Path) -> Iterator[Chain]:
    """A copy of the finished small chain."""
    cache = memory_folder / "process"
    shutil.copytree(undisturbed, cache)
    yield Chain(cache, model, small_facts_file(memory_folder / "process.jsonl"))
    shutil.rmtree(cache)


@pytest.fixture(scope="module")
def client(chain: Chain) -> Iterator[EngineClient]:
    """One engine for the tests that leave it in order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        found = EngineClient(chain.cache, "cpu")
        found.start()
    yield found
    found.close()


def pid_of(client: EngineClient) -> int:
    return client.wait(client.submit("ping"), PATIENCE_SECONDS).result["pid"]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_client_loads_no_torch() -> None:
    program = (
        "import sys; import sftknow_core.serve.engine.client, sftknow_core.serve.jobs, sftknow_core.serve.job_specs;"
        "print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=child_environment()
    )
    assert ran.stdout == "[]\n", ran.stderr


def test_a_plugin_that_changed_ends_the_engine_before_any_work(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("x = 1\n")
    command = [sys.executable, "-m", "sftknow_core.serve.engine", "--cache", str(tmp_path / "cache")]
    more = {PLUGINS_VARIABLE: json.dumps({str(plugin): "0" * 64})}
    ran = subprocess.run(command, capture_output=True, text=True, env=child_environment(**more))
    assert ran.returncode == 2 and "mine.py changed while it was in use" in ran.stderr
    assert not (tmp_path / "cache").exists()


def test_answers_are_ready_at_once_or_polled(client: EngineClient, chain: Chain) -> None:
    asked = client.submit(chain.ask("base", "tuned", K20))
    pid_of(client)  # while the request waits for torch to be imported
    assert client.poll(asked).state in (AnswerState.QUEUED, AnswerState.RUNNING)
    done = client.wait(asked, PATIENCE_SECONDS)
    assert done.state is AnswerState.DONE and done.share == 1.0
    assert [answer["label"] for answer in done.result["answers"]] == ["base", "tuned", "restored 20%"]
    cached = client.wait(client.submit(chain.evaluate(K20)), PATIENCE_SECONDS)
    assert cached.result["cached"] and cached.result["n_questions"] == 10
    status = client.wait(client.submit("status"), PATIENCE_SECONDS).result
    assert status["ready"] and status["rss_bytes"] > 100_000_000


def test_looking_at_the_status_asks_one_question_at_a_time(client: EngineClient) -> None:
    """However often pages are drawn, nothing is left on the board."""
    assert until(lambda: client.status() is not None, PATIENCE_SECONDS)
    pid_of(client)  # what was asked before it is answered by then
    before = len(client._board.answers)
    for _ in range(200):
        said = client.status()
    assert said is not None and said["pid"] == pid_of(client)
    assert len(client._board.answers) <= before + 2


def test_threads_get_their_own_answers(client: EngineClient, chain: Chain) -> None:
    """Eight sessions with other texts and other states: nobody sees another's."""
    states = ("base", "tuned", K20, RestoreSpec(k_percent="60"))

    def session(number: int) -> bool:
        state, texts = states[number % 4], (f"Where was number {number} born?",)
        found = [
            client.wait(client.submit(chain.ask(state, texts=texts)), PATIENCE_SECONDS).result["answers"][0]
            for _ in range(3)
        ]
        return found[0] == found[1] == found[2] and found[0]["rows"][0]["text"] == texts[0]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(session, range(8)))


def test_errors_and_cancels_come_back(client: EngineClient, chain: Chain) -> None:
    bad = client.wait(client.submit(chain.evaluate("base", mastery="0" * 16)), PATIENCE_SECONDS)
    assert (bad.state, bad.kind) == (AnswerState.FAILED, "SpecError") and "mastery" in bad.error
    first = client.submit(chain.evaluate(RestoreSpec(k_percent="41")))
    second = client.submit(chain.evaluate(RestoreSpec(k_percent="42")))
    client.cancel(second)
    assert client.wait(second, PATIENCE_SECONDS).state is AnswerState.CANCELLED
    assert client.wait(first, PATIENCE_SECONDS).state is AnswerState.DONE
    client.cancel(first)  # has ended: nothing happens
    with pytest.raises(SpecError, match="no request 'nobody'"):
        client.poll("nobody")


def test_dies_with_a_killed_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    try:
        engine = int(parent.stdout.readline())
        assert not is_gone(engine)
        os.kill(parent.pid, signal.SIGKILL)
        assert until(lambda: is_gone(engine), 8)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_a_killed_engine_is_said_so_and_replaced(tmp_path: Path, chain: Chain) -> None:
    client = EngineClient(tmp_path, "cpu")
    pid = pid_of(client)
    waiting = client.submit(chain.ask("base", models=type(chain.models)(base=str(chain.base))))
    os.kill(pid, signal.SIGKILL)
    lost = client.wait(waiting, PATIENCE_SECONDS)
    assert (lost.state, lost.kind) == (AnswerState.FAILED, "engine")
    assert "killed by signal 9" in lost.error and "Ask again" in lost.error
    assert "killed by signal 9" in client.notice
    assert pid_of(client) != pid
    client.close()


def test_a_closed_or_forgotten_client_leaves_no_engine(tmp_path: Path) -> None:
    client, forgotten = EngineClient(tmp_path / "a", "cpu"), EngineClient(tmp_path / "b", "cpu")
    pids = pid_of(client), pid_of(forgotten)
    client.close()
    del forgotten
    assert until(lambda: all(map(is_gone, pids)), 8)
    with pytest.raises(SftknowError, match="closed"):
        client.submit("ping")
    assert client.notice is None


def test_a_cache_that_cannot_be_is_told_by_the_engines_last_words(tmp_path: Path) -> None:
    client = EngineClient(tmp_path, "cpu")
    client._arguments = ["--cache", str(tmp_path / "file"), "--device", "cpu"]
    (tmp_path / "file").write_text("")
    answer = client.wait(client.submit("ping"), PATIENCE_SECONDS)
    assert answer.kind == "engine" and "is a file, not a folder" in answer.error
    client.close()


def test_only_answers_reach_stdout(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", NOISE],
        input="",
        capture_output=True,
        text=True,
        env=child_environment(TEST_CACHE=str(tmp_path)),
        timeout=PATIENCE_SECONDS,
    )
    assert ran.stdout == '{"id": "x", "event": "done", "result": {"stdin": ""}}\n'
    for text in ("from python", "from a library in C", "from a child"):
        assert text in ran.stderr
