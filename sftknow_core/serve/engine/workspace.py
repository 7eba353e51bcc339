"""The workspace of the engine: stages work in it as in any other, but what they need comes from the one model.

A cancelled request stops its stages where a chain's stop request would, and while they wait for a run that
another process is making. Mastery is never computed here: it takes hours, and belongs into a job.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from sftknow_core.errors import SpecError
from sftknow_core.pipeline.device import DeviceLock, device_name
from sftknow_core.pipeline.reporter import Reporter
from sftknow_core.pipeline.states import base_state
from sftknow_core.pipeline.workspace import DEMO_FOLDER, ModelHandle, Workspace
from sftknow_core.serve.engine.model import Check, EngineLoader, OneModel, OpenPair
from sftknow_core.store.cache import Cache
from sftknow_core.store.ingest import up_to_date
from sftknow_core.store.open_run import is_hit, open_run
from sftknow_core.store.run import Run
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_spec import RunSpec

if TYPE_CHECKING:
    from sftknow_core.model.io.load import LanguageModel

Tell = Callable[[str, float | None], None]
"""Takes (what is being done, share of it that is done)."""
_SECONDS_BETWEEN_WORDS = 0.2
_PROMPTS_A_QUESTION = 3
"""At most so many places of a question have base logits (measure/reference.py)."""


class EngineReporter(Reporter):
    """Passes progress on, a few times a second."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell
        self._last, self._last_text = 0.0, ""

    def start(self) -> None:
        """Begin to count anew, for the next request."""
        self.total = self.done = 0.0
        self.text = self._last_text = ""

    def show(self) -> None:
        """Tell what changed, where that was not done just now."""
        now = time.monotonic()
        if self.text and (self.text != self._last_text or now - self._last >= _SECONDS_BETWEEN_WORDS):
            self._last, self._last_text = now, self.text
            self._tell(self.text, min(self.done / self.total, 1.0) if self.total else None)


class EngineWorkspace(Workspace):
    """A workspace with one model, an open pair, and a request that can be cancelled."""

    def __init__(
        self,
        cache: Cache,
        *,
        device: str,
        check: Check,
        reporter: EngineReporter,
        lock: DeviceLock | None = None,
    ) -> None:
        """check: raises Stopped where the present request is not wanted any more; lock: None finds its own."""
        super().__init__(cache.root, device=device, reporter=reporter)
        self._reporter, self._check = reporter, check
        self.pair: OpenPair | None = None
        """The pair of the present request."""
        self.lock = lock if lock is not None else DeviceLock(cache, device_name(device))
        self.slot = OneModel(self, take_device=self.hold_device, check=check, tell=reporter.stage)
        self.n_questions = 0
        """Of the present evaluation."""
        self._news = False

    def begin(self) -> None:
        """Count the work of the next request from 0."""
        self._reporter.start()

    def load(self, model: ModelHandle) -> LanguageModel:
        """A base for its side of the token shift: the engine's one model where the base's logits can be kept.

        Where they need more than their budget the base is asked again for every state, and stays as a second model.
        """
        from sftknow_core.measure.reference import BUDGET_BYTES

        lm = self.slot.bring(base_state(model), self.pair)
        n_vocab = lm.plain.get_input_embeddings().weight.shape[0]
        if 4 * n_vocab * _PROMPTS_A_QUESTION * self.n_questions <= BUDGET_BYTES:
            return lm
        return super().load(model)

    def loader(self, base: ModelHandle) -> EngineLoader:
        """What brings the states of the present pair into memory."""
        return EngineLoader(self, base, self.pair, self.slot)

    def open_run(
        self, spec: RunSpec, about: Mapping[str, Any], *, need: tuple[str, ...] = ()
    ) -> AbstractContextManager[Run]:
        """The run of `spec`, as a stage of the request. Raises SpecError for mastery scores that are not there."""
        if spec.kind == "mastery" and not is_hit(RunFolder(self.cache, spec.run_id)) and not _ships(spec):
            raise SpecError(
                f"the mastery of these facts is not known for {about.get('model')}; compute it first: "
                "`sftknow mastery` with the same --base and --data, or a run on them"
            )
        request = _Request(self.cache, self._check)
        return open_run(self.cache, spec, about=about, need=need, parent=request, on_progress=self._attached)

    def finish(self, run: Run, summary: Mapping[str, Any]) -> None:
        """Close a run; `publish` takes it into the catalogue once the client has its answer."""
        run.finish(summary)
        self._news = True

    def publish(self) -> None:
        """Take new runs into the catalogue."""
        if self._news:
            self._news = False
            with up_to_date(self.cache):
                pass

    def hold_device(self) -> None:
        """Wait for the accelerator, where one is used, and keep it until `unload`."""
        self.lock.take(self._check, self.reporter.stage)

    def drop_bases(self) -> None:
        """Let go of bases kept beside the one model: their question set is not asked any more."""
        self._loaded.clear()

    def unload(self) -> None:
        """Let go of all models and of the device."""
        if self.pair is not None:
            self.pair.close()
        self.pair = None
        self.drop_bases()
        self.slot.drop()
        self.lock.release()


class _Request(Run):
    """Stands for the request where a stage asks the run it belongs to whether it shall stop."""

    def __init__(self, cache: Cache, check: Check) -> None:
        super().__init__(cache, "engine")
        self._check = check

    def check_stop(self) -> None:
        """Raise Stopped where the request was cancelled."""
        self._check()


def _ships(spec: RunSpec) -> bool:
    """Whether the package brings these mastery scores."""
    path = DEMO_FOLDER / "mastery.json"
    return path.is_file() and json.loads(path.read_text("utf-8")).get("run_id") == spec.run_id
