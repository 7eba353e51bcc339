"""Bytes done and bytes in all, and a bar that ends where it was announced to."""

from __future__ import annotations

import pytest

from sftknow_core.pipeline.passes import Meter, Pass, size
from sftknow_core.pipeline.reporter import Reporter


def test_stages_of_several_passes_fill_what_was_announced() -> None:
    """Two passes over 2 GB and one of 6 GB: a unit a GB, 10 in all."""
    reporter = Reporter()
    meter = Meter(reporter, [Pass("select", 4_000_000_000, 2), Pass("write", 6_000_000_000)])
    assert reporter.total == 10
    told = meter.stage("select", "choosing")
    told(1_000, 2_000)
    assert reporter.done == pytest.approx(1) and reporter.text == "choosing: 1.0 GB of 4.0 GB"
    told(2_000, 2_000)
    told(1_000, 2_000)
    assert reporter.done == pytest.approx(3) and reporter.text == "choosing: 3.0 GB of 4.0 GB"
    told(2_000, 2_000)
    told = meter.stage("write", "writing")
    assert reporter.done == pytest.approx(4) and reporter.text == "writing"
    told(1, 3)
    meter.done("write")
    assert reporter.done == pytest.approx(10)


def test_more_passes_than_announced_never_overshoot() -> None:
    reporter = Reporter()
    told = Meter(reporter, [Pass("select", 1_000_000_000)]).stage("select", "choosing")
    for _ in range(3):
        told(1, 2)
        told(2, 2)
    assert reporter.done == pytest.approx(1)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (3e6, "3.0 MB"), (1.6e12, "1,600.0 GB")],
)
def test_sizes_for_people(n_bytes: float, text: str) -> None:
    assert size(n_bytes) == text
