"""Jobs, estimates and deletions in words; the figure of a loss."""

from __future__ import annotations

import pandas as pd
import pytest

from sftknow_core.model.train.methods import DEMO, PAPER
from sftknow_core.pipeline.estimate import Estimate, Piece
from sftknow_core.present.charts.chain import loss_figure
from sftknow_core.present.text import training
from sftknow_core.results.training import Removal
from sftknow_core.serve.job_specs import ChainJob, DemoJob, JobSpec, SftJob
from sftknow_core.serve.job_state import JobProgress


@pytest.mark.parametrize(
    ("spec", "title"),
    [
        (ChainJob(level="2", n=1920, seed=3), "Fine-tune, restore and evaluate: demo, level 2, N = 1,920, seed 3"),
        (SftJob(base="m", level="mixed", n="all", lora=True), "Fine-tune: m, mixed levels, N = all, seed 0, LoRA"),
        (ChainJob(tuned="my/tuned"), "Fine-tune, restore and evaluate: demo, vs. my/tuned"),
        (DemoJob(), "Demo: ten fine-tunings of the shipped model, each restored and evaluated"),
    ],
)  # fmt: skip
def test_titles(spec: JobSpec, title: str) -> None:
    assert training.job_title(spec.arguments()) == title


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "less than 1 s"), (40.4, "40 s"), (150, "2 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, said: str) -> None:
    assert training.duration(seconds) == said


def test_progress_says_what_it_knows() -> None:
    assert training.how_far(None) == "Starting · estimating time left"
    told = JobProgress("asking", 0.5, 0.1)
    assert training.how_far(told) == "Asking · 50% done · nearly done"
    assert training.how_far(told, stopping=True).startswith("Stopping after this step")
    assert training.how_far(JobProgress("", None, None)) == "Starting · estimating time left"


def test_settings_say_whose_they_are() -> None:
    assert "learning rate 1e-05, 1 epoch, batch size 8, cosine" in training.settings(PAPER, lora=False)
    assert "the paper's settings" in training.settings(PAPER, lora=False)
    assert "learning rate 0.0007" in training.settings(DEMO, lora=True) and "rank 16" in training.settings(
        DEMO, lora=True
    )


def test_an_estimate_has_its_basis() -> None:
    known = Piece("fine-tuning", 240, "examples", 12.0, "50 ms per example")
    missing = Piece("asking questions", None, "answers", None, "not known yet")
    assert training.time_needed(Estimate((known,), None, "")) == "About 12 s plus startup"
    partly = Estimate((known, missing), 16_000_000_000, "1,000,000,000 parameters.")
    assert training.time_needed(partly) == "No estimate yet for: asking questions. The rest: about 12 s."
    assert training.memory_needed(partly) == "About 16.0 GB plus libraries."
    assert (
        "fine-tuning 240 examples, 12 s (50 ms per example); asking questions (not known yet)"
        in training.basis(partly)
    )
    assert training.memory_needed(Estimate((), None, "")) == "No estimate yet."


def test_a_deletion_says_what_goes_and_who_misses_it() -> None:
    plan = Removal(("a", "b"), 2_500_000, {"chain": 1, "sft": 1}, {"b": ("c",)})
    assert training.what_goes(plan) == (
        "**2 runs** (1 chain, 1 sft), which frees **2.5 MB**. 1 run not selected uses some of them; its page "
        "will lack these numbers. Without the fine-tuned weights no new k can be evaluated and no prompt answered."
    )


def test_counts_and_shortages() -> None:
    assert training.counted({"done": 126, "failed": 1}) == "127 runs: 126 done, 1 failed"
    assert training.counted({}) == "no runs"
    assert training.shortage({}) == "" and "P36 (2 fewer)" in training.shortage({"P36": 2})
    assert training.by_level({1: 48, 0: 1200}) == "By mastery level: 0: 1,200, 1: 48."


def test_the_loss_has_room_for_all_steps() -> None:
    curve = pd.DataFrame({"step": [1, 2], "loss_nats": [4.0, 2.0], "smooth_nats": [4.0, 3.0]})
    figure = loss_figure(curve, 100)
    assert list(figure.data[0].y) == [4.0, 2.0] and list(figure.data[1].y) == [4.0, 3.0]
    assert figure.layout.xaxis.range == (0, 102) and "nats per token" in figure.layout.yaxis.title.text
    assert loss_figure(curve.head(0)).layout.xaxis.range[1] > 0
