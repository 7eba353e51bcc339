"""`run` and `demo`: the whole chain."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from sftknow_core.cli import options as o
from sftknow_core.present import terminal
from sftknow_core.specs import ChainSpec, EvaluateSpec


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(run)
    app.command()(demo)


def run(
    base: o.BaseOpt = o.DEMO,
    data: o.DataOpt = o.DEMO,
    level: o.LevelOpt = o.default(ChainSpec, "level"),
    n: o.SizeOpt = o.default(ChainSpec, "n"),
    seed: o.SeedOpt = 0,
    method: Annotated[str | None, o.method_option()] = None,
    lora: o.LoraOpt = False,
    k: o.KsOpt = o.default(ChainSpec, "ks"),
    tuned: Annotated[
        str | None,
        typer.Option("--tuned", help="Compare with this model instead of training one.", show_default=False),
    ] = None,
    strategy: Annotated[str, o.strategy_option("k_percent")] = o.default(ChainSpec, "strategy"),
    region: o.RegionOpt = o.default(ChainSpec, "region"),
    layers: o.LayersOpt = None,
    questions: o.QuestionsOpt = "60",
    prompt: Annotated[str, o.prompt_option()] = o.default(EvaluateSpec, "prompt"),
    matcher: Annotated[str, o.matcher_option()] = o.default(EvaluateSpec, "matcher"),
    five_shot: o.FiveShotOpt = False,
    lr: o.LrOpt = None,
    epochs: o.EpochsOpt = None,
    batch_size: o.BatchOpt = None,
    topics: o.TopicsOpt = None,
    filter_: o.FilterOpt = "paper",
    keep_leaks: o.LeaksOpt = False,
    sample: o.SampleOpt = None,
    revision: o.RevisionOpt = None,
    cache: o.CacheOpt = None,
    device: o.DeviceOpt = "auto",
    dtype: o.DtypeOpt = "auto",
    as_json: o.JsonOpt = False,
) -> None:
    """Mastery, fine-tuning, accuracy, token shift and restoration for one train set."""
    from sftknow_core.pipeline.chain import run_chain
    from sftknow_core.pipeline.preflight import Job, check_job
    from sftknow_core.pipeline.sft import sft_spec

    spec = ChainSpec(
        level=level,
        n=o.read_whole_or_all(n, "--n"),
        seed=seed,
        ks=o.percentages(k),
        strategy=strategy,
        region=region,
        layers=layers,
        questions=o.question_spec(questions),
        evaluate=o.evaluation(prompt, matcher),
        five_shot=five_shot,
    )
    with o.workspace(cache, device, dtype) as ws:
        if tuned is None:
            model, other = ws.open_model(base, revision), None
        else:
            job = Job("run", base, tuned, spec.restore_specs()[-1], revision=revision)
            model, other = check_job(ws, job).require()
        facts, known = o.read_facts(data, topics, filter_, keep_leaks, sample)
        if other is None:
            sft = sft_spec(**o.sft_options(model, o.method_of(method, lora), lr, epochs, batch_size, seed))
            result = run_chain(ws, model, facts, known, spec, sft)
        else:
            result = run_chain(ws, model, facts, known, spec, tuned=other)
    o.emit({"run_id": result.run.run_id, "prompt": prompt, **result.summary}, as_json, terminal.show_chain)


def demo(
    app: Annotated[bool, typer.Option("--app/--no-app", help="Open the dashboard afterwards.")] = True,
    questions: o.QuestionsOpt = "25",
    port: Annotated[int, typer.Option("--port", help="Port of the dashboard.")] = 8501,
    cache: o.CacheOpt = None,
    device: o.DeviceOpt = "auto",
    as_json: o.JsonOpt = False,
) -> None:
    """Fine-tune the shipped model ten times, restore it, and open the dashboard."""
    from sftknow_core.pipeline.demo import DEMO_LEVELS, DEMO_RATES, DEMO_SIZES, run_demo

    with o.workspace(cache, device) as ws:
        ws.reporter.say(
            f"fine-tuning the demo model on {len(DEMO_SIZES)} sizes x {len(DEMO_LEVELS)} train levels, and on one "
            f"of these sets at {len(DEMO_RATES)} other learning rates; "
            f"{questions} questions of each mastery level in each of dev, test and out-of-domain test"
        )
        results = run_demo(ws, o.question_spec(questions))
        root = ws.cache.root
    chains = [
        {"run_id": r.run.run_id, "learning_rate": r.run.spec.params["sft"]["lr"], **r.summary["headline"]}
        for r in results
    ]
    o.emit({"chains": chains}, as_json, terminal.show_demo)
    if app:
        from sftknow_core.serve.dashboard import serve

        sys.stdout.flush()
        sys.exit(serve(root, port=port, browser=has_display()))


def has_display() -> bool:
    """Whether a browser can be opened here."""
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
