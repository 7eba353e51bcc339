"""The scripts of examples/ run as they are, in an empty folder. (chain.py: test_packaging.py, from the wheel.)"""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which also finds the package in child processes."""
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_own_facts(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "own_facts.py"))
    printed = capsys.readouterr().out
    assert "level" in printed and "restored" in printed
    assert sorted(path.name for path in empty.iterdir()) == ["cache", "facts.jsonl"]


def test_study(empty: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "study.py"))
    lines = [line.split(" | ") for line in capfd.readouterr().out.splitlines() if " | " in line]
    claims = {line[0] for line in lines}
    assert {"P1a", "R1a", "U2a"} <= claims and all(len(line) == 3 for line in lines)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short(path: Path) -> None:
    code = [
        line for line in path.read_text().splitlines() if line.strip() and not line.startswith(("#", '"""'))
    ]
    assert len(code) <= 25
