"""Your own facts, from the files that people have: CSV, TSV, JSON, JSON Lines, Parquet, each also as .gz.

    file --records--> one dictionary a row --form--> question, answers and what else is known --facts_of--> facts

The form is recognised by the names of columns (or keys), whatever their case and the spaces around them:

    own           question, answers (or answer); optional: topic, subject, split, domain
    PopQA         question, possible_answers; optional: subj, prop
    Alpaca        instruction, input, output             the input follows the instruction on a line of its own
    prompt        prompt, completion                      texts or chat messages
    messages      messages: [{role, content}]             one user turn and one assistant turn; other talks are left out
    ShareGPT      conversations: [{from, value}]          likewise
    SQuAD         data/paragraphs/qas as published, or rows with answers: {text: [...]}
    TriviaQA      Data/Question/Answer as published, or rows with answer: {value, aliases}
    NQ            question: {text}, annotations: {short_answers: [{text}]}; NQ-open is "own" with `answer`

Several answers: a list, a JSON list as text, or texts divided by "|"; any of them is right, the first is the main one.
Other columns are ignored and counted, but for one whose name is nearly an optional one's, which is a mistake.

A file without any split is divided by a hash of the normalised question, 60% train, 20% dev and 20% test, so that
the same question always falls into the same split; a `split` column overrides this (rows that leave it empty are
test). Questions that are equal but for case, spaces and punctuation count as one question for the splits: they are
all put into the most protected one (test, then dev, then train); rows.py explains how rows are merged.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sftknow_core.errors import DataError
from sftknow_core.facts.fact import DOMAINS, SPLITS, FactSet
from sftknow_core.facts.records import SUFFIXES, Record, records, suffix_of
from sftknow_core.facts.rows import Row, facts_of
from sftknow_core.facts.words import normalise, word_text

_OPTIONAL = ("topic", "subject", "split", "domain")
_KNOWN = ("question", "answers", "answer", *_OPTIONAL)
LONG_ANSWER_WORDS = 12
"""An answer of more words is no short fact: a completion seldom repeats it word by word."""
LONG_NOTE = f"answers of more than {LONG_ANSWER_WORDS} words: no short facts, hardly any will count as known"
NO_WORD_NOTE = "answers without any letter or digit: looked for symbol by symbol, for they have no words"
HASHED_NOTE = "split by a hash of the question, for the file has no `split` (60% train, 20% dev, 20% test)"
SEVERAL_TURNS = "conversation with more than one question and answer"


def is_own_facts(path: Path) -> bool:
    """Whether the name is that of a file of own facts: one of SUFFIXES, perhaps followed by .gz."""
    return suffix_of(path) in SUFFIXES


def read_own_facts(path: Path) -> FactSet:
    """The facts of a file in UTF-8 (or UTF-16 with a byte order mark, as spreadsheets write it).

    FactSet.notes say as which form it was read, which columns were ignored and how rows came to their split.

    Raises:
        DataError: the file cannot be read or is empty, is of no known form, or a row is incomplete; the message names
            its line or row.
    """
    if not is_own_facts(path):
        raise DataError(
            f"{path}: own facts come as {', '.join(SUFFIXES)} (each also .gz); rename or convert the file"
        )
    notes: Counter[str] = Counter()
    try:
        found = [_row(raw, f"{path}, {where}") for where, raw in _raw_rows(path, notes)]
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror or e}; give an existing file") from e
    except (EOFError, zlib.error) as e:
        raise DataError(f"{path} is not whole ({e}); compress or download it again") from e
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is not UTF-8 ({e}); save it as UTF-8") from e
    if not found:
        raise DataError(f"{path} holds no facts; add rows with `question` and `answers`")
    rows = found
    if not any(row.split for row in found):
        rows = [row._replace(split=split_of(row.question)) for row in found]
        notes[HASHED_NOTE] = len(rows)
    rows = [row._replace(split=row.split or "test") for row in rows]
    answers = [answer for row in rows for answer in row.answers]
    notes[LONG_NOTE] = sum(len(answer.split()) > LONG_ANSWER_WORDS for answer in answers)
    notes[NO_WORD_NOTE] = sum(not word_text(normalise(answer)).strip() for answer in answers)
    facts = facts_of(rows, str(path), filter="all", same_question=plain_question)
    return FactSet(facts.facts, facts.source, facts.dropped, {**facts.notes, **(+notes)})


def plain_question(question: str) -> str:
    """The words of a question, without case, accents of writing (NFKC), spaces and punctuation."""
    return word_text(normalise(question)).strip() or question


def split_of(question: str) -> str:
    """train, dev or test: 60, 20 and 20 in 100 by sha256 of `plain_question`."""
    rank = int.from_bytes(hashlib.sha256(f"split:{plain_question(question)}".encode()).digest()[:8]) % 100
    return "train" if rank < 60 else "dev" if rank < 80 else "test"


class _Raw(NamedTuple):
    """What a form finds in a record, not yet checked."""

    question: Any
    answers: Any
    more: Mapping[str, Any] = {}
    """Of _OPTIONAL those that are there."""


class _Form(NamedTuple):
    """A way to write facts down."""

    name: str
    said: str
    """What was understood, for people."""
    fits: Callable[[Record], bool]
    read: Callable[[Record], _Raw | None]
    """None: a record that holds no single question and answer, and is left out."""
    uses: frozenset[str]
    """The names it reads besides _OPTIONAL."""


def _raw_rows(path: Path, notes: Counter[str]) -> Iterator[tuple[str, _Raw]]:
    form: _Form | None = None
    ignored: set[str] = set()
    n_rows = 0
    for where, record in records(path, _NAMES, _check_header):
        if form is None or not form.fits(record):
            form = _form_of(record, f"{path}, {where}")
        extra = [name for name in record if name not in form.uses and name not in _OPTIONAL]
        _refuse_near_misses(extra, record, f"{path}, {where}")
        ignored.update(extra)
        raw = form.read(record)
        if raw is None:
            notes[SEVERAL_TURNS] += 1
            continue
        n_rows += 1
        if form.name != "own":
            notes[f"read as {form.name}: {form.said}"] += 1
        yield where, raw
    if ignored:
        notes[f"rows whose further columns are ignored: {', '.join(sorted(ignored))}"] = n_rows


def _form_of(record: Record, where: str) -> _Form:
    for form in _FORMS:
        if form.fits(record):
            return form
    missing = "answers" if "question" in record else "question"
    near = difflib.get_close_matches(missing, record, n=1)
    meant = f" (did you mean `{near[0]}`? rename it)" if near else ""
    raise DataError(
        f"{where}: no `{missing}`; a fact needs question and answers{meant}. There is: "
        f"{', '.join(record) or 'nothing'}. "
        f"Also understood: {'; '.join(f'{form.name} ({form.said})' for form in _FORMS[1:])}"
    )


def _refuse_near_misses(extra: Iterable[str], record: Record, where: str) -> None:
    for name in extra:
        near = difflib.get_close_matches(name, _OPTIONAL, n=1, cutoff=0.8)
        if near and near[0] not in record:
            raise DataError(
                f"{where}: unknown `{name}`; allowed: {', '.join(_KNOWN)}. If it means `{near[0]}`, rename it; other "
                "names are ignored"
            )


# Forms: what a record says


def _own(record: Record) -> _Raw:
    answers = record["answers"] if "answers" in record else record["answer"]
    return _Raw(record["question"], answers, record)


def _popqa(record: Record) -> _Raw:
    more = {"subject": record.get("subj"), "topic": record.get("prop"), "split": record.get("split")}
    return _Raw(record["question"], record["possible_answers"], more)


def _alpaca(record: Record) -> _Raw:
    parts = [part for part in (record["instruction"], record.get("input")) if part]
    question = "\n".join(parts) if all(isinstance(part, str) for part in parts) else parts[0]
    return _Raw(question, [record["output"]], record)


def _prompt_completion(record: Record) -> _Raw | None:
    prompt, completion = record["prompt"], record["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        return _talk(
            [*prompt, *completion], "role", "content", {"user": "user", "assistant": "assistant"}, record
        )
    return _Raw(prompt, [completion], record)


def _messages(record: Record) -> _Raw | None:
    return _talk(record["messages"], "role", "content", {"user": "user", "assistant": "assistant"}, record)


def _sharegpt(record: Record) -> _Raw | None:
    speakers = {
        "human": "user",
        "user": "user",
        "gpt": "assistant",
        "assistant": "assistant",
        "chatgpt": "assistant",
    }
    return _talk(record["conversations"], "from", "value", speakers, record)


def _talk(turns: Any, who: str, what: str, speakers: Mapping[str, str], record: Record) -> _Raw | None:
    """One question and its answer; None where there are more turns. What the system says is left out."""
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        return None
    said = [(speakers.get(str(turn.get(who))), turn.get(what)) for turn in turns if turn.get(who) != "system"]
    if [speaker for speaker, _ in said] != ["user", "assistant"]:
        return None
    return _Raw(said[0][1], [said[1][1]], record)


def _squad(record: Record) -> _Raw:
    answers = record["answers"]
    texts = answers["text"] if isinstance(answers, Mapping) else [one.get("text") for one in answers]
    return _Raw(record["question"], list(dict.fromkeys(texts)), {"split": record.get("split")})


def _trivia(record: Record) -> _Raw:
    answer = record["answer"]
    main = answer.get("value", answer.get("Value"))
    aliases = answer.get("aliases", answer.get("Aliases")) or []
    return _Raw(record["question"], list(dict.fromkeys([main, *aliases])), {"split": record.get("split")})


def _natural(record: Record) -> _Raw:
    question, found = record["question"], record["annotations"]
    per_annotator = found if isinstance(found, list) else [found]
    short = [one for annotator in per_annotator for one in annotator.get("short_answers", ())]
    texts = [text for one in short for text in _as_list(one.get("text"))]
    return _Raw(question["text"], list(dict.fromkeys(texts)), {"split": record.get("split")})


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _is_squad(record: Record) -> bool:
    answers = record.get("answers")
    nested = isinstance(answers, Mapping) and "text" in answers
    listed = isinstance(answers, list) and bool(answers) and all(isinstance(one, Mapping) for one in answers)
    return "question" in record and (nested or listed)


def _has(*names: str) -> Callable[[Record], bool]:
    return lambda record: set(names) <= record.keys()


_FORMS = (
    _Form(
        "own",
        "question, answers",
        lambda record: (
            "question" in record
            and ("answers" in record or "answer" in record)
            and not _is_squad(record)
            and not isinstance(record.get("answer"), Mapping)
        ),
        _own,
        frozenset({"question", "answers", "answer"}),
    ),
    _Form("SQuAD", "question, answers.text", _is_squad, _squad, frozenset({"question", "answers"})),
    _Form(
        "TriviaQA",
        "question, answer.value and answer.aliases",
        lambda record: "question" in record and isinstance(record.get("answer"), Mapping),
        _trivia,
        frozenset({"question", "answer"}),
    ),
    _Form(
        "NQ",
        "question.text, annotations.short_answers",
        lambda record: isinstance(record.get("question"), Mapping) and "annotations" in record,
        _natural,
        frozenset({"question", "annotations"}),
    ),
    _Form(
        "PopQA",
        "question, possible_answers, subj, prop",
        _has("question", "possible_answers"),
        _popqa,
        frozenset({"question", "possible_answers", "subj", "prop"}),
    ),
    _Form(
        "Alpaca",
        "question = instruction and input, answer = output",
        _has("instruction", "output"),
        _alpaca,
        frozenset({"instruction", "input", "output"}),
    ),
    _Form(
        "prompt-completion",
        "question = prompt, answer = completion",
        _has("prompt", "completion"),
        _prompt_completion,
        frozenset({"prompt", "completion"}),
    ),
    _Form(
        "messages",
        "question = the user's turn, answer = the assistant's",
        _has("messages"),
        _messages,
        frozenset({"messages"}),
    ),
    _Form(
        "ShareGPT",
        "question = the human's turn, answer = the model's",
        _has("conversations"),
        _sharegpt,
        frozenset({"conversations"}),
    ),
)
"""The first that fits is taken."""
_NAMES = frozenset(_OPTIONAL).union(*(form.uses for form in _FORMS))
"""Every name of a column that means something."""


def _check_header(names: Sequence[str], where: str) -> None:
    """A header with a question and no answer, or with a name that is nearly one we know, is a mistake."""
    header = dict.fromkeys(names)
    _refuse_near_misses([name for name in names if name not in _NAMES], header, where)
    if "question" in names and not {"answers", "answer", "possible_answers"} & set(names):
        _form_of(header, where)


# Raw values -> a checked row


def _row(raw: _Raw, where: str) -> Row:
    more = {name: _text(raw.more.get(name), name, where) for name in _OPTIONAL}
    question = _text(raw.question, "question", where)
    if question is None:
        raise DataError(f"{where}: the question is empty; fill it in or remove the line")
    split, domain = more["split"], more["domain"]
    return Row(
        topic=more["topic"] or "",
        question=question,
        answers=_answers(raw.answers, where),
        subject=more["subject"],
        split=_one_of(SPLITS, split, "split", where) if split else "",
        domain=_one_of(DOMAINS, domain or "in", "domain", where),
    )


def _text(value: Any, key: str, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: `{key}` is {value!r}, not text; put it in quotes")
    return _encodable((value or "").strip(), key, where) or None


def _encodable(text: str, key: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise DataError(
            f"{where}: `{key}` holds half a character ({text[e.start]!r}), as text cut in the middle of an emoji does; "
            "remove it"
        ) from e
    return text


def _one_of(allowed: tuple[str, ...], value: str, key: str, where: str) -> str:
    if value not in allowed:
        raise DataError(f"{where}: {key} is {value!r}; allowed: {', '.join(allowed)}")
    return value


def _answers(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = _answer_list(value, where)
    if value is None or value == []:
        raise DataError(f"{where}: no answers; give at least one")
    if not isinstance(value, list) or not all(isinstance(a, str) for a in value):
        raise DataError(
            f"{where}: answers are {value!r}; give a text, a list of texts, or texts divided by |"
        )
    if not all(a.strip() for a in value):
        raise DataError(f"{where}: one of the answers {value!r} is empty; remove it")
    return tuple(dict.fromkeys(_encodable(a.strip(), "answers", where) for a in value))


def _answer_list(text: str, where: str) -> Any:
    if not text.lstrip().startswith("["):
        return text.split("|") if text.strip() else []
    try:
        return json.loads(text)
    except ValueError as e:
        try:
            return ast.literal_eval(text.strip())  # a list as Python prints it
        except (ValueError, SyntaxError):
            raise DataError(f"{where}: the answers {text!r} begin like a JSON list but are none ({e})") from e
