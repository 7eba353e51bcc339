"""What the README says can be done is done here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_lines_do_the_chain(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    labels = [line.split()[0] for line in done.stdout.splitlines()]
    assert labels[:6] == ["base", "tuned", "restored", "restored", "restored", "hybrid"]
    assert "share_of_total_relative_change_percent" in done.stdout
    assert "n_restored" in done.stdout


def test_every_key_of_a_study_file_stands_there_with_its_default(tmp_path: Path) -> None:
    """The block is a file that can be read; without its comments it says what a file says that leaves all out."""
    from sftknow_core.pipeline.study.read import _TABLES, study_from

    (block,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    written = tomllib.loads(block)
    shown = set(re.findall(r"\w+", block))
    for table, keys in _TABLES.items():
        assert table in written and not set(keys) - shown, (table, set(keys) - shown)
    short = {"name": "mine", "base": "./base", "data": {"data": "demo"}}
    assert study_from(written, tmp_path / "study.toml") == study_from(short, tmp_path / "study.toml")


def test_pictures_and_folders_are_there() -> None:
    for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / target).is_file(), target
    tree = re.search(r"## Where things are\n\n```\n(.*?)```", README, re.DOTALL)
    assert tree is not None
    above = [ROOT]
    for line in tree[1].splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        above[depth + 1 :] = [above[depth] / name]
        assert above[-1].exists(), above[-1]
