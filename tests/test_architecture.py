"""Which room may import which, where the heavy libraries may appear, and what must not stand in any file.

A room is a folder or module of sftknow_core, or the dashboard (app.py and pages/). The rules read the
imports in the source text; a second look, at a fresh interpreter, shows that the dashboard loads no torch.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Set
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
RANKS = {
    "errors": 0, "registry": 1, "stats": 2, "facts": 2, "store": 2, "model": 3, "measure": 4, "update": 4,
    "specs": 5, "results": 6, "analysis": 7, "pipeline": 7, "serve": 8, "present": 9, "api": 10, "testing": 10,
    "cli": 11, "dashboard": 11, "demo": 12,
}  # fmt: skip
"""A room imports itself and lower ranks; equal ranks never each other. demo is data, imported by nobody. The package
itself (sftknow_core/__init__.py) exports what api defines and imports nothing else."""

HOMES = {
    "streamlit": {"dashboard"},
    "plotly": {"present", "dashboard"},
    "duckdb": {"store", "results"},
    "transformers": {"model"},
    "peft": {"model"},
    "torch": {"model", "measure", "update", "pipeline", "serve"},
}
"""The rooms each heavy library may be imported in; in pipeline and serve torch only inside functions."""

TORCH_FREE_ROOMS = (
    "errors", "registry", "stats", "facts", "store", "specs", "results", "analysis", "pipeline", "serve", "present",
    "api", "testing", "cli",
)  # fmt: skip


class Import(NamedTuple):
    """One name imported somewhere, e.g. ("sftknow_core.facts.fact.Fact", at_top=True)."""

    name: str
    at_top: bool


def imports_of(source: str, package: str) -> Iterator[Import]:
    """Every import of a module in `package`, relative ones resolved; at_top: not inside a function."""

    def visit(node: ast.AST, at_top: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (Import(f"{module}.{alias.name}", at_top) for alias in node.names)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_top and not inside)

    return visit(ast.parse(source), True)


def room_of(name: str) -> str | None:
    """The room a dotted name lies in; None for the package itself and for what is not ours."""
    head, *rest = name.split(".")
    if head in ("app", "pages"):
        return "dashboard"
    return rest[0] if head == "sftknow_core" and rest and rest[0] != "__version__" else None


def violations(source: str, module: str, package: str) -> list[str]:
    """The rules that a module of this dotted name breaks."""
    room = room_of(module)
    broken = []
    for name, at_top in imports_of(source, package):
        target, library = room_of(name), name.split(".")[0]
        allowed = target == "api" if room is None else target and RANKS[target] < RANKS[room]
        if target and target != room and not allowed:
            broken.append(f"{module}: {room} must not import {target}")
        if library in HOMES and room not in HOMES[library]:
            broken.append(f"{module}: {library} must not be imported in {room}")
        if library == "torch" and room in ("pipeline", "serve") and at_top:
            broken.append(f"{module}: {room} imports torch inside functions only")
    return broken


def modules() -> Iterator[tuple[Path, str, str]]:
    """(path, dotted name, its package) of every module of the package and the dashboard."""
    dashboard = [*ROOT.glob("app.py"), *ROOT.glob("pages/**/*.py")]
    for path in sorted([*dashboard, *ROOT.glob("sftknow_core/**/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        package = parts[:-1]
        yield path, ".".join(package if parts[-1] == "__init__" else parts), ".".join(package)


def test_imports_follow_the_table() -> None:
    broken = [b for path, name, package in modules() for b in violations(path.read_text(), name, package)]
    assert broken == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sftknow_core.facts.made_up", "from sftknow_core.model.io.load import load_model"),
        ("sftknow_core.facts.made_up", "from ..model import load"),
        ("sftknow_core.measure.made_up", "from sftknow_core import update"),
        ("sftknow_core.update.made_up", "def late():\n    import sftknow_core.measure.shift"),
        ("sftknow_core.update.made_up", "from sftknow_core.results import cube"),
        ("sftknow_core.facts.made_up", "from sftknow_core.store import files"),
        ("sftknow_core.errors", "import sftknow_core.stats.intervals"),
        ("sftknow_core.cli", "from sftknow_core import demo"),
        ("sftknow_core.cli", "import streamlit.web.cli"),
        ("sftknow_core.present.made_up", "def late():\n    import torch"),
        ("sftknow_core.pipeline.made_up", "import torch.nn as nn"),
        ("sftknow_core.measure.made_up", "from transformers import AutoTokenizer"),
        ("sftknow_core.pipeline.made_up", "import duckdb"),
        ("sftknow_core.analysis.made_up", "import plotly.graph_objects as go"),
        ("sftknow_core.analysis.made_up", "from sftknow_core.pipeline import chain"),
        ("sftknow_core.store.made_up", "from sftknow_core.results import chains"),
        ("pages.made_up", "import torch"),
        ("sftknow_core", "from sftknow_core.facts import fact"),
        ("sftknow_core.present.made_up", "from sftknow_core import api"),
        ("sftknow_core.api", "from sftknow_core.cli import options"),
        ("sftknow_core.api", "import torch"),
    ],
)
def test_the_rules_can_fail(module: str, source: str) -> None:
    assert len(violations(source, module, module.rpartition(".")[0])) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "sftknow_core.pipeline.made_up",
            "from ..update import delta\ndef late():\n    import torch",
        ),
        (
            "sftknow_core.store.made_up",
            "import duckdb\nfrom .paths import root\nfrom .. import errors",
        ),
        ("sftknow_core.cli", "from sftknow_core import __version__, pipeline"),
        ("pages.made_up", "import streamlit as st\nfrom pages._widgets import page"),
        ("sftknow_core", "from sftknow_core.api import Workspace"),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    assert violations(source, module, module.rpartition(".")[0]) == []


def loaded_by(names: list[str], watched: Set[str]) -> set[str]:
    """Which of the watched libraries a fresh interpreter has loaded after importing these modules."""
    program = "\n".join(["import sys", *(f"import {name}" for name in names), "print(*sys.modules)"])
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return watched & set(ran.stdout.split())


def test_the_dashboard_and_the_command_line_load_no_torch() -> None:
    wanted = {name for _, name, _ in modules() if room_of(name) in TORCH_FREE_ROOMS}
    pages = [(path, package) for path, name, package in modules() if room_of(name) == "dashboard"]
    for name in {i.name for path, package in pages for i in imports_of(path.read_text(), package)}:
        wanted |= {m for _, m, _ in modules() if f"{name}.".startswith(f"{m}.") and room_of(m) != "dashboard"}
    assert loaded_by(sorted(wanted), {"torch", "transformers", "peft"}) == set()


def test_a_loaded_library_would_be_seen() -> None:
    assert loaded_by(["json.tool"], {"json", "torch"}) == {"json"}


def test_every_imported_library_is_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=~!\[; ]", line)[0].replace("-", "_") for line in declared}
    ours = {"sftknow_core", "pages", "app", "kaleido"} | set(sys.stdlib_module_names)
    imports = [i for path, _, package in modules() for i in imports_of(path.read_text(), package)]
    used = {name.split(".")[0] for name, _ in imports}
    assert used - ours - names == set()


def test_no_file_names_a_place_of_one_machine_or_a_registry() -> None:
    """Such text works where it was written and nowhere else. Written in halves, or this file had some."""
    halves = [("/wo", "rk/"), ("pypi", ".org"), ("python", "hosted.org"), ("download.", "pytorch")]
    options = [("--index", "-url"), ("--extra-index", "-url"), ("--find", "-links")]
    needle = re.compile("|".join(re.escape(a + b) for a, b in halves + options).encode())
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listing.stdout.splitlines()]
    found = [str(f.relative_to(ROOT)) for f in files if f.is_file() and needle.search(f.read_bytes())]
    assert found == []
