"""The engine's manners: bad requests, faults, idleness, a device that others want."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_requests import Bench, Chain
from small_chain import small_facts_file

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.pipeline.device import DeviceLock
from sftknow_core.serve.engine.protocol import AskRequest, EvaluateRequest, Models, from_json, to_json
from sftknow_core.specs import QuestionSpec
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import list_runs
from sftknow_core.update.spec import RestoreSpec

K20 = RestoreSpec(k_percent="20")


@pytest.fixture(scope="module")
def chain(undisturbed: Path, model: Path, memory_folder: Path) -> Iterator[Chain]:
    """A copy of the finished small chain."""
    cache = memory_folder / "worker"
    shutil.copytree(undisturbed, cache)
    yield Chain(cache, model, small_facts_file(memory_folder / "worker.jsonl"))
    shutil.rmtree(cache)


@pytest.fixture
def bench(chain: Chain) -> Bench:
    return Bench(chain.cache)


def test_requests_survive_the_line() -> None:
    models = Models(base="a", tuned="b", base_id="0" * 16, tuned_id="1" * 16)
    for request in (
        EvaluateRequest(models=models, state="base"),
        EvaluateRequest(
            models=models,
            state=K20,
            questions=QuestionSpec(per_level=5, seed=1),
            groups=("dev_in",),
            facts=FactsRef("x.csv", sample=3),
            mastery="m",
        ),
        AskRequest(
            models=models,
            texts=("one", "zwei é"),
            states=("tuned", RestoreSpec("random", "mlp", "0-1", "0.5", seed=3)),
        ),
    ):
        assert from_json(json.loads(json.dumps(to_json(request)))) == request


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        ("no json", "SpecError", "one JSON object a line"),
        ("[1]", "SpecError", "one JSON object a line"),
        ('{"id": 5, "do": "ping"}', "SpecError", "one JSON object a line"),
        ({"do": "dance"}, "SpecError", "allowed: evaluate, ask"),
        ({"do": "ask"}, "SpecError", "request: got None"),
        ({"do": "ask", "request": {"models": {}, "texts": ["a"], "who": 1}}, "SpecError", "unknown field 'who'"),
        ({"do": "ask", "request": {"models": {}}}, "SpecError", "texts"),
        ({"do": "ask", "request": {"models": {}, "texts": "a"}}, "SpecError", "list"),
        ({"do": "ask", "request": {"models": {"base": 3}, "texts": ["a"]}}, "SpecError", "base: got 3"),
        ({"do": "ask", "request": {"models": {}, "texts": [" "], "states": ["base"]}}, "SpecError", "none of them"),
        ({"do": "ask", "request": {"models": {}, "texts": ["a"], "states": ["tuned"]}}, "SpecError", "only a base"),
        ({"do": "evaluate", "request": {"models": {}, "state": "restored"}}, "SpecError", "allowed: base, tuned"),
        (
            {"do": "evaluate", "request": {"models": {"tuned": "x"}, "state": {"k_percent": "101"}}},
            "SpecError",
            "allowed: 0 to 100",
        ),
        ({"do": "evaluate", "request": {"models": {}, "state": "base", "groups": ["all"]}}, "SpecError", "dev_in"),
        (
            {"do": "evaluate", "request": {"models": {}, "state": "base", "questions": {"per_level": "x"}}},
            "SpecError",
            "questions",
        ),
    ],
)  # fmt: skip
def test_bad_lines_are_answered_at_once(bench: Bench, line: Any, kind: str, text: str) -> None:
    plain = line if isinstance(line, str) else json.dumps({"id": "x", **line})
    bench.engine.receive(plain)
    [answer] = bench.sent
    assert (answer["event"], answer["kind"]) == ("failed", kind)
    assert text in answer["message"]
    assert answer["id"] == ("" if isinstance(line, str) else "x")
    assert not bench.engine.work()  # nothing came into the queue


def test_what_cannot_be_done_is_said_and_the_engine_lives_on(
    bench: Bench, chain: Chain, tmp_path: Path
) -> None:
    last = bench.do(AskRequest(models=Models(base=str(tmp_path / "nowhere")), texts=("a",), states=("base",)))
    assert (last["event"], last["kind"]) == ("failed", "ModelError") and "not found" in last["message"]
    last = bench.do(chain.ask("base", texts=("long " * 300,)))
    assert last["kind"] == "SpecError" and "reads at most 256" in last["message"]
    last = bench.do(chain.evaluate("base", mastery="0" * 16))
    assert last["kind"] == "SpecError" and "holds no finished mastery" in last["message"]
    last = bench.do(chain.evaluate("base", facts=FactsRef(str(tmp_path / "none.csv"))))
    assert last["kind"] == "DataError"
    assert len(bench.result(chain.ask("base"))["answers"]) == 1


def test_mastery_is_never_computed_in_the_engine(bench: Bench, chain: Chain) -> None:
    before = {info.run_id for info in list_runs(Cache(chain.cache))}
    last = bench.do(chain.evaluate("base", mastery=None))
    assert last["kind"] == "SpecError" and "sftknow mastery" in last["message"]
    assert {info.run_id for info in list_runs(Cache(chain.cache))} == before


def test_an_unexpected_fault_is_told_as_ours(
    bench: Bench, chain: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = bench.engine._get_ready()
    monkeypatch.setattr(desk, "ask", lambda request: 1 / 0)
    last = bench.do(chain.ask("base"))
    assert (last["kind"], last["message"]) == ("internal", "ZeroDivisionError: division by zero")
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.undo()
    bench.result(chain.ask("base"))


def test_a_device_that_is_lost_ends_the_engine(
    bench: Bench, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(request: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(bench.engine._get_ready(), "ask", lost)
    assert bench.do(chain.ask("base"))["kind"] == "internal"
    assert bench.engine.closing


def test_a_batch_too_large_for_memory_is_halved(bench: Bench, chain: Chain) -> None:
    expected = bench.result(chain.ask("base"))
    sizes = []

    def small_memory(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        sizes.append(len(kwargs["input_ids"]))
        if len(kwargs["input_ids"]) > 1:
            raise torch.OutOfMemoryError("out of memory")

    slot = bench.engine._desk.ws.slot
    hook = slot._lm.plain.register_forward_pre_hook(small_memory, with_kwargs=True)
    found = bench.result(chain.ask("base"))
    hook.remove()
    assert max(sizes) == 2 and min(sizes) == 1
    for one, other in zip(found["answers"][0]["rows"], expected["answers"][0]["rows"], strict=True):
        assert one["answer"] == other["answer"]
        assert one["p"] == pytest.approx(other["p"], rel=1e-5)


def test_memory_that_does_not_suffice_unloads_and_says_so(
    bench: Bench, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(bench.engine._get_ready().ws, "load_fresh", full)
    last = bench.do(chain.ask("base"))
    assert last["kind"] == "ModelError" and "memory ran out" in last["message"]
    monkeypatch.undo()
    bench.result(chain.ask("base"))


def test_unloads_after_ten_idle_minutes(chain: Chain) -> None:
    now = 0.0
    bench = Bench(chain.cache, {"clock": lambda: now})
    bench.result(chain.ask("base", K20))
    now = 599.0
    bench.engine.work()
    assert bench.result({"do": "status"})["loaded"] is not None
    now = 600.0
    bench.engine.work()
    status = bench.result({"do": "status"})
    assert (status["loaded"], status["loaded_bytes"], status["pair"]) == (None, 0, None)
    assert len(bench.result(chain.ask("base", K20))["answers"]) == 2  # and comes back


def test_unload_and_status(bench: Bench, chain: Chain) -> None:
    assert not bench.result({"do": "ping"})["ready"]
    answers = bench.result(chain.ask("base", K20))["answers"]
    status = bench.result({"do": "status"})
    assert status["loaded"] == answers[1]["state_id"]
    assert status["device"] == "cpu" and status["rss_bytes"] > status["loaded_bytes"] > 0
    assert (status["current"], status["queue"]) == (None, [])
    waiting = bench.put(chain.ask("base"))
    ping = bench.put({"do": "ping"})
    assert bench.about(ping)[0]["result"]["ready"]  # answered although a request waits
    assert bench.about(waiting) == []
    bench.engine.work()
    assert bench.result({"do": "unload"}) == {}
    assert bench.result({"do": "status"})["loaded"] is None


def test_gives_way_when_a_job_wants_the_device(chain: Chain) -> None:
    """The job waits until the request in hand is done, the engine then waits until the job is."""
    cache = Cache(chain.cache)
    bench = Bench(chain.cache, {"lock": DeviceLock(cache, "test-0")})
    bench.result(chain.ask("base"))
    job = DeviceLock(cache, "test-0")
    got, done = threading.Event(), threading.Event()

    def work() -> None:
        job.take(lambda: None, lambda text: None)
        got.set()
        done.wait(20)
        job.release()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while not bench.engine._desk.ws.lock.is_wanted():
            assert not got.is_set()
        assert not got.wait(0.3)  # the engine has it
        bench.engine.work()  # idle: gives way
        assert got.wait(5)
        assert bench.result({"do": "status"})["loaded"] is None

        texts = []
        bench.on_send = lambda message: (
            texts.append(message.get("text", "")),
            done.set() if "waiting for test-0" in texts[-1] else None,
        )
        bench.result(chain.ask("base"))
        assert any("waiting for test-0" in text for text in texts)
    finally:
        done.set()
        thread.join(5)


def test_waiting_for_the_device_can_be_cancelled(chain: Chain) -> None:
    cache = Cache(chain.cache)
    bench = Bench(chain.cache, {"lock": DeviceLock(cache, "test-1")})
    job = DeviceLock(cache, "test-1")
    job.take(lambda: None, lambda text: None)

    def cancel(message: dict) -> None:
        if "waiting for test-1" in message.get("text", ""):
            bench.engine.receive(json.dumps({"id": "c", "do": "cancel", "which": message["id"]}))

    bench.on_send = cancel
    assert bench.do(chain.ask("base"))["event"] == "cancelled"
    cached = bench.result(chain.evaluate("base"))
    assert cached["cached"]  # what is in the cache needs no device
    job.release()
    assert not list(cache.locks.glob("*test-1.wanted*"))


def test_a_run_stopped_from_outside_is_no_cancel(bench: Bench, chain: Chain) -> None:
    from sftknow_core.store.open_run import request_stop

    request = chain.evaluate(RestoreSpec(k_percent="33"))

    def stop(message: dict) -> None:
        for info in list_runs(Cache(chain.cache), "evaluate"):
            if info.status.state == "running":
                request_stop(Cache(chain.cache), info.run_id)

    bench.on_send = stop
    last = bench.do(request)
    assert (last["event"], last["kind"]) == ("failed", "Stopped")
    bench.on_send = lambda message: None
    bench.result(request)


def test_specs_are_checked_before_they_are_sent() -> None:
    with pytest.raises(SpecError, match="only a base is given"):
        EvaluateRequest(models=Models(), state=K20)
    with pytest.raises(SpecError, match="allowed: 1 to 64"):
        AskRequest(models=Models(), texts=(), states=("base",))
