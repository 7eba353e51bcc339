"""What was restored -> the model card (README.md) of the written folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sftknow_core import __version__

if TYPE_CHECKING:
    from sftknow_core.update.lineage import Lineage
    from sftknow_core.update.restore import RestoreReport

REPORT_NUMBERS = (
    "n_model",
    "n_changed",
    "k_of_changed_percent",
    "share_of_r",
    "energy_taken_back",
    "threshold",
    "ties_taken",
    "no_more_changes_from_k",
)
"""What the pass over the weights counted, beside what a lineage holds."""

_TEMPLATE = """---
library_name: transformers
tags: [sftknow, parameter-restoration]
---

# {tuned}, partly restored to {base}

Made by sftknow {version}: fine-tuned weights, of which some were put back to their values before fine-tuning
(Ye et al., EMNLP 2025, [arXiv:2509.16596](https://arxiv.org/abs/2509.16596)).

| | |
|---|---|
| base model | {base} (`{base_id}`) |
| fine-tuned model | {tuned} (`{tuned_id}`) |
| restored model | `{model_id}` |
| state | `{state_id}` |
| strategy | {strategy}{seed} |
| region | {region}{layers} |
| amount | {amount} |
| parameters restored | {n_restored} of {n_region} in the region, {n_model} in the model |
| of these had changed | {n_touched} ({k_of_changed}% of all changed ones) |
| share of the summed relative change taken back | {share_of_r} |
| share of the squared change taken back | {energy} |
| weights written as | {output_dtype} |

## Closed-book accuracy

{accuracies}
"""


def rounding_text(rounding: Mapping[str, Any] | None) -> str:
    """What the output dtype cost, to stand after its name; nothing where it holds every weight."""
    if rounding is None:
        return ""
    return f" ({rounding['n']:,} weights rounded, by {rounding['largest']:.2g} at most)"


def report_numbers(report: RestoreReport) -> dict[str, Any]:
    """REPORT_NUMBERS of a report, as JSON values."""
    k = report.no_more_changes_from_k
    values = (
        report.n_model,
        report.n_changed,
        report.k_of_changed_percent,
        report.r_share_restored,
        report.energy_taken_back,
        report.threshold,
        report.ties_taken,
        None if k is None else str(k),
    )
    return dict(zip(REPORT_NUMBERS, values, strict=True))


def card_facts(
    lineage: Lineage, numbers: Mapping[str, Any], accuracies: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Everything that is known of a restored model, in one dict: what the card and `--json` say."""
    return {
        "state_id": lineage.state_id,
        "model_id": lineage.model_id,
        "base": lineage.base_name,
        "base_id": lineage.base_id,
        "tuned": lineage.tuned_name,
        "tuned_id": lineage.tuned_id,
        **lineage.spec.to_json(),
        "output_dtype": lineage.output_dtype,
        "n_region": lineage.n_region,
        "n_restored": lineage.n_restored,
        "n_touched": lineage.n_touched,
        **numbers,
        "accuracies": list(accuracies),
    }


def restored_card(facts: Mapping[str, Any]) -> str:
    """The card's text, from `card_facts`."""
    n_restored = facts["n_touched"] if facts["n_restored"] is None else facts["n_restored"]
    names = ("base", "base_id", "tuned", "tuned_id", "model_id", "state_id", "strategy", "region")
    return _TEMPLATE.format(
        version=__version__,
        **{key: facts[key] for key in names},
        seed="" if facts["seed"] is None else f", seed {facts['seed']}",
        layers="" if facts["layers"] is None else f", layers {facts['layers']}",
        amount=_amount(facts),
        n_restored=f"{n_restored:,}",
        n_region=f"{facts['n_region']:,}",
        n_model=f"{facts['n_model']:,}",
        n_touched=f"{facts['n_touched']:,}",
        k_of_changed="-" if facts["k_of_changed_percent"] is None else f"{facts['k_of_changed_percent']:.1f}",
        share_of_r=_percent(facts["share_of_r"]),
        energy=_percent(facts["energy_taken_back"]),
        output_dtype=facts["output_dtype"] + rounding_text(facts.get("rounding")),
        accuracies=_accuracies(facts["accuracies"]),
    )


def _amount(facts: Mapping[str, Any]) -> str:
    if facts["k_percent"] is not None:
        return f"k = {facts['k_percent']}%"
    return f"alpha = {facts['alpha']}" if facts["alpha"] is not None else f"block {facts['block']}"


def _accuracies(rows: list[Mapping[str, Any]]) -> str:
    if not rows:
        return "Not measured. `sftknow run` measures it."
    lines = [
        "Mean over mastery levels, with 95% interval.",
        "",
        "| questions | prompt | matcher | n | accuracy |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        accuracy = f"{100 * row['accuracy']:.1f}% [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        domain = "in-domain" if row["domain"] == "in" else "out-of-domain"
        lines.append(
            f"| {row['split']} {domain} | {row['prompt']} | {row['matcher']} | {row['n']:,} | {accuracy} |"
        )
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"
