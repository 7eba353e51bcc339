"""Numbers of the slider -> cards and sentences, which claim no more than the cube and the answers show."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from math import isnan
from typing import Any

import pandas as pd

from sftknow_core.present import glossary
from sftknow_core.present.terminal import percent, points
from sftknow_core.present.text.story import KeyNumber, Part
from sftknow_core.registry import plugin_arguments
from sftknow_core.results.chain import Chain
from sftknow_core.results.measured import MeasuredState
from sftknow_core.results.weights import Selection
from sftknow_core.update.spec import Percent, RestoreSpec, rounded_percent
from sftknow_core.update.strategies import STRATEGIES as REGISTERED

Numbers = Mapping[str, Any]
STRATEGIES = {found.name: found.title for found in REGISTERED.entries if found.measured}
"""Strategies that the cube can answer for -> which weights go back first."""
DOMAIN_NAMES = {"in": "In-domain", "out": "Out-of-domain"}
AXES = {"k": "k", "changed": "changed weights", "update": "update taken back"}
FLIP_NAMES = {
    "healed": "healed",
    "broken": "broken",
    "still wrong": "still wrong",
}
COMPARED_WITH = {"tuned": "tuned", "previous": "previous k"}
DOMAIN_CHOICES = {"both": "all", "in": "in-domain", "out": "out-of-domain"}
SPLITS = {
    "dev": "Dev questions: the ones to choose k on. They are of in-domain topics only.",
    "test": (
        "You are looking at test for every k. A k picked from this curve is chosen on test: its accuracy is then too "
        "good by chance, and there are no untouched questions left to say by how much. Choose k on dev, then look "
        "here once."
    ),
}
"""What it means to look at a split."""
TEST_COSTS = (
    "k is chosen on dev; test is for the k chosen there. Switching to test shows it for every k and costs that: for "
    "a k picked there no untouched questions are left."
)
"""What stands beside the choice of a split before it is made."""
QUESTIONS_HELP = (
    "How many questions of each mastery level are asked in each group: dev, test in-domain, test out-of-domain. All of "
    "base, tuned, curve and intervals come from one set; a larger set contains the smaller one of the same seed. "
    "Type another number for another size."
)
AT_ONCE_HELP = (
    "When you let go of the slider at a k that was never measured, the models answer all questions there, seconds for "
    "a small model. The result is kept in the cache. Off: a button asks for it."
)
FLIPS_SAY = (
    "Healed: wrong → right; broken: right → wrong. A test at one k, decided before looking; over many k the smallest p "
    "is too small by chance."
)
EXPORTS = (
    "Data: the tables behind this page. Selection: what is put back, and the command that does it. Recipe: the "
    "selection with its threshold; with base and tuned it makes the restored model again, bit for bit "
    "(`sftknow rebuild`). Patch: only the weights that go back; with tuned alone it makes the model "
    "(`sftknow apply-patch`)."
)
RECIPE_HELP = "A small file. Making it reads both models once, to find the threshold and the new model's id."
EXPORT_KINDS = {
    "Hugging Face folder": (
        "Weights, config, tokenizer and a card with what was put back and measured: loads like any other model."
    ),
    "Patch": "One file with the changed weights alone. It needs the same tuned model to be applied to.",
}
DEFINITIONS = glossary.bullets(
    "k",
    "region",
    "k = 100%",
    "relative change",
    "absolute change",
    "energy taken back",
    "changed",
    "enrichment",
    "cube error",
    "accuracy",
    "recovered",
    "question set",
    "interval",
    "mastery level",
)


def score_of(spec: RestoreSpec) -> str:
    """What ranks the weights: "r" or "|d|"."""
    return "r" if spec.strategy in ("top", "bottom") else "|d|"


def cards(numbers: Selection, spec: RestoreSpec) -> tuple[KeyNumber, ...]:
    """Three cards of two numbers each, from Cube.selection."""
    return _put_back(numbers, spec), _held(numbers, spec), _update(numbers, spec)


def nothing_left(numbers: Selection) -> str | None:
    """That more k changes nothing, where so."""
    full = numbers.no_more_changes_from_k
    if numbers.n_changed == 0:
        return "Fine-tuning changed no weight of this region: nothing can be put back."
    if isnan(full) or numbers.k_percent < full:
        return None
    return (
        f"All changes of this region are already reverted from k = {full:g}% on: a larger k puts back only weights "
        "that fine-tuning left as they were."
    )


def which_is_shown(k: Percent, shown: MeasuredState, split: str) -> str:
    """Which measured k the answers are from."""
    n = f"{split} questions"
    if not k:
        return f"k = 0% is the tuned model; measured on {n}."
    if rounded_percent(shown.k_percent) == k:
        return f"Measured at k = {k}% itself, on {n}."
    return (
        f"**k = {k}% is not measured.** Shown instead, on {n}: the nearest measured "
        f"**k = {shown.k_percent:g}%**. Accuracy between measured k is not interpolated."
    )


def still_shown(k: Percent, before: Percent) -> str:
    """What the figures of answers show while a k is being measured; before: the k that they are about."""
    return (
        f"k = {k}% is being measured. Until then the next three figures (accuracy, mastery levels, flipped questions)"
        f" still show k = {before}%; what is put back, and what can be taken along, is that of k = {k}%."
    )


def no_previous(name: str) -> str:
    """Why nothing is compared with a previous k; name: the one that a link names, empty for none."""
    if name:
        return f"{name}, which was looked at before, is not measured on these questions. Move the slider to it once."
    return (
        "There is no previous k yet: move the slider, and the answers at the k before it are compared with."
    )


def which_set(sets: pd.DataFrame, per_level: int | None, set_id: str | None) -> str:
    """The questions in words. sets: question_sets.question_sets; the other two: the chosen one, None: the own."""
    known = sets[sets["own"]] if set_id is None else sets[sets["question_set"] == set_id]
    if known.empty:
        return f"Another set, of {per_level:,} questions a level: not asked yet of these models."
    row = known.iloc[0]
    which = "The chain's own questions" if set_id is None else "Another set"
    return (
        f"{which}: up to {row['n_level']:,} of each mastery level in each group, {row['n']:,} in all; "
        f"{row['n_states']:,} states measured on it. Everything shown together comes from this one set."
    )


def measure_label(lacking: tuple[str, ...], k: Percent) -> str:
    """The button that has the engine measure what lacks."""
    names: list[str] = [name for name in ("tuned", "base", "five-shot") if name in lacking]
    if "restored" in lacking:
        names = [f"k = {k}%", *names]
    return f"Measure {', '.join(names)}"


def in_a_line(numbers: Selection) -> str:
    """What the selection amounts to, from Cube.selection."""
    of_changed = numbers.k_of_changed_percent
    changed = "" if isnan(of_changed) else f", {of_changed:.1f}% of those that changed"
    energy = numbers.energy_taken_back
    update = "" if isnan(energy) else f"; it takes back {percent(energy)}% of the update (squared change)"
    return f"This puts back **{numbers.n_restored:,} weights**{changed}{update}."


def not_compared(details: Chain) -> str:
    """What to do where base and tuned were not compared."""
    return (
        "The weights of these two models are not compared in this cache, so what k puts back cannot be counted. In a "
        f"terminal: `sftknow delta --base {details.base_name} --tuned {details.tuned_id}`"
    )


def command(details: Chain, spec: RestoreSpec, n_level: int) -> str:
    """The command that measures this selection for the same two models and questions."""
    base = details.base_name
    words = ["sftknow", *plugin_arguments(), "run", "--base", base, "--tuned", details.tuned_id]
    words += ["--data", "demo" if base == "demo" else "FACTS", "--questions", str(n_level)]
    words += ["--k", str(spec.k_percent)]
    usual = RestoreSpec(k_percent=spec.k_percent)
    for name in ("strategy", "region", "layers"):
        if getattr(spec, name) != getattr(usual, name):
            words += [f"--{name}", str(getattr(spec, name))]
    asked = details.spec.params["evaluate"]
    for name, value in (("prompt", "paper"), ("matcher", "words")):
        if asked.get(name, value) != value:
            words += [f"--{name}", str(asked[name])]
    return shlex.join(words)


def flip_sentences(counts: pd.DataFrame, k: float, before: str = "tuned") -> str:
    """A Markdown list, one line a domain, from Chain.flip_counts; before: what k is compared with."""
    return "\n".join(
        _flip_sentence({str(name): value for name, value in row.items()}, k, before)
        for row in counts.to_dict("records")
    )


def _flip_sentence(row: Numbers, k: float, before: str) -> str:
    name = DOMAIN_NAMES.get(row["domain"], row["domain"])
    said = (
        f"- **{name}: {row['healed']:,} healed, {row['broken']:,} broken** of {row['n']:,} questions, from {before} to "
        f"k = {k:g}%."
    )
    if isnan(row["gain"]):
        return said
    p = "p < 0.001" if row["p_value"] < 0.001 else f"p = {row['p_value']:.3f}"
    return (
        f"{said} Accuracy {points(row['gain'])} points (95% interval {points(row['gain_low'])} to "
        f"{points(row['gain_high'])}, {p}; mean over levels)."
    )


def _put_back(numbers: Selection, spec: RestoreSpec) -> KeyNumber:
    n, of_changed, full = (
        numbers.n_restored,
        numbers.k_of_changed_percent,
        numbers.no_more_changes_from_k,
    )
    parts = (
        Part("weights", compact(n), f"of {compact(numbers.n_region)}"),
        Part(
            "of the changed",
            "–" if isnan(of_changed) else f"{of_changed:.1f}%",
            f"of {compact(numbers.n_changed)}",
        ),
    )
    said = f"{n:,} weights of the region, {percent(n / numbers.n_model)}% of the whole model."
    if spec.strategy in ("top", "largest") and not isnan(full):
        said += f" All changes are reverted from k = {full:g}% on."
    return KeyNumber("Put back to base", parts, said)


def _held(numbers: Selection, spec: RestoreSpec) -> KeyNumber:
    score, null = score_of(spec), numbers.null_share
    parts = [_share("these weights", numbers.share, numbers.share_error)]
    if null is None:
        said = (
            "Share of the region's summed |d| that these weights hold. There is no null: dealing the changes out at "
            "random leaves the list of |d| as it is."
        )
    else:
        parts.append(_share("null", null, numbers.null_error))
        first = spec.strategy == "top"
        said = (
            "Null: the same changes dealt out at random within each tensor. It is "
            + (
                "high because the largest r stand"
                if first
                else "low because the largest r, which come last, stand"
            )
            + " wherever base is near 0; only what differs from it comes from which weights were changed."
        )
    return KeyNumber(f"Share of the summed {score}", tuple(parts), said)


def _update(numbers: Selection, spec: RestoreSpec) -> KeyNumber:
    score, low, high = score_of(spec), numbers.threshold_low, numbers.threshold_high
    first = spec.strategy in ("top", "largest")
    put_back = not isnan(low)
    value, spread = (f"{low:.3g}", f"to {high:.4g}") if put_back else ("–", "none put back")
    parts = (
        _share("of Σd²", numbers.energy_taken_back, numbers.energy_error),
        Part(f"threshold of {score}", value, spread),
    )
    unit = "no unit" if score == "r" else "in units of the weights"
    said = (
        "Share of the region's squared change that is undone: compare strategies at equal values of this, not of k. "
        f"Threshold: the {'smallest' if first else 'largest'} {score} that is put back ({unit})."
    )
    return KeyNumber("Update taken back", parts, said)


def _share(label: str, share: float, error: float | None) -> Part:
    if isnan(share):
        return Part(label, "–", "nothing changed")
    off = 0.0 if error is None or isnan(error) else 100 * error
    return Part(label, f"{percent(share)}%", "± < 0.1 points" if off < 0.05 else f"± {off:.1f} points")


def compact(n: float) -> str:
    """ "802,816", from ten million on "6,476 M"."""
    return f"{n:,.0f}" if n < 1e7 else f"{n / 1e6:,.0f} M"
