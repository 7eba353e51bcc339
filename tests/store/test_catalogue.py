"""The catalogue: fed from folders, rebuilt from folders, shared between processes."""

from __future__ import annotations

import shutil
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from fake_runs import accuracy_row, do_chunks, do_run, mastery_rows, runs_on_record, spec
from processes import started

from sftknow_core.errors import CacheError, SftknowError
from sftknow_core.store import ingest as module
from sftknow_core.store import opening
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table, runs_with_input
from sftknow_core.store.files import CacheWarning
from sftknow_core.store.ingest import _read, ingest, reindex
from sftknow_core.store.open_run import open_run
from sftknow_core.store.opening import catalogue_lock, create_tables, open_catalogue, open_tables
from sftknow_core.store.run_folder import DONE, RunFolder
from sftknow_core.store.run_spec import RunSpec


def finish(cache: Cache, run: RunSpec, **tables: list[dict[str, Any]]) -> str:
    with open_run(cache, run) as made:
        for name, rows in tables.items():
            made.write_part(name, 0, rows)
        made.finish({"n": 1})
    return made.run_id


def rows_on_record(cache: Cache) -> dict[str, list[tuple[Any, ...]]]:
    with open_catalogue(cache) as con:
        tables = [name for (name,) in con.execute("SHOW TABLES").fetchall() if name != "schema_version"]
        return {name: sorted(con.execute(f"FROM {name}").fetchall(), key=str) for name in tables}


# -- reading


def test_short_tables(cache: Cache) -> None:
    a = finish(cache, spec("a"), accuracies=[accuracy_row("s", 1, 0.5), accuracy_row("s", None, 0.25)])
    b = finish(cache, spec("b"), accuracies=[accuracy_row("t", 1, None)])
    assert len(read_table(cache, "accuracies")) == 3
    assert read_table(cache, "accuracies", run_ids=[b])["reason"].to_list() == ["nothing asked"]
    assert read_table(cache, "accuracies", where={"level": None})["accuracy"].to_list() == [0.25]
    levels = read_table(cache, "accuracies", columns=["level", "n"], where={"state_id": ["s", "x"]})
    assert sorted(levels["level"].fillna(-1)) == [-1, 1]
    assert [str(kind) for kind in levels.dtypes] == ["Int64", "int64"]
    assert read_table(cache, "accuracies", run_ids=[]).empty
    assert read_table(cache, "deltas").empty
    runs = runs_on_record(cache)
    assert set(runs["run_id"]) == {a, b} and runs["summary"][0] == {"n": 1}
    assert runs["spec"][0]["params"] == {"temperature": 0.7}
    assert runs_with_input(cache, "b") == [b]


def test_long_tables_in_the_order_they_were_written(cache: Cache) -> None:
    run_id = do_run(cache)
    other = finish(cache, spec("b"), mastery=mastery_rows(7))
    frame = read_table(cache, "mastery", run_ids=[run_id])
    assert frame["fact_id"].to_list() == [f"fact-{chunk}-{i}" for chunk in (0, 1) for i in range(3)]
    assert (
        frame["level"].isna().to_list() == [True, False, False] * 2 and str(frame["level"].dtype) == "Int64"
    )
    assert set(read_table(cache, "mastery", columns=["run_id"])["run_id"]) == {run_id, other}
    half = read_table(
        cache, "mastery", columns=["r"], where={"n_correct": 2, "fact_id": ["fact-1-2", "fact-7-2"]}
    )
    assert half["r"].to_list() == [0.2, 0.2]
    assert read_table(cache, "answers").empty and list(read_table(cache, "answers", columns=["gold"])) == [
        "gold"
    ]


def test_a_cache_is_not_mistaken_for_a_pattern(fast_folder: Path) -> None:
    """DuckDB takes x*/part.parquet for a pattern even where that very file exists."""
    caches = [Cache(fast_folder / name) for name in ("x*", "xy")]
    for cache, chunk in zip(caches, (1, 2), strict=True):
        finish(cache, spec(), mastery=mastery_rows(chunk))
    for cache, chunk in zip(caches, (1, 2), strict=True):
        facts = read_table(cache, "mastery")["fact_id"].to_list()
        assert facts == [f"fact-{chunk}-{i}" for i in range(3)]


def test_long_tables_of_a_run_under_way_end_at_the_last_whole_chunk(cache: Cache) -> None:
    with open_run(cache, spec()) as run:
        run.write_part("mastery", 0, mastery_rows(0))
        (run.root / "mastery" / "part-00001.parquet").write_bytes(b"not committed")
        assert len(read_table(cache, "mastery", run_ids=[run.run_id])) == 3
        assert read_table(cache, "mastery").empty


def test_names_are_checked_and_values_are_parameters(cache: Cache) -> None:
    finish(cache, spec(), accuracies=[accuracy_row("s", 1, 0.5)])
    evil = "s' OR 1=1 --"
    assert read_table(cache, "accuracies", where={"state_id": evil}).empty
    assert read_table(cache, "mastery", where={"topic": [evil]}).empty
    with pytest.raises(SftknowError, match="table accuracies has no column"):
        read_table(cache, "accuracies", columns=["1; DROP TABLE runs"])
    with pytest.raises(SftknowError, match="table accuracies has no column"):
        read_table(cache, "accuracies", where={evil: 1})


# -- feeding


def test_ingesting_twice_changes_nothing(cache: Cache) -> None:
    run_id = do_run(cache)
    ingest(cache, run_id)
    before = rows_on_record(cache)
    assert len(before["accuracies"]) == 2 and len(before["runs"]) == len(before["run_inputs"]) == 1
    ingest(cache, run_id)
    assert rows_on_record(cache) == before
    assert not cache.write_ahead_log.exists()


def test_reading_takes_in_what_nobody_ingested_and_forgets_what_is_gone(cache: Cache) -> None:
    a = finish(cache, spec("a"), accuracies=[accuracy_row("s", 1, 0.5)])
    finish(cache, spec("b"), accuracies=[accuracy_row("t", 1, 0.5)])
    assert set(read_table(cache, "accuracies")["state_id"]) == {"s", "t"}
    shutil.rmtree(cache.run_folder(a))
    assert set(read_table(cache, "accuracies")["state_id"]) == {"t"}
    assert (
        set(rows_on_record(cache)["accuracies"][0]) >= {"t"} and len(rows_on_record(cache)["run_inputs"]) == 1
    )


def test_what_a_copied_cache_has_on_record_is_not_read_again(
    cache: Cache, fast_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy has other times; a manifest that says something else is read."""
    kept, changed = do_run(cache, "a"), do_run(cache, "b")
    runs_on_record(cache)
    before = rows_on_record(cache)
    with open_catalogue(cache) as con:  # as earlier versions wrote it
        con.execute("UPDATE runs SET stamp = split_part(stamp, ' ', 1)")
    runs_on_record(cache)
    assert rows_on_record(cache) == before
    shutil.copytree(cache.root, fast_folder / "copy", copy_function=shutil.copyfile)
    there, read = Cache(fast_folder / "copy"), []
    assert rows_on_record(there) == before
    monkeypatch.setattr(module, "_read", lambda run: read.append(run.run_id) or _read(run))
    for _ in range(2):
        assert len(runs_on_record(there)) == 2 and not read
    manifest = there.run_folder(changed) / DONE
    manifest.write_text(manifest.read_text("utf-8") + "\n", "utf-8")
    assert len(runs_on_record(there)) == 2 and read == [changed] != [kept]


def test_many_runs_are_taken_in_like_one(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    names = ("a", "b", "c", "d", "e")
    runs = {finish(cache, spec(name), accuracies=[accuracy_row(name, 1, 0.5)]): name for name in names}
    damaged = next(iter(runs))
    next(cache.run_folder(damaged).glob("accuracies/*.parquet")).unlink()
    with pytest.warns(CacheWarning, match=damaged):
        found = read_table(cache, "accuracies")
    assert dict(zip(found["run_id"], found["state_id"], strict=True)) == {
        run_id: name for run_id, name in runs.items() if run_id != damaged
    }


def test_a_damaged_run_is_left_out_with_a_warning(cache: Cache) -> None:
    run_id = do_run(cache)
    good = finish(cache, spec("b"), accuracies=[accuracy_row("t", 1, 0.5)])
    (cache.run_folder(run_id) / "accuracies" / "part-00000.parquet").unlink()
    with pytest.raises(CacheError, match=r"accuracies/part-00000\.parquet in .* do not fit"):
        ingest(cache, run_id)
    with pytest.warns(CacheWarning, match=f"run {run_id} is left out"):
        assert set(read_table(cache, "accuracies")["run_id"]) == {good}
    done = reindex(cache)
    assert done.n_runs == 1 and [left for left, _ in done.left_out] == [run_id]


def test_reindexing_forgets_a_run_damaged_since_it_was_taken_in(cache: Cache) -> None:
    run_id = do_run(cache)
    ingest(cache, run_id)
    (cache.run_folder(run_id) / "mastery" / "part-00000.parquet").unlink()
    assert [left for left, _ in reindex(cache).left_out] == [run_id]
    assert not any(rows_on_record(cache).values())


def test_unreadable_part_of_a_long_table_is_named(cache: Cache) -> None:
    run_id = do_run(cache)
    part = cache.run_folder(run_id) / "mastery" / "part-00000.parquet"
    part.write_bytes(b"x" * part.stat().st_size)
    with pytest.raises(CacheError, match=r"cannot be read \(.*repeating the command"):
        read_table(cache, "mastery")
    with pytest.raises(CacheError, match=r"part-00000\.parquet cannot be read"):
        RunFolder(cache, run_id).read("mastery")


@pytest.mark.parametrize("rebuild", [False, True])
def test_reindex_after_losing_the_file_restores_the_same_rows(cache: Cache, rebuild: bool) -> None:
    for name in ("a", "b"):
        ingest(cache, do_run(cache, name))
    before = rows_on_record(cache)
    if rebuild:
        cache.catalogue.write_bytes(b"garbage" * 1000)
    else:
        cache.catalogue.unlink()
    done = reindex(cache, rebuild=rebuild)
    assert done.n_runs == 2 and done.left_out == ()
    assert rows_on_record(cache) == before
    assert (cache.root / "sftknow.duckdb.old").exists() == rebuild


# -- a file that is not usable


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"x"])
def test_a_file_that_is_no_catalogue_is_named(cache: Cache, content: bytes) -> None:
    cache.catalogue.write_bytes(content)
    with pytest.raises(CacheError, match=r"sftknow\.duckdb cannot be used .*sftknow reindex --rebuild"):
        read_table(cache, "accuracies")
    assert cache.catalogue.read_bytes() == content


def test_a_damaged_catalogue_is_named(cache: Cache) -> None:
    """The header is right: DuckDB notices only when it reads on."""
    ingest(cache, do_run(cache))
    content = bytearray(cache.catalogue.read_bytes())
    content[12288:] = bytes(byte ^ 0xFF for byte in content[12288:])
    cache.catalogue.write_bytes(content)
    with pytest.raises(CacheError, match="reindex --rebuild"):
        read_table(cache, "accuracies")
    assert reindex(cache, rebuild=True).n_runs == 1


def test_an_empty_file_is_a_kill_at_birth(cache: Cache) -> None:
    do_run(cache)
    cache.catalogue.write_bytes(b"")
    assert len(read_table(cache, "accuracies")) == 2


def test_waiting_has_an_end(cache: Cache) -> None:
    with (
        catalogue_lock(cache),
        pytest.raises(CacheError, match=r"has been busy for 0 s: another process holds .*catalogue\.lock"),
        open_catalogue(cache, wait_seconds=0.05),
    ):
        raise AssertionError("it opened")


def test_another_program_holding_the_file_is_waited_for(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, refusals = duckdb.connect, iter(range(3))

    def busy(*args: Any, **kwargs: Any) -> duckdb.DuckDBPyConnection:
        if next(refusals, None) is not None:
            raise duckdb.IOException("Could not set lock on file: Conflicting lock is held in duckdb (PID 7)")
        return connect(*args, **kwargs)

    monkeypatch.setattr(duckdb, "connect", busy)
    assert read_table(cache, "accuracies").empty
    refusals = iter(range(1000))
    with pytest.raises(CacheError, match=r"open in another program: .*PID 7"), open_catalogue(cache, 0.1):
        raise AssertionError("it opened")


# -- catalogues of other versions

BEFORE = """
    CREATE TABLE schema_migrations (name VARCHAR NOT NULL, applied_at VARCHAR);
    INSERT INTO schema_migrations VALUES ('m001_runs_and_models', '2026-01-01T00:00:00Z');
    CREATE TABLE runs (
        run_id VARCHAR NOT NULL, kind VARCHAR NOT NULL, spec VARCHAR NOT NULL, about VARCHAR NOT NULL,
        created_at VARCHAR NOT NULL, finished_at VARCHAR NOT NULL, seconds DOUBLE NOT NULL,
        library_versions VARCHAR NOT NULL, summary VARCHAR NOT NULL, stamp VARCHAR NOT NULL);
    CREATE TABLE run_inputs (run_id VARCHAR NOT NULL, role VARCHAR NOT NULL, input_id VARCHAR NOT NULL);
    CREATE TABLE models (run_id VARCHAR NOT NULL, model_id VARCHAR NOT NULL, name VARCHAR NOT NULL);
"""
"""A catalogue as the first version made it, with fewer tables and columns than now."""


def test_a_catalogue_of_the_version_before_is_rebuilt_from_the_run_folders(cache: Cache) -> None:
    run_id = do_run(cache)
    ingest(cache, run_id)
    expected = rows_on_record(cache)
    (row,) = expected["runs"]
    cache.catalogue.unlink()
    with duckdb.connect(cache.catalogue) as con:
        con.execute(BEFORE)
        con.execute(f"INSERT INTO runs VALUES ({', '.join('?' * len(row))})", row)
    with pytest.warns(
        CacheWarning, match="tables of another version of sftknow; it is rebuilt from the run folders"
    ):
        assert len(read_table(cache, "accuracies")) == 2
    with warnings.catch_warnings(action="error"):  # once
        assert list(runs_on_record(cache)["run_id"]) == [run_id]
    assert rows_on_record(cache) == expected


def test_a_catalogue_of_a_newer_version_is_rebuilt_too(cache: Cache) -> None:
    run_id = do_run(cache)
    ingest(cache, run_id)
    with open_catalogue(cache) as con:
        con.execute("UPDATE schema_version SET version = 'newer'; CREATE TABLE later (x INTEGER)")
    with pytest.warns(CacheWarning, match="another version"):
        assert list(runs_on_record(cache)["run_id"]) == [run_id]
    assert "later" not in rows_on_record(cache)


def test_tables_are_made_wholly_or_not_at_all(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    with duckdb.connect(cache.catalogue) as con:
        con.execute(BEFORE)
        con.execute("INSERT INTO models VALUES ('r', 'm', 'demo')")
        monkeypatch.setattr(opening, "ddl", lambda: "CREATE TABLE half (x INTEGER); FROM nowhere;")
        with pytest.raises(duckdb.Error):
            create_tables(con)
    with duckdb.connect(cache.catalogue) as con:
        assert "half" not in str(con.execute("SHOW TABLES").fetchall())
        assert con.execute("FROM models").fetchall() == [("r", "m", "demo")]


# -- several processes


def test_four_writers_and_a_reader_lose_no_row(cache: Cache) -> None:
    n_writers, n_runs = 4, 25
    with ExitStack() as stack:
        writers = [
            stack.enter_context(started("write", cache.root, f"w{i}", n_runs)) for i in range(n_writers)
        ]
        counts = [0]
        while any(writer.poll() is None for writer in writers):
            rows = read_table(cache, "accuracies", columns=["run_id"])
            assert (rows.value_counts() == 2).all()  # never half a run
            counts.append(len(rows))
            time.sleep(0.1)
        assert [writer.returncode for writer in writers] == [0] * n_writers
    assert counts == sorted(counts)
    rows = pd.DataFrame(rows_on_record(cache)["accuracies"])
    assert len(rows) == 2 * n_writers * n_runs and rows[0].nunique() == n_writers * n_runs


def test_a_manifest_is_not_needed_for_a_run_to_be_readable_by_chunks(cache: Cache) -> None:
    with pytest.raises(RuntimeError), open_run(cache, spec()) as run:
        do_chunks(run)
        raise RuntimeError
    assert not (run.root / DONE).exists()
    assert len(read_table(cache, "mastery", run_ids=[run.run_id])) == 6


def test_tables_of_one_connection_are_unknown_to_the_others() -> None:
    def asked(number: int) -> set[int]:
        with open_tables(t=pa.table({"n": [number] * 1000})) as con:
            return {n for _ in range(20) for (n,) in con.execute("FROM t").fetchall()}

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(asked, range(40))) == [{number} for number in range(40)]
    with pytest.raises(CacheError, match="cannot be read"), open_tables() as con:
        con.execute("FROM t")
