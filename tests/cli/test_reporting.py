"""`sftknow report`: one file, refused where it must not be made, and nothing left after a refusal."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_chain import leave_chain, make_chains

from sftknow_core.store.cache import READ_ONLY_VARIABLE

from .conftest import Sftknow

_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module")
def filled() -> Iterator[tuple[Path, str, str]]:
    """A cache, a finished chain in it, and one that failed."""
    root = Path(tempfile.mkdtemp(prefix="sftknow-", dir=_MEMORY if _MEMORY.is_dir() else None))
    done = make_chains(root, per_level=2, ks=(20,))[0]
    yield root, done, leave_chain(root, "3", RuntimeError("the disk is full"))
    shutil.rmtree(root, ignore_errors=True)


def test_the_start_of_an_id_is_enough_and_a_file_is_not_replaced(
    sftknow: Sftknow, filled: tuple[Path, str, str], tmp_path: Path
) -> None:
    cache, run_id, _ = filled
    out = tmp_path / "new folder" / "report.html"
    done = sftknow("report", run_id[:8], "--out", out, "--cache", cache, "--json")
    assert done.code == 0, done.err
    page = out.read_bytes()
    assert done.json == {"run_id": run_id, "report": str(out), "size_bytes": len(page)}
    assert run_id.encode() in page and [path.name for path in out.parent.iterdir()] == ["report.html"]

    out.write_text("mine")
    again = sftknow("report", run_id, "--out", out, "--cache", cache)
    assert again.code == 2 and "exists already" in again.err and out.read_text() == "mine"
    forced = sftknow("report", "--run", run_id, "--out", out, "--cache", cache, "--force")
    assert forced.code == 0 and out.read_bytes() == page and "size_bytes" in re.sub(" ", "_", forced.out)


def test_what_cannot_be_reported_is_said(
    sftknow: Sftknow, filled: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, run_id, failed = filled
    out = tmp_path / "report.html"
    for args, said in (
        (["zzz"], "no run id in the cache starts with 'zzz'"),
        ([], "which run: got none"),
        ([run_id, "--run", failed], "which run: got"),
        ([failed], "is not finished (failed)"),
    ):
        ended = sftknow("report", *args, "--out", out, "--cache", cache)
        assert ended.code == 2 and said in ended.err, ended.err
    folder = sftknow("report", run_id, "--out", tmp_path, "--cache", cache)
    assert folder.code == 2 and "is a folder" in folder.err
    (tmp_path / "file").write_text("")
    below = sftknow("report", run_id, "--out", tmp_path / "file" / "report.html", "--cache", cache)
    assert below.code == 2 and "cannot be written" in below.err
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    shown = sftknow("report", run_id, "--out", out, "--cache", cache)
    assert shown.code != 0 and "show mode: nothing here can write a report" in shown.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_app_in_show_mode_makes_no_cache(sftknow: Sftknow, tmp_path: Path) -> None:
    ended = sftknow("app", "--read-only", "--no-browser", "--cache", tmp_path / "nothing")
    assert ended.code != 0 and "show mode makes none" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_app_in_show_mode_tells_the_server(
    sftknow: Sftknow, filled: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, str]] = []

    class Ended:
        returncode = 0

    def run(*_: object, env: dict[str, str], **__: object) -> Ended:
        started.append(env)
        return Ended()

    monkeypatch.delenv(READ_ONLY_VARIABLE, raising=False)
    monkeypatch.setattr("sftknow_core.serve.dashboard.subprocess.run", run)
    assert sftknow("app", "--no-browser", "--cache", filled[0]).code == 0
    assert sftknow("app", "--no-browser", "--read-only", "--cache", filled[0]).code == 0
    assert [env.get(READ_ONLY_VARIABLE) for env in started] == [None, "1"]
