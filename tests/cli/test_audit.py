"""`sftknow audit-matcher`: draw, fill in, read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_chain import make_chains

from sftknow_core.results.audit import read_audit

from .conftest import Sftknow


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("audit")
    (run_id,) = make_chains(root, [("2", 240, 0)], per_level=3, cube=False)
    return root, run_id


def test_drawn_judged_and_counted(sftknow: Sftknow, cache: tuple[Path, str], tmp_path: Path) -> None:
    """The reader agrees with all but the first verdict."""
    root, run_id = cache
    out = tmp_path / "audit.csv"
    done = sftknow("audit-matcher", run_id[:8], "--n", 10, "--out", out, "--cache", root, "--json")
    assert done.code == 0, done.err
    assert done.json["n_by_verdict"] == {"right": 5, "wrong": 5}
    audit = read_audit(out)
    for i, row in enumerate(audit.rows):
        other = {"right": "wrong", "wrong": "right"}[row.verdict]
        audit = audit.judge(i, other if i == 0 else row.verdict)
    audit.save(out)
    done = sftknow("audit-matcher", "--judged", out, "--json")
    assert done.code == 0, done.err
    values = sorted((done.json["false_positive"]["value"], done.json["false_negative"]["value"]))
    assert values == [0.0, 0.2] and done.json["n_judged"] == 10
    said = sftknow("audit-matcher", "--judged", out).out
    assert "False positives, of the completions called right" in said and "10 judged, 0 unsure" in said
    assert "n = 5" in said


def test_what_it_refuses(sftknow: Sftknow, cache: tuple[Path, str], tmp_path: Path) -> None:
    root, run_id = cache
    out = tmp_path / "audit.csv"
    assert "give either runs" in sftknow("audit-matcher").err
    assert "give either runs" in sftknow("audit-matcher", run_id, "--judged", out).err
    out.write_text("mine")
    refused = sftknow("audit-matcher", run_id, "--out", out, "--cache", root)
    assert refused.code == 2 and "exists already" in refused.err
    assert out.read_text() == "mine"
    refused = sftknow("audit-matcher", "--judged", out)
    assert refused.code == 2 and "line 1: the column run_id is missing" in refused.err
