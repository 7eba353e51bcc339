"""Small runs with made-up numbers, done here or in other processes.

python fake_runs.py kills ROOT        do a run in ROOT/undisturbed, then once for every place where it can be
                                      killed, each time going on afterwards; prints the names of the cases
python fake_runs.py hold ROOT         open a run, write one chunk, say "holding", wait to be killed
python fake_runs.py write ROOT NAME N finish and ingest N runs
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd

from sftknow_core.store.cache import Cache
from sftknow_core.store.ingest import ingest, up_to_date
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run import Run
from sftknow_core.store.run_spec import RunSpec

N_CHUNKS = 2


def spec(name: str = "a", kind: str = "mastery") -> RunSpec:
    return RunSpec(kind, {"model": name}, {"temperature": 0.7}, {"matcher": "1"})


def mastery_rows(chunk: int) -> list[dict[str, Any]]:
    return [
        {
            "fact_id": f"fact-{chunk}-{i}",
            "topic": "P19",
            "split": "test",
            "domain": "in",
            "n_templates": 1,
            "n_samples": 10,
            "n_correct": i,
            "r": i / 10,
            "level": None if i == 0 else 1,
        }
        for i in range(3)
    ]


def template_rows(chunk: int) -> list[dict[str, Any]]:
    return [
        {"fact_id": f"fact-{chunk}-{i}", "template": 0, "n_correct": i, "n_samples": 10} for i in range(3)
    ]


def accuracy_row(state_id: str, level: int | None, accuracy: float | None, **others: Any) -> dict[str, Any]:
    n_right = None if accuracy is None else round(100 * accuracy)
    row: dict[str, Any] = {
        "state_id": state_id,
        "question_set_id": "q",
        "prompt": "qa",
        "matcher": "words",
        "split": "test",
    }
    row |= {"domain": "in", "level": level, "subset": "all", "n": 100, "n_right": n_right or 0}
    return {
        **row,
        "accuracy": accuracy,
        "reason": None if accuracy is not None else "nothing asked",
        **others,
    }


def do_chunks(run: Run, on_chunk: Callable[[int], object] = lambda chunk: None) -> None:
    for chunk in range(N_CHUNKS):
        if not run.has_chunk(chunk, ("mastery", "mastery_templates")):
            on_chunk(chunk)
            run.write_chunk(
                chunk, {"mastery": mastery_rows(chunk), "mastery_templates": template_rows(chunk)}
            )
        run.progress(chunk + 1, N_CHUNKS, f"chunk {chunk}")


def save_weights(path: Path) -> None:
    (path / "shards").mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "shards" / "1.safetensors").write_bytes(b"weights")


def do_run(cache: Cache, name: str = "a", on_chunk: Callable[[int], object] = lambda chunk: None) -> str:
    """Do a run, or go on with it, to its end; returns its id."""
    with open_run(cache, spec(name)) as run:
        if not run.done:
            do_chunks(run, on_chunk)
            if not run.has_part("accuracies", 0):
                run.write_part("accuracies", 0, [accuracy_row("s", 1, 0.5), accuracy_row("s", None, None)])
            if run.weights() is None:
                run.write_folder("model", save_weights)
            run.finish({"n_facts": 3 * N_CHUNKS})
    return run.run_id


# -- killed at the n-th call of something, before it, after it or half-way


def kill_around_replace(n: int, when: str) -> None:
    replace, calls = os.replace, count()

    def replace_or_die(source: Any, target: Any) -> None:
        is_it = next(calls) == n
        if is_it and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if is_it:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace_or_die  # type: ignore[assignment]


def kill_within_line(n: int) -> None:
    write, calls = os.write, count()

    def write_half_and_die(fd: int, data: bytes) -> int:
        if data.endswith(b"\n") and next(calls) == n:
            write(fd, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(fd, data)

    os.write = write_half_and_die  # type: ignore[assignment]


def in_child(work: Callable[[], object]) -> int:
    """Do the work in a forked child; returns how it ended (0, or minus the signal that killed it)."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kills(root: Path) -> list[str]:
    in_child(lambda: do_run(Cache(root / "undisturbed")))
    arms: dict[str, Callable[[int], None]] = {
        "before-replace": partial(kill_around_replace, when="before"),
        "after-replace": partial(kill_around_replace, when="after"),
        "within-line": kill_within_line,
    }
    return [name for kind, arm in arms.items() for name in kills_of(root, kind, arm)]


def kills_of(root: Path, kind: str, arm: Callable[[int], None]) -> Iterator[str]:
    for n in count():
        cache = Cache(root / f"{kind}-{n}")
        if in_child(partial(armed_run, cache, arm, n)) != -signal.SIGKILL:
            return  # it has no n-th call
        assert in_child(partial(do_run, cache)) == 0
        yield cache.root.name


def armed_run(cache: Cache, arm: Callable[[int], None], n: int) -> None:
    arm(n)
    do_run(cache)


def hold(cache: Cache) -> None:
    with open_run(cache, spec()) as run:
        do_chunks(run, on_chunk=lambda chunk: wait_after_first(run, chunk))


def wait_after_first(run: Run, chunk: int) -> None:
    if chunk == 1:
        run.progress(1, 2, "holding")
        print("holding", flush=True)
        time.sleep(60)


def write(cache: Cache, name: str, n: int) -> None:
    for number in range(n):
        with open_run(cache, spec(f"{name}-{number}", "evaluate")) as run:
            run.write_part("accuracies", 0, [accuracy_row(f"{name}-{number}", 1, 0.5)] * 2)
            run.finish()
        ingest(cache, run.run_id)


if __name__ == "__main__":
    what, root, *rest = sys.argv[1:]
    if what == "kills":
        print(json.dumps(kills(Path(root))))
    elif what == "hold":
        hold(Cache(root))
    else:
        write(Cache(root), rest[0], int(rest[1]))


def runs_on_record(cache: Cache) -> pd.DataFrame:
    """The catalogue's table of runs, oldest first; spec, about, library_versions and summary as dicts."""
    with up_to_date(cache) as con:
        frame: pd.DataFrame = con.sql("FROM runs ORDER BY finished_at, run_id").df()
    for column in ("spec", "about", "library_versions", "summary"):
        frame[column] = [json.loads(text) for text in frame[column]]
    return frame
