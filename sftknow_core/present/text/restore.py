"""Texts and number cards of the page "Restore": selected weights, evaluated k, changed answers, export."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from math import isnan
from typing import Any

import pandas as pd

from sftknow_core.present import glossary
from sftknow_core.present.terminal import percent, points
from sftknow_core.present.text.story import KeyNumber, Part, prompt_names
from sftknow_core.registry import plugin_arguments
from sftknow_core.results.chain import Chain
from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT, MeasuredState
from sftknow_core.results.weights import Selection
from sftknow_core.update.spec import Percent, RestoreSpec, rounded_percent
from sftknow_core.update.strategies import STRATEGIES as REGISTERED

Numbers = Mapping[str, Any]
STRATEGIES = {found.name: found.title for found in REGISTERED.entries if found.measured}
"""Rankings that the cube has exact counts for -> their order in words."""
DOMAIN_NAMES = {"in": "In-domain", "out": "Out-of-domain"}
AXES = {
    "k": "k",
    "changed": "changed weights",
    "update": "update taken back",
    "projection": "projection taken back",
}
OUTCOMES = {"healed": "recovered", "broken": "broken", "still wrong": "still incorrect"}
"""Outcome as stored, and as named in an address -> as read."""
COMPARED_WITH = {"tuned": "tuned", "previous": "previous k"}
DOMAIN_CHOICES = {"both": "all", "in": "in-domain", "out": "out-of-domain"}
SPLITS = {
    "dev": "Dev questions, in-domain topics only. Select k here.",
    "test": (
        "Test accuracy is shown for every k. If you select k here, the estimate is optimistically biased."
    ),
}
"""Split -> caption."""
TEST_COSTS = "Select k on dev. Viewing test at every k makes test accuracy optimistic."
"""Caption of the choice of a split."""
FIVE_SHOT_ON_TEST = "5-shot: test questions only. k was selected on dev, zero-shot."
QUESTIONS_HELP = (
    "Questions per mastery level in each group: dev, test in-domain, test out-of-domain. All numbers on this page use "
    "one question set. Larger sets contain the smaller ones (same seed). Enter any number."
)
AT_ONCE_HELP = "Evaluate a new k as soon as you release the slider. Off: use the Evaluate button."
OPPOSITE_SIGNS = "The counts pool all questions, the mean weighs levels equally: hence their opposite signs."
FLIPS_SAY = (
    "Recovered: incorrect → correct; broken: correct → incorrect. The p-value is for one pre-specified k; it is not "
    "corrected for trying several."
)
EXPORTS = (
    "CSV: chart data. Selection: settings and command. Recipe: rebuilds the model from base + tuned "
    "(`sftknow rebuild`). Patch: changed weights only; apply to the tuned model (`sftknow apply-patch`)."
)
RECIPE_HELP = "Small file with the threshold and the new model's id. Creating it reads both models once."
NO_NULL = "There is no null for |d|: shuffling the changes leaves their values the same."
EXPORT_KINDS = {
    "Hugging Face folder": (
        "Weights, config, tokenizer and a model card with settings and results. Loads like any other model."
    ),
    "Patch": "One file with the changed weights only. Apply it to the same tuned model.",
}
DEFINITIONS = glossary.bullets(
    "k",
    "region",
    "k = 100%",
    "relative change",
    "absolute change",
    "energy taken back",
    "projection taken back",
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
    """Three cards of two numbers each. numbers: Cube.selection."""
    return _reverted(numbers, spec), _held(numbers, spec), _update(numbers, spec)


def nothing_left(numbers: Selection) -> str | None:
    """Warning where a larger k reverts no further change; None elsewhere."""
    full = numbers.no_more_changes_from_k
    if numbers.n_changed == 0:
        return "Fine-tuning changed no weight of this region: there is nothing to revert."
    if isnan(full) or numbers.k_percent < full:
        return None
    return f"All changes of this region are reverted from k = {full:g}% on. A larger k adds unchanged weights only."


def which_is_shown(k: Percent, shown: MeasuredState, split: str) -> str:
    """Which evaluated k the accuracies are of."""
    n = f"{split} questions"
    if not k:
        return f"k = 0% is the tuned model. Evaluated on {n}."
    if rounded_percent(shown.k_percent) == k:
        return f"Evaluated at k = {k}% ({split})."
    return (
        f"**k = {k}% isn't evaluated.** Showing the nearest evaluated **k = {shown.k_percent:g}%** ({split}); accuracy "
        "is not interpolated."
    )


def still_shown(k: Percent, before: Percent) -> str:
    """What the charts of answers show while k is being evaluated; before: the k that they show."""
    return (
        f"Evaluating k = {k}%. The charts of accuracy, question levels and changed answers show k = {before}% until it "
        "finishes."
    )


def no_previous(name: str) -> str:
    """Why nothing is compared with a previous k; name: the one that a link names, empty for none."""
    if name:
        return f"Previous {name} isn't evaluated on these questions. Move the slider to it once."
    return "Move the slider once to compare with the previous k."


def which_set(sets: pd.DataFrame, per_level: int | None, set_id: str | None) -> str:
    """The questions in words. sets: Chain.question_sets; the other two: the chosen one, None: the own."""
    known = sets[sets["own"]] if set_id is None else sets[sets["question_set"] == set_id]
    if known.empty:
        return f"Other question set, {per_level:,} per level: not evaluated yet."
    row = known.iloc[0]
    which = "Questions of the run" if set_id is None else "Other question set"
    return (
        f"{which}: up to {row['n_level']:,} per mastery level and group, {row['n']:,} in all; {row['n_states']:,} "
        "models evaluated. All numbers on this page use this set."
    )


def asked_here(details: Chain) -> str:
    """The one prompt of the page's numbers."""
    asked = prompt_names(details)[ZERO_SHOT]
    return f"All models on this page are asked {asked}." + (
        " Base never saw this prompt: compare it with the others 5-shot (Overview, Accuracy)."
        if FIVE_SHOT in details.prompts
        else ""
    )


def measure_label(lacking: tuple[str, ...], k: Percent) -> str:
    """Label of the button that evaluates what is missing."""
    names: list[str] = [name for name in ("tuned", "base") if name in lacking]
    if "restored" in lacking:
        names = [f"k = {k}%", *names]
    return f"Evaluate {', '.join(names)}"


def in_a_line(numbers: Selection) -> str:
    """Number of reverted weights and their share of the update, in a sentence. numbers: Cube.selection."""
    of_changed = numbers.k_of_changed_percent
    changed = "" if isnan(of_changed) else f" ({of_changed:.1f}% of the changed weights)"
    energy = numbers.energy_taken_back
    update = "" if isnan(energy) else f": {percent(energy)}% of squared update norm"
    return f"Reverts **{numbers.n_restored:,} weights**{changed}{update}."


def not_compared(details: Chain) -> str:
    """What to do where base and tuned were not compared."""
    return (
        "The weights of these two models are not compared in this cache. Run in a terminal: "
        f"`sftknow delta --base {details.base_name} --tuned {details.tuned_id}`"
    )


def command(details: Chain, spec: RestoreSpec, n_level: int) -> str:
    """The command that evaluates this selection for the same two models and questions."""
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
        f"- **{name}: {row['healed']:,} recovered, {row['broken']:,} broken** of {row['n']:,} questions, from {before} "
        f"to k = {k:g}%."
    )
    if isnan(row["gain"]):
        return said
    p = "p < 0.001" if row["p_value"] < 0.001 else f"p = {row['p_value']:.3f}"
    said += (
        f" Accuracy {points(row['gain'])} pp (95% CI {points(row['gain_low'])} to "
        f"{points(row['gain_high'])}, {p}; mean over levels)."
    )
    opposite = (row["healed"] - row["broken"]) * row["gain"] < 0
    return f"{said} {OPPOSITE_SIGNS}" if opposite else said


def _reverted(numbers: Selection, spec: RestoreSpec) -> KeyNumber:
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
    return KeyNumber("Reverted weights", parts, said)


def _held(numbers: Selection, spec: RestoreSpec) -> KeyNumber:
    score, null = score_of(spec), numbers.null_share
    parts = [_share("these weights", numbers.share, numbers.share_error)]
    if null is None:
        said = f"Share of the region's summed |d| in the reverted weights. {NO_NULL}"
    else:
        parts.append(null_part(numbers))
        first = spec.strategy == "top"
        said = (
            f"{null_said(numbers)} It is {'high' if first else 'low'} because r is largest where base is near 0; only "
            f"the difference from it depends on which weights changed.{top_said(numbers)}"
        )
    return KeyNumber(f"Share of the summed {score}", tuple(parts), said)


def _update(numbers: Selection, spec: RestoreSpec) -> KeyNumber:
    score, low, high = score_of(spec), numbers.threshold_low, numbers.threshold_high
    first = spec.strategy in ("top", "largest")
    reverted = not isnan(low)
    value, spread = (f"{low:.3g}", f"to {high:.4g}") if reverted else ("–", "none reverted")
    parts = (
        _share("of Σd²", numbers.energy_taken_back, numbers.energy_error),
        Part(f"threshold of {score}", value, spread),
    )
    unit = "no unit" if score == "r" else "in units of the weights"
    said = (
        "Share of the region's squared update norm, and of its projection, which is the same where whole weights are "
        "reverted: compare rankings at equal values of this, not of k, and interpolations at equal projection. "
        f"Threshold: the {'smallest' if first else 'largest'} {score} among the reverted weights ({unit})."
    )
    return KeyNumber("Update taken back", parts, said)


def null_part(numbers: Selection) -> Part:
    """The share by permutation, with the middle 95% of the permutations."""
    null, low, high = numbers.null_share, numbers.null_low, numbers.null_high
    if null is None or isnan(null):
        return Part("null", "–", "nothing changed")
    spread = "spread not measured" if low is None or high is None else f"{percent(low)} to {percent(high)}%"
    return Part("null", f"{percent(null)}%", spread)


def null_said(numbers: Selection) -> str:
    """What the null is, and of how many permutations."""
    n = numbers.n_permutations or 1
    many = "one shuffle" if n == 1 else f"mean and middle 95% of {n} shuffles"
    return f"Null: changes shuffled within each tensor ({many})."


def top_said(numbers: Selection) -> str:
    """The share of the 20 largest r alone."""
    top = numbers.top_20_share
    return "" if top is None or isnan(top) else f" The 20 weights of largest r alone contain {percent(top)}%."


def _share(label: str, share: float, error: float | None) -> Part:
    if isnan(share):
        return Part(label, "–", "nothing changed")
    off = 0.0 if error is None or isnan(error) else 100 * error
    return Part(label, f"{percent(share)}%", "± < 0.1 pp" if off < 0.05 else f"± {off:.1f} pp")


def compact(n: float) -> str:
    """ "802,816", from ten million on "6,476 M"."""
    return f"{n:,.0f}" if n < 1e7 else f"{n / 1e6:,.0f} M"
