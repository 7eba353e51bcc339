"""Every column that a table shows: name -> header, meaning, format, unit. Pages, reports and the manual read it here.

A table's column is looked up by its own name. Where a name means something else in one kind of table it is registered
under a qualified name: "changes.low" is `low` in tables of changes. `of` picks columns by name; `own`
and `table` give those of one kind of table. Numbers are in natural units: shares are 0 to 1 and printed in percent.

The manual's page of columns is a loop over `COLUMNS`: the key, then the fields `header`, `unit` and `meaning`.
"""

from __future__ import annotations

from sftknow_core.analysis.flips import FLIP_COLUMNS
from sftknow_core.analysis.paper_table import COLUMNS as PAPER_COLUMNS
from sftknow_core.present.column import Column
from sftknow_core.present.column import change as _change
from sftknow_core.present.column import count as _count
from sftknow_core.present.column import nats as _nats
from sftknow_core.present.column import number as _number
from sftknow_core.present.column import share as _share
from sftknow_core.present.drive_columns import DRIVE_COLUMNS

__all__ = ["COLUMNS", "RUN_KINDS", "Column", "headers", "of", "own", "table"]


_RUN_STATE = Column("state", "done, running, stopped, failed, or interrupted (killed)")
RUN_KINDS = (
    "chain: one fine-tuned model with all its results, made of the others; mastery: how well base knows each fact; "
    "sft: a fine-tuning; delta: its weights against base; evaluate: one model's answers; study: runs over a grid of "
    "mastery levels and N, with the verdicts on the paper's claims"
)
COLUMNS: dict[str, Column] = {
    # runs, models and questions
    "run_id": Column("run id"),
    "label": Column("run"),
    "kind": Column("kind", f"{RUN_KINDS}."),
    "reason": Column("reason", "why it ended, or its current step"),
    "progress": _share("progress", "share of its steps that are done"),
    "state": Column("model", "base, tuned, restored or hybrid (k = 100%, layers = base)"),
    "state_id": Column("model id"),
    "domain": Column("domain", "in: topics used for training; out: other topics"),
    "split": Column("split", "train, dev (used to choose k) or test (reported)"),
    "topic": Column("topic", "Wikidata property"),
    "question": Column("question", "as sent after fine-tuning"),
    "gold": Column("gold answer"),
    "level": _number("level", "mastery level, 0 to 4"),
    "train_level": Column("training level", "mastery level of the training facts"),
    "n_train": _count("N", "number of training facts", "facts"),
    "seed": _number("seed", "draws the train set and drives the fine-tuning"),
    "question_set_id": Column("question set", "hash; only numbers over the same set may be compared"),
    # accuracy and answers
    "k_percent": _number("k (%)", "reverted share of the region's weights", unit="%"),
    "accuracy": _share(
        "accuracy", "share of correct answers; mean over the mastery levels where no level is named"
    ),
    "low": _share("95% CI from", "lower end of the 95% confidence interval"),
    "high": _share("95% CI to", "upper end of the 95% confidence interval"),
    "n": _count("questions", "number of questions", "questions"),
    "n_right": _count("correct", "number of correct answers", "questions"),
    "chosen": Column("chosen on dev", "whether this k was chosen on dev"),
    "answer": Column("answer", "greedy"),
    "is_right": Column("correct", "by the run's matcher"),
    "flip": Column("change", "recovered: incorrect → correct; broken: correct → incorrect"),
    "base_answer": Column("base answer", "✓ correct, ✗ incorrect"),
    "tuned_answer": Column("tuned answer", "✓ correct, ✗ incorrect"),
    "before_answer": Column("tuned answer", "✓ correct, ✗ incorrect"),
    "restored_answer": Column("restored answer", "✓ correct, ✗ incorrect"),
    "n_seeds": _count("seeds", "fine-tunings of this cell; the accuracy is their mean"),
    "sd": _share("sd", "standard deviation over the paper's repetitions"),
    "source": Column("source", "which of the paper's tables"),
    "changes.step": Column(
        "step", "tuning: base → tuned; restoring: tuned → restored; both: base → restored"
    ),
    "changes.before": _share("before", "accuracy before the step"),
    "changes.after": _share("after", "accuracy after the step"),
    "changes.difference": _change("change (pp)", "after minus before; +10.0% is 10 percentage points more"),
    "changes.low": _change("95% CI from", "lower end of the interval of the change"),
    "changes.high": _change("95% CI to", "upper end of the interval of the change"),
    "changes.n_lost": _count("correct → incorrect", "number of questions", "questions"),
    "changes.n_gained": _count("incorrect → correct", "number of questions", "questions"),
    "changes.p_value": _number(
        "p", "exact McNemar test of a level; of the mean by the rule of its interval", "{:.2g}"
    ),
    "changes.p_holm": _number("p, Holm", "adjusted for the levels of this domain and step", "{:.2g}"),
    "changes.reason": Column("note", "why there is no interval"),
    "across.k_percent": _number("k (%)", "chosen on dev; median over seeds", unit="%"),
    "across.level": _number("question level", "mastery level of the question; empty: mean over levels"),
    "across.n": _count("questions", "of this question level, or of all for the mean", "questions"),
    # token shift
    "kl": _nats("KL (nats)", "KL(tuned || base) of the answer's first token, aligned; empty: not scored"),
    "kl_aligned_nats": _nats("KL (nats)", "KL(tuned || base) of the answer's first token, aligned"),
    "kl_nats": _nats("mean KL (nats)", "over the scored questions"),
    "kl_low": _nats("KL 95% CI from", "lower end of the 95% confidence interval"),
    "kl_high": _nats("KL 95% CI to", "upper end of the 95% confidence interval"),
    "n_scored": _count("scored", "questions with a KL", "questions"),
    "bin_from": _nats("KL from (nats)", "lower edge of the bin"),
    "bin_to": _nats("KL to (nats)", "upper edge of the bin"),
    "n_tuned": _count("tuned (questions)", "questions in the bin", "questions"),
    "n_restored_in_bin": _count("restored (questions)", "questions in the bin", "questions"),
    "beyond": Column("beyond", "the last bin, which holds all beyond the axis"),
    "gold_p": _share("gold p", "probability of the gold answer's first token after the question"),
    "gold_rank": _count("gold rank", "1: the most probable token"),
    "gold_p_base": _share(
        "gold p, base", "probability of gold's first token, base after its completion prompt"
    ),
    "gold_p_state": _share("gold p, tuned", "probability of gold's first token, tuned"),
    "gold_p_tuned": _share("gold p, tuned", "probability of gold's first token, tuned after the question"),
    "gold_p_restored": _share(
        "gold p, restored", "probability of gold's first token, restored at the chosen k"
    ),
    "gold_rank_base": _count("gold rank, base", "1: the most probable token"),
    "gold_rank_tuned": _count("gold rank, tuned", "1: the most probable token"),
    "gold_rank_restored": _count("gold rank, restored", "1: the most probable token"),
    "outcome": Column(
        "correct?", "base, tuned, restored, in this order: ✓ correct, ✗ incorrect, – not evaluated"
    ),
    "base_said": Column("base answer", "before fine-tuning; ✓ correct, ✗ incorrect"),
    "tuned_said": Column("tuned answer", "✓ correct, ✗ incorrect"),
    "restored_said": Column("restored answer", "at the chosen k; ✓ correct, ✗ incorrect"),
    "back_at_k": _number(
        "recovered at k (%)", "smallest evaluated k; empty: correct when tuned, or never", unit="%"
    ),
    "token": Column("token", "as text; it often begins with a space"),
    "p_base": _share("base", "probability of the token, base", 2),
    "p_tuned": _share("tuned", "probability of the token, tuned", 2),
    "p_restored": _share("restored", "probability of the token, restored", 2),
    "rank_base": _count("rank b", "rank of the token, base"),
    "rank_tuned": _count("rank t", "rank of the token, tuned"),
    "rank_restored": _count("rank r", "rank of the token, restored"),
    "share_base": _share("base, of the ten", "probability re-normalised over the ten tokens, base", 2),
    "share_tuned": _share("tuned, of the ten", "probability re-normalised over the ten tokens, tuned", 2),
    "stopped": Column("ended", "stopped at EOS, or at the limit of tokens"),
    "n_tokens": _count("tokens", "length of the answer", "tokens"),
    "mass_outside": _share("outside the ten", "probability mass outside the ten most probable first tokens"),
    "rank": _number("rank", "1: the most probable; empty: all others together", "{:.0f}"),
    "p": _share("probability", "of the first token, over the whole vocabulary", 2),
    # weights and restoring
    "energy_taken_back": _share("update taken back", "reverted share of the squared change of the weights"),
    "projection_taken_back": _share(
        "projection taken back",
        "how far back along the update; the update taken back where whole weights are reverted; empty: not measured",
    ),
    "energy_error": _share("update ±", "largest error of the update taken back", 2),
    "k_of_changed_percent": _number(
        "reverted, of changed (%)", "reverted share of the changed weights", "{:.4g}", "%"
    ),
    "share": _share("share", "of the summed score; by layer and module: of all reverted weights"),
    "share_error": _share("share ±", "largest error of the share", 2),
    "null_share": _share("null", "share if changes were shuffled, mean over shuffles"),
    "null_sd": _share("null sd", "standard deviation over shuffles", 2),
    "null_low": _share("null 95% from", "2.5% quantile over shuffles"),
    "null_high": _share("null 95% to", "97.5% quantile over shuffles"),
    "n_permutations": _count("shuffles", "of the changes, within each tensor", "shuffles"),
    "p_more": _number(
        "p, more", "rank p of more: (1 + shuffles that hold as much) / (1 + shuffles)", "{:.2g}"
    ),
    "p_two_sided": _number("p", "rank p among the shuffles, two-sided", "{:.2g}"),
    "top_20_share": _share("20 largest", "share of the 20 weights of largest r alone, whatever k"),
    "n_restored": _count("reverted", "reverted weights; interpolated in the last bin", "weights"),
    "n_weights": _count("weights", "of the region in this layer or module", "weights"),
    "weight_share": _share("of region", "share of the region's weights"),
    "enrichment": _number(
        "enrichment", "share of the reverted weights / share of the region; 1: as by chance", "{:.2f}"
    ),
    "by": Column("by", "layer or module"),
    "group": Column("group", "layer or module"),
    "layer": _number("layer", "from 0, the first"),
    "module": Column("module"),
    "line": Column(
        "line",
        "strategy, with region and layers where they differ from the defaults, and number of a random mask",
    ),
    "strategy": Column("strategy", "which weights are reverted first"),
    "region": Column("region"),
    "layers": Column("layers", "empty: all"),
    "block": Column("block", "whole part of the region that is reverted"),
    "alpha": _number("α", "interpolation: base + α (tuned − base)"),
    "n_level": _count("per level", "questions of a mastery level, the most of any", "questions"),
    "strategies.seed": _number("seed", "of random strategies", "{:.0f}"),
    "strategies.run_id": Column("run id", "the run that evaluated it"),
    "weights.n_weights": _count("weights", "", "weights"),
    "weights.n_changed": _count("changed", "weights whose bits differ", "weights"),
    "weights.n_same": _count("identical", "weights with the same bits", "weights"),
    "weights.same_share": _share("identical (%)", "share with the same bits", 2),
    "weights.sum_r": _number("summed r", "no unit", "{:,.3g}"),
    "weights.near_zero_share": _share(
        "of it near zero", "part of the summed r from weights with |base| < 1e-6"
    ),
    "weights.score": Column("score", "r: relative change; |d|: absolute change"),
    "weights.from": _number("from", "lower edge of the bar", "{:.3g}"),
    "weights.to": _number("to", "upper edge, not included", "{:.3g}"),
    "weights.share": _share("share", "of the summed score, or of the reverted weights", 2),
    "weights.score_share": _share("share of total", "the bar's part of the summed score", 2),
    "weights.share_1e-6": _share("ε = 10⁻⁶", "share with this ε in r"),
    "weights.share_1e-4": _share("ε = 10⁻⁴", "share with this ε in r"),
    "weights.paper_low": _share("paper, lowest", "of ten fine-tunings of LLaMA-3-8B"),
    "weights.paper_high": _share("paper, highest", "of ten fine-tunings of LLaMA-3-8B"),
    "weights.paper_share": _share("paper", "share in LLaMA-3-8B; its N, level and k are not stated"),
    "weights.paper_layers": Column("paper's layers", "of 32, at the same depth"),
    # facts and mastery
    "n_facts": _count("facts", "number of facts", "facts"),
    "model": Column("model", "of the paper"),
    "n_topic": _count("facts of the topic", "with a level", "facts"),
    "mean_r": _share("mean R", "share of correct completions, mean over the topic's facts"),
    "r_from": _share("R above", "", 0),
    "r_to": _share("R up to", "0: R = 0", 0),
    "r_bin_to": _share("R up to", "cells are 5 points wide; 0: R = 0", 0),
    "expected_bin_to": _share("expected up to", "0: at most one completion in all", 0),
    **{
        f"expected_{level}": _count(
            f"expected {level}", f"facts with expected mastery on level {level}", "facts"
        )
        for level in range(5)
    },
    "r": _share("R", "share of correct completions"),
    "r_low": _share("R 95% CI from", "lower end of the interval over templates"),
    "r_high": _share("R 95% CI to", "upper end of the interval over templates"),
    "flag": Column(
        "border", "⚠ borderline: the 95% CI of R crosses 25, 50 or 75%; 0⚠: possible false level 0"
    ),
    "expected_mastery": _share("expected", "probability that a completion begins with an answer"),
    "n_correct": _count("correct", "completions that contain an answer", "completions"),
    "n_samples": _count("of", "sampled completions", "completions"),
    "facts.share": _share("share", "of the facts with a level (of the topic, where one is named)"),
    "facts.level": _number("level", "mastery level, 0 to 4; empty: not scored"),
    "facts.reason": Column("reason", "why there is no level"),
    "template": _number("no.", "number of the completion template", "{:.0f}"),
    "prompt": Column("prompt", "beginning that the base model completed"),
    "samples": Column("completions", "first line of each; ×: how often the same text came"),
    "templates.right": Column("correct", "completions that contain an answer, of those sampled"),
    "templates.share": _share("share", "correct / sampled"),
    "templates.expected": _share("expected", "probability that a completion begins with an answer"),
    # training
    "step": _count("step", "optimiser steps done", "steps"),
    "loss_nats": _nats("loss (nats/token)", "of this step", 3),
    "smooth_nats": _nats("mean (nats/token)", "over the steps just before", 3),
    "learning_rate": _number("learning rate", "at this step", "{:.2e}"),
    "drawn": _count("selected", "facts that would be trained on", "facts"),
    "available": _count("available", "in-domain train facts of the level in this topic", "facts"),
    # contents of a cache
    "n_runs": _count("runs"),
    "size_mb": _number("size (MB)", "on disk", "{:,.2f}", "MB"),
    "runs.state": _RUN_STATE,
    "runs.what": Column("what"),
    "runs.size": _number("size (MB)", "on disk, with its stages; runs share some of them", "{:,.2f}", "MB"),
    "runs.weights": Column("weights", "whether it stores a checkpoint"),
    "runs.seconds": _number("work (s)", "", "{:.1f}", "s"),
    "runs.created_at": Column("begun (UTC)"),
    "runs.reason": Column("reason", "why it failed or stopped, or its current step"),
    "runs.run_id": Column("run id"),
    "models.name": Column("model", "name at first use"),
    "models.architecture": Column("architecture"),
    "models.n_params": _count("parameters", "tied ones once", "parameters"),
    "models.dtype": Column("dtype", "of the stored weights"),
    "models.used_by": Column("used by", "finished runs that started from it, by kind"),
    "models.model_id": Column("model id", "hash of weights, config and tokenizer"),
    "models.path": Column("folder"),
    "studies.name": Column("study", "its file's name, or that of a shipped one"),
    "studies.base_name": Column("base model"),
    "studies.n_done": _count("cells done", "a cell: one mastery level and N, with all its seeds", "cells"),
    "studies.n_cells": _count("of", "cells in all", "cells"),
    "studies.state": _RUN_STATE,
    # studies
    "cells.level": Column("training level", "mastery level of the training facts"),
    "cells.n": _count("N", "number of training facts; empty: all of the level", "facts"),
    "cells.seed": _number("seed"),
    "cells.method": Column("method", "full: all weights; lora: an adapter"),
    "cells.state": Column("state"),
    "cells.reason": Column("reason"),
    "cells.seeds": Column("", "seeds and their state"),
    "claims.verdict": Column("verdict", "see the glossary"),
    "claims.claim_id": Column("claim", "as listed in the paper's order"),
    "claims.title": Column("statement"),
    "claims.effect": _number("effect", "of the part that decides; positive: as claimed", "{:+.3g}"),
    "claims.low": _number("95% CI from", "lower end of the interval, same unit", "{:+.3g}"),
    "claims.high": _number("95% CI to", "upper end of the interval, same unit", "{:+.3g}"),
    "claims.unit": Column("unit", "pp: percentage points"),
    "claims.n": _count("questions", "behind the effect", "questions"),
    "claims.seeds": _number("seeds", "behind the effect"),
    "claims.p": _number("p", "of the part that decides; of a single part: two-sided", "{:.2g}"),
    "claims.p_holm": _number("p, Holm", "adjusted where one part of the claim is enough", "{:.2g}"),
    "claims.p_margin": _number(
        "p, margin", "of the part that decides, against the margin; two-sided", "{:.2g}"
    ),
    "claims.p_fdr": _number(
        "p, FDR", "adjusted for all parts of all claims (Benjamini-Hochberg); verdicts don't use it", "{:.2g}"
    ),
    "claims.table_ref": Column("numbers in", "table or figure below"),
    "claims.population": Column("CI covers", "what the interval would vary with"),
    "claims.sentence": Column("in words"),
    "claims.label": Column("part", "what is compared"),
    "claims.p_questions": _number("p, questions", "for these seeds, other questions", "{:.2g}"),
    "claims.n_smallest": _count("smallest level", "questions of the smallest level", "questions"),
    "claims.margin": _number("margin", "smallest effect that matters"),
    "claims.null": _number("against", "what the effect is compared with"),
    "claims.status": Column("verdict", "of this part"),
    "claims.reason": Column("reason", "why inconclusive or not tested"),
    "repeats.claim_id": Column("claim"),
    "repeats.verdict": Column("as planned"),
    "repeats.exact_match": Column("exact match", "the whole answer must be the gold answer"),
    "repeats.without_borderline": Column(
        "without borderline facts", "without facts whose mastery interval crosses the limit of a level"
    ),
    "repeats.half_templates": Column(
        "levels of half the templates",
        "questions grouped by the level that the even-numbered templates alone give",
    ),
    "halves.level_even": _number(
        "level, even templates", "by completion templates 1, 3, 5, ... as counted from 1"
    ),
    **{
        f"halves.{level}": _count(f"level {level}", "test questions, by the other templates", "questions")
        for level in range(5)
    },
    "scores.cell": Column("fine-tuned on", "level and N"),
    "scores.prompt": Column("prompt", "of base, tuned and restored alike"),
    "scores.measure": Column("measure"),
    "scores.meaning": Column("share of what"),
    "scores.share": _share("share", "mean over seeds"),
    "scores.n": _count("questions", "in all seeds together", "questions"),
    "scores.seeds": _number("seeds"),
    "scores.population": Column("CI covers", "what the interval would vary with"),
    **{
        f"scores.{state}": _share(state, "smallest of kept, learnt and format")
        for state in ("base", "tuned", "restored", "hybrid")
    },
    "precision.claims": Column("claims"),
    "precision.compares": Column("comparison", "paired by question and seed"),
    "precision.seeds": _number("seeds", "that all sizes in the comparison have"),
    "precision.per_level": _count("questions", "per level that all of them are asked; of the smallest level"),
    "precision.half_width": _number("± (pp)", "expected half-width of the 95% CI", "{:.1f}", "pp"),
    "precision.decides": Column("decidable", "with the seeds and questions that the rule asks for"),
    # tables of the commands, whose numbers stand without their unit
    "terminal.prompt": Column("prompt", "5-shot: after five examples; zero-shot: the prompt tuned with"),
    "terminal.group": Column("questions", "split and domain"),
    "terminal.facts": Column("facts", "domain and split"),
    **{f"terminal.level_{level}": _count(f"level {level}", "number of facts", "facts") for level in range(5)},
    "terminal.dev_in": _share("dev in (%)", "accuracy on in-domain dev questions, with its 95% CI"),
    "terminal.test_in": _share("test in (%)", "accuracy on in-domain test questions, with its 95% CI"),
    "terminal.test_out": _share("test out (%)", "accuracy on out-of-domain test questions, with its 95% CI"),
    "terminal.train": _share("train (%)", "accuracy on questions of the train set"),
    "terminal.base": _share("base (%)", "accuracy of the base on in-domain test questions"),
    "terminal.tuned": _share("tuned (%)", "accuracy of tuned on in-domain test questions"),
    "terminal.restored": _share("restored (%)", "the same, restored at the k chosen on dev"),
    "terminal.recovery": _change("recovery (pp)", "restored minus tuned"),
    "terminal.accuracy": _share("accuracy (%)", "with its 95% CI"),
    "terminal.stop_rate": _share("stopped (%)", "share of the answers that stopped at EOS", 0),
    "terminal.n": _count("n", "number of questions", "questions"),
    "terminal.n_flagged": _count("answer in question", "facts whose question contains the answer", "facts"),
    "terminal.dropped": _count("left out", "facts that could not be used", "facts"),
    "terminal.measure": Column("measure", "which two distributions are compared"),
    "terminal.kl": _nats("KL (nats)", "mean over the scored questions, with its 95% CI", 3),
    "terminal.n_scored": Column("n of questions", "scored questions of all of them"),
    "terminal.n_kept": _count("kept", "questions that base's greedy completion answers", "questions"),
    "terminal.n_questions": _count("of", "questions in all", "questions"),
    "terminal.template": Column("template (success on dev)", "completion template chosen for the topic"),
    "terminal.n_params": _count("parameters", "of the region", "parameters"),
    "terminal.rate": _number("peak rate", "peak learning rate of the fine-tuning", "{:.1e}"),
    "terminal.changed": _share("changed (%)", "share of the weights whose bits differ"),
    "terminal.energy": _share("squared norm of the change (%)", "relative to that of base's weights", 3),
    "terminal.tiny_share": _share("summed r near zero (%)", "part from weights with |base| < 1e-6"),
    "terminal.eps": _number("epsilon", "added to |base| in r"),
    "terminal.share": _share("share (%)", "of the summed r"),
    "terminal.null": _share(
        "null (%)", "share if changes were shuffled within each tensor, mean over shuffles"
    ),
    "terminal.null_spread": _share("null, 95% (%)", "middle 95% of the shuffles"),
    "terminal.p": _number("p", "rank p of the share among the shuffles, two-sided", "{:.2g}"),
    "terminal.n_cells": _count("cells", "mastery level, N and seed", "cells"),
    "terminal.n_done": _count("done", "", "cells"),
    "terminal.n_failed": _count("failed", "", "cells"),
    **DRIVE_COLUMNS,
    # the paper's tables are printed by analysis, which owns their headers
    **{f"paper.{name}": Column(*about) for name, about in {**PAPER_COLUMNS, **FLIP_COLUMNS}.items()},
}
"""Name, qualified where it has another meaning in one kind of table -> the column."""


def of(*names: str) -> dict[str, Column]:
    """These columns in this order, by the name they have in the table: "changes.low" stands under "low".

    Raises: KeyError for a name that is not registered.
    """
    return {name.rpartition(".")[2]: COLUMNS[name] for name in names}


def own(kind: str) -> dict[str, Column]:
    """The columns registered for one kind of table alone, e.g. "changes", in the order of registration."""
    return of(*(name for name in COLUMNS if name.startswith(f"{kind}.")))


def headers(*names: str) -> list[str]:
    """The headers of these columns, in this order. Raises: KeyError for a name that is not registered."""
    return [COLUMNS[name].header for name in names]


def table(kind: str) -> dict[str, Column]:
    """All columns as one kind of table has them: its own meanings before the general ones."""
    return COLUMNS | own(kind)
