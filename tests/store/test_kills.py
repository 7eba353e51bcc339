"""A run killed anywhere and then repeated ends as if it had never been disturbed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_runs import spec
from processes import end_of, started

from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import RunFolder


@pytest.fixture(scope="module")
def killed_runs(fast_folder: Path) -> tuple[Path, list[str]]:
    with started("kills", fast_folder) as process:
        return fast_folder, json.loads(end_of(process))


def contents(root: Path) -> dict[str, object]:
    """Everything of the run that is not a time."""
    run = RunFolder(Cache(root), spec().run_id)
    manifest = run.manifest()
    assert manifest is not None
    assert run.problems(verify=True) == []
    tables = {name: run.read(name).to_pylist() for name in ("mastery", "mastery_templates", "accuracies")}
    names = {path.relative_to(run.root).as_posix() for path in run.root.rglob("*")}
    return {"tables": tables, "summary": manifest.summary, "contents": manifest.contents, "names": names}


def test_every_place_was_tried(killed_runs: tuple[Path, list[str]]) -> None:
    """spec, 2 chunks x 2 tables, accuracies, weights, manifest = 8 replacements; 4 commits and 6 events."""
    _, names = killed_runs
    counts = {kind: sum(name.startswith(kind) for name in names) for kind in ("before", "after", "within")}
    assert counts["before"] == counts["after"] == 8
    assert counts["within"] >= 9


def test_same_results_as_undisturbed(killed_runs: tuple[Path, list[str]]) -> None:
    root, names = killed_runs
    expected = contents(root / "undisturbed")
    assert len(expected["tables"]["mastery"]) == 6  # type: ignore[index]
    for name in names:
        assert contents(root / name) == expected, name
