"""What the stages of a run share: the cache, the device, models kept in memory, and whom to tell about progress."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.model.io.sources import has_chat_template
from sftknow_core.pipeline.device import DeviceLock, device_name
from sftknow_core.pipeline.reporter import Reporter
from sftknow_core.store.cache import Cache
from sftknow_core.store.ingest import up_to_date
from sftknow_core.store.listing import resolve_prefix
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run import Run
from sftknow_core.store.run_spec import RunSpec

if TYPE_CHECKING:
    from sftknow_core.model.io.load import LanguageModel

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parent.parent / "demo"
"""The shipped base model and its mastery scores."""
_MODELS_IN_MEMORY = 2
TURN_END_VERSION = 1
"""Of model.generate.encode.turn_end_ids."""


@dataclass(frozen=True)
class ModelHandle:
    """A model on the disk with its identity."""

    path: Path
    model_id: str
    """16 hex digits: weights, config and tokenizer."""
    name: str
    """For people: how the user named it."""
    base: ModelHandle | None = None
    """Of an adapter: the model it sits on."""

    @property
    def stop_versions(self) -> dict[str, int]:
        """What belongs to the identity of a chat model's answers: by which rule they end (TURN_END_VERSION)."""
        folders = [self.path, *([self.base.path] if self.base else [])]
        return {"turn_end": TURN_END_VERSION} if any(map(has_chat_template, folders)) else {}


class Workspace:
    """A cache and a device to work with, and the models loaded so far (at most two)."""

    def __init__(
        self,
        cache: Path | str | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        reporter: Reporter | None = None,
    ) -> None:
        self.cache = Cache(cache)
        self.device = device
        self.dtype = dtype
        self.reporter = reporter or Reporter()
        self.parent: Run | None = None
        """The run whose stages are being done, so that a stop asked of it reaches them."""
        self._loaded: OrderedDict[str, LanguageModel] = OrderedDict()
        self._device: DeviceLock | None = None

    def open_model(self, ref: str | Path, revision: str | None = None) -> ModelHandle:
        """The model a user names: "demo", a folder, the beginning of a model_id, or a hub id.

        Raises ModelError when it is none of these or its folder cannot be used.
        """
        from sftknow_core.model.io.identity import model_id
        from sftknow_core.model.io.sources import adapter_base, is_adapter

        path = self._find(str(ref), revision)
        base = self.open_model(adapter_base(path)) if is_adapter(path) else None
        identity = model_id(path, memo=self.cache.models / "identities.json")
        made_here = path.parent.parent == self.cache.runs
        name = f"fine-tuned in run {path.parent.name[:8]}" if made_here else _name(ref, path)
        return ModelHandle(path, identity, name, base)

    def _find(self, ref: str, revision: str | None) -> Path:
        from sftknow_core.model.io.sources import resolve_source

        if ref == DEMO:
            return DEMO_FOLDER / "model"
        if Path(ref).expanduser().is_dir():
            return resolve_source(ref)
        if len(ref) >= 4 and set(ref) <= set("0123456789abcdef"):
            try:
                return resolve_prefix(self.cache, ref)
            except SpecError as error:
                raise ModelError(f"no model {ref!r}: {error}") from error
        return resolve_source(ref, revision)

    def load(self, model: ModelHandle) -> LanguageModel:
        """The model in memory, from this workspace's cache of the last two where it is there."""
        if model.model_id not in self._loaded:
            self._loaded[model.model_id] = self.load_fresh(model)
        self._loaded.move_to_end(model.model_id)
        while len(self._loaded) > _MODELS_IN_MEMORY:
            self._loaded.popitem(last=False)
        return self._loaded[model.model_id]

    def load_fresh(self, model: ModelHandle, dtype: str | None = None) -> LanguageModel:
        """The model in memory, a copy nobody else uses; dtype: None takes the workspace's."""
        from sftknow_core.model.io.load import load_model

        self.hold_device()
        base = model.base.path if model.base else None
        return load_model(model.path, dtype=dtype or self.dtype, device=self.device, base=base)

    def hold_device(self) -> None:
        """Wait for the accelerator, where one is used, and keep it until this process ends (see pipeline/device.py)."""
        if self._device is None:
            self._device = DeviceLock(self.cache, device_name(self.device))
        self._device.take(lambda: self.parent.check_stop() if self.parent else None, self.reporter.stage)

    def open_run(
        self, spec: RunSpec, about: Mapping[str, Any], *, need: tuple[str, ...] = ()
    ) -> AbstractContextManager[Run]:
        """The run of `spec` in this cache (see store.open_run), as a stage of the run under way."""
        return open_run(
            self.cache, spec, about=about, need=need, parent=self.parent, on_progress=self._attached
        )

    def finish(self, run: Run, summary: Mapping[str, Any]) -> None:
        """Close a run; at the end of a command's outermost run all new rows go into the catalogue at once."""
        run.finish(summary)
        if self.parent is None or self.parent is run:
            with up_to_date(self.cache):
                pass

    def _attached(self, event: Mapping[str, Any]) -> None:
        self.reporter.stage(f"waiting for another process: {event.get('note', '')}")


def _name(ref: str | Path, path: Path) -> str:
    text = str(ref)
    return text if text == DEMO or ("/" in text and not Path(text).expanduser().is_dir()) else path.name
