"""One run on the disk, for reading: what it is, what it is doing, its tables and its weights.

    runs/<run_id>/
        spec.json       identity, and what people want to know about it
        events.jsonl    states, progress, metrics, heartbeat (run_state.py)
        parts.jsonl     what is committed: one line a chunk, naming all files written together
        <table>/part-00000.parquet ...    results, one part a chunk
        model/          weights, where the run makes some
        DONE.json       the manifest, written last: a run is done when it is there and the files fit it
        STOP            somebody asks the owner to stop

A part counts only when a line of parts.jsonl names it, so a chunk of several tables is there as a whole or
not at all; a later line replaces an earlier one about the same part.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sftknow_core.errors import CacheError
from sftknow_core.store.cache import Cache
from sftknow_core.store.files import FileRecord
from sftknow_core.store.line_log import plain_json, read_lines
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.store.run_state import RunState, RunStatus, fold, live
from sftknow_core.store.schema import table_named
from sftknow_core.store.table import Table

SPEC, EVENTS, PARTS, DONE, STOP = "spec.json", "events.jsonl", "parts.jsonl", "DONE.json", "STOP"


@dataclass(frozen=True)
class FolderRecord:
    """A folder of weights as it was written."""

    files: tuple[FileRecord, ...]
    removed_at: str | None = None
    """When its files were deleted to save space (ISO 8601, UTC); None: they are there."""

    @property
    def bytes(self) -> int:
        """Size of all files, in bytes."""
        return sum(record.bytes for record in self.files)


@dataclass
class Contents:
    """What a run has written and committed."""

    tables: dict[str, dict[int, FileRecord]] = field(default_factory=dict)
    """Table -> part number -> file."""
    folders: dict[str, FolderRecord] = field(default_factory=dict)
    """Name -> weights folder."""

    @classmethod
    def committed(cls, lines: Iterable[Mapping[str, Any]]) -> Contents:
        """What the lines of parts.jsonl add up to."""
        contents = cls()
        for line in lines:
            contents.add(line)
        return contents

    def add(self, line: Mapping[str, Any]) -> None:
        """Take in one line: {"parts": [...]} of a chunk, {"folder", "files"}, or {"dropped": [file, ...]}."""
        for part in line.get("parts", ()):
            self.tables.setdefault(part["table"], {})[part["part"]] = FileRecord(**part["record"])
        if "folder" in line:
            self.folders[line["folder"]] = FolderRecord(tuple(FileRecord(**r) for r in line["files"]))
        if gone := set(line.get("dropped", ())):
            for name, parts in self.tables.items():
                self.tables[name] = {i: record for i, record in parts.items() if record.file not in gone}
            intact = {n: f for n, f in self.folders.items() if not gone & {r.file for r in f.files}}
            self.folders = intact

    def misfits(self, root: Path, *, verify: bool = False) -> list[str]:
        """Files that are not there as they were written; with `verify` their content is hashed too."""
        records = [record for parts in self.tables.values() for record in parts.values()]
        records += [record for f in self.folders.values() if not f.removed_at for record in f.files]
        return [record.file for record in records if not record.fits(root, verify=verify)]


@dataclass(frozen=True)
class Manifest:
    """DONE.json: what a finished run holds."""

    run_id: str
    finished_at: str
    """ISO 8601, UTC."""
    seconds: float
    """Time at work, all stints together."""
    library_versions: Mapping[str, str]
    contents: Contents
    summary: Mapping[str, Any]
    """The few numbers and ids that others want without reading tables."""

    @property
    def n_rows(self) -> dict[str, int]:
        """Table -> number of rows."""
        return {
            name: sum(record.rows or 0 for record in parts.values())
            for name, parts in self.contents.tables.items()
        }

    def to_json(self) -> str:
        """The text of DONE.json."""
        tables = {
            name: {"rows": self.n_rows[name], "parts": {str(i): asdict(parts[i]) for i in sorted(parts)}}
            for name, parts in self.contents.tables.items()
        }
        folders = {name: asdict(folder) for name, folder in self.contents.folders.items()}
        plain = {
            "run_id": self.run_id,
            "finished_at": self.finished_at,
            "seconds": self.seconds,
            "library_versions": self.library_versions,
            "tables": tables,
            "folders": folders,
            "summary": self.summary,
        }
        return json.dumps(json.loads(plain_json(plain)), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The inverse of `to_json`. Raises ValueError, KeyError or TypeError for other text."""
        plain = json.loads(text)
        contents = Contents(
            {
                name: {int(i): FileRecord(**record) for i, record in table["parts"].items()}
                for name, table in plain["tables"].items()
            },
            {
                name: FolderRecord(tuple(FileRecord(**r) for r in folder["files"]), folder["removed_at"])
                for name, folder in plain["folders"].items()
            },
        )
        return cls(
            run_id=plain["run_id"],
            finished_at=plain["finished_at"],
            seconds=plain["seconds"],
            library_versions=plain["library_versions"],
            contents=contents,
            summary=plain["summary"],
        )

    def without_weights(self, removed_at: str) -> Manifest:
        """The same, with all weights folders marked as removed."""
        folders = {
            name: replace(f, removed_at=f.removed_at or removed_at)
            for name, f in self.contents.folders.items()
        }
        return replace(self, contents=replace(self.contents, folders=folders))


class RunFolder:
    """One run on the disk, for reading; needs no lock."""

    def __init__(self, cache: Cache, run_id: str) -> None:
        self.cache = cache
        self.run_id = run_id
        self.root = cache.run_folder(run_id)

    def description(self) -> dict[str, Any]:
        """spec.json: run_id, created_at, about, and the identity. Raises CacheError when not readable."""
        path = self.root / SPEC
        try:
            plain = json.loads(path.read_text("utf-8"))
            if RunSpec.from_dict(plain).run_id != self.run_id:
                raise ValueError("it describes another run")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CacheError(
                f"{path} cannot be read ({error}). Delete the run with `sftknow runs rm {self.run_id}` "
                f"and repeat the command that made it."
            ) from error
        return dict(plain)

    @property
    def spec(self) -> RunSpec:
        """The run's identity."""
        return RunSpec.from_dict(self.description())

    def events(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Events from byte `offset` on, and where to go on reading later."""
        return read_lines(self.root / EVENTS, offset)

    def status(self) -> RunStatus:
        """What the run is doing now; "done" does not check its files (`manifest` and `problems` do)."""
        status = fold(self.events()[0])
        if (self.root / DONE).exists():
            return replace(status, state=RunState.DONE, reason=None)
        if status.state is RunState.DONE:
            return replace(status, state=RunState.INTERRUPTED, reason="its manifest is gone")
        return live(status, self.cache.run_lock(self.run_id))

    def manifest(self) -> Manifest | None:
        """What the finished run holds; None where it is not done or its manifest is not readable."""
        try:
            manifest = Manifest.from_json((self.root / DONE).read_text("utf-8"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return manifest if manifest.run_id == self.run_id else None

    def problems(self, *, verify: bool = False) -> list[str]:
        """Why the run is no finished, undamaged one; empty when it is. `verify` also hashes every file."""
        manifest = self.manifest()
        if manifest is None:
            return [DONE]
        return manifest.contents.misfits(self.root, verify=verify)

    def contents(self) -> Contents:
        """What is committed so far: the manifest's files, or those of parts.jsonl while under way."""
        manifest = self.manifest()
        return manifest.contents if manifest else Contents.committed(read_lines(self.root / PARTS)[0])

    def part_paths(self, table: str) -> list[Path]:
        """The committed Parquet parts of a table, in order; empty when there are none."""
        parts = self.contents().tables.get(table, {})
        return [self.root / parts[number].file for number in sorted(parts)]

    def read(self, table: str) -> pa.Table:
        """A whole table of the run, in the order it was written. Raises SftknowError for an unknown name."""
        declared = table_named(table)
        parts = [_read_part(path, declared, self.run_id) for path in self.part_paths(table)]
        return pa.concat_tables(parts) if parts else declared.arrow.empty_table()

    def weights(self, name: str = "model") -> Path | None:
        """The weights folder; None where the run made none, or they were removed to save space."""
        record = self.contents().folders.get(name)
        return self.root / name if record and not record.removed_at else None


def _read_part(path: Path, table: Table, run_id: str) -> pa.Table:
    """One part as the table is declared now: columns it did not have yet are NULL, former ones left out."""
    try:
        rows = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise CacheError(f"{path} cannot be read ({error}); repeating its command makes it again") from error
    return table.conform(rows.select([name for name in table.names if name in rows.column_names]), run_id)
