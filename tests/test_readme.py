"""What the README says is so: its files, its lines of Python, its length."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short_and_points_to_the_manual() -> None:
    assert len(README.splitlines()) <= 150
    links = re.findall(r"(?<!!)\[[^]]*\]\(([^)]+)\)", README)
    assert "docs/start.md" in links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_the_python_lines_are_those_of_an_example_that_runs() -> None:
    """examples/chain.py is run by test_packaging.py."""
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    example = (ROOT / "examples" / "chain.py").read_text().splitlines()
    assert [line for line in block.splitlines() if line and line not in example] == []


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
