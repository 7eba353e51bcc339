"""Every term that pages, reports and the terminal define, once: name -> definition, unit, source.

`bullets` assembles the definitions of one page or report as a Markdown list. The manual's glossary is a loop over
`TERMS`: the field `name` as heading, then `unit`, `definition` and `source`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """One term and what it means."""

    name: str
    definition: str
    """Plain text with bold Markdown only; it follows the name and a colon."""
    unit: str = ""
    """As printed after the name, e.g. "%", "nats, never negative"; "" where it has none to state."""
    source: str = ""
    """Where the paper defines it; "" for what is ours or common."""


TERMS: dict[str, Term] = {
    "mastery level": Term(
        "Mastery level",
        "of a fact and a base model, from R, the share of its sampled completions that are correct. 0: none; "
        "1: up to 25%; 2: up to 50%; 3: up to 75%; 4: up to 100%. A question has the level of its fact; "
        "another model knows other facts.",
        unit="0 to 4",
    ),
    "R": Term(
        "R",
        "the base model completes the fact's 21 sentences (“X was born in …”), each several times at "
        "temperature 0.7 by default; R is the share of all these completions that contain the answer or a "
        "synonym of it.",
        unit="%",
    ),
    "interval of R": Term(
        "95% CI of R",
        "from the 21 templates' shares (Student t, cut at 0 and 100%), because templates differ far more than "
        "repeated samples of one template do.",
    ),
    "borderline": Term(
        "Borderline",
        "the 95% CI of R crosses 25, 50 or 75%. With other templates the fact could have another level.",
    ),
    "expected mastery": Term(
        "Expected mastery",
        "the model's own probability, at the same temperature, that a completion begins with an answer, "
        "averaged over the templates. It has no sampling noise. It is mostly below R, because an answer later "
        "in the sentence does not count.",
        unit="%",
    ),
    "possible false level 0": Term(
        "Possible false level 0",
        "0 correct samples, but more than 1 expected. Such a fact was probably missed by chance.",
    ),
    "rank correlation": Term(
        "Rank correlation",
        "Spearman; 1 where R and expected mastery order the facts alike.",
        unit="−1 to 1",
    ),
    "domain": Term(
        "In-domain, out-of-domain",
        "facts of the topics used for fine-tuning; facts of all other topics.",
    ),
    "models": Term(
        "Base, tuned, restored",
        "the model before fine-tuning, after it, and after reverting k% of the region's weights to base.",
    ),
    "accuracy": Term(
        "Accuracy",
        "share of correct greedy answers. “Mean”: the mean over the mastery levels, so that each level counts "
        "alike.",
        unit="%",
    ),
    "N": Term(
        "N",
        "number of facts in the train set, all of the named training level.",
        unit="facts",
    ),
    "training level": Term(
        "Training level, question level",
        "mastery level of the facts in the train set; mastery level of a test question's fact.",
    ),
    "mixed": Term(
        "Mixed, natural",
        "train sets with a fifth of each level; with levels as they occur.",
    ),
    "sizes": Term(
        "Sizes",
        "the paper names 60, 240 and 1,920 facts, the same number from each in-domain topic. Within a seed a "
        "smaller set is part of a larger one. **all**: every fact of the level.",
    ),
    "seed": Term(
        "Seed",
        "draws the train set and sets its order. The paper repeats each setting with several seeds.",
    ),
    "method": Term(
        "Full, LoRA",
        "full trains every parameter (the paper's way); LoRA trains a small adapter on the frozen model.",
    ),
    "hyperparameters": Term(
        "Learning rate, epochs, batch size",
        "peak step size of AdamW, passes over the facts, facts per step.",
    ),
    "loss": Term(
        "Loss",
        "minus the log-probability that the model gives the target answers; 0 is certainty.",
        unit="nats per token",
    ),
    "relative change": Term(
        "r",
        "|tuned − base| / (|base| + 10⁻⁸), the relative change of a weight.",
        unit="no unit",
    ),
    "absolute change": Term(
        "|d|",
        "|tuned − base|, the absolute change of a weight.",
        unit="units of the weights",
    ),
    "k": Term(
        "k",
        "reverted share of the region's weights, in the order of the ranking (by default the largest relative "
        "change first). k = 0 is the tuned model.",
        unit="%",
    ),
    "k values": Term(
        "Values of k",
        "the paper uses 1, 3, 5, 10, 20, 40 and 60; 100 is always added.",
        unit="%",
    ),
    "region": Term(
        "Region",
        "the weights that can be reverted. By default attention and MLP of all layers, without norms "
        "(“transformer”); “outside”: weights in no layer.",
    ),
    "k = 100%": Term(
        "k = 100% (layers = base)",
        "the whole region is base; embeddings, LM head and norms stay tuned, so it differs from base unless "
        "the region is “all”.",
    ),
    "energy taken back": Term(
        "Update taken back",
        "share of the region's squared change that is reverted, Σd² over the reverted weights / Σd² over all. "
        "At the same k, rankings revert different parts of it.",
        unit="%",
    ),
    "projection taken back": Term(
        "Projection taken back",
        "how far back along the update a restored model went, 1 − ⟨out − base, d⟩ / ⟨d, d⟩ over the region. Reverting "
        "whole weights, it equals the update taken back; interpolating by α it is 1 − α, where the update taken back "
        "is 1 − α². A fair comparison with an interpolation is at equal projection.",
        unit="%",
    ),
    "changed": Term(
        "Changed, bit-identical",
        "the bits of a weight differ from before fine-tuning, or are the same. Weights stored in 16 bits "
        "round small changes away, and a token that no training text contains leaves its input embedding "
        "unchanged; a k beyond the changed share reverts unchanged weights.",
    ),
    "concentration": Term(
        "Concentration",
        "the part of the region's summed r that the first k% contain.",
        unit="%",
        source="table 3",
    ),
    "null": Term(
        "Null",
        "the same changes shuffled within each tensor, and r computed anew; mean over 199 shuffles (40 above 20 M "
        "weights). Concentration that the null has too comes from base weights near zero, not from which weights "
        "changed. A few such weights hold much of the summed r: single shuffles differ, 95% of them by the band.",
    ),
    "rank p": Term(
        "Rank p",
        "(1 + shuffles whose share is at least as high) / (1 + shuffles), or as low; two-sided: twice the smaller. All "
        "fine-tunings of a base share its weights, so it holds for this base only.",
    ),
    "enrichment": Term(
        "Enrichment",
        "a group's share of the reverted weights / its share of the region's weights. 1: as by chance.",
        unit="no unit",
    ),
    "cube error": Term(
        "± pp",
        "counts are exact. Sums inside the last bin of the stored histogram are interpolated; this is their "
        "largest error.",
    ),
    "KL": Term(
        "KL(tuned || base)",
        "over the ten tokens most probable after tuning, both re-normalised over the ten, at the answer's "
        "first token; tuned sees the question, base its best completion prompt. Leading words such as “the” "
        "that base writes are skipped (aligned KL). 0: no shift. “–”: not scored, because base does not begin "
        "to answer there.",
        unit="nats, never negative",
    ),
    "gold answer": Term(
        "Gold answer",
        "the correct answer; for probabilities mostly its first token (★). Probability and rank (1: the most "
        "probable) are over the whole vocabulary: base after its completion prompt, tuned and restored after "
        "the question.",
    ),
    "correct": Term(
        "✓ ✗",
        "correct or incorrect: whether the greedy answer contains the gold answer, by the run's matcher "
        "(usually as whole words).",
    ),
    "prompt": Term(
        "5-shot, zero-shot",
        "the question after five solved ones from the train facts of its topic, the same for base, tuned and restored, "
        "which show the form of the answer; the question alone in the prompt tuned with, which base never saw and "
        "hardly answers. Models are compared under one of them at a time, and 5-shot says more about what they know.",
    ),
    "recovered": Term(
        "Recovered, broken",
        "incorrect when tuned and correct when restored; correct when tuned and incorrect when restored.",
        unit="questions",
    ),
    "flips": Term(
        "Correct → incorrect, incorrect → correct",
        "changed answers. Two fine-tunings that differ only in the seed change answers against each other as "
        "well.",
        unit="questions",
    ),
    "pp": Term(
        "pp",
        "percentage points: the difference of two shares in percent, after minus before on the same "
        "questions.",
    ),
    "split": Term(
        "dev, test",
        "k is chosen on dev questions (smallest k within one standard error of the best), and reported on "
        "test questions.",
    ),
    "question set": Term(
        "Question set",
        "the questions that an accuracy is over. Only numbers over the same set are compared or subtracted.",
    ),
    "interval": Term(
        "95% CI",
        "95% confidence interval over questions of the same kind, for this run only; it does not cover seeds, "
        "topics or models.",
    ),
    "p level": Term(
        "p, one level; p, mean; p, Holm",
        "exact McNemar test, two-sided; of the mean by the rule of its interval, a t test of "
        "no change; adjusted for the five levels of a domain and step. Only p (Holm) < 0.05 "
        "counts as a change of a level.",
    ),
    "answer": Term(
        "Answer",
        "greedy, the most probable token at each step, at most 16 of them.",
    ),
    "first token": Term(
        "First token",
        "what the model predicts right after the prompt: the ten most probable tokens of each model, with "
        "their probability over the whole vocabulary; ten and “all others” sum to 100%. ␣ is a space.",
    ),
    "cell": Term(
        "Cell",
        "one fine-tuning setting of a study: training level, N and seed.",
    ),
    "effect": Term(
        "Effect",
        "positive where it is as claimed. Of a claim with several parts, that of a part with the claim's own "
        "verdict: the weakest where all parts are needed, the strongest where one is enough.",
    ),
    "study interval": Term(
        "95% CI of an effect",
        "effects that agree with the data. “Seeds and questions”: over other seeds and other questions of the "
        "same kind; “questions”: over other questions for the single seed. Never over topics or models.",
    ),
    "study p": Term(
        "p; p, Holm",
        "probability of an effect at least this large if there were none; adjusted for the parts of the claim "
        "where one of them is enough for the verdict on this side of zero. Where all parts are needed, each is shown "
        "at its own p.",
    ),
}
"""Key, as passed to `bullets` -> term."""


def bullets(*keys: str) -> str:
    """These terms as a Markdown list, in this order. Raises: KeyError for a key that is not in `TERMS`."""
    return "".join(f"- {_bullet(TERMS[key])}\n" for key in keys)


def _bullet(term: Term) -> str:
    unit = f" ({term.unit})" if term.unit else ""
    return f"**{term.name}**{unit}: {term.definition}"
