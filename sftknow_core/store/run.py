"""One run being made: its owner writes chunks, weights, progress, and at last the manifest.

Chunks are atomic as a whole: all parts get their final names, then ONE line of parts.jsonl commits them. A
kill anywhere in between leaves a chunk uncommitted; the next owner makes it again over the same names.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sftknow_core.errors import CacheError, SftknowError, Stopped
from sftknow_core.store.cache import Cache
from sftknow_core.store.files import (
    TEMPORARY_PREFIX,
    FileRecord,
    disk_errors,
    disk_full,
    flush_tree,
    is_disk_full,
    sha256_of,
    write_atomic,
)
from sftknow_core.store.line_log import LineLog
from sftknow_core.store.progress import Throttle
from sftknow_core.store.run_folder import DONE, EVENTS, PARTS, STOP, Contents, Manifest, RunFolder
from sftknow_core.store.run_spec import library_versions, utc_now
from sftknow_core.store.run_state import HEARTBEAT_SECONDS, Owner, RunState, fold
from sftknow_core.store.schema import TABLES, table_named
from sftknow_core.store.table import Rows

# How the parts of a table lie in Parquet: as they come, and the cube so that a question reads little of it.
#
#     cube rows in any order  -->  by (score, tensor_id, bin), in row groups of ROWS_PER_GROUP
#
# Every row group carries the smallest and largest value of its columns, so a query for one score, or for some
# layers of it, passes over the others. What repeats is stored once, numbers that grow from row to row as
# differences (Parquet's DELTA_BINARY_PACKED), and LZ4 unpacks faster than the Zstandard of the other tables:
# most of the time that a question takes goes into reading.

ROWS_PER_GROUP = 1 << 16
_ORDER = ("score", "tensor_id", "bin")
_REPEATED = ["run_id", "score", "tensor_id"]
_ENCODINGS = {"bin": "DELTA_BINARY_PACKED", "n": "DELTA_BINARY_PACKED"}


def laid_out(table: str, rows: pa.Table) -> tuple[pa.Table, dict[str, Any]]:
    """The rows of a part in the order to write them, and the options for `pyarrow.parquet.write_table`."""
    if table != "cube":
        return rows, {"compression": "zstd"}
    return rows.sort_by([(name, "ascending") for name in _ORDER]), {
        "compression": "lz4",
        "row_group_size": ROWS_PER_GROUP,
        "use_dictionary": _REPEATED,
        "column_encoding": _ENCODINGS,
    }


class Run(RunFolder):
    """A run in the hands of its owner, or a finished one (`done`), which can only be read."""

    def __init__(self, cache: Cache, run_id: str, parent: Run | None = None) -> None:
        super().__init__(cache, run_id)
        self.done = True
        """Whether it is finished: a cache hit, or after `finish`."""
        self.previous: Manifest | None = None
        """What the run held before it had to be made again (damaged, or its weights removed); else None."""
        self._parent = parent
        self._contents = Contents()
        self._progress = Throttle(0.2)

    # -- the owner's frame, used by open_run

    def begin(self, previous: Manifest | None) -> None:
        """Become the owner: from here on the run is under way. The caller holds the run's lock."""
        self.done, self.previous = False, previous
        self._parts = LineLog(self.root / PARTS)
        self._contents = super().contents()
        self._events = LineLog(self.root / EVENTS)
        self._event("state", state=RunState.RUNNING, owner=asdict(Owner.me()), reason=None)
        self._ended = threading.Event()
        threading.Thread(target=self._beat, name=f"heartbeat-{self.run_id}", daemon=True).start()

    def end(self, state: RunState, reason: str | None) -> None:
        """Stop being the owner; the last state stays on record even where the disk is full."""
        self._ended.set()
        if not self.done:
            with suppress(CacheError, OSError):
                self._event("state", state=state, reason=reason)
        with suppress(OSError):
            (self.root / STOP).unlink(missing_ok=True)
        self._events.close()
        self._parts.close()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            if self._events.idle_seconds() >= HEARTBEAT_SECONDS:
                with suppress(CacheError, OSError):  # a full disk is reported by the next real write
                    self._event("heartbeat")

    def _event(self, kind: str, **values: Any) -> None:
        self._events.append({"t": round(time.time(), 3), "type": kind, **values})

    def _must_be_under_way(self) -> None:
        if self.done:
            raise SftknowError(f"run {self.run_id} is finished: nothing can be added to it")

    # -- results

    def contents(self) -> Contents:
        """What is committed so far."""
        return super().contents() if self.done else self._contents

    def has_chunk(self, number: int, tables: Iterable[str]) -> bool:
        """Whether the chunk is committed in all these tables."""
        contents = self.contents()
        return all(number in contents.tables.get(table, {}) for table in tables)

    def has_part(self, table: str, number: int) -> bool:
        """Whether the chunk is committed in this table."""
        return self.has_chunk(number, (table,))

    def write_part(self, table: str, number: int, rows: Rows) -> None:
        """Write a chunk of one table; see `write_chunk`."""
        self.write_chunk(number, {table: rows})

    def write_chunk(self, number: int, rows_by_table: Mapping[str, Rows]) -> None:
        """Write one part of each table: all of them or, when killed or refused, none. A repeat replaces.

        Raises SftknowError for rows that do not fit the declared columns, CacheError for a full disk.
        """
        self._must_be_under_way()
        checked = {name: table_named(name).conform(rows, self.run_id) for name, rows in rows_by_table.items()}
        committed = [self._contents.tables.get(name, {}).get(number) for name in checked]
        self._uncommit(record for record in committed if record)
        parts = [
            {"table": name, "part": number, "record": asdict(self._write_parquet(name, number, rows))}
            for name, rows in checked.items()
        ]
        self._commit({"parts": parts})

    def _write_parquet(self, table: str, number: int, rows: pa.Table) -> FileRecord:
        sink = pa.BufferOutputStream()
        ordered, options = laid_out(table, rows)
        pq.write_table(ordered, sink, **options)
        data = sink.getvalue().to_pybytes()
        file = f"{table}/part-{number:05d}.parquet"
        write_atomic(self.root / file, data)
        return FileRecord(file, len(data), hashlib.sha256(data).hexdigest(), rows.num_rows)

    def _commit(self, line: dict[str, Any]) -> None:
        self._parts.append(line)
        self._contents.add(line)

    def _uncommit(self, records: Iterable[FileRecord]) -> None:
        """Before files are replaced: a kill half-way leaves them to be made again, not old ones beside new."""
        if files := [record.file for record in records]:
            self._commit({"dropped": files})

    def write_folder(self, name: str, write: Callable[[Path], object]) -> Path:
        """Let `write(path)` make a folder of weights at `path` (not there yet), then give it its final name.

        Returns the final folder. Raises CacheError for a full disk; whatever `write` raises otherwise.
        """
        self._must_be_under_way()
        temporary, final = self.root / f"{TEMPORARY_PREFIX}{name}", self.root / name
        try:
            with disk_errors(final):
                write(temporary)
                if not temporary.is_dir():
                    raise SftknowError(f"the writer of {final} made no folder at the path it was given")
                flush_tree(temporary)
                files = _records_below(temporary, name)
                if final.exists():
                    committed = self._contents.folders.get(name)
                    self._uncommit(committed.files if committed else ())
                    final.replace(self.root / f"{TEMPORARY_PREFIX}old-{name}")
                temporary.replace(final)
        except Exception as error:
            if is_disk_full(error):
                raise disk_full(final) from error
            raise
        finally:
            for leftover in (temporary, self.root / f"{TEMPORARY_PREFIX}old-{name}"):
                shutil.rmtree(leftover, ignore_errors=True)
        self._commit({"folder": name, "files": [asdict(record) for record in files]})
        return final

    # -- what watchers see

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Tell how far the work is, in the run's own units; cheap enough to call at every batch."""
        self._must_be_under_way()
        if self._progress.due(note, anyway=done == total):
            self._event("progress", done=done, total=total, note=note)

    def metric(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Numbers to watch, e.g. {"loss": 1.2}; NaN and infinities become null."""
        self._must_be_under_way()
        self._event("metric", step=step, values=dict(values))

    def warn(self, text: str) -> None:
        """Put on record that something was worked around."""
        self._must_be_under_way()
        self._event("warning", text=text)

    def uses(self, run_id: str) -> None:
        """Put on record that a run is a stage of this one: gc leaves it alone meanwhile."""
        if not self.done:
            self._event("uses", run_id=run_id)

    def check_stop(self) -> None:
        """Raise Stopped when somebody asked this run, or the run it is a stage of, to stop."""
        if (self.root / STOP).exists():
            raise Stopped(f"run {self.run_id} was stopped on request; the same command goes on there")
        if self._parent is not None:
            self._parent.check_stop()

    # -- the end

    @property
    def summary(self) -> Mapping[str, Any]:
        """What `finish` was given. Raises SftknowError while the run is under way."""
        manifest = self.manifest()
        if manifest is None:
            raise SftknowError(f"run {self.run_id} is not finished: it has no summary yet")
        return manifest.summary

    def finish(self, summary: Mapping[str, Any] | None = None) -> None:
        """Write the manifest: the run is done. Raises SftknowError when committed files have vanished."""
        self._must_be_under_way()
        if misfits := self._contents.misfits(self.root):
            raise SftknowError(f"run {self.run_id}: {', '.join(misfits)} vanished under its hands")
        self._delete_uncommitted()
        manifest = Manifest(
            run_id=self.run_id,
            finished_at=utc_now(),
            seconds=round(self._seconds_at_work(), 3),
            library_versions=library_versions(),
            contents=self._contents,
            summary=dict(summary or {}),
        )
        write_atomic(self.root / DONE, manifest.to_json().encode())
        self.done = True
        with suppress(CacheError):  # the manifest says it as well
            self._event("state", state=RunState.DONE, reason=None)

    def _seconds_at_work(self) -> float:
        self._event("heartbeat")  # so that the time since the last event counts
        return fold(self.events()[0]).seconds

    def _delete_uncommitted(self) -> None:
        kept = {record.file for parts in self._contents.tables.values() for record in parts.values()}
        for table in TABLES:
            for path in (self.root / table).glob("*"):
                if f"{table}/{path.name}" not in kept:
                    path.unlink()


def _records_below(folder: Path, name: str) -> tuple[FileRecord, ...]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        FileRecord(f"{name}/{path.relative_to(folder).as_posix()}", path.stat().st_size, sha256_of(path))
        for path in paths
    )
