"""Stage 1: base model + facts -> how well it knows each of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sftknow_core.facts.fact import Fact, FactSet
from sftknow_core.facts.matcher import matcher_named
from sftknow_core.facts.prompts import PROMPT_VERSION
from sftknow_core.facts.synonyms import load_synonyms
from sftknow_core.facts.topics import Topic, topics_id
from sftknow_core.pipeline.workspace import DEMO_FOLDER, ModelHandle, Workspace
from sftknow_core.store.run import Run
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_spec import RunSpec

if TYPE_CHECKING:
    from sftknow_core.measure.mastery import MasterySpec

# A model folder -> its row in table `models`.

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}


def model_row(
    path: Path,
    model_id: str,
    name: str,
    role: str,
    *,
    location: str | None = None,
    made_by: str | None = None,
) -> dict[str, Any]:
    """What the folder says about itself; of an adapter its own weights are counted, not its base's.

    location: where the table says it lies (relative to the cache for what runs made); None: `path`.
    """
    from sftknow_core.model.io.safetensors_files import read_header
    from sftknow_core.model.io.sources import read_json

    tensors = [t for file in sorted(path.glob("*.safetensors")) for t in read_header(file)[0].values()]
    config = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    return {
        "model_id": model_id,
        "name": name,
        "path": location or str(path.resolve()),
        "role": role,
        "architecture": next(iter(config.get("architectures") or ["adapter"])),
        "n_params": sum(math.prod(tensor.shape) for tensor in tensors),
        "dtype": _DTYPES.get(tensors[0].code, tensors[0].code) if tensors else None,
        "vocab_size": config.get("vocab_size"),
        "size_bytes": sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
        "made_by": made_by,
    }


DEMO_NEW_TOKENS = 8
"""No answer of the demo world is longer."""
_UNITS_PER_FACT = 0.12
_TABLES = ("mastery", "mastery_templates")


@dataclass(frozen=True)
class Mastery:
    """The mastery of a set of facts by one model, as a finished run holds it."""

    run: RunFolder

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Table `mastery`."""
        frame: pd.DataFrame = self.run.read("mastery").to_pandas()
        return frame

    @cached_property
    def templates(self) -> pd.DataFrame:
        """Table `mastery_templates`."""
        frame: pd.DataFrame = self.run.read("mastery_templates").to_pandas()
        return frame

    @cached_property
    def levels(self) -> dict[str, int]:
        """fact_id -> mastery level 0 to 4, of the facts that could be asked."""
        scored = self.rows.dropna(subset=["level"])
        return dict(zip(scored["fact_id"], scored["level"].astype(int), strict=True))


def mastery_spec(base: ModelHandle, seed: int = 0) -> MasterySpec:
    """The paper's sampling; 8 instead of 32 new tokens for the demo model, whose answers are short."""
    from sftknow_core.measure.mastery import MasterySpec

    if base.model_id == _shipped().get("model_id"):
        return MasterySpec(max_new_tokens=DEMO_NEW_TOKENS, seed=seed)
    return MasterySpec(seed=seed)


def score_facts(
    ws: Workspace,
    base: ModelHandle,
    facts: Sequence[Fact],
    topics: dict[str, Topic],
    spec: MasterySpec | None = None,
) -> Mastery:
    """The mastery of `facts`: from the cache, from the package for the demo model and world, or computed.

    Raises Stopped when asked to stop; the same call then goes on at the first missing chunk of 256 facts.
    """
    from sftknow_core.measure.mastery import CHUNK_FACTS, MASTERY_VERSION

    spec = spec or mastery_spec(base)
    fact_set = FactSet(tuple(facts), source="")
    run_spec = RunSpec(
        "mastery",
        inputs={"model": base.model_id, "facts": fact_set.data_id, "topics": topics_id(topics)},
        params=asdict(spec),
        versions={
            "mastery": MASTERY_VERSION,
            "matcher": matcher_named(spec.matcher).version,
            "prompt": PROMPT_VERSION,
        }
        | base.stop_versions,
    )
    about = {"model": base.name, "n_facts": len(facts), "device": ws.device}
    with ws.open_run(run_spec, about) as run:
        if not run.done:
            n_chunks = -(-len(facts) // CHUNK_FACTS)
            ws.reporter.stage(f"mastery of {len(facts):,} facts")
            if not _copy_shipped(run, run_spec, facts):
                _compute(ws, run, base, facts, topics, spec, n_chunks)
            _finish(ws, run, base)
        return Mastery(run)


def _compute(
    ws: Workspace,
    run: Run,
    base: ModelHandle,
    facts: Sequence[Fact],
    topics: dict[str, Topic],
    spec: MasterySpec,
    n_chunks: int,
) -> None:
    from sftknow_core.measure.mastery import CHUNK_FACTS, score_mastery

    first = next((i for i in range(n_chunks) if not run.has_part("mastery", i)), n_chunks)
    ws.reporter.expect((len(facts) - first * CHUNK_FACTS) * _UNITS_PER_FACT)
    if first == n_chunks:
        return
    lm = ws.load(base)
    for chunk in score_mastery(lm, facts, topics, load_synonyms(), spec, first_chunk=first):
        run.write_chunk(chunk.index, {"mastery": chunk.mastery, "mastery_templates": chunk.templates})
        run.progress(min((chunk.index + 1) * CHUNK_FACTS, len(facts)), len(facts), "facts")
        ws.reporter.advance(len(chunk.facts) * _UNITS_PER_FACT)
        run.check_stop()


def _finish(ws: Workspace, run: Run, base: ModelHandle) -> None:
    from sftknow_core.measure.levels import sampled_against_expected, split_half

    run.write_part("models", 0, [model_row(base.path, base.model_id, base.name, "base")])
    mastery = Mastery(run)
    counts = mastery.rows["level"].value_counts()
    ws.finish(
        run,
        {
            "n_by_level": {str(level): int(counts.get(level, 0)) for level in range(5)},
            "n_not_scored": int(mastery.rows["level"].isna().sum()),
            "agreement": asdict(sampled_against_expected(run.read("mastery").to_pylist())),
            "split_half": split_half(run.read("mastery_templates").to_pylist()),
        },
    )


def export_scores(mastery: Mastery, folder: Path) -> None:
    """Write the scores as the package ships them: two Parquet files and which run they are."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = mastery.run.spec
    for name in _TABLES:
        table = mastery.run.read(name).drop_columns(["run_id"])
        for i, field in enumerate(table.schema):
            if pa.types.is_floating(field.type):  # half the size; the seventh digit of a probability is noise
                table = table.set_column(i, field.name, table.column(i).cast(pa.float32()))
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd", compression_level=19)
    belongs = {"run_id": mastery.run.run_id, "model_id": spec.inputs["model"], **spec.as_dict()}
    (folder / "mastery.json").write_text(json.dumps(belongs, indent=1) + "\n", encoding="utf-8")


def _shipped() -> dict[str, Any]:
    """What the shipped mastery scores belong to; {} where none are shipped."""
    path = DEMO_FOLDER / "mastery.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def _copy_shipped(run: Run, spec: RunSpec, facts: Sequence[Fact]) -> bool:
    """Take the shipped scores, where they are those of exactly this run; they were computed by the same code."""
    if _shipped().get("run_id") != spec.run_id:
        return False
    ids = {fact.fact_id: i for i, fact in enumerate(facts)}
    tables = {}
    for name in _TABLES:
        rows = pq.read_table(DEMO_FOLDER / f"{name}.parquet").to_pandas()
        tables[name] = rows.assign(run_id=run.run_id)
    if set(tables["mastery"]["fact_id"]) != set(ids):
        return False
    run.write_chunk(0, tables)
    return True
