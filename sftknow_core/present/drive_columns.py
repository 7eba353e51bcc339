"""Columns of the analyses of what drives a study (analysis/drives.py); present/columns.py takes them in."""

from __future__ import annotations

from sftknow_core.present.column import Column, change, count, number, share

_ENDS = (("low", "from"), ("high", "to"))
DRIVE_COLUMNS: dict[str, Column] = {
    **{f"{kind}.size": Column("N", "number of training facts") for kind in ("rates", "forgotten", "access")},
    "rates.rate": number("learning rate", "as a multiple of the study's"),
    "rates.repeats": number("epochs", "as a multiple of the study's"),
    "rates.mean_k": number("mean k (%)", "chosen on dev, mean over seeds", "{:.1f}", "%"),
    "rates.best_rate": Column(
        "best untouched rate", "chosen on dev: highest accuracy of the fine-tuned model"
    ),
    "rates.effect": change(
        "difference (pp)", "R: restored minus fine-tuned at the best rate; steps: see comparison"
    ),
    "rates.p": number("p", "two-sided, by the rule of the interval", "{:.2g}"),
    "rates.same_rate": change("vs. same rate (pp)", "restored minus fine-tuned at this rate"),
    "rates.comparison": Column(
        "comparison", "data: few facts repeated vs. many once; steps: vs. the same facts once"
    ),
    "rates.other_size": Column("vs. N", "size compared with, one pass"),
    "rates.update_norm": number("update norm", "||out - p|| / ||p||, transformer layers", "{:.4g}"),
    "masks.cell": Column("cell", "training level and N"),
    "masks.with": Column("compared with", "the mask of another seed, or of the smallest base weights"),
    "masks.jaccard": number("Jaccard", "weights in both masks / in either; mean over pairs", "{:.2f}"),
    "masks.lowest": number("lowest", "over pairs of seeds", "{:.2f}"),
    "masks.highest": number("highest", "over pairs of seeds", "{:.2f}"),
    "masks.chance_jaccard": number("chance", "independent masks: k / (2 - k)", "{:.2f}"),
    "masks.expected_jaccard": number("from |p|", "independent within |p| deciles of each tensor", "{:.2f}"),
    "masks.share": share("shared", "share of a mask that is in the other"),
    "masks.own_energy_share": share("own mask", "share of the squared update in the model's own mask"),
    "masks.energy_share": share("other mask", "share of the squared update in the other mask"),
    "masks.n_pairs": count("pairs", "of seeds; models for the smallest base weights"),
    "masks.own": share("own mask", "accuracy restored with the model's own mask"),
    "masks.other": share(
        "other seed's mask", "accuracy restored with the mask of another seed, mean over seeds"
    ),
    "masks.difference": change("difference (pp)", "own minus other seed's mask"),
    "forgotten.model": Column("model", "within questions: runs differ; between questions: facts differ"),
    "forgotten.term": Column("term", "what is varied"),
    "forgotten.value": number("log-odds", "of an incorrect answer, per unit of the term", "{:.2f}"),
    "forgotten.odds_ratio": number("odds ratio", "exp(log-odds)", "{:.2f}"),
    "forgotten.p": number("p", "two-sided, t with the number of clusters - 1", "{:.2g}"),
    "forgotten.n": count("rows", "runs times known facts that count"),
    "forgotten.n_events": count("forgotten", "rows with an incorrect answer"),
    "forgotten.n_questions": count("questions", "known facts that count", "questions"),
    "forgotten.outcome": Column(
        "outcome", "forgotten: incorrect after tuning; recovered: correct again when restored"
    ),
    "forgotten.share": share("share", "of the known facts"),
    "forgotten.churn": share("seed churn", "share that another seed of the cell answers correctly"),
    "forgotten.net": change("minus churn (pp)", "share minus seed churn"),
    "access.way": Column("asked by", "completion prompt, five-shot, or rank of the gold first token"),
    "access.questions": Column(
        "questions", "flipped: correct before, incorrect after tuning; kept: correct in both"
    ),
    "access.n": count("n", "questions, one for each seed", "questions"),
    "access.n_right": count("correct", "in this way of asking", "questions"),
    "access.share": share("share", "correct in this way of asking; 95% CI by Wilson"),
    "access.inaccessible": count("inaccessible", "correct in the other way of asking", "questions"),
    "access.lost": count("lost", "incorrect in both ways of asking", "questions"),
    "access.share_kept": share(
        "same, kept questions", "correct in the other way among questions still correct"
    ),
    **{
        f"{kind}.reason": Column("note", "why there is no number")
        for kind in ("rates", "forgotten", "access")
    },
    **{f"forgotten.{end}": number(f"95% CI {word}", "by seed and question", "{:.2f}") for end, word in _ENDS},
    **{f"rates.{end}": change(f"95% CI {word}", "over seeds and questions") for end, word in _ENDS},
    **{
        f"rates.same_{end}": change(f"same rate, CI {word}", "over seeds and questions")
        for end, word in _ENDS
    },
    **{f"forgotten.net_{end}": change(f"net CI {word}", "over seeds and questions") for end, word in _ENDS},
}
