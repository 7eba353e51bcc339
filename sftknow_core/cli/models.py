"""`mastery`, `sft`, `evaluate` and `shift`: one stage each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftknow_core.cli import options as o
from sftknow_core.present import terminal

if TYPE_CHECKING:
    from sftknow_core.pipeline.evaluate import EvaluationPlan
    from sftknow_core.pipeline.states import State, StateLoader
    from sftknow_core.store.run_folder import RunFolder


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (mastery, sft, evaluate, shift):
        app.command()(command)


def mastery(
    base: o.BaseOpt = o.DEMO,
    data: o.DataOpt = o.DEMO,
    seed: o.SeedOpt = 0,
    max_new_tokens: Annotated[
        int | None,
        typer.Option("--max-new-tokens", help="Length limit of a completion.", show_default=False),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Completions of each template.")] = 10,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export", help="Write the scores as Parquet into this folder too.", show_default=False
        ),
    ] = None,
    matcher: Annotated[str, o.matcher_option()] = "words",
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
    """How well a base model knows each fact: 21 templates x 10 sampled completions, level 0 to 4."""
    from dataclasses import replace

    from sftknow_core.pipeline.mastery import export_scores, mastery_spec, score_facts

    with o.workspace(cache, device, dtype) as ws:
        model = ws.open_model(base, revision)
        found, known = o.read_facts(data, topics, filter_, keep_leaks, sample)
        spec = replace(mastery_spec(model, seed), n_samples=samples, matcher=matcher)
        if max_new_tokens is not None:
            spec = replace(spec, max_new_tokens=max_new_tokens)
        scored = score_facts(ws, model, found.facts, known, spec)
        if export is not None:
            export_scores(scored, export)
        run = scored.run
        manifest = run.manifest()
        rows = scored.rows.dropna(subset=["level"])
        by_group = Counter(zip(rows["domain"], rows["split"], rows["level"].astype(int), strict=True))
    result = {
        "run_id": run.run_id,
        "model_id": model.model_id,
        "model": model.name,
        "seconds": manifest.seconds if manifest else None,
        "n_by_group": [
            {"domain": domain, "split": split, "level": int(level), "n": n}
            for (domain, split, level), n in sorted(by_group.items())
        ],
        **(manifest.summary if manifest else {}),
    }
    o.emit(result, as_json, terminal.show_mastery)


def sft(
    level: o.LevelOpt,
    base: o.BaseOpt = o.DEMO,
    data: o.DataOpt = o.DEMO,
    n: o.SizeOpt = "240",
    seed: o.SeedOpt = 0,
    method: Annotated[str | None, o.method_option()] = None,
    lora: o.LoraOpt = False,
    lr: o.LrOpt = None,
    epochs: o.EpochsOpt = None,
    batch_size: o.BatchOpt = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Copy the model into this new folder too.", show_default=False),
    ] = None,
    topics: o.TopicsOpt = None,
    filter_: o.FilterOpt = "paper",
    keep_leaks: o.LeaksOpt = False,
    sample: o.SampleOpt = None,
    revision: o.RevisionOpt = None,
    cache: o.CacheOpt = None,
    device: o.DeviceOpt = "auto",
    as_json: o.JsonOpt = False,
) -> None:
    """Fine-tune a base model on N facts of one mastery level."""
    from sftknow_core.facts.train_set import draw_train_set
    from sftknow_core.pipeline.export import copy_model
    from sftknow_core.pipeline.mastery import score_facts
    from sftknow_core.pipeline.sft import UNITS_PER_EXAMPLE, fine_tune, sft_spec

    size = o.whole_or_all(n, "--n")
    with o.workspace(cache, device) as ws:
        model = ws.open_model(base, revision)
        found, known = o.read_facts(data, topics, filter_, keep_leaks, sample)
        spec = sft_spec(**o.sft_options(model, o.method_of(method, lora), lr, epochs, batch_size, seed))
        scored = score_facts(ws, model, found.facts, known)
        drawn = draw_train_set(found.facts, scored.levels, level, size, seed)
        ws.reporter.expect(drawn.n * spec.epochs * UNITS_PER_EXAMPLE)
        tuned, run = fine_tune(ws, model, drawn, spec)
        if out is not None:
            copy_model(tuned, out)
    result = {
        "run_id": run.run_id,
        "path": str(out or tuned.path),
        "base_id": model.model_id,
        "level": drawn.level,
        "n": drawn.n,
        "shortages": drawn.shortages,
        **run.summary,
    }
    o.emit(result, as_json, terminal.show_sft)


def evaluate(
    model: Annotated[
        str, typer.Argument(help="Model to ask: demo, a folder, a hub id, the start of a model_id.")
    ],
    base: Annotated[
        str | None,
        typer.Option(
            "--base", help="Base model whose mastery levels count; else the model itself.", show_default=False
        ),
    ] = None,
    data: o.DataOpt = o.DEMO,
    questions: o.QuestionsOpt = "60",
    prompt: Annotated[str, o.prompt_option()] = "paper",
    matcher: Annotated[str, o.matcher_option()] = "words",
    by_topic: Annotated[bool, typer.Option("--by-topic", help="Topic by topic as well.")] = False,
    topics: o.TopicsOpt = None,
    filter_: o.FilterOpt = "paper",
    keep_leaks: o.LeaksOpt = False,
    sample: o.SampleOpt = None,
    cache: o.CacheOpt = None,
    device: o.DeviceOpt = "auto",
    dtype: o.DtypeOpt = "auto",
    as_json: o.JsonOpt = False,
) -> None:
    """Closed-book accuracy of a model, by mastery level, in- and out-of-domain."""
    from sftknow_core.measure.accuracy import accuracy_by_topic

    with o.workspace(cache, device, dtype) as ws:
        facts_and_topics = o.read_facts(data, topics, filter_, keep_leaks, sample)
        exam, state, loader = _exam(ws, base or model, model, facts_and_topics, questions, prompt, matcher)
        run = _asked(exam, state, loader)
    rows = [
        r
        for r in run.read("accuracies").to_pylist()
        if r["matcher"] == exam.spec.matcher and r["subset"] == "all"
    ]
    topics_rows = accuracy_by_topic(run.read("answers").to_pylist(), exam.spec.matcher) if by_topic else []
    result = {
        "run_id": run.run_id,
        "state_id": state.state_id,
        "matcher": exam.spec.matcher,
        "accuracies": rows,
        "by_topic": [row for row in topics_rows if row["level"] is None],
    }
    o.emit(result, as_json, terminal.show_accuracies)


def shift(
    tuned: o.TunedOpt,
    base: o.BaseOpt = o.DEMO,
    data: o.DataOpt = o.DEMO,
    questions: o.QuestionsOpt = "60",
    prompt: Annotated[str, o.prompt_option()] = "paper",
    topics: o.TopicsOpt = None,
    filter_: o.FilterOpt = "paper",
    keep_leaks: o.LeaksOpt = False,
    sample: o.SampleOpt = None,
    cache: o.CacheOpt = None,
    device: o.DeviceOpt = "auto",
    dtype: o.DtypeOpt = "auto",
    as_json: o.JsonOpt = False,
) -> None:
    """How far fine-tuning moved the probabilities of each answer's first token (KL, nats)."""
    from sftknow_core.measure.shift_summary import kept_by_topic

    with o.workspace(cache, device, dtype) as ws:
        facts_and_topics = o.read_facts(data, topics, filter_, keep_leaks, sample)
        exam, state, loader = _exam(ws, base, tuned, facts_and_topics, questions, prompt, "words")
        run = _asked(exam, state, loader)
        templates = exam.templates
    result = {
        "run_id": run.run_id,
        "state_id": state.state_id,
        "shifts": run.read("shifts").to_pylist(),
        "kept_by_topic": kept_by_topic(run.read("first_token").to_pylist()),
        "templates": {
            topic: {
                "template": t.template,
                "n_correct": t.n_correct,
                "n_samples": t.n_samples,
                "basis": t.basis,
            }
            for topic, t in templates.items()
        },
    }
    o.emit(result, as_json, terminal.show_shifts)


def _exam(
    ws: Any, base: str, model: str, facts_and_topics: Any, questions: str, prompt: str, matcher: str
) -> tuple[EvaluationPlan, State, StateLoader]:
    from sftknow_core.pipeline.delta import ModelPair
    from sftknow_core.pipeline.evaluate import EvaluationPlan
    from sftknow_core.pipeline.mastery import score_facts
    from sftknow_core.pipeline.questions import choose_questions
    from sftknow_core.pipeline.states import StateLoader, base_state, tuned_state

    facts, topics = facts_and_topics
    known, asked = ws.open_model(base), ws.open_model(model)
    scored = score_facts(ws, known, facts.facts, topics)
    chosen = choose_questions(facts.facts, scored.levels, o.question_spec(questions))
    exam = EvaluationPlan(ws, known, facts, topics, scored, chosen, o.evaluation(prompt, matcher))
    if asked.model_id == known.model_id:
        return exam, base_state(known), StateLoader(ws, known)
    return exam, tuned_state(known, asked), StateLoader(ws, known, ModelPair(known, asked))


def _asked(exam: EvaluationPlan, state: State, loader: StateLoader) -> RunFolder:
    from sftknow_core.pipeline.evaluate import UNITS_PER_QUESTION, evaluate

    exam.ws.reporter.stage(f"asking {len(exam.questions):,} questions: {state.label}")
    exam.ws.reporter.expect(len(exam.questions) * UNITS_PER_QUESTION)
    return evaluate(exam, state, loader)
