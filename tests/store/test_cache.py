from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from fake_runs import do_chunks, do_run, spec

from sftknow_core.errors import CacheError
from sftknow_core.store.cache import Cache
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_folder import DONE, RunFolder
from sftknow_core.store.run_state import RunState


def test_option_before_environment_before_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SFTKNOW_CACHE", raising=False)
    assert Cache().root == tmp_path / "cache"
    monkeypatch.setenv("SFTKNOW_CACHE", str(tmp_path / "env"))
    assert Cache().root == tmp_path / "env"
    assert Cache(tmp_path / "option").root == tmp_path / "option"
    assert (tmp_path / "option" / "runs").is_dir()


@pytest.mark.parametrize("below", ["", "cache"])
def test_a_file_in_the_way_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CacheError, match=r"file.* is a file, not a folder\. Choose another folder with --cache"
    ):
        Cache(tmp_path / "file" / below)


def test_a_forbidden_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(CacheError, match=r"may not be written .*write permission"):
        Cache(tmp_path / "cache")


def test_full_disk_leaves_no_half_part_and_the_run_goes_on_later(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(CacheError, match=r"the disk is full: .*mastery.*goes on where it stopped"),
        open_run(cache, spec()) as run,
    ):
        monkeypatch.setattr(os, "fsync", full)
        do_chunks(run)
    folder = RunFolder(cache, spec().run_id)
    assert folder.contents().tables == {}
    assert not list(folder.root.rglob("*.parquet")) and not (folder.root / DONE).exists()
    assert folder.status().state is RunState.FAILED
    monkeypatch.setattr(os, "fsync", fsync)
    do_run(cache)
    assert folder.problems(verify=True) == []


def test_full_disk_met_by_the_writer_of_weights(cache: Cache) -> None:
    def save(path: Path) -> None:
        path.mkdir()
        (path / "half").write_bytes(b"x")
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with pytest.raises(CacheError, match="the disk is full"), open_run(cache, spec()) as run:
        run.write_folder("model", save)
    assert [path.name for path in run.root.iterdir() if path.is_dir()] == []
