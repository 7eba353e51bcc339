"""Passes over spans: order, threads, errors and stopping."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from fake_source import cut_into, fake_pair, random_tensors

from sftknow_core.update.pair import Pair, Span


def made() -> Pair:
    return fake_pair(random_tensors(), random_tensors(dtype=torch.bfloat16))


def test_spans_cover_every_weight_once_in_order() -> None:
    with cut_into(20):
        spans = made().spans()
    covered = [(s.meta.name, i) for s in spans for i in range(s.start, s.stop)]
    assert covered == [(m.name, i) for m in made().metas for i in range(m.numel)]
    assert all(s.stop - s.start <= 40 for s in spans)
    assert sum(s.n_bytes for s in spans) == made().n_weights * (4 + 2)


@pytest.mark.parametrize("threads", [1, 4])
def test_results_come_in_order_whoever_is_first(threads: int) -> None:
    pair = made()
    seen = []

    def work(span: Span) -> str:
        time.sleep(0.003 if span.start == 0 else 0)
        return f"{span.meta.name} {span.start} {threading.current_thread() is threading.main_thread()}"

    with cut_into(8, threads=threads):
        spans = pair.spans()
        for span, result in pair.map(work, spans, progress=lambda done, total: seen.append((done, total))):
            assert result == f"{span.meta.name} {span.start} {threads == 1}"
        assert torch.get_num_threads() == threads
    assert seen[-1] == (7056, 7056)  # 1,176 weights of 4 + 2 bytes
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_an_error_in_a_thread_ends_the_pass() -> None:
    pair = made()
    begun = []

    def work(span: Span) -> None:
        begun.append(span)
        if len(begun) == 3:
            raise OSError("unplugged")

    with cut_into(8, threads=2), pytest.raises(OSError, match="unplugged"):
        for _ in pair.map(work, pair.spans()):
            pass
    assert len(begun) < len(pair.spans())


def test_whoever_stops_listening_stops_the_pass() -> None:
    pair = made()
    begun: list[Span] = []
    before = threading.active_count()

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with cut_into(4, threads=2), pytest.raises(InterruptedError):
        for _ in pair.map(begun.append, pair.spans(), progress=stop):
            pass
    assert len(begun) <= 6
    assert threading.active_count() == before
