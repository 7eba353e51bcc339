"""The wheel holds the package with its data, and the dashboard, and nothing else; the dashboard starts from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest
from browser_kit import free_port

from sftknow_core.store.cache import ENVIRONMENT_VARIABLE

ROOT = Path(__file__).parents[1]
DATA = {
    ".json",
    ".csv",
    ".txt",
    ".toml",
    ".safetensors",
    ".parquet",
    ".md",
    ".html",
    ".css",
    ".js",
    ".j2",
    ".typed",
    ".py",
}
"""What a package folder may hold; another kind of file is there by mistake."""

PATIENCE_SECONDS = 60.0
PAGE = """
import sys
import sftknow_core
from streamlit.testing.v1 import AppTest
sys.path.insert(0, sys.argv[1].rsplit("/", 1)[0])
at = AppTest.from_file(sys.argv[1], default_timeout=60).run()
assert not at.exception, at.exception
print(sftknow_core.__file__, at.title[0].value, at.info[0].value, sep="\\n")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this tree."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    """The paths inside the wheel, without its metadata folder."""
    with zipfile.ZipFile(wheel) as opened:
        return {name for name in opened.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files in a folder of their own, which stands for the place they are installed in."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(folder)
    return folder


def files_under(folder: str) -> set[str]:
    """Every file of the tree below `folder`, as paths from the root, without what Python compiled."""
    paths = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts}


def test_the_wheel_is_the_package_and_the_dashboard_of_the_tree(wheel_names: set[str]) -> None:
    dashboard = {"app.py", ".streamlit/config.toml", *files_under("pages")}
    assert wheel_names == files_under("sftknow_core") | {f"sftknow_core/_app/{name}" for name in dashboard}


def test_what_the_code_reads_as_package_data_is_there(wheel_names: set[str]) -> None:
    needed = {
        "py.typed",
        "facts/topics.json",
        "facts/synonyms.csv",
        "_app/app.py",
        "_app/.streamlit/config.toml",
    }
    assert {f"sftknow_core/{name}" for name in needed} <= wheel_names
    assert any(name.startswith("sftknow_core/_app/pages/") for name in wheel_names)
    assert any(n.startswith("sftknow_core/demo/") and n.endswith(".safetensors") for n in wheel_names)


def test_only_known_kinds_of_files_are_shipped(wheel_names: set[str]) -> None:
    assert {name for name in wheel_names if Path(name).suffix not in DATA} == set()


def away_from_the_tree(unpacked: Path, cache: Path) -> dict[str, str]:
    """An environment that finds the package in the unpacked wheel alone."""
    return os.environ | {"PYTHONPATH": str(unpacked), ENVIRONMENT_VARIABLE: str(cache)}


def test_the_dashboard_starts_from_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "sftknow_core.cli", "app", "--no-browser", "--port", str(port)]
    said = tmp_path / "said.txt"
    with said.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--cache", str(tmp_path / "cache")],
            cwd=tmp_path, env=away_from_the_tree(unpacked, tmp_path), stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not _answers(f"http://127.0.0.1:{port}/_stcore/health"):
            assert process.poll() is None and time.monotonic() < give_up, said.read_text()
            time.sleep(0.2)
        assert _answers(f"http://127.0.0.1:{port}/")
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the server is a child of the command
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_page_of_the_wheel_comes(unpacked: Path, tmp_path: Path) -> None:
    """Run as Streamlit runs it; the server above answers even where its pages cannot be run."""
    ran = subprocess.run(
        [sys.executable, "-c", PAGE, str(unpacked / "sftknow_core" / "_app" / "app.py")],
        cwd=tmp_path, env=away_from_the_tree(unpacked, tmp_path / "cache"), capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    package, title, info = ran.stdout.splitlines()
    assert Path(package).is_relative_to(unpacked)
    assert title == "Knowledge lost and recovered" and "No finished run" in info


def test_the_chain_example_runs_from_the_wheel_in_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    """All lines of the public interface that design and manual promise, on the shipped model."""
    work = tmp_path / "empty"
    work.mkdir()
    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "chain.py")],
        cwd=work, env=away_from_the_tree(unpacked, tmp_path / "unused"), capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert {path.name for path in work.iterdir()} == {"cache", "restored"}
    assert "n_restored=33792" in ran.stdout
    assert (work / "restored" / "README.md").is_file() and (work / "restored" / "config.json").is_file()
