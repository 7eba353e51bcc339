"""`facts` and `pretrain`: what is asked, and a small model that knows it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from sftknow_core.cli import options as o
from sftknow_core.errors import SpecError
from sftknow_core.present import terminal


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(facts)
    app.command()(pretrain)


def facts(
    data: o.DataOpt = o.DEMO,
    topics: o.TopicsOpt = None,
    filter_: o.FilterOpt = "paper",
    keep_leaks: o.LeaksOpt = False,
    sample: o.SampleOpt = None,
    as_json: o.JsonOpt = False,
) -> None:
    """How many facts there are by topic and split, what was left out and why."""
    from sftknow_core.facts.summary import summarise

    found, known = o.read_facts(data, topics, filter_, keep_leaks, sample)
    totals = Counter(f"{fact.split}_{fact.domain}" for fact in found.facts)
    dropped: Counter[str] = Counter()
    for drop in found.dropped:
        dropped[drop.reason] += drop.n
    rows: list[dict[str, Any]] = [
        {
            "topic": row.topic,
            "name": known[row.topic].name if row.topic in known else "",
            "domain": row.domain,
            "split": row.split,
            "n": row.n,
            "n_flagged": row.n_flagged,
            "dropped": dict(row.dropped),
        }
        for row in summarise(found)
    ]
    result = {
        "source": found.source,
        "data_id": found.data_id,
        "n": len(found.facts),
        "totals": dict(totals),
        "dropped": dict(dropped),
        "notes": dict(found.notes),
        "rows": rows,
    }
    o.emit(result, as_json, terminal.show_facts)


def pretrain(
    out: Annotated[Path, typer.Option("--out", help="New folder for the model.")],
    data: o.DataOpt = o.DEMO,
    topics: o.TopicsOpt = None,
    filter_: o.FilterOpt = "paper",
    keep_leaks: o.LeaksOpt = False,
    sample: o.SampleOpt = None,
    seed: o.SeedOpt = 0,
    mentions: Annotated[
        str | None,
        typer.Option(
            "--mentions",
            help="How often facts are mentioned: count:weight pairs, e.g. 0:1,16:4,60:1.",
            show_default=False,
        ),
    ] = None,
    vocab_size: Annotated[int, typer.Option("--vocab-size", help="Entries of the tokenizer.")] = 1536,
    hidden_size: Annotated[int, typer.Option("--hidden-size", help="Width of the model.")] = 128,
    n_layers: Annotated[int, typer.Option("--layers", help="Decoder layers.")] = 4,
    marks_documents: Annotated[
        int,
        typer.Option("--marks-documents", help="Documents of the second stage, on questions between marks."),
    ] = 48_000,
    cache: o.CacheOpt = None,
    device: o.DeviceOpt = "auto",
    as_json: o.JsonOpt = False,
) -> None:
    """Train a small Llama-like model from scratch on sentences about the facts of all splits."""
    from sftknow_core.model.train.pretrain import PretrainSpec
    from sftknow_core.pipeline.demo import pretrain_model

    spec = PretrainSpec(
        mentions=_mentions(mentions) if mentions else PretrainSpec.mentions,
        seed=seed,
        vocab_size=vocab_size,
        marks_documents=marks_documents,
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 11 // 4,
        n_layers=n_layers,
    )
    with o.workspace(cache, device) as ws:
        found, known = o.read_facts(data, topics, filter_, keep_leaks, sample)
        result = pretrain_model(ws, found, known, spec, out)
    o.emit({"out": str(out), **asdict(spec), **result}, as_json, terminal.show_pretrained)


def _mentions(given: str) -> tuple[tuple[int, float], ...]:
    try:
        pairs = [part.split(":") for part in given.split(",")]
        return tuple((int(count), float(weight)) for count, weight in pairs)
    except ValueError:
        raise SpecError(
            f"--mentions: got {given!r}; allowed: count:weight pairs, e.g. 0:1,16:4,60:1"
        ) from None
