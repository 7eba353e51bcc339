"""What the engine's tests share: an engine without a process around it, and requests about the small chain."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sftknow_core.facts.dataset import FactsRef
from sftknow_core.serve.engine.protocol import AskRequest, EvaluateRequest, Models, Request, StateRef, to_json
from sftknow_core.serve.engine.worker import Engine
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import list_runs

_ids = itertools.count()


@dataclass
class Bench:
    """An engine, and what it sent."""

    cache: Path
    options: dict[str, Any] = field(default_factory=dict)
    sent: list[Mapping[str, Any]] = field(default_factory=list)
    on_send: Callable[[Mapping[str, Any]], None] = lambda message: None

    def __post_init__(self) -> None:
        self.engine = Engine(Cache(self.cache), self._take, **{"device": "cpu", **self.options})

    def _take(self, message: Mapping[str, Any]) -> None:
        self.sent.append(json.loads(json.dumps(message)))
        self.on_send(message)

    def put(self, request: Request | dict[str, Any]) -> str:
        """Into the queue; returns the id."""
        request_id = f"r{next(_ids)}"
        plain = request if isinstance(request, dict) else to_json(request)
        self.engine.receive(json.dumps({"id": request_id, **plain}))
        return request_id

    def do(self, request: Request | dict[str, Any]) -> Mapping[str, Any]:
        """Put it in, work on it, and give the last message about it."""
        request_id = self.put(request)
        self.engine.work()
        return self.about(request_id)[-1]

    def result(self, request: Request | dict[str, Any]) -> Any:
        """The result of a request that is to succeed."""
        last = self.do(request)
        assert last["event"] == "done", last
        return last["result"]

    def about(self, request_id: str) -> list[Mapping[str, Any]]:
        """All messages about one request."""
        return [message for message in self.sent if message["id"] == request_id]


@dataclass(frozen=True)
class Chain:
    """A finished small chain, and the requests that ask for its parts."""

    cache: Path
    base: Path
    facts: Path

    @property
    def summary(self) -> Mapping[str, Any]:
        """Of the chain's manifest."""
        return next(i for i in list_runs(Cache(self.cache)) if i.kind == "chain").summary

    @property
    def models(self) -> Models:
        """Its pair."""
        return Models(base=str(self.base), tuned=self.summary["tuned_id"])

    def evaluate(self, state: StateRef, **changes: Any) -> EvaluateRequest:
        """The request whose run is the chain's own."""
        given = {
            "models": self.models,
            "state": state,
            "facts": FactsRef(str(self.facts)),
            "mastery": self.summary["stages"]["mastery"],
            "max_new_tokens": 3,
        }
        return EvaluateRequest(**{**given, **changes})

    def ask(self, *states: StateRef, **changes: Any) -> AskRequest:
        """Two questions to these states."""
        texts = ("Where was Anna Berg born?", "What is the capital of Norway?")
        given = {"models": self.models, "texts": texts, "states": states, "max_new_tokens": 4}
        return AskRequest(**{**given, **changes})
