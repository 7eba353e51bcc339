"""A study's tables (study_frames.py), put beside its record once it has ended: read in tenths of a second from then on.

They are a copy: which chains they were made of is part of their name, so that others of other chains are not taken for
them, and without them the same tables come out of the chains' runs again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sftknow_core.store.files import write_atomic
from sftknow_core.store.run_folder import RunFolder

FRAMES_VERSION = 2
"""Goes up whenever the same chains would give other tables."""
FOLDER = "frames"


def read_kept(run: RunFolder, chains: Sequence[str], names: Sequence[str]) -> dict[str, pd.DataFrame] | None:
    """The tables made of these chains; None where they are not all there, or one of them is damaged."""
    folder = run.root / FOLDER / _key(chains)
    try:
        return {name: pq.read_table(folder / f"{name}.parquet").to_pandas() for name in names}
    except (OSError, pa.ArrowInvalid):
        return None


def keep(run: RunFolder, chains: Sequence[str], frames: Mapping[str, pd.DataFrame]) -> None:
    """Put the tables made of these chains beside the study, in the place of former ones. Raises CacheError."""
    folder = run.root / FOLDER / _key(chains)
    for name, frame in frames.items():
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), sink, compression="zstd")
        write_atomic(folder / f"{name}.parquet", sink.getvalue().to_pybytes())
    for other in (run.root / FOLDER).iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def _key(chains: Sequence[str]) -> str:
    text = json.dumps([FRAMES_VERSION, *chains])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
