"""Asking for a run: a cache hit, a run to attach to, or one to make or go on with.

    with open_run(cache, RunSpec("mastery", inputs, params, versions)) as run:
        if not run.done:
            for number, chunk in enumerate(chunks):
                if not run.has_part("mastery", number):
                    run.write_part("mastery", number, rows_of(chunk))
            run.finish(summary={...})
        table = run.read("mastery")

Whoever makes a run holds its lock. Whoever asks for a run that is under way waits, sees the owner's progress,
and gets the finished run; when the owner dies, the one who waits goes on in its place.
"""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sftknow_core.errors import SftknowError, SpecError, Stopped
from sftknow_core.store.cache import Cache, check_may_write
from sftknow_core.store.files import CacheWarning, disk_errors, sweep_temporaries, write_atomic
from sftknow_core.store.line_log import LineLog, plain_json, read_lines
from sftknow_core.store.run import Run
from sftknow_core.store.run_folder import DONE, PARTS, SPEC, STOP, Contents, Manifest, RunFolder
from sftknow_core.store.run_spec import RunSpec, utc_now
from sftknow_core.store.run_state import RunState

OnEvent = Callable[[Mapping[str, Any]], None]
_POLL_SECONDS = 0.1
_SET_ASIDE = "DONE.set-aside.json"
_owned_here: dict[str, int] = {}
"""Lock file -> the thread of this process that holds it as a run's owner."""


@contextmanager
def open_run(
    cache: Cache,
    spec: RunSpec,
    *,
    about: Mapping[str, Any] | None = None,
    need: Iterable[str] = (),
    verify: bool = False,
    parent: Run | None = None,
    on_progress: OnEvent | None = None,
) -> Iterator[Run]:
    """The run of `spec`: finished (`run.done`) or in the caller's hands until `run.finish`.

    about: what people want to know (paths, names, device); kept in spec.json, not part of the identity.
    need: weights folders the caller needs; a finished run that lost them (gc) is made again.
    verify: hash the files of a finished run before trusting them, not only compare sizes.
    parent: the run this one is a stage of; its stop request counts here too.
    on_progress: called with the other owner's progress events while waiting for a run under way.

    Raises Stopped when a stop was asked for (here, or of the owner waited for), SftknowError when the owner
    waited for fails, CacheError when the disk is full or may not be written, and in show mode for a run to make.
    """
    run = Run(cache, spec.run_id, parent)
    if parent is not None:
        parent.uses(run.run_id)
    if is_hit(run, need, verify):
        yield run
        return
    check_may_write("start a run")
    lock = FileLock(cache.run_lock(run.run_id), thread_local=False)
    check = parent.check_stop if parent is not None else _no_check
    _wait_for(lock, run, check, on_progress or _no_event)
    _owned_here[lock.lock_file] = threading.get_ident()
    try:
        if not is_hit(run, need, verify):
            previous = _prepare(run, spec, about)
            run.begin(previous)
            yield from _until_end(run)
            return
    finally:
        del _owned_here[lock.lock_file]
        lock.release()
    yield run


def is_hit(run: RunFolder, need: Iterable[str] = (), verify: bool = False) -> bool:
    """Whether the run is finished, its files fit the manifest, and the weights needed are there."""
    manifest = run.manifest()
    if manifest is None or manifest.contents.misfits(run.root, verify=verify):
        return False
    return all(run.weights(name) is not None for name in need)


def _no_check() -> None:
    pass


def _no_event(event: Mapping[str, Any]) -> None:
    pass


def _wait_for(lock: FileLock, run: RunFolder, check: Callable[[], None], on_event: OnEvent) -> None:
    """Take the lock; while another process has it, pass on that one's events.

    Raises what the other owner's run ended with, when it failed or was stopped meanwhile.
    """
    if try_acquire(lock):
        return
    if _owned_here.get(lock.lock_file) == threading.get_ident():
        raise SftknowError(f"run {run.run_id} asks for itself: it would wait for its own end for ever")
    events, offset = run.events()
    ending: Mapping[str, Any] = {}
    news = [event for event in events if event.get("type") == "progress"][-1:]
    while True:
        check()
        is_ours = try_acquire(lock)
        try:
            events, offset = run.events(offset)
            for event in news + events:
                if event.get("type") == "progress":
                    on_event(event)
                elif event.get("type") == "state":
                    ending = event
            if is_ours:
                _raise_ending(run, ending)
                return
        except BaseException:
            if is_ours:
                lock.release()
            raise
        news = []
        time.sleep(_POLL_SECONDS)


def try_acquire(lock: FileLock) -> bool:
    """Take the lock without waiting; False when somebody else has it. Raises CacheError."""
    try:
        with disk_errors(Path(lock.lock_file)):
            lock.acquire(blocking=False)
        return True
    except Timeout:
        return False


def _raise_ending(run: RunFolder, ending: Mapping[str, Any]) -> None:
    if ending.get("state") == RunState.FAILED:
        raise SftknowError(
            f"run {run.run_id}, under way in another process, failed: {ending.get('reason')}. "
            f"The same command tries it again from where it failed."
        )
    if ending.get("state") == RunState.STOPPED:
        raise Stopped(f"run {run.run_id}, under way in another process, was stopped on request")


def _prepare(run: Run, spec: RunSpec, about: Mapping[str, Any] | None) -> Manifest | None:
    """Make the folder fit to go on in; returns the manifest it had, when it was finished before."""
    with disk_errors(run.root):
        run.root.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(run.root)
        write_spec(run, spec, about)
        (run.root / STOP).unlink(missing_ok=True)  # asked of the run before
        previous = run.manifest()
        was_done = (run.root / DONE).exists()
        _drop_misfits(run, previous, verify=was_done)
        if was_done:
            (run.root / DONE).replace(run.root / _SET_ASIDE)
        return previous


def write_spec(run: RunFolder, spec: RunSpec, about: Mapping[str, Any] | None) -> None:
    """Write spec.json, keeping when it was first made (and `about`, where None is given)."""
    path = run.root / SPEC
    try:
        old = json.loads(path.read_text("utf-8"))
        created_at, old_about = str(old["created_at"]), dict(old["about"])
    except (OSError, ValueError, KeyError, TypeError):
        created_at, old_about = utc_now(), {}
    plain = {
        "run_id": run.run_id,
        "created_at": created_at,
        **spec.as_dict(),
        "about": old_about if about is None else about,
    }
    text = json.dumps(json.loads(plain_json(plain)), indent=1, ensure_ascii=False) + "\n"
    if not path.exists() or path.read_text("utf-8") != text:
        write_atomic(path, text.encode())


def _drop_misfits(run: RunFolder, previous: Manifest | None, *, verify: bool) -> None:
    """Uncommit what is not there as it was written, so that it is made again."""
    misfits = Contents.committed(read_lines(run.root / PARTS)[0]).misfits(run.root, verify=verify)
    if misfits:
        log = LineLog(run.root / PARTS)
        log.append({"dropped": misfits})
        log.close()
    folders = previous.contents.folders.values() if previous else ()
    removed = {record.file for folder in folders if folder.removed_at for record in folder.files}
    damaged = [file for file in misfits if file not in removed]
    if verify and previous is None:
        damaged.append(DONE)
    if damaged:
        warnings.warn(
            f"run {run.run_id}: {', '.join(damaged)} in {run.root} do not fit what was written there; "
            f"they are set aside and made again",
            CacheWarning,
            stacklevel=4,
        )


def _until_end(run: Run) -> Iterator[Run]:
    """Hand the run to its owner, and put on record how that ended."""
    try:
        yield run
    except (Stopped, KeyboardInterrupt) as error:
        run.end(RunState.STOPPED, str(error) or "stopped from the keyboard")
        raise
    except Exception as error:
        run.end(RunState.FAILED, str(error) if isinstance(error, SftknowError) else repr(error))
        raise
    except BaseException as error:
        run.end(RunState.INTERRUPTED, repr(error))
        raise
    run.end(RunState.INTERRUPTED, "its owner left before the end")


def request_stop(cache: Cache, run_id: str) -> None:
    """Ask the owner of a run to stop at the next batch. Raises SpecError when there is no such run."""
    folder = cache.run_folder(run_id)
    if not folder.is_dir():
        raise SpecError(f"there is no run {run_id} in {cache.root}; `sftknow runs` lists them")
    check_may_write("stop a run")
    with disk_errors(folder / STOP):
        (folder / STOP).touch()
