"""The lock of an accelerator, between real processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sftknow_core.errors import ModelError, Stopped
from sftknow_core.pipeline.device import DeviceLock, device_name
from sftknow_core.serve.process import child_environment
from sftknow_core.store.cache import Cache

HOLDER = """
import sys
from sftknow_core.pipeline.device import DeviceLock
from sftknow_core.store.cache import Cache
lock = DeviceLock(Cache(sys.argv[1]), "cuda-0")
lock.take(lambda: None, lambda text: print(text, flush=True))
print("taken", flush=True)
sys.stdin.read()
"""


@contextmanager
def other_process(cache: Cache) -> Iterator[subprocess.Popen[str]]:
    """One that takes the device and keeps it until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(cache.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_one_after_the_other(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    mine = DeviceLock(cache, "cuda-0")
    mine.take(lambda: None, pytest.fail)
    assert mine.held and not mine.is_wanted()
    with other_process(cache) as other:
        assert "waiting for cuda-0" in other.stdout.readline()
        assert mine.is_wanted()
        mine.release()
        assert other.stdout.readline() == "taken\n"
        assert not mine.is_wanted()
        told: list[str] = []

        def end_the_other() -> None:
            if told:
                other.stdin.close()

        mine.take(end_the_other, told.append)
        assert mine.held and len(told) == 1


def test_the_dead_neither_hold_nor_want(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    mine = DeviceLock(cache, "cuda-0")
    mine.take(lambda: None, pytest.fail)
    with other_process(cache) as waiting:
        waiting.stdout.readline()
    assert not mine.is_wanted() and not list(cache.locks.glob("*wanted*"))
    mine.release()
    with other_process(cache) as holding:
        assert holding.stdout.readline() == "taken\n"
    mine.take(lambda: None, lambda text: None)


def test_whoever_stops_waiting_leaves_no_trace(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with other_process(cache) as other:
        assert other.stdout.readline() == "taken\n"

        def stop() -> None:
            raise Stopped("enough")

        with pytest.raises(Stopped):
            DeviceLock(cache, "cuda-0").take(stop, lambda text: None)
        assert not list(cache.locks.glob("*wanted*"))
        DeviceLock(cache, "cuda-1").take(stop, pytest.fail)  # another device is free


def test_who_came_first_comes_next(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    mine = DeviceLock(cache, "cuda-0")
    mine.take(lambda: None, pytest.fail)
    served: list[int] = []

    def take_turn(number: int, told: threading.Event) -> None:
        lock = DeviceLock(cache, "cuda-0")
        lock.take(
            lambda: time.sleep(0.1 * (4 - number)), lambda text: told.set()
        )  # later ones look more often
        served.append(number)
        lock.release()

    with other_process(cache) as first:
        first.stdout.readline()
        threads = []
        for number in range(5):
            told = threading.Event()
            threads.append(threading.Thread(target=take_turn, args=(number, told), daemon=True))
            threads[-1].start()
            assert told.wait(10)
        mine.release()
        assert first.stdout.readline() == "taken\n"
        assert served == []
    for thread in threads:
        thread.join(10)
    assert served == [0, 1, 2, 3, 4]


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device_name("cuda") == device_name("auto") == "cuda-0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert device_name("cuda") == "cuda-3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8932f937-d72c")
    assert device_name("cuda") == "cuda-GPU-8932f937-d72c"
    assert device_name("cpu") is None
    with pytest.raises(ModelError):
        device_name("tpu")


def test_a_cpu_is_not_locked(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    before = set(cache.locks.iterdir())
    one, other = DeviceLock(cache, None), DeviceLock(cache, None)
    one.take(lambda: None, pytest.fail)
    other.take(lambda: None, pytest.fail)
    assert not one.is_wanted() and set(cache.locks.iterdir()) == before
    one.release()
