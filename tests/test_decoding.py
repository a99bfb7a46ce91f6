"""How many tokens go out in a submission: text comes at once and keeps coming, however fast the device is."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tlite_vk import decoding
from tlite_vk.decoding import MAX_BATCH, SUBMISSION_SECONDS, Decoder
from tlite_vk.sampling import SamplingOptions


class Played:
    """An engine of which only the time passes: step n of a generation takes step_seconds(n)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step_seconds: Callable[[int], float]) -> None:
        self.chunk, self.target, self.main, self.pace = 16, SimpleNamespace(bucket=8), None, SimpleNamespace(bound=0.0)
        self.batches: list[int] = []
        self.seconds: list[float] = []
        self._now, self._done, self._step_seconds = 0.0, 0, step_seconds
        monkeypatch.setattr(decoding, "time", SimpleNamespace(perf_counter=lambda: self._now))

    def step_tokens(self) -> int:
        return self.chunk

    def feed(self, position: int, ids: Any, ring: Any) -> None:
        pass

    def run(self, variant: Any, repeat: int = 1, ring: Any = None) -> None:
        took = sum(self._step_seconds(self._done + i) for i in range(repeat))
        self._now += took
        self._done += repeat
        if variant.entry == "decode":
            self.batches.append(repeat)
            self.seconds.append(took)

    def picked(self, start: int, stop: int) -> list[int]:
        return list(range(start, stop))


def play(monkeypatch: pytest.MonkeyPatch, step_seconds: Callable[[int], float], limit: int = 60) -> Played:
    engine = Played(monkeypatch, step_seconds)
    decoder = Decoder(engine)  # type: ignore[arg-type]
    assert list(decoder.tokens([1, 2, 3], limit, SamplingOptions())) == list(range(limit))
    assert sum(engine.batches) == limit - 1
    assert decoder.stats.decode_s == pytest.approx(sum(engine.seconds))
    return engine


def test_a_fast_device_gets_more_and_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert play(monkeypatch, lambda n: 0.001).batches == [1, 2, 4, 8, MAX_BATCH, MAX_BATCH, 12]


def test_a_slow_device_gives_each_token_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(play(monkeypatch, lambda n: 0.03).batches) == {1}
    assert set(play(monkeypatch, lambda n: 2.0, 5).batches) == {1}


def test_no_submission_is_longer_than_the_bound_but_when_a_device_slows_down(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = play(monkeypatch, lambda n: 0.007)
    assert max(engine.seconds) <= SUBMISSION_SECONDS and max(engine.batches) == 7
    engine = play(monkeypatch, lambda n: 0.001 if n < 32 else 0.02, 100)
    late = [s for s in engine.seconds if s > SUBMISSION_SECONDS]
    assert len(late) == 1  # the one that it slowed down in; the next ones are short enough again
    assert engine.batches[-2] == 2


def test_it_grows_again_when_a_device_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert play(monkeypatch, lambda n: 0.06 if n < 5 else 0.001, 80).batches[-2] == MAX_BATCH
