"""A chain killed anywhere and repeated gives the results of one that was never disturbed."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_chain import differences, do_chain, everything

from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import list_runs

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="needs fork to start killable children quickly"
)

N_RANDOM_KILLS = 12


def in_child(work: Callable[[], object], kill_after_seconds: float | None = None) -> int:
    """Do `work` in a forked child; returns how it ended (0: well, -9: killed)."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            work()
            code = 0
        finally:
            os._exit(code)
    if kill_after_seconds is not None:
        time.sleep(kill_after_seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def chain_that_dies(cache: Path, model: Path, at_replace: int) -> None:
    """The chain in a process that kills itself right before its n-th os.replace (from 1)."""
    replace, seen = os.replace, 0

    def replace_or_die(*args: object, **kwargs: object) -> None:
        nonlocal seen
        seen += 1
        if seen == at_replace:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*args, **kwargs)  # type: ignore[arg-type]

    os.replace = replace_or_die  # type: ignore[assignment]
    do_chain(cache, model)


def places_of(cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What each os.replace of the chain puts in place: (kind of run, file without its number), in order."""
    replace, seen = os.replace, []
    monkeypatch.setattr(
        os, "replace", lambda *args, **kwargs: (seen.append(Path(args[1])), replace(*args, **kwargs))[1]
    )
    do_chain(cache, model)
    kinds = {info.run_id: info.kind for info in list_runs(Cache(cache))}
    return [
        (next((kinds[part] for part in path.parts if part in kinds), ""), re.sub(r"\d+", "#", path.name))
        for path in seen
    ]


@pytest.mark.slow
def test_killed_before_replaces_of_every_kind(
    memory_folder: Path, model: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of files that differ in their number alone, the first and the last."""
    expected = everything(undisturbed)
    places = places_of(memory_folder / "counted", model, monkeypatch)
    monkeypatch.undo()
    n_places = len(places)
    assert n_places > 40  # spec, parts and manifest of 8 runs
    first = {what: place for place, what in reversed(list(enumerate(places, start=1)))}
    last = {what: place for place, what in enumerate(places, start=1)}
    for place in sorted({*first.values(), *last.values()}):
        cache = memory_folder / f"killed-{place}"
        assert in_child(lambda cache=cache, place=place: chain_that_dies(cache, model, place)) == -9
        assert in_child(lambda cache=cache: do_chain(cache, model)) == 0
        assert differences(everything(cache), expected) == [], (
            f"killed before replacement {place} of {n_places}"
        )


@pytest.mark.slow
def test_killed_at_random_times(memory_folder: Path, model: Path, undisturbed: Path) -> None:
    expected = everything(undisturbed)
    started = time.monotonic()
    assert in_child(lambda: do_chain(memory_folder / "timed", model)) == 0
    seconds = time.monotonic() - started
    moments = random.Random(20_26)
    n_killed = 0
    for number in range(N_RANDOM_KILLS):
        cache = memory_folder / f"random-{number}"
        n_killed += in_child(lambda cache=cache: do_chain(cache, model), moments.random() * seconds) == -9
        assert in_child(lambda cache=cache: do_chain(cache, model)) == 0
        assert differences(everything(cache), expected) == [], f"random kill {number}"
    assert n_killed > N_RANDOM_KILLS // 2  # a child that was faster than its kill proves nothing
