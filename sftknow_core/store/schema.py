"""Every table of results, column by column: the one place where they are declared.

Stages yield rows with these columns, the pipeline writes them as Parquet parts, the catalogue copies the
short tables, and the documentation prints this file (`docs`). A number that could not be computed is NULL;
the column `reason` says why. Longer than other files because it is a list without logic.
"""

from __future__ import annotations

from functools import partial

from sftknow_core.errors import SftknowError
from sftknow_core.store.table import Column, Table

_null = partial(Column, nullable=True)

_RUN = Column("run_id", "text", "the run that computed the row")
_STATE = Column("state_id", "text", "the model asked: a model_id, or the id of a restored state")
_FACT = Column("fact_id", "text", "hash of topic and question")
_TOPIC = Column("topic", "text", 'Wikidata property of the relation, e.g. "P19"; "" without a topic')
_SPLIT = Column("split", "text", "train, dev or test")
_DOMAIN = Column("domain", "text", "in (topics one trains on) or out")
_BASE = Column("base_id", "text", "model_id before fine-tuning")
_TUNED = Column("tuned_id", "text", "model_id after fine-tuning")
_LEVEL = _null("level", "int", "mastery level 0 to 4 of the fact under the base; NULL: not known")

MODELS = Table(
    "models",
    "Models and checkpoints: what they are and where they lie",
    (
        Column("run_id", "text", "the run that recorded the row"),
        Column("model_id", "text", "hash of weights, config and tokenizer"),
        Column("name", "text", "for people: hub id or folder name"),
        Column("path", "text", "folder; relative to the cache for what runs made"),
        Column("role", "text", "base, tuned, restored or hybrid"),
        _null("architecture", "text", 'class name in the config, e.g. "LlamaForCausalLM"'),
        _null("n_params", "int", "number of parameters, tied ones once"),
        _null("dtype", "text", 'type of the stored weights, e.g. "bfloat16"'),
        _null("vocab_size", "int", "rows of the embedding"),
        _null("size_bytes", "int", "size of the folder, in bytes"),
        _null("made_by", "text", "the run whose model/ folder it is; NULL: given by the user"),
    ),
)

STATES = Table(
    "states",
    "What was asked: whole models, and models with part of the update taken back",
    (
        _RUN,
        Column("state_id", "text", "model_id, or hash of (base, tuned, selection)"),
        Column("kind", "text", "base, tuned, restored or hybrid (100% of the region restored)"),
        _null("base_id", "text", "model_id before fine-tuning"),
        _null("tuned_id", "text", "model_id after fine-tuning; NULL for a base"),
        _null("spec", "json", "the selection that makes the state; NULL for whole models"),
    ),
)

DELTAS = Table(
    "deltas",
    "A pair of checkpoints compared: one row a pair",
    (
        _RUN,
        _BASE,
        _TUNED,
        Column("region", "text", 'named set of parameters, e.g. "transformer"; "all" for the whole model'),
        Column("n_params", "int", "number of parameters in the region"),
        Column("n_changed", "int", "how many have other bits after fine-tuning"),
        Column("sum_r", "float", "sum of the relative changes |s - p| / (|p| + eps)"),
        Column("energy", "float", "sum of the squared changes (s - p)^2"),
        _null("base_energy", "float", "sum of the squared base weights p^2"),
        _null("tiny_share_of_r", "float", "share of sum_r that comes from |p| < 1e-6, 0 to 1"),
        _null("eps", "float", "what was added to |p| in the denominator"),
    ),
)

DELTA_TENSORS = Table(
    "delta_tensors",
    "A pair of checkpoints compared, tensor by tensor",
    (
        _RUN,
        Column("tensor_id", "int", "number of the tensor; joins with cube"),
        Column("position", "int", "place in canonical order (named_parameters of the model), from 0"),
        Column("name", "text", "canonical parameter name"),
        _null("layer", "int", "transformer layer from 0; NULL outside the layers"),
        Column("kind", "text", "attention, mlp, norm, embedding, lm_head or other"),
        Column("module", "text", 'e.g. "attn.q", "mlp.down", "router"'),
        Column("n_params", "int", "number of elements"),
        Column("n_changed", "int", "how many have other bits after fine-tuning"),
        _null("sum_r", "float", "sum of the relative changes"),
        _null("energy", "float", "sum of the squared changes"),
        _null("base_energy", "float", "sum of the squared base weights"),
        _null("sum_r_tiny", "float", "the part of sum_r from |p| < 1e-6"),
        _null("max_r", "float", "largest relative change"),
    ),
)

_PERMUTED = "the same with changes permuted within each tensor"
_NULL_SPREAD = (
    _null("null_sd", "float", "standard deviation over permutations"),
    _null("null_low", "float", "2.5% quantile over permutations"),
    _null("null_high", "float", "97.5% quantile over permutations"),
    _null("n_permutations", "int", "permutations; NULL: one alone, in runs made by earlier versions"),
    _null(
        "p_more",
        "float",
        "rank p of share being more than by permutation: (1 + permutations >= share) / (1 + n)",
    ),
    _null("p_two_sided", "float", "twice the smaller rank p of more and of less, at most 1"),
)
"""Of the share of the k percent; NULL: not measured."""

CONCENTRATION = Table(
    "concentration",
    "How much of the total relative change the most changed parameters hold",
    (
        _RUN,
        Column("region", "text", 'named set of parameters, e.g. "transformer"'),
        Column("eps", "float", "what is added to |p| in the relative change"),
        Column("k_percent", "float", "the most changed k percent of the region"),
        _null("share", "float", "their share of the sum of relative changes, 0 to 1"),
        _null("null_share", "float", f"{_PERMUTED}, mean over permutations, 0 to 1"),
        *_NULL_SPREAD,
        _null(
            "top_20_share",
            "float",
            "share of the 20 parameters of largest relative change, whatever k, 0 to 1",
        ),
        _null("energy_share", "float", "their share of the squared changes, 0 to 1"),
        _null("reason", "text", "why share is NULL"),
    ),
)

NULL_SHARES = Table(
    "null_shares",
    "The null of concentration: the changes permuted within each tensor, over all k",
    (
        _RUN,
        Column("region", "text", 'named set of parameters, e.g. "transformer"'),
        Column("k_percent", "float", "the k percent of largest relative change (eps 1e-8) after permuting"),
        _null(
            "null_share",
            "float",
            "their share of the sum, mean over permutations, 0 to 1; NULL: nothing changed",
        ),
        *_NULL_SPREAD,
    ),
    long=True,
)

NULL_PLACES = Table(
    "null_places",
    "Where the most changed parameters would be, had the changes been permuted within each tensor",
    (
        _RUN,
        Column("region", "text", 'named set of parameters, e.g. "transformer"'),
        Column("k_percent", "float", "the most changed k percent of the region"),
        Column("tensor_id", "int", "number of the tensor; joins with delta_tensors"),
        Column("n_restored", "float", "parameters of the tensor among them, mean over permutations"),
    ),
    long=True,
)

ACCURACIES = Table(
    "accuracies",
    "Closed-book accuracy of one state on one question set, by mastery level and level-balanced",
    (
        _RUN,
        _STATE,
        Column("question_set_id", "text", "hash of the questions; only equal ones may be compared"),
        Column("prompt", "text", 'how it was asked, e.g. "qa"'),
        Column("matcher", "text", "which score: words, substring, exact, or a plugin's by name and hash"),
        _SPLIT,
        _DOMAIN,
        _null("level", "int", "mastery level 0 to 4; NULL: the mean over the levels (the headline)"),
        Column("subset", "text", "all, or no_answer_in_question"),
        Column("n", "int", "questions asked"),
        Column("n_right", "int", "questions answered rightly"),
        _null("accuracy", "float", "0 to 1"),
        _null("low", "float", "lower end of the 95% interval, 0 to 1"),
        _null("high", "float", "upper end of the 95% interval, 0 to 1"),
        _null("stop_rate", "float", "share of the answers that ended by themselves, 0 to 1"),
        _null("mean_length", "float", "mean length of the answers, in tokens"),
        _null("reason", "text", "why accuracy is NULL, or which levels the mean leaves out"),
    ),
)

RESTORATIONS = Table(
    "restorations",
    "Part of an update taken back: what was selected and what that amounts to",
    (
        _RUN,
        _BASE,
        _TUNED,
        _STATE,
        Column("strategy", "text", 'what is restored first, e.g. "top", "bottom", "random"'),
        _null("params", "json", "further parameters of the strategy"),
        Column("region", "text", 'named set of parameters ranked together, e.g. "transformer"'),
        _null("k_percent", "float", "share of the region restored, in percent; NULL: not chosen by count"),
        _null("alpha", "float", "factor on the remaining update for strategies that shrink it"),
        Column("n_region", "int", "parameters in the region"),
        Column("n_restored", "int", "parameters put back"),
        _null("share_of_r", "float", "their share of the region's sum of relative changes, 0 to 1"),
        _null("energy_taken_back", "float", "1 - ||out - p||^2 / ||s - p||^2 over the region, 0 to 1"),
        _null(
            "projection_taken_back",
            "float",
            "1 - <out - p, s - p> / ||s - p||^2 over the region; NULL in older runs, which did not measure it",
        ),
        _null("k_of_changed_percent", "float", "restored among the changed parameters, in percent"),
    ),
)

ANSWERS = Table(
    "answers",
    "Every answer of every state, with the scores of the matchers",
    (
        _RUN,
        _STATE,
        _FACT,
        _null("row", "int", "place of the question in its set, from 0, whatever the chunk size"),
        _TOPIC,
        _SPLIT,
        _DOMAIN,
        _LEVEL,
        Column("question", "text", "as asked"),
        Column("gold", "text", "the main right answer"),
        Column("completion", "text", "what the model wrote"),
        Column("words", "bool", "an answer occurs in it as whole words (the default score)"),
        Column("substring", "bool", "an answer occurs anywhere in it (the paper's score)"),
        Column("exact", "bool", "the completion is an answer"),
        _null("own_matcher", "bool", "right by the run's matcher; NULL where that is one of the three"),
        _null("position", "int", "characters before the match; NULL: no match"),
        Column("stopped", "bool", "it ended by itself, not at the token limit"),
        Column("n_tokens", "int", "length of the completion, in tokens"),
        Column("answer_in_question", "bool", "the question's own text holds an answer"),
    ),
    long=True,
)

FIRST_TOKEN = Table(
    "first_token",
    "How far the probabilities of an answer's first token moved between base and state",
    (
        _RUN,
        _STATE,
        _FACT,
        _null("topic", "text", "Wikidata property of the relation"),
        _LEVEL,
        _null("template", "int", "the topic's completion template asked of the base, from 0; NULL: none"),
        Column("kept", "bool", "the base's greedy completion starts with an answer"),
        Column("kept_within3", "bool", "an answer starts within its first three tokens"),
        _null("base_completion", "text", "the base's greedy completion"),
        _null("top_ids", "ints", "the state's ten most probable tokens"),
        _null("top_tokens", "texts", "the same as text"),
        _null("p_state", "floats", "softmax of the state's logits over the ten; sums to 1"),
        _null("p_base", "floats", "softmax of the base's logits over the same ten; sums to 1"),
        _null("mass_outside_state", "float", "the state's probability outside the ten, 0 to 1"),
        _null("mass_outside_base", "float", "the base's probability outside the ten, 0 to 1"),
        _null("gold_token", "text", "the answer's first token"),
        _null("gold_p_state", "float", "its probability over the whole vocabulary, state"),
        _null("gold_p_base", "float", "its probability over the whole vocabulary, base"),
        _null("gold_rank_state", "int", "its rank from 1, state"),
        _null("gold_rank_base", "int", "its rank from 1, base"),
        _null("kl_nats", "float", "KL(state with QA prompt || base with completion prompt), nats"),
        _null("kl_same_qa_nats", "float", "the same with the QA prompt for both, nats"),
        _null("kl_same_completion_nats", "float", "the same with the completion prompt for both, nats"),
        _null("kl_floor_nats", "float", "KL(base with QA prompt || base with completion prompt), nats"),
        _null("kl_aligned_nats", "float", "KL at the answer's own first token, nats"),
        _null("aligned_top_ids", "ints", "the ten tokens of the aligned variant"),
        _null("aligned_top_tokens", "texts", "the same as text"),
        _null("aligned_p_state", "floats", "p_state of the aligned variant"),
        _null("aligned_p_base", "floats", "p_base of the aligned variant"),
        _null("reason", "text", "why it was not scored; NULL: it was"),
    ),
    long=True,
)

MASTERY = Table(
    "mastery",
    "How well the base model knows each fact",
    (
        _RUN,
        _FACT,
        _TOPIC,
        _SPLIT,
        _DOMAIN,
        _null("question", "text", "as asked"),
        _null("gold", "text", "the main right answer"),
        Column("n_templates", "int", "completion templates asked"),
        Column("n_samples", "int", "completions in all"),
        Column("n_correct", "int", "completions that hold an answer"),
        _null("r", "float", "n_correct / n_samples, 0 to 1; NULL: not scored"),
        _null("r_low", "float", "lower end of the 95% interval over templates, 0 to 1"),
        _null("r_high", "float", "upper end of the 95% interval over templates, 0 to 1"),
        _null("level", "int", "0: r = 0; i in 1..4: r in ((i-1)/4, i/4]; NULL: not scored"),
        _null("borderline", "bool", "the interval crosses 0.25, 0.5 or 0.75"),
        _null("expected_mastery", "float", "probability that a completion starts with an answer"),
        _null("expected_level0_marked", "bool", "level 0 though expected mastery exceeds 1 / n_samples"),
        _null("reason", "text", "why r is NULL"),
    ),
    long=True,
)

MASTERY_TEMPLATES = Table(
    "mastery_templates",
    "How well the base model knows each fact, template by template",
    (
        _RUN,
        _FACT,
        Column("template", "int", "number of the topic's completion template, from 0"),
        Column("n_correct", "int", "completions that hold an answer"),
        Column("n_samples", "int", "completions of this template"),
        _null("expected", "float", "probability that a completion starts with an answer"),
    ),
    long=True,
)

TRAIN_LOG = Table(
    "train_log",
    "The loss while fine-tuning or pre-training",
    (
        _RUN,
        Column("step", "int", "optimiser steps done"),
        _null("epoch", "float", "passes over the training set done"),
        _null("loss", "float", "mean over the step's tokens, nats; NULL: it was no finite number"),
        _null("learning_rate", "float", "at this step"),
        _null("grad_norm", "float", "norm of the gradient before clipping"),
        _null("seconds", "float", "since the start of training, s"),
    ),
    long=True,
)

TRAIN_SET = Table(
    "train_set",
    "The facts one fine-tuning saw, in the order they were drawn",
    (
        _RUN,
        _FACT,
        Column("row", "int", "place in the set, from 0"),
        _TOPIC,
    ),
    long=True,
)

SHIFTS = Table(
    "shifts",
    "Mean token shift of one state by mastery level",
    (
        _RUN,
        _STATE,
        _SPLIT,
        _DOMAIN,
        _LEVEL,
        Column("measure", "text", "shift, shift_within3, aligned, same_qa, same_completion or floor"),
        Column("n", "int", "questions that count"),
        Column("n_questions", "int", "questions of the level"),
        _null("mean_nats", "float", "mean KL, nats; NULL: no question counts"),
        _null("sd_nats", "float", "its standard deviation over questions, nats"),
        _null("low_nats", "float", "lower end of the 95% interval, nats"),
        _null("high_nats", "float", "upper end of the 95% interval, nats"),
        _null("reason", "text", "why the mean is NULL"),
    ),
)

CUBE = Table(
    "cube",
    "Histogram of the change of every parameter: exact counts and sums by tensor, score and bin",
    (
        _RUN,
        Column("tensor_id", "int", "number of the tensor; joins with delta_tensors"),
        Column(
            "score",
            "text",
            "relative (r), absolute (|d|), relative_1e-6 and relative_1e-4 (r with a larger epsilon), or "
            "permuted (r after the changes were permuted within each tensor, once; see null_shares)",
        ),
        Column("bin", "int", "top 16 bits of the score as float32, 0 to 32767; grows with the score"),
        Column("n", "int", "parameters in the bin"),
        Column("sum_score", "float", "sum of their scores"),
        _null("sum_d2", "float", "sum of their squared changes; given for relative and absolute only"),
    ),
    long=True,
)

MASKS = Table(
    "masks",
    "The weights that restoring picks, compared between fine-tunings of one base: one row two masks and k",
    (
        _RUN,
        _BASE,
        Column("first_id", "text", "model_id of the fine-tuned model whose mask it is"),
        _null("second_id", "text", "of the other; NULL: the mask of the smallest |p|, which all share"),
        Column("strategy", "text", "what a mask holds first"),
        Column("region", "text", "named set of parameters ranked together"),
        Column("k_percent", "float", "share of the region in a mask, in percent"),
        Column("n_region", "int", "parameters in the region"),
        Column("n_first", "int", "in the first mask"),
        Column("n_second", "int", "in the second"),
        Column("n_both", "int", "in both"),
        _null("n_expected", "float", "in both, were they independent within the |p| deciles of each tensor"),
        _null("jaccard", "float", "n_both / in either; NULL: both are empty"),
        _null("chance_jaccard", "float", "of independent masks, k / (2 - k)"),
        _null("expected_jaccard", "float", "with n_expected in the place of n_both"),
        _null("energy_share", "float", "share of the first model's squared change in the second mask"),
        _null("own_energy_share", "float", "and in its own"),
        _null("reason", "text", "why a number is NULL"),
    ),
)

DONORS = Table(
    "donors",
    "A fine-tuned model restored with the mask of another: accuracy on in-domain test questions",
    (
        _RUN,
        _BASE,
        _TUNED,
        Column("donor_id", "text", "model_id whose mask is used; tuned_id itself: the own mask"),
        Column("k_percent", "float", "share of the region reverted, in percent"),
        Column("state_id", "text", "of the model asked"),
        Column("evaluate_id", "text", "the run with its answers"),
        Column("n", "int", "questions"),
        _null("accuracy", "float", "level-balanced, 0 to 1"),
        _null("low", "float", "lower end of the 95% interval, 0 to 1"),
        _null("high", "float", "upper end of the 95% interval, 0 to 1"),
        _null("reason", "text", "why accuracy is NULL"),
    ),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        MODELS,
        STATES,
        DELTAS,
        DELTA_TENSORS,
        CONCENTRATION,
        NULL_SHARES,
        NULL_PLACES,
        ACCURACIES,
        RESTORATIONS,
        ANSWERS,
        FIRST_TOKEN,
        MASTERY,
        MASTERY_TEMPLATES,
        TRAIN_LOG,
        TRAIN_SET,
        SHIFTS,
        CUBE,
        MASKS,
        DONORS,
    )
}
SHORT_TABLES: tuple[Table, ...] = tuple(table for table in TABLES.values() if not table.long)


def table_named(name: str) -> Table:
    """A declared table. Raises SftknowError naming the ones there are."""
    if name not in TABLES:
        raise SftknowError(f"there is no table {name!r}; there are: {', '.join(TABLES)} (store/schema.py)")
    return TABLES[name]


def docs() -> str:
    """All tables and columns as Markdown."""
    parts = []
    for table in TABLES.values():
        place = "Parquet parts of the runs" if table.long else "catalogue"
        lines = [f"## {table.name}", "", f"{table.meaning}. Read from: {place}.", ""]
        lines += ["| column | type | NULL | meaning |", "|---|---|---|---|"]
        for column in table.columns:
            meaning = column.meaning.replace("|", "\\|")
            null = "yes" if column.nullable else ""
            lines.append(f"| {column.name} | {column.type} | {null} | {meaning} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
