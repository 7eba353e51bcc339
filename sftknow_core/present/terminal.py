"""Results -> tables and lines on a terminal, with n, intervals and units; how numbers are written there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sftknow_core.present import columns

Result = Mapping[str, Any]
ACCURACIES = (
    "terminal.prompt",
    "terminal.base",
    "terminal.tuned",
    "terminal.restored",
    "k_percent",
    "terminal.recovery",
    "kl",
)
"""Columns of a run's numbers on in-domain test questions, one row a prompt."""
NOT_ASKED_5 = "not asked with five examples"
ONE_PROMPT = (
    "5-shot: after five examples, the same for every model; zero-shot: the prompt tuned with, which base never saw: "
    "compare models within one prompt"
)
_WIDTH_WITHOUT_TERMINAL = 120
PAPER_DEFINITION = (
    "accuracy: closed-book, mean over mastery levels 0 to 4, in %, with 95% CI; k: % of transformer-layer weights "
    "reverted, largest relative change first"
)


_AUDIT_RATES = {
    "false_positive": "False positives, of the completions called right (%)",
    "false_negative": "False negatives, of the completions called wrong (%)",
    "error": "Wrong verdicts, of all completions (%)",
    "accuracy_error": "Share called right minus share that is right (pp)",
    "accuracy": "Share that is right, as judged (%)",
}


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)


def table_of(title: str, *names: str, more: Sequence[str] = ()) -> Table:
    """An empty table, its first column on the left, the others on the right.

    Args:
        title: of the table.
        names: columns of the registry, for their headers.
        more: headers that are values of the result, after the others.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for number, header in enumerate([*columns.headers(*names), *more]):
        table.add_column(header, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def print_lines(*parts: Any) -> None:
    """Tables and lines, one below the other, as they are: nothing in them is markup."""
    console = _console()
    for part in parts:
        console.print(part, highlight=False, markup=False)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage without its sign; "-" for none."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def interval(row: Mapping[str, Any] | None) -> str:
    """ "31.7 [28.0, 35.6]" of an accuracy row; "-" where it was not scored."""
    if row is None or row["accuracy"] is None:
        return "-"
    return f"{percent(row['accuracy'])} [{percent(row['low'])}, {percent(row['high'])}]"


def points(share: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    return "-" if share is None else f"{100 * share:+.1f}"


def show_chain(result: Result) -> None:
    """The table of `sftknow run`."""
    train = result["train_set"]
    title = (
        f"{result['base_name']}, fine-tuned on {train['n']:,} facts of level {train['level']}, seed {train['seed']}"
        if train
        else f"{result['base_name']} vs. {result['tuned_name']}"
    )
    rows, asked = result["table"], PROMPTS_OF_ALL.get(str(result.get("prompt")), "zero-shot")
    n = {name: (rows[0][name] or {}).get("n", 0) for name in ("dev_in", "test_in", "test_out")}
    table = table_of(
        f"{title}, {asked}",
        "state",
        "terminal.dev_in",
        "terminal.test_in",
        "terminal.test_out",
        "terminal.train",
        "kl",
        "energy_taken_back",
    )
    for row in rows:
        mark = " *" if row["state_id"] == result["chosen"]["state_id"] else ""
        kl = row["kl"].get("aligned", {})
        table.add_row(
            _label(row) + mark,
            interval(row["dev_in"]),
            interval(row["test_in"]),
            interval(row["test_out"]),
            percent(row["train"]["accuracy"]) if row.get("train") else "-",
            "-" if kl.get("mean_nats") is None else f"{kl['mean_nats']:.2f} (n={kl['n']})",
            "-" if row["energy_taken_back"] is None else f"{percent(row['energy_taken_back'], 0)}%",
        )
    counted = f"n: dev in-domain {n['dev_in']:,}, test in-domain {n['test_in']:,}, test out-of-domain {n['test_out']:,}"
    print_lines(
        *_after_five(result, title, asked),
        table,
        f"{counted}; train: questions of the train set; k = 100%: layers = base",
        "update taken back: share of the squared norm, and of the projection (equal where whole weights are reverted)",
        f"majority baseline: test {interval(result['majority']['test_in'])}",
        *_verdict(result, asked),
    )


PROMPTS_OF_ALL = {"five-shot": "5-shot", "completion": "completion prompts"}
"""A prompt by name that all states were asked with -> as read; any other is "zero-shot"."""


def _after_five(result: Result, title: str, asked: str) -> list[Any]:
    """The states after five examples; where not all were asked so, that it is missing."""
    if asked != "zero-shot":
        return []
    if "five_shot" not in result["table"][0]:
        return [
            f"5-shot: tuned and restored {NOT_ASKED_5} (--five-shot does), so base has no comparable number."
        ]
    table = table_of(f"{title}, 5-shot", "state", "terminal.test_in", "terminal.test_out")
    for row in result["table"]:
        mark = " *" if row["state_id"] == result["chosen"]["state_id"] else ""
        five = row["five_shot"]
        table.add_row(_label(row) + mark, interval(five["test_in"]), interval(five["test_out"]))
    return [table, f"({ONE_PROMPT})"]


def _label(row: Mapping[str, Any]) -> str:
    return str(row["label"]).replace("hybrid (100%)", "k = 100%")


def _verdict(result: Result, asked: str) -> list[str]:
    chosen = result["chosen"]
    five = chosen.get("five_shot") or {}
    lines = [f"* k = {chosen['k_percent']:g}%, chosen on dev, {asked} ({chosen['rule']})."]
    for what, prompt, found in (
        ("Fine-tuned minus base", "5-shot", five.get("tuning")),
        ("Recovery", "5-shot", five.get("gain")),
        ("Recovery", asked, chosen["gain"]),
    ):
        if found and (gain := found["test_in"]):
            out = found["test_out"]
            lines.append(
                f"  {what} on test, {prompt}: {points(gain['value'])} pp in-domain, 95% CI "
                f"[{points(gain['low'])}, {points(gain['high'])}]"
                + (f"; {points(out['value'])} pp out-of-domain." if out else ".")
            )
    share = result["changed_share"].get("transformer")
    top = {row["k_percent"]: row["share"] for row in result["concentration"]}
    lines.append(
        f"  {percent(share)}% of the transformer weights changed; the top 1% contain {percent(top.get(1.0))}% and"
    )
    lines.append(f"  the top 20% contain {percent(top.get(20.0))}% of the summed relative change.")
    held = next((row for row in result["concentration"] if row["k_percent"] == 1.0), None)
    if held and held.get("n_permutations"):
        ends = f"{percent(held['null_low'])} to {percent(held['null_high'])}%"
        lines.append(
            f"  The 20 largest alone contain {percent(held['top_20_share'])}%. Were the changes shuffled, the top 1%"
        )
        lines.append(
            f"  would contain {percent(held['null_share'])}% ({ends} in 95% of {held['n_permutations']} shuffles)."
        )
    return [*lines, f"  ({PAPER_DEFINITION})"]


def show_demo(result: Result) -> None:
    """One row a run."""
    table = table_of(
        "Demo: base, tuned and restored accuracy (test, in-domain)",
        "train_level",
        "n_train",
        "terminal.rate",
        *ACCURACIES,
    )
    for row in result["chains"]:
        for numbers in of_prompts(row):
            table.add_row(str(row["level"]), f"{row['n']:,}", f"{row['learning_rate']:.1e}", *numbers)
    print_lines(
        table,
        "training level, N: mastery level and number of the train facts; restored: k chosen on dev",
        f"({ONE_PROMPT})",
        f"({PAPER_DEFINITION}; KL: mean token shift of level-4 in-domain test questions)",
    )


def of_prompts(row: Result) -> list[tuple[str, ...]]:
    """The cells of ACCURACIES, 5-shot first; row: a chain's headline (pipeline/chain_summary.py)."""
    k = "-" if row["chosen_k_percent"] is None else f"{row['chosen_k_percent']:g}"
    kl = "-" if row["kl_level4_nats"] is None else f"{row['kl_level4_nats']:.2f}"
    found = []
    for prompt, part, own in (("5-shot", "five_shot", "-"), ("zero-shot", "test_in", kl)):
        scores = [row.get(f"{state}_{part}") for state in ("base", "tuned", "restored")]
        if prompt == "zero-shot" or scores[1] is not None:
            found.append((prompt, *map(percent, scores), k, points(row.get(f"gain_{part}")), own))
    return found


def show_facts(result: Result) -> None:
    """The table of `sftknow facts`."""
    table = table_of(
        f"Facts of {result['source']}",
        "topic",
        "domain",
        "split",
        "n_facts",
        "terminal.n_flagged",
        "terminal.dropped",
    )
    for row in result["rows"]:
        table.add_row(
            f"{row['topic']} {row['name']}",
            row["domain"] or "-",
            row["split"],
            f"{row['n']:,}",
            f"{row['n_flagged']:,}",
            f"{sum(row['dropped'].values()):,}",
        )
    lines = [
        f"{n:>9,} facts: {group.replace('_', ' ')}-of-domain".replace("in-of", "in").replace(
            "out-of-domain", "out-of-domain"
        )
        for group, n in result["totals"].items()
    ]
    lines += [f"{n:>9,} left out: {reason}" for reason, n in result["dropped"].items()]
    lines += [f"{n:>9,} {note}" for note, n in result["notes"].items()]
    print_lines(table, *lines)


def show_mastery(result: Result) -> None:
    """Facts by level, and how far the levels can be trusted."""
    counts: dict[tuple[str, str], dict[int, int]] = {}
    for row in result["n_by_group"]:
        counts.setdefault((row["domain"], row["split"]), {})[row["level"]] = row["n"]
    table = table_of(
        f"Mastery of {result['model']} ({result['model_id']})",
        "terminal.facts",
        *(f"terminal.level_{level}" for level in range(5)),
    )
    for (domain, split), by_level in counts.items():
        table.add_row(
            f"{domain}-of-domain {split}".replace("in-of", "in"),
            *(f"{by_level.get(i, 0):,}" for i in range(5)),
        )
    agreement = result["agreement"]
    rho = agreement["spearman"]
    lines = [
        "level: 0 = no sampled completion is correct; i = a share in ((i-1)/4, i/4]",
        f"sampled vs. expected mastery: rank correlation {'-' if rho is None else f'{rho:.3f}'}, "
        f"mean |difference| {percent(agreement['mean_abs_difference'])} pp, n = {agreement['n']:,}",
        f"run {result['run_id']}, {result['seconds']:,.0f} s",
    ]
    print_lines(table, *lines)


def show_sft(result: Result) -> None:
    """What was trained."""
    print_lines(
        f"fine-tuned on {result['n_examples']:,} facts of level {result['level']}: {result['steps']:,} steps in "
        f"{result['seconds_training']:.1f} s, mean loss {result['loss_nats']:.3f} nats a token",
        f"model {result['model_id']} in {result['path']}",
        *([f"topics with too few facts: {result['shortages']}"] if result["shortages"] else []),
        *([_merge_gap(result["merge_gap"])] if result.get("merge_gap") else []),
    )


def _merge_gap(gap: Mapping[str, Any]) -> str:
    return (
        f"adapter kept unmerged; merging it would change next-token log-probabilities by at most "
        f"{gap['max_nats']:.2g} nats (mean {gap['mean_nats']:.2g}, {gap['n_prompts']} questions)"
    )


def show_accuracies(result: Result) -> None:
    """Accuracy by level and domain."""
    table = table_of(
        f"Closed-book accuracy in %, matcher {result['matcher']}",
        "terminal.group",
        "level",
        "terminal.n",
        "n_right",
        "terminal.accuracy",
        "terminal.stop_rate",
    )
    for row in result["accuracies"]:
        table.add_row(
            f"{row['split']} {row['domain']}",
            "mean" if row["level"] is None else str(row["level"]),
            f"{row['n']:,}",
            f"{row['n_right']:,}",
            interval(row) + (f" ({row['reason']})" if row["reason"] else ""),
            percent(row["stop_rate"], 0),
        )
    parts: list[Any] = [table]
    if result["by_topic"]:
        topics = table_of(
            "By topic: mean over levels", "terminal.group", "topic", "terminal.n", "terminal.accuracy"
        )
        for row in result["by_topic"]:
            topics.add_row(f"{row['split']} {row['domain']}", row["topic"], f"{row['n']:,}", interval(row))
        parts.append(topics)
    print_lines(*parts, f"run {result['run_id']}")


def show_shifts(result: Result) -> None:
    """Mean token shift by level."""
    table = table_of(
        "Token shift: mean KL(tuned || base) in nats with 95% CI",
        "terminal.group",
        "level",
        "terminal.measure",
        "terminal.n_scored",
        "terminal.kl",
    )
    for row in result["shifts"]:
        mean = row["mean_nats"]
        value = "-" if mean is None else f"{mean:.3f}"
        if mean is not None and row["low_nats"] is not None:
            value += f" [{row['low_nats']:.3f}, {row['high_nats']:.3f}]"
        place = f"{row['split']} {row['domain']}"
        table.add_row(
            place, str(row["level"]), row["measure"], f"{row['n']:,} of {row['n_questions']:,}", value
        )
    kept = table_of(
        "Scored questions, by topic: the base's greedy completion begins with the gold answer",
        "topic",
        "level",
        "terminal.n_kept",
        "terminal.n_questions",
        "terminal.template",
    )
    for row in result["kept_by_topic"]:
        chosen = result["templates"].get(row["topic"])
        name = (
            f"{chosen['template']} ({chosen['n_correct']}/{chosen['n_samples']}, {chosen['basis']})"
            if chosen
            else "-"
        )
        kept.add_row(row["topic"], str(row["level"]), str(row["n_kept"]), str(row["n_questions"]), name)
    print_lines(table, kept, f"run {result['run_id']}")


def show_pretrained(result: Result) -> None:
    """What the small model is."""
    print_lines(
        f"{result['parameters']:,} parameters, {result['tokens']:,} tokens in {result['steps']:,} steps, mean loss "
        f"{result['loss_nats']:.3f} nats a token",
        f"model {result['model_id']} written to {result['out']}",
    )


def show_runs(result: Result) -> None:
    """The runs of a cache."""
    if not result["runs"]:
        print_lines(f"no runs in {result['cache']}; start some with `sftknow demo`")
        return
    table = table_of(
        f"Runs in {result['cache']}",
        "runs.run_id",
        "kind",
        "runs.state",
        "progress",
        "runs.seconds",
        "runs.size",
        "runs.what",
    )
    table.columns[-1].no_wrap = False  # where the line is too long this one gives way, not the run id
    for row in result["runs"]:
        about = ", ".join(
            f"{key} {value}" for key, value in row["about"].items() if isinstance(value, str | int)
        )
        progress = f"{row['done']:g} of {row['total']:g}" if row["total"] and row["state"] != "done" else ""
        what = f"{about} ({row['reason']})" if row["reason"] else about
        table.add_row(
            row["run_id"],
            row["kind"],
            row["state"],
            progress,
            f"{row['seconds']:.0f}",
            f"{row['size_bytes'] / 1e6:.1f}",
            what[:60],
        )
    print_lines(table)


def audit_lines(rates: Mapping[str, Any]) -> list[str]:
    """What a reader's judgements say about the matcher, line by line. rates: results.audit.AuditRates, plain."""
    lines = []
    for name, title in _AUDIT_RATES.items():
        rate = rates[name]
        unit = points if name == "accuracy_error" else percent
        ends = (
            None
            if rate["value"] is None
            else f"[{unit(rate['low'])}, {unit(rate['high'])}], n = {rate['n']:,}"
        )
        lines.append(f"{title}: {unit(rate['value'])} {ends or 'not measured: ' + rate['reason']}")
    return [
        *lines,
        f"{rates['n_judged']:,} judged, {rates['n_unsure']:,} unsure, {rates['n_open']:,} not judged yet",
    ]


def show_audit(result: Result) -> None:
    """The same under the name of its file, on a terminal."""
    print_lines(f"Audit of the matcher, {result['judged']} (95% CI)", *audit_lines(result))


def show_pairs(result: Result) -> None:
    """Name and value, line by line."""
    print_lines(*(f"{name}: {_plain(value)}" for name, value in result.items()))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {item}" for key, item in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return str(value)
