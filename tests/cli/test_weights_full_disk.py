"""A disk that fills up, and a stop from the keyboard, while a model is written: nothing is left behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_pair import make_pair

from sftknow_core.model.io import tensor_writer

from .conftest import Sftknow
from .place import Place
from .test_bad_input import mistake


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def at(tmp_path: Path, pair: tuple[Path, Path], sftknow: Sftknow) -> Place:
    return Place(tmp_path, pair, sftknow)


@pytest.mark.parametrize("at_write", [1, 7, 20])
def test_disk_full_while_writing_weights(at: Place, monkeypatch: pytest.MonkeyPatch, at_write: int) -> None:
    recipe, patch = at.folder / "r.json", at.folder / "p"
    assert at.restore("--recipe", recipe, "--patch", patch).code == 0
    write, n_written = tensor_writer.CheckpointWriter.write, 0

    def full(*arguments: object) -> None:
        nonlocal n_written
        n_written += 1
        if n_written == at_write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tensor_writer.CheckpointWriter, "write", full)
    out = at.folder / "deep" / "out"
    for command in (
        ["restore", "--k", 20, "--out", out, "--recipe", at.folder / "r2", "--patch", at.folder / "p2"],
        ["rebuild", recipe, "--out", out],
        ["apply-patch", patch, "--out", out],
    ):
        n_written = 0
        mistake(at(*command), f"{out}", "the disk is full", "nothing was left behind")
        assert n_written == at_write
    assert at.left() == {"r.json", "p"}


def test_disk_full_while_writing_the_patch(at: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model was written already; it is taken back."""
    from sftknow_core.update.patch_file import PatchWriter

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PatchWriter, "_put", full)
    files = ["--out", at.folder / "out", "--recipe", at.folder / "r", "--patch", at.folder / "p"]
    mistake(at.restore(*files), "the disk is full", "nothing was left behind")
    assert at.left() == set()


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from sftknow_core.cli.app import main
main(sys.argv[2:])
"""


def test_a_real_limit_on_file_sizes(at: Place) -> None:
    """The kernel itself refuses to let the weights file grow (EFBIG), in a process of its own."""
    pytest.importorskip("resource", reason="no limit on file sizes here")
    at.restore("--dry-run")  # the ids are remembered, so that the process needs no large file of its own
    given = ["restore", "--base", at.base, "--tuned", at.tuned, "--k", 20, "--out", at.folder / "out"]
    given += ["--recipe", at.folder / "r", "--cache", at.folder / "cache", "--device", "cpu"]
    limit = (at.base / "model.safetensors").stat().st_size // 2
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *map(str, given)], capture_output=True, text=True
    )
    assert ended.returncode == 2, ended.stderr
    assert "a limit on the size of files was reached" in ended.stderr and "Traceback" not in ended.stderr
    assert at.left() == set()


def test_interrupted_restore_leaves_nothing(at: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tensor_writer.CheckpointWriter, "write", interrupt)
    ended = at.restore("--out", at.folder / "deep" / "out", "--recipe", at.folder / "r")
    assert ended.code == 130 and at.left() == set()
