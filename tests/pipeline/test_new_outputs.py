"""Files and folders that appear together or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.pipeline import new_outputs as module
from sftknow_core.pipeline.new_outputs import new_outputs, problems


def fill(places: dict[Path, Path], folder: Path, file: Path) -> None:
    places[folder].mkdir()
    (places[folder] / "a.txt").write_text("a")
    places[file].write_text("b")


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_all_appear_at_the_end_and_not_before(tmp_path: Path) -> None:
    folder, file = tmp_path / "deep" / "er" / "folder", tmp_path / "file"
    with new_outputs([folder, file]) as places:
        fill(dict(places), folder, file)
        assert not folder.exists() and not file.exists()
        assert all(place.parent == path.parent for path, place in places.items())
    assert names(tmp_path) == {"deep", "deep/er", "deep/er/folder", "deep/er/folder/a.txt", "file"}


def test_a_relative_name_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with new_outputs([Path("file")]) as places:
        places[Path("file")].write_text("b")
    assert names(tmp_path) == {"file"}


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), SpecError("x")])
def test_nothing_is_left_after_an_error(tmp_path: Path, error: BaseException) -> None:
    folder, file = tmp_path / "deep" / "er" / "folder", tmp_path / "file"
    with pytest.raises(type(error)), new_outputs([folder, file]) as places:
        fill(dict(places), folder, file)
        raise error
    assert names(tmp_path) == set()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_is_said_in_words(tmp_path: Path, number: int) -> None:
    file = tmp_path / "file"
    words = r"file: the disk is full.*nothing was left"
    with pytest.raises(ModelError, match=words) as raised, new_outputs([file]) as places:
        places[file].write_text("half")
        raise OSError(number, os.strerror(number))
    assert ".partial" not in str(raised.value)
    assert names(tmp_path) == set()


def test_full_disk_met_further_down_is_said_of_the_place_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with pytest.raises(ModelError, match="file: the disk is full") as raised, new_outputs([file]) as places:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise ModelError(f"{places[file]}: the disk is full") from error
    assert ".partial" not in str(raised.value)


def test_a_failing_flush_or_rename_takes_back_what_had_appeared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    with pytest.raises(SpecError, match="made by somebody else"), new_outputs([folder, file]) as places:
        fill(dict(places), folder, file)
        file.write_text("of somebody else")
    assert names(tmp_path) == {"file"} and file.read_text() == "of somebody else"
    file.unlink()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(ModelError, match="disk is full"), new_outputs([folder, file]) as places:
        fill(dict(places), folder, file)
    assert names(tmp_path) == set()


def test_what_cannot_be_made_is_said_before(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    os.symlink("nowhere", tmp_path / "dangling")  # noqa: PTH211
    for wanted, words in (
        (["there"], "there exists already"),
        (["dangling"], "dangling exists already"),
        (["new", "new"], "asked for twice"),
        (["out", "out/recipe.json"], "out/recipe.json lies in .*out, which is to be new"),
        (["out/recipe.json", "out"], "out/recipe.json lies in .*out, which is to be new"),
        (["file/below"], "file is a file"),
    ):
        paths = [tmp_path / name for name in wanted]
        assert len(problems(paths)) == 1
        with pytest.raises(SpecError, match=words), new_outputs(paths):
            raise AssertionError
    assert problems([tmp_path / "there", tmp_path / "file" / "x"]) != []
    assert names(tmp_path) == {"there", "file", "dangling"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is writable for root")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert problems([tmp_path / "file"]) == [
            f"{tmp_path / 'file'} cannot be made: {tmp_path} may not be written to"
        ]
    finally:
        tmp_path.chmod(0o700)


KILLED = """
import os, signal, sys
from pathlib import Path
from sftknow_core.pipeline.new_outputs import new_outputs
out = Path(sys.argv[1])
with new_outputs([out]) as places:
    places[out].mkdir()
    (places[out] / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_what_a_killed_process_left_is_no_output_and_is_cleared_away(tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / ".out.note.partial"
    other.write_text("somebody's own file")
    subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    assert not out.exists()
    assert len(list(tmp_path.glob(".out.*.partial"))) == 2
    with new_outputs([out]) as places:
        places[out].mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "out"]
