"""Run folders -> rows of the catalogue, one transaction a run, as often as one likes with the same result.

Each opening first compares the manifests on the disk with the runs on record and takes in what is new, so a
process killed between finishing a run and telling the catalogue loses nothing.

In show mode nothing is written: the file is read where it fits the run folders, else they are read into memory.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from sftknow_core.errors import CacheError, SftknowError
from sftknow_core.store.cache import Cache, read_only
from sftknow_core.store.files import CacheWarning, disk_errors
from sftknow_core.store.line_log import plain_json
from sftknow_core.store.migrations import MIGRATIONS
from sftknow_core.store.opening import (
    catalogue_lock,
    damage_explained,
    new_in_memory,
    open_catalogue,
    open_to_look,
)
from sftknow_core.store.run_folder import DONE, Manifest, RunFolder
from sftknow_core.store.run_spec import RunSpec, canonical_json
from sftknow_core.store.schema import SHORT_TABLES
from sftknow_core.store.table import Table

_RUN_TABLES = ("runs", "run_inputs", *(table.name for table in SHORT_TABLES))
_Stamps = dict[str, str]
_in_memory: dict[str, tuple[_Stamps, duckdb.DuckDBPyConnection]] = {}
"""Cache -> the run folders as they were, and the catalogue made of them; show mode only."""
_filling = threading.Lock()


@dataclass(frozen=True)
class Reindexed:
    """What `reindex` did."""

    n_runs: int
    """Runs in the catalogue now."""
    left_out: tuple[tuple[str, str], ...]
    """(run_id, why) of finished runs that could not be taken in."""


def ingest(cache: Cache, run_id: str) -> None:
    """Take in one finished run, in place of what was on record about it. Raises CacheError for damage."""
    with open_catalogue(cache) as con:
        _take_in(con, RunFolder(cache, run_id))


def reindex(cache: Cache, *, rebuild: bool = False) -> Reindexed:
    """Take in every finished run anew; with `rebuild` into a new file, the old one set aside as *.old."""
    if rebuild:
        _set_aside(cache)
    with open_catalogue(cache) as con:
        con.execute("UPDATE runs SET stamp = ''")
        left_out = _catch_up(con, cache)
        found = con.execute("SELECT count(*) FROM runs").fetchone()
    return Reindexed(found[0] if found else 0, tuple(left_out))


@contextmanager
def up_to_date(cache: Cache) -> Iterator[duckdb.DuckDBPyConnection]:
    """The catalogue with every finished run on the disk in it. Warns of those that cannot be taken in.

    In show mode it can only be read, and its file is left as it is.
    """
    if read_only():
        with _as_it_is(cache) as con:
            yield con
        return
    with open_catalogue(cache) as con:
        _warn_of(_catch_up(con, cache))
        yield con


@contextmanager
def _as_it_is(cache: Cache) -> Iterator[duckdb.DuckDBPyConnection]:
    """The file where it holds just what the run folders hold, else a catalogue in memory, kept by this process."""
    on_disk = _on_disk(cache)
    con = open_to_look(cache)
    if con is not None and not _fits(con, on_disk):
        con.close()
        con = None
    if con is None:
        con = _read_into_memory(cache, on_disk)
    with damage_explained(cache):
        try:
            yield con
        finally:
            con.close()


def _fits(con: duckdb.DuckDBPyConnection, on_disk: _Stamps) -> bool:
    """Whether an opened file has our tables, and the runs on the disk as they are now."""
    try:
        steps = {name for (name,) in con.execute("SELECT name FROM schema_migrations").fetchall()}
        return steps == {step.__name__ for step in MIGRATIONS} and _on_record(con) == on_disk
    except duckdb.Error:
        return False


def _read_into_memory(cache: Cache, on_disk: _Stamps) -> duckdb.DuckDBPyConnection:
    """A cursor of the catalogue in memory, made where the folders have changed since; to be closed by the caller."""
    with _filling:
        stamps, con = _in_memory.get(str(cache.root), (None, None))
        if con is None or stamps != on_disk:
            con = new_in_memory()
            _warn_of(_catch_up(con, cache))
            _in_memory[str(cache.root)] = (
                on_disk,
                con,
            )  # cursors of the one before keep it until they are closed
        return con.cursor()


def _warn_of(left_out: list[tuple[str, str]]) -> None:
    for run_id, why in left_out:
        warnings.warn(f"run {run_id} is left out: {why}", CacheWarning, stacklevel=6)


def _on_disk(cache: Cache) -> _Stamps:
    """Finished run -> stamp of its manifest."""
    return {path.parent.name: _stamp(path) for path in cache.runs.glob(f"*/{DONE}")}


def _on_record(con: duckdb.DuckDBPyConnection) -> _Stamps:
    return dict(con.execute("SELECT run_id, stamp FROM runs").fetchall())


def _catch_up(con: duckdb.DuckDBPyConnection, cache: Cache) -> list[tuple[str, str]]:
    """Take in what is new or changed on the disk, forget what is gone; returns (run_id, why) left out."""
    on_disk, on_record = _on_disk(cache), _on_record(con)
    left_out = []
    for run_id in sorted(on_record.keys() - on_disk.keys()):
        with _transaction(con):
            _forget(con, run_id)
    for run_id in sorted(run_id for run_id, stamp in on_disk.items() if on_record.get(run_id) != stamp):
        try:
            _take_in(con, RunFolder(cache, run_id))
        except SftknowError as error:
            left_out.append((run_id, str(error)))
            with _transaction(con):
                _forget(con, run_id)
    return left_out


def _take_in(con: duckdb.DuckDBPyConnection, run: RunFolder) -> None:
    """Replace the rows of one run, in one transaction, by what its folder says."""
    stamp = _stamp(run.root / DONE)  # before reading: a change in between is taken in the next time
    manifest = run.manifest()
    if misfits := run.problems():
        raise CacheError(f"{', '.join(misfits)} in {run.root} do not fit what was written there")
    assert manifest is not None  # else `problems` names it
    description = run.description()
    tables = {table: run.read(table.name) for table in SHORT_TABLES if table.name in manifest.contents.tables}
    with _transaction(con):
        _forget(con, run.run_id)
        _insert_run(con, description, manifest, stamp)
        for table, rows in tables.items():
            _insert_rows(con, table, rows)


@contextmanager
def _transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    con.execute("BEGIN")
    try:
        yield
    except BaseException:
        con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")


def _stamp(manifest: Path) -> str:
    try:
        stat = manifest.stat()
    except FileNotFoundError:
        return "gone"
    return f"{stat.st_mtime_ns}-{stat.st_size}"


def _forget(con: duckdb.DuckDBPyConnection, run_id: str) -> None:
    if not con.execute("SELECT 1 FROM runs WHERE run_id = ?", [run_id]).fetchone():
        return  # a run's rows come and go together with its row in runs
    for name in _RUN_TABLES:
        con.execute(f"DELETE FROM {name} WHERE run_id = ?", [run_id])


def _insert_run(
    con: duckdb.DuckDBPyConnection, description: Mapping[str, Any], manifest: Manifest, stamp: str
) -> None:
    spec = RunSpec.from_dict(description)
    con.execute(
        "INSERT INTO runs (run_id, kind, spec, about, created_at, finished_at, seconds, library_versions, "
        "summary, stamp) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            manifest.run_id,
            spec.kind,
            canonical_json(spec.as_dict()),
            plain_json(description.get("about", {})),
            description["created_at"],
            manifest.finished_at,
            manifest.seconds,
            plain_json(manifest.library_versions),
            plain_json(manifest.summary),
            stamp,
        ],
    )
    for role, input_id in spec.input_pairs():
        con.execute("INSERT INTO run_inputs VALUES (?, ?, ?)", [manifest.run_id, role, input_id])


def _insert_rows(con: duckdb.DuckDBPyConnection, table: Table, rows: pa.Table) -> None:
    con.register("new_rows", rows)
    con.execute(f"INSERT INTO {table.name} BY NAME SELECT * FROM new_rows")
    con.unregister("new_rows")


def _set_aside(cache: Cache) -> None:
    with catalogue_lock(cache), disk_errors(cache.catalogue):
        if cache.catalogue.exists():
            cache.catalogue.replace(cache.catalogue.with_suffix(".duckdb.old"))
        cache.write_ahead_log.unlink(missing_ok=True)
