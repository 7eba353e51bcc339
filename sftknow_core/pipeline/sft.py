"""Stage 2: base model + train set -> a fine-tuned model, kept in its run folder."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.prompts import PROMPT_VERSION, PROMPTS, Prompt
from sftknow_core.facts.train_set import TRAIN_SET_VERSION, TrainSet
from sftknow_core.model.train.methods import DEMO, METHODS, PAPER, SftSpec
from sftknow_core.pipeline.mastery import model_row
from sftknow_core.pipeline.workspace import ModelHandle, Workspace
from sftknow_core.store.run import Run
from sftknow_core.store.run_spec import RunSpec

if TYPE_CHECKING:
    from sftknow_core.model.train.methods import SftSpec

# Which fine-tuning settings a base model gets unless the user says otherwise.

SMALL_MODEL_BYTES = 200_000_000
"""Weights below this (50 M float32 parameters) need the demo's learning rate; the paper's would hardly move them."""
DEMO_LORA_LR = 3e-3


def sft_spec(base: ModelHandle, seed: int = 0, **given: Any) -> SftSpec:
    """The paper's settings for large models, the demo's for small ones; `given` overrides. Raises SpecError."""
    size = sum(file.stat().st_size for file in base.path.glob("*.safetensors"))
    preset = DEMO if size < SMALL_MODEL_BYTES else PAPER
    if preset is DEMO and given.get("method") == "lora":
        preset = replace(preset, lr=DEMO_LORA_LR)
    return replace(preset, seed=seed, **given)


WEIGHTS = "model"
UNITS_PER_EXAMPLE = 0.0025
_MERGE_GAP_PROMPTS = 32


def fine_tune(
    ws: Workspace, base: ModelHandle, train_set: TrainSet, spec: SftSpec, prompt: Prompt = PROMPTS["paper"]
) -> tuple[ModelHandle, Run]:
    """The model fine-tuned on the train set with a prompt: from the cache, or trained now.

    The answer trained on is a fact's main object. Raises Stopped when asked to stop; training then starts afresh
    when the same call comes again, because a fine-tuning is one unbroken optimisation.
    """
    run_spec = RunSpec(
        "sft",
        inputs={"base": base.model_id, "train_set": FactSet(train_set.facts, source="").data_id},
        params={
            "sft": asdict(spec),
            "order": [fact.fact_id for fact in train_set.facts],
            **trained_with(prompt),
        },
        versions=_versions(),
    )
    about = {
        "base": base.name,
        "level": train_set.level,
        "n": train_set.n,
        "seed": train_set.seed,
        "shortages": train_set.shortages,
        "device": ws.device,
    }
    with ws.open_run(run_spec, about, need=(WEIGHTS,)) as run:
        if not run.done:
            _train(ws, run, base, train_set, spec, prompt)
        name = f"{base.name}, {train_set.level} x {train_set.n:,}, seed {train_set.seed}"
        path = run.weights(WEIGHTS)
        assert path is not None  # `need` saw to it
        on = base if METHODS.get(spec.method).makes_adapter else None
        return ModelHandle(path, str(run.summary["model_id"]), name, on), run


def trained_with(prompt: Prompt) -> dict[str, str]:
    """What of the prompt belongs to a fine-tuning's identity; nothing for the paper's, whose runs had no such entry."""
    return {} if prompt.prompt_id == PROMPTS["paper"].prompt_id else {"prompt": prompt.prompt_id}


def _train(
    ws: Workspace, run: Run, base: ModelHandle, train_set: TrainSet, spec: SftSpec, prompt: Prompt
) -> None:
    from sftknow_core.model.io.identity import model_id
    from sftknow_core.model.train.sft import SftResult, finetune

    n = len(train_set.facts)
    ws.hold_device()
    ws.reporter.stage(f"fine-tuning on {n:,} facts of level {train_set.level}")
    examples = [(fact.question, fact.objects[0]) for fact in train_set.facts]
    results: list[SftResult] = []
    n_steps = max(1, round(-(-n // spec.batch_size) * spec.epochs))
    told = 0.0

    def on_log(row: dict[str, float]) -> None:
        nonlocal told
        run.metric({"loss": row["loss"], "learning_rate": row["learning_rate"]}, step=int(row["step"]))
        run.progress(row["step"], n_steps, "training steps")
        share = row["step"] / n_steps
        ws.reporter.advance((share - told) * n * spec.epochs * UNITS_PER_EXAMPLE)
        told = share

    def should_stop() -> bool:
        run.check_stop()
        return False

    run.write_folder(
        WEIGHTS,
        lambda out: results.append(
            finetune(
                base.path,
                examples,
                spec,
                out,
                on_log=on_log,
                should_stop=should_stop,
                device=ws.device,
                prompt=prompt,
            )
        ),
    )
    result = results[0]
    path = run.weights(WEIGHTS)
    assert path is not None
    tuned_id = model_id(path, memo=ws.cache.models / "identities.json")
    name = f"{base.name} fine-tuned ({spec.method}, run {run.run_id[:8]})"
    location = f"runs/{run.run_id}/{WEIGHTS}"
    rows = [{"row": i, "fact_id": f.fact_id, "topic": f.topic} for i, f in enumerate(train_set.facts)]
    run.write_chunk(
        0,
        {
            "train_log": list(result.rows),
            "train_set": rows,
            "models": [model_row(path, tuned_id, name, "tuned", location=location, made_by=run.run_id)],
        },
    )
    ws.finish(
        run,
        {
            "model_id": tuned_id,
            "seconds_training": result.seconds,
            "steps": result.steps,
            "n_examples": result.n_examples,
            "n_trained_params": result.n_trained_params,
            "compute_dtype": result.compute_dtype,
            "loss_nats": result.loss,
            "merge_gap": _merge_gap(base, path, train_set)
            if METHODS.get(spec.method).makes_adapter
            else None,
        },
    )


def _merge_gap(base: ModelHandle, adapter: Path, train_set: TrainSet) -> dict[str, float]:
    """How far merging the adapter moves next-token log-probabilities, on some of the train questions."""
    from sftknow_core.facts.prompts import qa_prompt
    from sftknow_core.model.generate.encode import encode_prompts
    from sftknow_core.model.io.load import load_tokenizer
    from sftknow_core.model.train.methods import merge_gap

    texts = [qa_prompt(fact.question) for fact in train_set.facts[:_MERGE_GAP_PROMPTS]]
    gap = merge_gap(base.path, adapter, encode_prompts(load_tokenizer(base.path), texts))
    return {"max_nats": gap.max_nats, "mean_nats": gap.mean_nats, "n_prompts": len(texts)}


def _versions() -> dict[str, int]:
    from sftknow_core.model.train.sft import SFT_VERSION

    return {"sft": SFT_VERSION, "train_set": TRAIN_SET_VERSION, "prompt": PROMPT_VERSION}
