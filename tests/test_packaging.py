"""The wheel holds the package with its data, and the dashboard, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = {
    ".json",
    ".csv",
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


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The paths inside a wheel built from this tree, without its metadata folder."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
        return {name for name in wheel.namelist() if ".dist-info/" not in name}


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
