"""Short openings of DuckDB: the catalogue under a file lock, or memory for reading Parquet without one.

DuckDB lets one process at a time open a file, readers included. So nobody keeps it open: lock, open, one
piece of work, close; and CHECKPOINT after writing, because a damaged write-ahead log loses rows without a
word. Each opening takes some 20 ms; whoever comes meanwhile waits at the lock. Tables that lie in memory already
are asked over one DuckDB that stays.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock, Timeout

from sftknow_core.errors import CacheError
from sftknow_core.store.cache import Cache, check_may_write
from sftknow_core.store.files import CacheWarning, disk_errors, disk_full, is_disk_full
from sftknow_core.store.schema import SHORT_TABLES
from sftknow_core.store.table import SQL_TYPES, Column

# Nothing is downloaded at run time: only what is built in (icu, json, parquet) is used.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_RUN_COLUMNS = {
    "runs": [
        *(
            Column(name, "text", "")
            for name in ("run_id", "kind", "spec", "about", "created_at", "finished_at")
        ),
        Column("seconds", "float", "at work"),
        *(Column(name, "text", "") for name in ("library_versions", "summary", "stamp")),
    ],
    "run_inputs": [Column(name, "text", "") for name in ("run_id", "role", "input_id")],
}
"""Table -> columns of what the catalogue knows of every run; stamp: how ingest.py knows that a run has not changed."""
_WAIT_SECONDS = 180.0
_RETRY_SECONDS = 0.05


@contextmanager
def open_memory() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB without a file, to read Parquet with. Raises CacheError when a part cannot be read."""
    with _explained(duckdb.connect(":memory:", config=_CONFIG)) as con:
        yield con


@contextmanager
def open_tables(**tables: Any) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which these Arrow tables can be queried by their names; of one DuckDB for the whole process.

    A DuckDB of its own takes 20 ms to open, a connection 0.3 ms, and a page asks ten times. Names that are registered
    are those of a connection; nothing else may be created here.
    """
    with _explained(_for_tables().cursor()) as con:
        for name, table in tables.items():
            con.register(name, table)
        yield con


@lru_cache(maxsize=1)
def _for_tables() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:", config=_CONFIG)


@contextmanager
def _explained(con: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        yield con
    except duckdb.Error as error:
        raise CacheError(
            f"results in the cache cannot be read ({error}). `sftknow reindex` names the damaged runs; "
            f"repeating the command that made one makes it again."
        ) from error
    finally:
        con.close()


@contextmanager
def open_catalogue(cache: Cache, wait_seconds: float = _WAIT_SECONDS) -> Iterator[duckdb.DuckDBPyConnection]:
    """The catalogue, up to date in its tables and ours alone until the block ends. Never nest two of these.

    Raises CacheError when it is not usable, or busy for longer than `wait_seconds`, or in show mode.
    """
    check_may_write("write the catalogue")
    with catalogue_lock(cache, wait_seconds), damage_explained(cache):
        con = _connect(cache.catalogue, wait_seconds)
        try:
            if create_tables(con):
                warnings.warn(
                    f"the catalogue {cache.catalogue} has the tables of another version of sftknow; it is rebuilt from "
                    "the run folders, which takes a moment and loses nothing",
                    CacheWarning,
                    stacklevel=5,
                )
            yield con
            if cache.write_ahead_log.exists():  # something was written
                con.execute("CHECKPOINT")
        finally:
            con.close()


def open_read_only(cache: Cache) -> duckdb.DuckDBPyConnection | None:
    """The catalogue's file as it is, without a lock of ours and without writing; the caller closes it.

    None where there is none, where another process writes into it, and where it is damaged: then the run
    folders say the same. A write-ahead log is left alone: taking it in would be writing.
    """
    if not cache.catalogue.is_file() or cache.write_ahead_log.exists():
        return None
    try:
        return duckdb.connect(cache.catalogue, read_only=True, config=_CONFIG)
    except (duckdb.Error, OSError):
        return None


def new_in_memory() -> duckdb.DuckDBPyConnection:
    """An empty catalogue with all its tables, of this process alone."""
    con = duckdb.connect(":memory:", config=_CONFIG)
    create_tables(con)
    return con


def ddl() -> str:
    """The statements that make the catalogue's tables: those of runs, and the short ones of store/schema.py."""
    tables = _RUN_COLUMNS | {table.name: list(table.columns) for table in SHORT_TABLES}
    return "\n".join(
        f"CREATE TABLE {name} ({', '.join(_column_ddl(column) for column in columns)});"
        for name, columns in tables.items()
    )


def _column_ddl(column: Column) -> str:
    return f"{column.name} {SQL_TYPES[column.type]}{'' if column.nullable else ' NOT NULL'}"


def has_our_schema(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether a catalogue's tables were made by this version's `ddl`."""
    known = con.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'schema_version'").fetchone()
    return known is not None and con.execute("FROM schema_version").fetchall() == [(_schema_version(),)]


@lru_cache(maxsize=1)
def _schema_version() -> str:
    """A hash of the tables' declaration: it changes by itself with the schema."""
    return hashlib.sha256(ddl().encode()).hexdigest()[:16]


def create_tables(con: duckdb.DuckDBPyConnection) -> bool:
    """Make the tables where there are none, or others; whether those of another version were dropped for it.

    The catalogue is derived data: dropping loses nothing, and the next `up_to_date` reads the run folders again.
    """
    if has_our_schema(con):
        return False
    strange = [name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
    con.execute("BEGIN")
    for name in strange:
        con.execute(f'DROP TABLE "{name}"')
    con.execute(f"{ddl()} CREATE TABLE schema_version (version VARCHAR NOT NULL)")
    con.execute("INSERT INTO schema_version VALUES (?)", [_schema_version()])
    con.execute("COMMIT")
    return bool(strange)


@contextmanager
def catalogue_lock(cache: Cache, wait_seconds: float = _WAIT_SECONDS) -> Iterator[None]:
    """The right to open, replace or delete the catalogue's file."""
    lock = FileLock(cache.catalogue_lock, timeout=wait_seconds, poll_interval=0.01, thread_local=False)
    try:
        with disk_errors(cache.catalogue_lock):
            lock.acquire()
    except Timeout as error:
        raise CacheError(
            f"the catalogue {cache.catalogue} has been busy for {wait_seconds:.0f} s: another process holds "
            f"{cache.catalogue_lock}. Wait for it, or end it, and try again."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _connect(path: Path, wait_seconds: float) -> duckdb.DuckDBPyConnection:
    """Open the file, waiting while a program that does not know our lock has it open."""
    if path.is_file() and path.stat().st_size == 0:  # a kill just after the file was made
        path.unlink()
    give_up = time.monotonic() + wait_seconds
    while True:
        try:
            return duckdb.connect(path, config=_CONFIG)
        except duckdb.IOException as error:
            if "Could not set lock" not in str(error):
                raise
            if time.monotonic() > give_up:
                raise CacheError(
                    f"the catalogue is open in another program: {error}. Close it there and try again."
                ) from error
            time.sleep(_RETRY_SECONDS)


@contextmanager
def damage_explained(cache: Cache) -> Iterator[None]:
    """Turn errors of DuckDB, met while the catalogue is open, into a CacheError that says what to do."""
    try:
        with disk_errors(cache.catalogue):
            yield
    except duckdb.Error as error:
        if is_disk_full(error):
            raise disk_full(cache.catalogue) from error
        raise CacheError(
            f"the catalogue {cache.catalogue} cannot be used ({error}). Nothing is lost: make it anew from "
            f"the run folders with `sftknow reindex --rebuild`."
        ) from error
