"""The engine's one model in memory, and how it becomes base, tuned or any restoration of a pair.

The weights of both models are streamed from their files into a working copy, so that the engine never holds
more than one model and a few chunks. What the copy held before never matters. A state that a working copy
cannot be exactly (an adapter, which stays unmerged; a base of another dtype or config than tuned) is loaded as it
is, in the copy's place.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sftknow_core.errors import SpecError
from sftknow_core.pipeline.delta import ModelPair
from sftknow_core.pipeline.device import DeviceLock, device_name
from sftknow_core.pipeline.reporter import Reporter
from sftknow_core.pipeline.states import State, StateLoader, base_state
from sftknow_core.pipeline.workspace import DEMO_FOLDER, ModelHandle, Workspace
from sftknow_core.store.cache import Cache
from sftknow_core.store.ingest import up_to_date
from sftknow_core.store.open_run import is_hit, open_run
from sftknow_core.store.progress import Throttle
from sftknow_core.store.run import Run
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_spec import RunSpec

if TYPE_CHECKING:
    from sftknow_core.model.io.load import LanguageModel
    from sftknow_core.model.io.tensors import TensorSource
    from sftknow_core.update.restore import RestoreReport
if TYPE_CHECKING:
    from sftknow_core.model.io.load import LanguageModel

Check = Callable[[], None]
"""Raises Stopped when the work at hand is not wanted any more."""
Home = tuple[str, str]
"""What a model in memory was loaded from: model_id and dtype."""

_COPIED_AT_ONCE = 1 << 22


@dataclass
class OpenPair:
    """A pair of checkpoints open for streaming, with the selections made for it so far."""

    models: ModelPair
    """Keeps the plan of every restoration once refined: a cut, no weights. Going back to a k is one pass."""
    reports: dict[str, RestoreReport] = field(default_factory=dict)
    """state_id -> what restoring did, where that was counted."""

    @property
    def ids(self) -> tuple[str, str]:
        """Both model_ids."""
        return self.models.base.model_id, self.models.tuned.model_id

    def fits(self, base: ModelHandle, tuned: ModelHandle | None) -> bool:
        """Whether this is the pair of these models, at these places; with tuned None: whether that is its base."""
        held = (self.models.base, self.models.tuned if tuned is not None else None)
        return [m and (m.path, m.model_id) for m in held] == [
            m and (m.path, m.model_id) for m in (base, tuned)
        ]

    def close(self) -> None:
        """Close the weight files."""
        if "weights" in self.models.__dict__:
            self.models.weights.close()

    @cached_property
    def alike(self) -> bool:
        """Whether base and tuned differ in the values of their weights alone, so that either can become the other."""
        base, tuned = self.models.base, self.models.tuned
        if tuned.base is not None or base.base is not None:
            return False
        weights = self.models.weights
        dtypes = all(b.dtype == t.dtype for b, t in zip(weights.metas, weights.tuned.metas, strict=True))
        return dtypes and _settings(base) == _settings(tuned)


class OneModel:
    """A slot for one model on the device."""

    def __init__(
        self, ws: Workspace, *, take_device: Check, check: Check, tell: Callable[[str], None]
    ) -> None:
        """take_device: called before a model is loaded; check: before every forward pass and chunk; tell: stages."""
        self._ws = ws
        self._take_device, self._check, self._tell = take_device, check, tell
        self._lm: LanguageModel | None = None
        self._home: Home | None = None
        self.holds: str | None = None
        """The state_id of the weights in memory; None: nothing, or a copy left half-written."""

    @property
    def n_bytes(self) -> int:
        """Memory of the weights held."""
        lm = self._lm  # another thread asks
        parameters = () if lm is None else lm.model.parameters()
        return sum(parameter.numel() * parameter.element_size() for parameter in parameters)

    def bring(self, state: State, pair: OpenPair | None, *, counting: bool = False) -> LanguageModel:
        """The model with this state's weights, until another state is brought.

        counting: also put on record what restoring changes, which takes half as long again.
        """
        if self._lm is not None and self.holds == state.state_id:
            return self._lm
        pair = pair if pair is not None and pair.fits(state.base, state.tuned) else None
        homes = self._homes(state, pair)
        if self._home not in homes:
            self._load(homes[0], state, pair)
        assert self._lm is not None
        if self.holds != state.state_id:
            assert pair is not None  # without one the only home is the state's own model
            self.holds = None  # until the last weight is written
            self._write(self._lm, state, pair, counting)
            self.holds = state.state_id
        return self._lm

    def drop(self) -> None:
        """Let go of the model."""
        self._lm = self._home = self.holds = None
        gc.collect()
        _empty_device_cache()

    def _homes(self, state: State, pair: OpenPair | None) -> list[Home]:
        """What the state's model may have been loaded from; the first is loaded where none of them is there."""
        base, tuned, dtype = state.base, state.tuned, self._ws.dtype
        if tuned is None:
            own = (base.model_id, dtype)
        elif state.spec is not None and tuned.base is not None:
            # an adapter's sum with its base is float32: rounded to the base's dtype it would be another model
            return [(base.model_id, "float32")]
        else:
            own = (tuned.model_id, dtype)
        others = [(one, dtype) for one in pair.ids] if pair is not None and pair.alike else []
        return [own, *others]

    def _load(self, home: Home, state: State, pair: OpenPair | None) -> None:
        self.drop()
        self._take_device()
        self._check()
        handles = [state.base, *([state.tuned] if state.tuned else [])]
        handle = next(one for one in handles if one.model_id == home[0])
        self._tell(f"loading {handle.name}")
        lm = self._ws.load_fresh(handle, home[1])
        lm.plain.register_forward_pre_hook(lambda *_: self._check())
        self._lm, self._home = lm, home
        self.holds = home[0] if home[1] == self._ws.dtype else None

    def _write(self, lm: LanguageModel, state: State, pair: OpenPair, counting: bool) -> None:
        weights = pair.models.weights
        if state.spec is None:
            self._tell(f"writing {state.label}")
            copy_weights(weights.base if state.tuned is None else weights.tuned, lm.model, self._check)
            return
        from sftknow_core.update.restore import move_to, restore_into

        def progress(*_: int) -> None:
            self._check()

        self._tell(f"choosing the weights of {state.label}")
        plan = pair.models.plans([state.spec], progress)[0]
        self._tell(f"writing {state.label}")
        if counting:
            pair.reports[state.state_id] = restore_into(lm.model, weights, plan, progress=progress)
        else:
            move_to(lm.model, weights, plan, progress=progress)


class EngineLoader(StateLoader):
    """Brings states into the engine's one model, for `runs.evaluate`."""

    def __init__(self, ws: Workspace, base: ModelHandle, pair: OpenPair | None, slot: OneModel) -> None:
        super().__init__(ws, base, pair.models if pair else None, reports=pair.reports if pair else {})
        self._open = pair
        self._slot = slot

    def load(self, state: State) -> LanguageModel:
        """The state's model, until another one is loaded."""
        return self._slot.bring(state, self._open, counting=True)


def copy_weights(source: TensorSource, target: Any, check: Check) -> None:
    """Overwrite a torch model's parameters with a source's values. Raises ModelError where one is missing."""
    import torch

    from sftknow_core.errors import ModelError

    parameters = dict(target.named_parameters())
    with torch.no_grad():
        for meta in source.metas:
            if meta.name not in parameters or tuple(parameters[meta.name].shape) != meta.shape:
                raise ModelError(f"{source.label}: tensor {meta.name} has no counterpart in the loaded model")
            flat = parameters[meta.name].detach().view(-1)
            for start in range(0, meta.numel, _COPIED_AT_ONCE):
                check()
                stop = min(start + _COPIED_AT_ONCE, meta.numel)
                flat[start:stop].copy_(source.read(meta.name, start, stop))


def _settings(model: ModelHandle) -> tuple[Any, ...]:
    """What besides the weights decides a model's output: its config, and the ids that end its texts."""
    from sftknow_core.model.io.identity import VOLATILE_KEYS
    from sftknow_core.model.io.sources import read_json
    from sftknow_core.model.io.tensors import meta_model

    empty, _ = meta_model(model.path)
    config: dict[str, Any] = empty.config.to_dict() if empty is not None else {"of": model.model_id}  # type: ignore[union-attr, operator]
    file = model.path / "generation_config.json"
    ends = read_json(file).get("eos_token_id") if file.is_file() else None
    return {key: value for key, value in config.items() if key not in VOLATILE_KEYS}, ends


def _empty_device_cache() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# The workspace of the engine: stages work in it as in any other, but what they need comes from the one model.
#
# A cancelled request stops its stages where a chain's stop request would, and while they wait for a run that
# another process is making. Mastery is never computed here: it takes hours, and belongs into a job.


Tell = Callable[[str, float | None], None]
"""Takes (what is being done, share of it that is done)."""
_PROMPTS_A_QUESTION = 3
"""At most so many places of a question have base logits (measure/reference.py)."""


class EngineReporter(Reporter):
    """Passes progress on, a few times a second."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell
        self.start()

    def start(self) -> None:
        """Begin to count anew, for the next request."""
        self.total = self.done = 0.0
        self.text = ""
        self._words = Throttle(0.2)

    def show(self) -> None:
        """Tell what changed, where that was not done just now."""
        if self.text and self._words.due(self.text):
            self._tell(self.text, self.share)


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
