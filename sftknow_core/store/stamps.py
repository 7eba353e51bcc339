"""Whether a finished run is still the one that the catalogue has: by its manifest's time and size, else by its text.

A stamp is "time-size", and on record "time-size hash". A copied cache has manifests of other times and the same text:
nothing of it need be read again.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import DONE

Stamps = dict[str, str]
"""Run -> stamp."""


def stamps_on_disk(cache: Cache) -> Stamps:
    """Finished run -> when its manifest was written, and its size."""
    return {path.parent.name: stamp_of(path) for path in cache.runs.glob(f"*/{DONE}")}


def begins(on_record: str | None, stamp: str) -> bool:
    """Whether the manifest is the very file on record."""
    return on_record is not None and on_record.partition(" ")[0] == stamp


def is_same(cache: Cache, run_id: str, on_record: str | None, stamp: str) -> bool:
    """Whether a manifest is the one on record; that of a copied cache is another file that says the same."""
    if on_record is None:
        return False
    known = on_record.partition(" ")[2]
    return begins(on_record, stamp) or (
        known != "" and known == _hash(cache.run_folder(run_id) / DONE, stamp)
    )


def with_hash(cache: Cache, run_id: str, stamp: str) -> str:
    """The stamp to put on record."""
    return f"{stamp} {_hash(cache.run_folder(run_id) / DONE, stamp)}"


@lru_cache(maxsize=8192)
def _hash(manifest: Path, stamp: str) -> str:
    """Of its text; stamp: by which it is known that the file has not changed since."""
    try:
        return hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    except OSError:
        return "gone"


def stamp_of(manifest: Path) -> str:
    """When it was written, in ns, and its size in bytes."""
    try:
        stat = manifest.stat()
    except FileNotFoundError:
        return "gone"
    return f"{stat.st_mtime_ns}-{stat.st_size}"
