"""How often is the matcher wrong? Stored completions drawn at random, judged by a reader, compared with its verdicts.

    runs --draw--> Audit (a CSV, its column `judged` empty) --a reader fills it in--> read --rates--> error rates

The strata are the completions that the WORDS rule calls right and those that it calls wrong; half of the sample comes
from each, and each row says how many completions its stratum holds, so that rates of all completions can be worked out
from the two. Judgements stand in the CSV alone: no stored verdict changes.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from sftknow_core.errors import DataError, SpecError
from sftknow_core.facts.synonyms import load_synonyms, with_synonyms
from sftknow_core.results.chain import Chain
from sftknow_core.results.run import Run
from sftknow_core.stats.intervals import weighted_sum, wilson
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import open_parts
from sftknow_core.store.files import write_atomic
from sftknow_core.store.schema import ANSWERS

RIGHT, WRONG, UNSURE, OPEN = "right", "wrong", "unsure", ""
VERDICTS = (RIGHT, WRONG)
JUDGED = (RIGHT, WRONG, UNSURE)
DEFAULT_N = 200


@dataclass(frozen=True)
class AuditRow:
    """One completion of the sample; the fields are the columns of the CSV."""

    run_id: str
    state_id: str
    fact_id: str
    matcher_version: str
    """Of the rules when the verdict was stored."""
    question: str
    objects: str
    """The main right answer and its synonyms, divided by |. A fact's other answers are not stored with completions."""
    completion: str
    verdict: str
    """What the WORDS rule said: right or wrong."""
    n_stratum: int
    """Completions with this verdict that the sample was drawn from."""
    judged: str = OPEN
    """right, wrong or unsure; empty: not judged yet."""


COLUMNS = tuple(field.name for field in fields(AuditRow))


@dataclass(frozen=True)
class Rate:
    """A share of completions, 0 to 1, with its 95% interval; None and a reason where nothing says it."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Judgements it rests on."""
    reason: str | None = None


@dataclass(frozen=True)
class AuditRates:
    """What the judgements say about the matcher."""

    false_positive: Rate
    """Of the completions it calls right, the share that is wrong. Wilson interval."""
    false_negative: Rate
    """Of those it calls wrong, the share that is right. Wilson interval."""
    error: Rate
    """Of all completions, the share with a wrong verdict: both rates by the sizes of their strata."""
    accuracy_error: Rate
    """Its accuracy minus the readers': -1 to 1. Positive: the matcher's is too high."""
    accuracy: Rate
    """The share of all completions that are right, as judged."""
    n_judged: int
    """Right or wrong."""
    n_unsure: int
    """Counted nowhere else."""
    n_open: int
    """Not judged yet."""


@dataclass(frozen=True)
class Audit:
    """A sample, in the order in which it is to be judged."""

    rows: tuple[AuditRow, ...]

    @property
    def next_open(self) -> int | None:
        """The first row that is not judged; None: all are."""
        return next((i for i, row in enumerate(self.rows) if row.judged == OPEN), None)

    def judge(self, number: int, judged: str) -> Audit:
        """The same with row `number` (from 0) judged right, wrong, unsure or (empty) not at all. Raises SpecError."""
        if judged not in (*JUDGED, OPEN):
            raise SpecError(f"judged: got {judged!r}; allowed: {', '.join(JUDGED)}, or empty")
        rows = list(self.rows)
        rows[number] = replace(rows[number], judged=judged)
        return Audit(tuple(rows))

    def to_csv(self) -> str:
        """The CSV with a header."""
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.rows)
        return out.getvalue()

    def save(self, path: Path) -> None:
        """Write the CSV, whole or not at all. Raises CacheError where the disk is full."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, self.to_csv().encode())

    def rates(self) -> AuditRates:
        """How often the matcher is wrong, from what is judged so far."""
        counts = Counter((row.verdict, row.judged) for row in self.rows)
        sizes = {row.verdict: row.n_stratum for row in self.rows}
        n = {verdict: counts[verdict, RIGHT] + counts[verdict, WRONG] for verdict in VERDICTS}
        wrong = {RIGHT: counts[RIGHT, WRONG], WRONG: counts[WRONG, RIGHT]}
        share = {
            verdict: sizes.get(verdict, 0) / sum(sizes.values()) if sizes else 0.0 for verdict in VERDICTS
        }
        right_as_judged = {RIGHT: counts[RIGHT, RIGHT], WRONG: counts[WRONG, RIGHT]}
        return AuditRates(
            false_positive=_of_stratum(RIGHT, sizes, wrong, n),
            false_negative=_of_stratum(WRONG, sizes, wrong, n),
            error=_of_all(share, share, wrong, n),
            accuracy_error=_of_all(share, {RIGHT: share[RIGHT], WRONG: -share[WRONG]}, wrong, n),
            accuracy=_of_all(share, share, right_as_judged, n),
            n_judged=sum(n.values()),
            n_unsure=sum(row.judged == UNSURE for row in self.rows),
            n_open=sum(row.judged == OPEN for row in self.rows),
        )


def _of_stratum(verdict: str, sizes: dict[str, int], wrong: dict[str, int], n: dict[str, int]) -> Rate:
    if verdict not in sizes:
        return Rate(None, None, None, 0, f"no completion was called {verdict}")
    if not n[verdict]:
        return Rate(None, None, None, 0, f"no completion called {verdict} is judged right or wrong yet")
    return Rate(wrong[verdict] / n[verdict], *wilson(wrong[verdict], n[verdict]), n[verdict])


def _of_all(
    share: dict[str, float], weights: dict[str, float], hits: dict[str, int], n: dict[str, int]
) -> Rate:
    """A weighted sum over the strata that hold anything."""
    held = [verdict for verdict in VERDICTS if share[verdict] > 0]
    if missing := [verdict for verdict in held if not n[verdict]]:
        return Rate(
            None,
            None,
            None,
            sum(n.values()),
            f"no completion called {missing[0]} is judged right or wrong yet",
        )
    if not held:
        return Rate(None, None, None, 0, "the sample is empty")
    value, low, high = weighted_sum([weights[v] for v in held], [hits[v] for v in held], [n[v] for v in held])
    return Rate(value, low, high, sum(n.values()))


# Drawing.


def draw(cache: Cache, run_ids: Sequence[str], n: int = DEFAULT_N, seed: int = 0) -> Audit:
    """n completions of these runs, half of each stratum as far as it goes, in random order.

    A chain stands for its evaluations. With the same seed a larger sample of a stratum holds the smaller one.
    Raises SpecError for n below 1, for a run without completions and for runs judged by different versions of the
    rules; GoneError, NotFinishedError and DamagedError as the runs do.
    """
    if n < 1:
        raise SpecError(f"n: got {n}; allowed: at least 1 completion")
    versions = {run_id: _matcher_version(cache, run_id) for run_id in _evaluations(cache, run_ids)}
    if len(set(versions.values())) > 1:
        found = ", ".join(f"{run_id} version {version}" for run_id, version in versions.items())
        raise SpecError(
            f"verdicts of different versions of the matcher cannot be one sample ({found}); name runs of one version"
        )
    stored = _completions(cache, list(versions))
    by_verdict = {v: [row for row in stored if row["words"] is (v == RIGHT)] for v in VERDICTS}
    for rows in by_verdict.values():
        rows.sort(key=lambda row: _rank(seed, row))
    taken = _shares(n, {verdict: len(rows) for verdict, rows in by_verdict.items()})
    synonyms = load_synonyms()
    chosen = [
        AuditRow(
            run_id=row["run_id"],
            state_id=row["state_id"],
            fact_id=row["fact_id"],
            matcher_version=versions[row["run_id"]],
            question=row["question"],
            objects="|".join(with_synonyms((row["gold"],), synonyms)),
            completion=row["completion"],
            verdict=verdict,
            n_stratum=len(rows),
        )
        for verdict, rows in by_verdict.items()
        for row in rows[: taken[verdict]]
    ]
    return Audit(tuple(sorted(chosen, key=lambda row: _rank(seed, asdict(row), "order"))))


def _evaluations(cache: Cache, run_ids: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    for run_id in run_ids:
        run = Run(cache, run_id)
        if run.kind == "chain":
            found.update(dict.fromkeys(state.run_id for state in Chain(cache, run_id).states))
        elif run.kind == "evaluate":
            run.check()
            found[run_id] = None
        else:
            raise SpecError(
                f"run {run_id} ({run.kind}) holds no answers to questions; give a chain or an evaluation, as "
                "`sftknow runs` lists"
            )
    return list(found)


def _matcher_version(cache: Cache, run_id: str) -> str:
    return str(Run(cache, run_id).spec.versions.get("matcher", 1))


def _completions(cache: Cache, run_ids: list[str]) -> list[dict[str, Any]]:
    query = """SELECT DISTINCT ON (state_id, fact_id) run_id, state_id, fact_id, question, gold, completion, words
               FROM answers ORDER BY state_id, fact_id, run_id"""
    with open_parts(cache, ANSWERS, run_ids) as con:
        found: list[dict[str, Any]] = con.sql(query).to_arrow_table().to_pylist()
    return found


def _rank(seed: int, row: dict[str, Any], purpose: str = "draw") -> bytes:
    """Another order for another purpose: in the order of the draw the smaller stratum would come last."""
    name = f"audit {purpose}:{seed}:{row['state_id']}:{row['fact_id']}"
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def _shares(n: int, sizes: dict[str, int]) -> dict[str, int]:
    """Half of n from each stratum; what one cannot give the other does."""
    right = min(sizes[RIGHT], max(n - n // 2, n - sizes[WRONG]))
    return {RIGHT: right, WRONG: min(sizes[WRONG], n - right)}


# Reading what was judged.


def read_audit(path: Path) -> Audit:
    """A CSV that `Audit.save` wrote, judged or not. `judged` may be written in any case.

    Raises DataError for a file that cannot be read or is none, and for the first bad row, by its line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path}, line 1: the column {missing[0]} is missing; give a file that `sftknow audit-matcher` "
                    "wrote, saved with commas between the columns"
                )
            rows: list[AuditRow] = []
            seen = _Seen()
            for raw in reader:
                rows.append(_row(raw, f"{path}, line {reader.line_num}"))
                seen.check(rows[-1], f"{path}, line {reader.line_num}")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; give an existing file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV in UTF-8 ({error}); save it as one") from error
    if not rows:
        raise DataError(
            f"{path} holds no completions; draw them with `sftknow audit-matcher RUN_ID --out {path}`"
        )
    return Audit(tuple(rows))


def _row(raw: dict[str, Any], where: str) -> AuditRow:
    if None in raw or None in raw.values():
        raise DataError(f"{where}: the row has more or fewer columns than the header; restore it")
    judged, verdict = raw["judged"].strip().lower(), raw["verdict"].strip().lower()
    if judged not in (*JUDGED, OPEN):
        raise DataError(f"{where}: judged is {raw['judged']!r}; allowed: {', '.join(JUDGED)}, or empty")
    if verdict not in VERDICTS:
        raise DataError(f"{where}: verdict is {raw['verdict']!r}; allowed: {', '.join(VERDICTS)}")
    if not raw["n_stratum"].strip().isdecimal() or int(raw["n_stratum"]) < 1:
        raise DataError(f"{where}: n_stratum is {raw['n_stratum']!r}; allowed: a whole number, at least 1")
    given = {name: raw[name] for name in COLUMNS}
    return AuditRow(**given | {"judged": judged, "verdict": verdict, "n_stratum": int(raw["n_stratum"])})


class _Seen:
    """What the rows of a file have said so far."""

    def __init__(self) -> None:
        self.completions: set[tuple[str, str]] = set()
        self.sizes: dict[str, int] = {}

    def check(self, row: AuditRow, where: str) -> None:
        """Raise DataError where a row contradicts those before it."""
        if (row.state_id, row.fact_id) in self.completions:
            raise DataError(
                f"{where}: the same completion (state_id, fact_id) stands in the file before; remove one"
            )
        self.completions.add((row.state_id, row.fact_id))
        if row.n_stratum != self.sizes.setdefault(row.verdict, row.n_stratum):
            raise DataError(
                f"{where}: n_stratum is {row.n_stratum}, but {self.sizes[row.verdict]} in another row called "
                f"{row.verdict}; judge files of different samples apart"
            )
