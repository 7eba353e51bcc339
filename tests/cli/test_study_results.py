"""`sftknow study claims`, `tables` and `report`: results as JSON and files, refusals that leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_study import make, mean_of

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.study import About, StudyResults
from sftknow_core.cli import studies
from sftknow_core.results.studies import FixedRule
from sftknow_core.specs import Rule

from .conftest import Sftknow


@pytest.fixture(autouse=True)
def study(monkeypatch: pytest.MonkeyPatch) -> StudyResults:
    """A study that is there whatever it is called."""
    about = About(
        "0123456789abcdef", "small", "", "demo", "done", "", "words", "transformer", (3, 4, 5), 45, 45, {}, {},
        FixedRule(Rule().for_study((60, 240, 1920), ()), "2026-12-01T04:30:05Z", 0, 45, True),
    )  # fmt: skip
    found = StudyResults(Study(make(mean_of, per_level=20)), about)
    monkeypatch.setattr(studies, "_read", lambda *_: found)
    monkeypatch.setattr(studies, "_drives", lambda *_: None)  # no run of it lies in a cache
    return found


def test_claims(sftknow: Sftknow, study: StudyResults) -> None:
    done = sftknow("study", "claims", "small", "--json")
    assert done.code == 0, done.err
    assert [c["verdict"] for c in done.json["claims"]] == [str(v.verdict) for v in study.verdicts]
    assert sum(done.json["counts"].values()) == len(study.verdicts)
    assert len(done.json["scorecard"]) == len(study.scorecard)
    said = " ".join(sftknow("study", "claims", "small").out.split())
    for verdict in study.verdicts:
        assert " ".join(verdict.sentence.split()) in said
    assert "Advice" in said and "Scorecard" in said
    assert done.json["rule"]["margin_pp"] == 1.0 and done.json["rule"]["roles"]["large"] == 1920
    assert "The rule was fixed on 2026-12-01 04:30 UTC, before the first cell." in said
    assert "Each verdict controls errors within its claim only" in said
    assert "none: only 20 questions in the smallest level or set were asked, and 100 are needed" in said
    for claim in done.json["claims"]:
        assert all((part["p"] is None) == (part["p_fdr"] is None) for part in claim["parts"])
        assert claim["p"] is None or claim["p_fdr"] >= claim["p"]
    assert any(f"p, FDR {claim['p_fdr']:.2g}" in said for claim in done.json["claims"] if claim["p_fdr"])


def test_tables(sftknow: Sftknow, tmp_path: Path) -> None:
    out = tmp_path / "tables"
    done = sftknow("study", "tables", "small", "--out", out, "--format", "csv,latex", "--json")
    assert done.code == 0, done.err
    assert (
        sorted(done.json["files"]) == sorted(path.name for path in out.iterdir())
        and done.json["n_files"] == 24
    )
    assert "table11" in done.json["not_run"]
    head, *_ = (out / "flips.csv").read_text().splitlines()
    assert head == "# Flips: Which questions restoring changes, run by run"
    assert r"\caption{Flips: Which" in (out / "flips.tex").read_text()
    wrong = sftknow("study", "tables", "small", "--out", tmp_path / "no", "--format", "pdf")
    assert wrong.code == 2 and "got pdf" in wrong.err and not (tmp_path / "no").exists()


def test_report(sftknow: Sftknow, tmp_path: Path) -> None:
    out = tmp_path / "study.html"
    done = sftknow("study", "report", "small", "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.json["size_bytes"] == out.stat().st_size < 10_000_000
    assert 'data-table="flips"' in out.read_text()
    again = sftknow("study", "report", "small", "--out", out)
    assert again.code == 2 and "exists already" in again.err
