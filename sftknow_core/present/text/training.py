"""Texts of jobs, training settings, estimates and deletions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from sftknow_core.model.train.methods import DEMO, SftSpec
from sftknow_core.pipeline.estimate import Estimate
from sftknow_core.pipeline.passes import size
from sftknow_core.present import glossary
from sftknow_core.results.training import Removal
from sftknow_core.serve.job_state import JobProgress

DEFINITIONS = glossary.bullets(
    "mastery level", "mixed", "N", "sizes", "seed", "method", "hyperparameters", "k", "k values", "loss"
)
_KINDS = {
    "run": "Fine-tune, restore and evaluate",
    "sft": "Fine-tune",
    "mastery": "Score mastery",
    "delta": "Compare weights",
    "restore": "Write a restored model",
}


def job_title(arguments: Sequence[str]) -> str:
    """The title of a job, e.g. "Fine-tune, restore and evaluate: demo, level 2, N = 240, seed 0"."""
    command, *rest = arguments
    if command == "demo":
        return "Demo: ten fine-tunings of the shipped model, each restored and evaluated"
    given = {name: value for name, value in pairwise(rest) if name.startswith("--")}
    parts = [given.get("--base", "demo")]
    if command in ("run", "sft") and "--tuned" not in given:
        level = given.get("--level", "0")
        parts += [f"level {level}" if level.isdigit() else f"{level} levels"]
        parts += [f"N = {_grouped(given.get('--n', '240'))}", f"seed {given.get('--seed', '0')}"]
        parts += ["LoRA"] if "--lora" in rest else []
    elif "--tuned" in given:
        parts += [f"vs. {given['--tuned']}"]
    return f"{_KINDS.get(command, command)}: {', '.join(parts)}"


def _grouped(number: str) -> str:
    return f"{int(number):,}" if number.isdigit() else number


def duration(seconds: float) -> str:
    """ "40 s", "3 min", "2 h 5 min"; below a second "less than 1 s"."""
    if seconds < 1:
        return "less than 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{minutes} min"


def how_far(told: JobProgress | None, stopping: bool = False) -> str:
    """ "Fine-tuning on 240 facts · 3% done · about 40 s left"; an unknown share is left out."""
    stage = "stopping after this step" if stopping else (told.stage if told else "") or "starting"
    parts = [stage[:1].upper() + stage[1:]]
    if told and told.share is not None:
        parts.append(f"{told.share:.0%} done")
    left = told.seconds_left if told else None
    if left is None:
        parts.append("estimating time left")
    else:
        parts.append(f"about {duration(left)} left" if left >= 1 else "nearly done")
    return " · ".join(parts)


def settings(preset: SftSpec, lora: bool) -> str:
    """The default values of the form, and their source."""
    said = f"learning rate {preset.lr:g}, {_passes(preset.epochs)}, batch size {preset.batch_size}"
    if preset.weights_dtype == "float32" and preset.warmup:
        said += f", warm-up over {preset.warmup:.0%} of the steps"
    if preset.batch_size == DEMO.batch_size and preset.warmup == DEMO.warmup:
        why = "Selected on dev questions of the demo, seeds 0 to 2. Paper's 1e-5 is too low for a model this small."
    else:
        why = "These are the paper's settings, for models of billions of parameters."
    more = " LoRA: rank 16; the paper states no settings." if lora else ""
    return f"Defaults: {said}, cosine schedule, AdamW. {why}{more}"


def _passes(epochs: float) -> str:
    return f"{epochs:g} epoch" if epochs == 1 else f"{epochs:g} epochs"


def time_needed(found: Estimate) -> str:
    """The estimate of time in one sentence."""
    if found.seconds is not None:
        return f"About {duration(found.seconds)} plus startup"
    known = sum(piece.seconds or 0 for piece in found.pieces)
    missing = ", ".join(piece.work for piece in found.pieces if piece.seconds is None)
    beside = f" The rest: about {duration(known)}." if known else ""
    return f"No estimate yet for: {missing}.{beside}"


def basis(found: Estimate) -> str:
    """Where an estimate comes from, piece by piece."""
    pieces = []
    for piece in found.pieces:
        amount = "" if piece.amount is None else f" {piece.amount:,} {piece.unit}"
        took = "" if piece.seconds is None else f", {duration(piece.seconds)}"
        pieces.append(f"{piece.work}{amount}{took} ({piece.basis})")
    return f"Estimates. Time: {'; '.join(pieces)}. Memory: {found.memory_basis}"


def by_level(counts: Mapping[int, int]) -> str:
    """ "By mastery level: 0: 48, 1: 48"."""
    return "By mastery level: " + ", ".join(f"{level}: {n:,}" for level, n in sorted(counts.items())) + "."


def memory_needed(found: Estimate) -> str:
    """The estimate of memory in one sentence."""
    return (
        "No estimate yet."
        if found.memory_bytes is None
        else f"About {size(found.memory_bytes)} plus libraries."
    )


def what_goes(plan: Removal) -> str:
    """A deletion before it is confirmed: runs, freed disk space, and remaining runs that depend on them."""
    counts = ", ".join(f"{n:,} {kind}" for kind, n in plan.counts.items())
    said = f"**{_runs(len(plan.run_ids))}** ({counts}), which frees **{size(plan.freed_bytes)}**."
    if plan.still_used:
        users = {user for by in plan.still_used.values() for user in by}
        uses, whose = ("uses", "its page") if len(users) == 1 else ("use", "their pages")
        said += f" {_runs(len(users))} not selected {uses} some of them; {whose} will lack these numbers."
        if plan.counts.get("sft"):
            said += " Without the fine-tuned weights no new k can be evaluated and no prompt answered."
    return said


def _runs(n: int) -> str:
    return f"{n:,} run" if n == 1 else f"{n:,} runs"


def counted(by_state: Mapping[str, int]) -> str:
    """ "127 runs: 126 done, 1 failed"."""
    total = sum(by_state.values())
    states = ", ".join(f"{n:,} {state}" for state, n in by_state.items())
    return f"{_runs(total)}: {states}" if total else "no runs"


def shortage(shortages: Mapping[str, int]) -> str:
    """Topics with fewer facts than their share; "" where there are none."""
    if not shortages:
        return ""
    named = ", ".join(f"{topic} ({n} fewer)" for topic, n in shortages.items())
    return f"Too few facts for an equal share: {named}. Filled up from the other topics."
