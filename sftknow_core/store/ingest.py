"""Run folders -> rows of the catalogue, some runs a transaction, as often as one likes with the same result.

Each opening first compares the manifests on the disk with the runs on record and takes in what is new, so a
process killed between finishing a run and telling the catalogue loses nothing.

In show mode nothing is written: the file is read where it fits the run folders, else they are read into memory.
"""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from sftknow_core.errors import CacheError, SftknowError
from sftknow_core.store.cache import Cache, read_only
from sftknow_core.store.files import CacheWarning, disk_errors
from sftknow_core.store.line_log import plain_json
from sftknow_core.store.opening import (
    catalogue_lock,
    damage_explained,
    has_our_schema,
    new_in_memory,
    open_catalogue,
    open_read_only,
)
from sftknow_core.store.run_folder import DONE, RunFolder
from sftknow_core.store.run_spec import RunSpec, canonical_json
from sftknow_core.store.schema import SHORT_TABLES
from sftknow_core.store.table import Table

# Whether a finished run is still the one that the catalogue has: by its manifest's time and size, else by its text.
#
# A stamp is "time-size", and on record "time-size hash". A copied cache has manifests of other times and the same
# text: nothing of it need be read again.

Stamps = dict[str, str]
"""Run -> stamp."""


def stamps_on_disk(cache: Cache) -> Stamps:
    """Finished run -> when its manifest was written, and its size."""
    return {path.parent.name: stamp_of(path) for path in cache.runs.glob(f"*/{DONE}")}


def begins(on_record: str | None, stamp: str) -> bool:
    """Whether the manifest is the very file on record."""
    return on_record is not None and on_record.partition(" ")[0] == stamp


def is_same(cache: Cache, run_id: str, on_record: str | None, stamp: str) -> bool:
    """Whether a manifest is the one on record; that of a copied cache is another file that says the same."""
    if on_record is None:
        return False
    known = on_record.partition(" ")[2]
    return begins(on_record, stamp) or (
        known != "" and known == _hash(cache.run_folder(run_id) / DONE, stamp)
    )


def with_hash(cache: Cache, run_id: str, stamp: str) -> str:
    """The stamp to put on record."""
    return f"{stamp} {_hash(cache.run_folder(run_id) / DONE, stamp)}"


@lru_cache(maxsize=8192)
def _hash(manifest: Path, stamp: str) -> str:
    """Of its text; stamp: by which it is known that the file has not changed since."""
    try:
        return hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    except OSError:
        return "gone"


def stamp_of(manifest: Path) -> str:
    """When it was written, in ns, and its size in bytes."""
    try:
        stat = manifest.stat()
    except FileNotFoundError:
        return "gone"
    return f"{stat.st_mtime_ns}-{stat.st_size}"


_RUN_TABLES = ("runs", "run_inputs", *(table.name for table in SHORT_TABLES))
_AT_ONCE = 100
"""Runs taken in by one transaction: as many as are quick, few enough for their rows to lie in memory."""
_in_memory: dict[str, tuple[Stamps, duckdb.DuckDBPyConnection]] = {}
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
        _take_in(con, [_read(RunFolder(cache, run_id))])


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
    on_disk = stamps_on_disk(cache)
    con = open_read_only(cache)
    if con is not None and not _fits(con, cache, on_disk):
        con.close()
        con = None
    if con is None:
        con = _read_into_memory(cache, on_disk)
    with damage_explained(cache):
        try:
            yield con
        finally:
            con.close()


def _fits(con: duckdb.DuckDBPyConnection, cache: Cache, on_disk: Stamps) -> bool:
    """Whether an opened file has our tables, and the runs on the disk as they are now."""
    try:
        if not has_our_schema(con):
            return False
        on_record = _on_record(con)
        return on_record.keys() == on_disk.keys() and all(
            is_same(cache, run_id, on_record[run_id], stamp) for run_id, stamp in on_disk.items()
        )
    except duckdb.Error:
        return False


def _read_into_memory(cache: Cache, on_disk: Stamps) -> duckdb.DuckDBPyConnection:
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


def _on_record(con: duckdb.DuckDBPyConnection) -> Stamps:
    """The same with a hash of the manifest behind it."""
    return dict(con.execute("SELECT run_id, stamp FROM runs").fetchall())


def _catch_up(con: duckdb.DuckDBPyConnection, cache: Cache) -> list[tuple[str, str]]:
    """Take in what is new or changed on the disk, forget what is gone; returns (run_id, why) left out."""
    on_disk, on_record = stamps_on_disk(cache), _on_record(con)
    left_out = []
    gone = sorted(on_record.keys() - on_disk.keys())
    moved = {run_id: stamp for run_id, stamp in on_disk.items() if not begins(on_record.get(run_id), stamp)}
    same = [run_id for run_id, stamp in moved.items() if is_same(cache, run_id, on_record.get(run_id), stamp)]
    unmoved = {run_id: stamp for run_id, stamp in on_disk.items() if run_id not in moved}
    no_hash = [(run_id, stamp) for run_id, stamp in unmoved.items() if stamp == on_record[run_id]]
    renewed = [*((run_id, moved[run_id]) for run_id in same), *no_hash]
    _renew(con, [(run_id, with_hash(cache, run_id, stamp)) for run_id, stamp in renewed])
    changed = sorted(moved.keys() - set(same))
    for first in range(0, len(changed), _AT_ONCE):
        readable = []
        for run_id in changed[first : first + _AT_ONCE]:
            try:
                readable.append(_read(RunFolder(cache, run_id)))
            except SftknowError as error:
                left_out.append((run_id, str(error)))
                gone.append(run_id)
        _take_in(con, readable)
    if gone:
        with _transaction(con):
            _forget(con, gone)
    return left_out


@dataclass(frozen=True)
class _Finished:
    """What the catalogue holds of a run."""

    run: dict[str, Any]
    """Its row of `runs`."""
    inputs: list[tuple[str, str]]
    """(role, id) of each."""
    tables: Mapping[Table, pa.Table]


def _read(run: RunFolder) -> _Finished:
    """A finished run as its folder says. Raises CacheError for damage."""
    stamp = with_hash(
        run.cache, run.run_id, stamp_of(run.root / DONE)
    )  # before reading: a change in between is taken in the next time
    manifest = run.manifest()
    if misfits := run.problems():
        raise CacheError(f"{', '.join(misfits)} in {run.root} do not fit what was written there")
    assert manifest is not None  # else `problems` names it
    description = run.description()
    tables = {table: run.read(table.name) for table in SHORT_TABLES if table.name in manifest.contents.tables}
    spec = RunSpec.from_dict(description)
    row = {
        "run_id": manifest.run_id,
        "kind": spec.kind,
        "spec": canonical_json(spec.as_dict()),
        "about": plain_json(description.get("about", {})),
        "created_at": description["created_at"],
        "finished_at": manifest.finished_at,
        "seconds": float(manifest.seconds),
        "library_versions": plain_json(manifest.library_versions),
        "summary": plain_json(manifest.summary),
        "stamp": stamp,
    }
    return _Finished(row, list(spec.input_pairs()), tables)


def _take_in(con: duckdb.DuckDBPyConnection, found: Sequence[_Finished]) -> None:
    """Replace the rows of these runs, in one transaction: a statement a table, not one a run and table."""
    if not found:
        return
    inputs = [
        {"run_id": one.run["run_id"], "role": role, "input_id": input_id}
        for one in found
        for role, input_id in one.inputs
    ]
    with _transaction(con):
        _forget(con, [one.run["run_id"] for one in found])
        _insert(con, "runs", pa.Table.from_pylist([one.run for one in found]))
        if inputs:
            _insert(con, "run_inputs", pa.Table.from_pylist(inputs))
        for table in SHORT_TABLES:
            parts = [one.tables[table] for one in found if table in one.tables]
            if parts:
                _insert(con, table.name, pa.concat_tables(parts))


@contextmanager
def _transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    con.execute("BEGIN")
    try:
        yield
    except BaseException:
        con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")


def _renew(con: duckdb.DuckDBPyConnection, stamps: Sequence[tuple[str, str]]) -> None:
    """Put down the new stamps of runs that are the same."""
    if not stamps:
        return
    con.register(
        "new_stamps", pa.Table.from_pylist([{"run_id": run_id, "stamp": new} for run_id, new in stamps])
    )
    con.execute(
        "UPDATE runs SET stamp = new_stamps.stamp FROM new_stamps WHERE runs.run_id = new_stamps.run_id"
    )
    con.unregister("new_stamps")


def _forget(con: duckdb.DuckDBPyConnection, run_ids: Sequence[str]) -> None:
    """A run's rows come and go together with its row in `runs`."""
    those = "run_id IN (SELECT unnest(?))"
    known = [
        run_id for (run_id,) in con.execute(f"SELECT run_id FROM runs WHERE {those}", [run_ids]).fetchall()
    ]
    for name in _RUN_TABLES if known else ():
        con.execute(f"DELETE FROM {name} WHERE {those}", [known])


def _insert(con: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    con.register("new_rows", rows)
    con.execute(f"INSERT INTO {name} BY NAME SELECT * FROM new_rows")
    con.unregister("new_rows")


def _set_aside(cache: Cache) -> None:
    with catalogue_lock(cache), disk_errors(cache.catalogue):
        if cache.catalogue.exists():
            cache.catalogue.replace(cache.catalogue.with_suffix(".duckdb.old"))
        cache.write_ahead_log.unlink(missing_ok=True)
