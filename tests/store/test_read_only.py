"""Show mode: a cache is read without one byte, folder or lock file being written, whatever its catalogue is like."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import filelock
import pandas as pd
import pytest
from fake_chain import make_chains

from sftknow_core.errors import CacheError
from sftknow_core.results import Chain, chains, measured
from sftknow_core.store import ingest
from sftknow_core.store.cache import READ_ONLY_VARIABLE, Cache, check_may_write, read_only
from sftknow_core.store.catalogue import read_runs, read_table
from sftknow_core.store.listing import list_runs
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_folder import DONE
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.update.spec import RestoreSpec

Listing = dict[str, tuple[int, int, int]]
Made = tuple[Path, str, list[pd.DataFrame]]
_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    """A cache with one finished chain, the chain's id, and what its pages read."""
    root = Path(tempfile.mkdtemp(prefix="sftknow-", dir=_MEMORY if _MEMORY.is_dir() else None))
    run_id = make_chains(root, per_level=2, ks=(20,))[0]
    yield root, run_id, browse(Cache(root), run_id)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def cache(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A copy, opened in show mode."""
    shutil.copytree(made[0], tmp_path / "cache")  # keeps the times of files
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    ingest._in_memory.clear()
    return Cache(tmp_path / "cache")


@contextmanager
def nothing_written(cache: Cache) -> Iterator[None]:
    """Locks, folders and files stay alone: whoever tries is stopped, and the folder is compared afterwards."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("show mode wrote")

    before = listing(cache.root)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (filelock.BaseFileLock, "acquire"),
            (Path, "mkdir"),
            (Path, "write_bytes"),
            (Path, "unlink"),
        ):
            patch.setattr(owner, name, refuse)
        yield
    assert listing(cache.root) == before


def listing(root: Path) -> Listing:
    """Everything below a folder with its size and times."""
    found = {}
    for path in [root, *root.rglob("*")]:
        stat = path.stat()
        found[str(path)] = (stat.st_size if path.is_file() else 0, stat.st_mtime_ns, stat.st_ctime_ns)
    return found


def browse(cache: Cache, run_id: str) -> list[pd.DataFrame]:
    """What pages read."""
    assert chains.survey(cache).finished["run_id"].tolist() == [run_id]
    spec = RestoreSpec(k_percent="20")  # type: ignore[arg-type]
    rows = Chain(cache, run_id).measured(spec)
    shown = measured.nearest_state(rows, 20, "test")
    assert shown is not None and list_runs(cache)
    return [
        Chain(cache, run_id).curve("test"),
        Chain(cache, run_id).shifted_questions(),
        rows,
        Chain(cache, run_id).flipped(shown, "test"),
        read_table(cache, "models"),
        read_runs(cache).drop(columns=["spec", "about", "library_versions", "summary"]),
    ]


def as_it_was(cache: Cache) -> None:
    """The catalogue holds every run."""


def copied(cache: Cache) -> None:
    """Every manifest has another time, and says the same."""
    for manifest in cache.runs.glob(f"*/{DONE}"):
        os.utime(manifest, (1, 1))


def without(cache: Cache) -> None:
    """There is no catalogue, no lock folder and no models folder."""
    shutil.rmtree(cache.locks)
    shutil.rmtree(cache.models)
    cache.catalogue.rename(cache.root / "elsewhere")


def damaged(cache: Cache) -> None:
    with cache.catalogue.open("r+b") as file:
        file.write(b"no catalogue" * 2000)


def behind(cache: Cache) -> None:
    """A run was taken out of the catalogue, as if it had been finished since."""
    con = duckdb.connect(cache.catalogue)
    con.execute("DELETE FROM runs WHERE kind = 'evaluate'")
    con.close()


def left_open(cache: Cache) -> None:
    """There is a write-ahead log, which another process may be writing."""
    with cache.write_ahead_log.open("wb") as file:
        file.write(b"x")


def older(cache: Cache) -> None:
    """Its tables are those of a version before."""
    con = duckdb.connect(cache.catalogue)
    con.execute("DELETE FROM schema_migrations WHERE name LIKE 'm005%'")
    con.close()


@pytest.mark.parametrize("change", [as_it_was, copied, without, damaged, behind, left_open, older])
def test_browsing_writes_nothing_and_finds_the_same(
    cache: Cache, made: Made, change: Callable[[Cache], None]
) -> None:
    change(cache)
    with nothing_written(cache):
        found = browse(Cache(cache.root), made[1])
    for mine, theirs in zip(found, made[2], strict=True):
        pd.testing.assert_frame_equal(mine, theirs)
    assert bool(ingest._in_memory) is (change not in (as_it_was, copied))


def test_a_catalogue_that_is_busy_is_read_from_the_folders(cache: Cache, made: Made) -> None:
    """DuckDB refuses a read-only opening beside a writing one, here of the same process."""
    writer = duckdb.connect(cache.catalogue)
    try:
        with nothing_written(cache):
            browse(cache, made[1])
    finally:
        writer.close()
    assert ingest._in_memory


def test_memory_is_filled_once_and_again_when_a_run_is_gone(cache: Cache, made: Made) -> None:
    without(cache)
    n = len(read_runs(cache))
    first = ingest._in_memory[str(cache.root)][1]
    read_runs(cache)
    assert ingest._in_memory[str(cache.root)][1] is first
    shutil.rmtree(cache.run_folder(made[1]))
    assert len(read_runs(cache)) == n - 1
    assert ingest._in_memory[str(cache.root)][1] is not first


def test_a_finished_run_can_be_opened_and_no_other_started(cache: Cache) -> None:
    done = read_runs(cache).iloc[0]
    with nothing_written(cache):
        with open_run(cache, RunSpec.from_dict(done["spec"])) as run:
            assert run.done
        with (
            pytest.raises(CacheError, match="show mode: nothing here can start a run"),
            open_run(cache, RunSpec("chain", {"base": "b"}, {"level": "1"})),
        ):
            raise AssertionError("opened")
        for write in (lambda: ingest.ingest(cache, done["run_id"]), lambda: ingest.reindex(cache)):
            with pytest.raises(CacheError, match="nothing here can write the catalogue"):
                write()


def test_a_folder_that_is_no_cache_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    for root in (tmp_path, tmp_path / "not there"):
        with pytest.raises(CacheError, match="no folder runs/, and show mode makes none"):
            Cache(root)
    assert list(tmp_path.iterdir()) == []


def test_only_1_means_show_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(READ_ONLY_VARIABLE, raising=False)
    check_may_write("do this")
    for value, expected in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv(READ_ONLY_VARIABLE, value)
        assert read_only() is expected
