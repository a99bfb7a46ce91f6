"""Ctrl-C and exceptions in the middle of a generation: it ends there, and the model goes on with the next one."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.conftest import COUNT, PROMPT, answer
from faults.test_memory import product
from support.chain import make_pipeline, record_chain, upload

from tlite_vk.device import Device, Recording
from tlite_vk.engine import Engine
from tlite_vk.errors import InputError
from tlite_vk.generate import Model
from tlite_vk.loading import load
from tlite_vk.session import Session


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt even where this process was started in the background, with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def model(fresh: Device, tiny: Path) -> Iterator[Model]:
    with load(tiny, device=fresh, window=8) as loaded:  # goes on past its context
        yield loaded


class Interrupted:
    """A recording whose next wait is ended by Ctrl-C, once it is submitted."""

    def __init__(self, recording: Recording) -> None:
        self._recording, self._left = recording, 1

    def run(self, repeat: int = 1) -> None:
        if self._left:
            self._left = 0
            self._recording.submit(repeat)
            raise KeyboardInterrupt
        self._recording.run(repeat)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recording, name)


def interrupt_every_first_step(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    original = engine.submissions

    def submissions(*arguments: Any) -> Any:
        found = original(*arguments)
        if id(found) not in seen:
            seen.add(id(found))
            found.recordings = [Interrupted(recording) for recording in found.recordings]  # type: ignore[misc]
        return found

    patch.setattr(engine, "submissions", submissions)


def test_a_wait_ends_before_the_work_does(fresh: Device) -> None:
    spans = upload(fresh, np.zeros(1 << 16, np.uint32)), upload(fresh, np.zeros(1 << 16, np.uint32))
    recording = record_chain(fresh, make_pipeline(fresh, 3), spans, 2, barriers=True)
    repeat = 256
    while True:  # work that lasts longer than the signal takes, whatever the machine
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            recording.run(repeat)
            timer.join()
            signal.sigtimedwait([], 0)
        except KeyboardInterrupt:
            timer.join()
            if recording.pending:
                break
        repeat = min(2 * repeat, 1 << 16)
    recording.wait()
    recording.run()


def test_ctrl_c_between_and_within_steps(model: Model, fresh: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = answer(model)
    used = fresh.memory_used
    with monkeypatch.context() as patch:
        interrupt_every_first_step(model.engine, patch)
        for _ in range(8):  # the first step of each kind leaves a submission under way
            try:
                assert answer(model) == wanted
            except KeyboardInterrupt:
                continue
            break
        else:
            pytest.fail("it never got through")
    assert answer(model) == wanted
    assert fresh.memory_used == used


def test_ctrl_c_from_the_keyboard(model: Model, fresh: Device) -> None:
    wanted = answer(model)
    used = fresh.memory_used
    for _ in range(3):
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            for _ in model.generate_tokens(PROMPT):
                pass
            timer.join()  # if it was over before
        timer.join()
        assert answer(model) == wanted
        assert fresh.memory_used == used


def test_closing_what_was_interrupted(fresh: Device, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(tiny, device=fresh)
    interrupt_every_first_step(loaded.engine, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        answer(loaded)
    loaded.close()
    assert fresh.memory_used == 0


def test_ctrl_c_while_loading(fresh: Device, tiny: Path, expected: list[int]) -> None:
    def interrupt(done: int, total: int) -> None:
        if done * 2 > total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(tiny, device=fresh, progress=interrupt)
    assert fresh.memory_used == 0
    with load(tiny, device=fresh) as again:
        assert answer(again) == expected


def test_a_session_that_was_interrupted(fresh: Device) -> None:
    x = np.ones((5, 64), np.float32)
    with Session(product(), fresh) as session:
        (name,) = session.run({"x": x})
        (bucket,) = session._buckets.values()
        real = bucket.recording
        bucket.recording = Interrupted(real)  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            session.run({"x": x})
        assert np.array_equal(session.run({"x": 2 * x})[name], 2 * x)
        bucket.recording = real


class ConsumerError(Exception):
    pass


def test_an_exception_in_the_consumer(model: Model, fresh: Device) -> None:
    wanted = answer(model)
    list(model.generate_tokens(PROMPT, max_tokens=2, temperature=1.0))  # sampling has a buffer of its own
    used = fresh.memory_used
    for temperature in (0.0, 1.0):
        with pytest.raises(ConsumerError):
            for _ in model.generate("a" * 20, max_tokens=COUNT, temperature=temperature, seed=1):
                raise ConsumerError
        assert answer(model) == wanted and fresh.memory_used == used


def test_an_exception_in_the_progress(model: Model) -> None:
    def fail(done: int, total: int) -> None:
        raise ConsumerError

    wanted = answer(model)
    with pytest.raises(ConsumerError):
        list(model.generate_tokens(PROMPT, max_tokens=3, progress=fail))
    assert answer(model) == wanted


def test_a_stream_that_is_closed_early(model: Model) -> None:
    wanted = answer(model)
    stream = model.generate_tokens(PROMPT)
    assert next(stream) == wanted[0]
    with pytest.raises(InputError, match="generating already; finish or close that generation"):
        answer(model)
    with pytest.raises(InputError, match="generating already"):
        model.prefill([3, 4])
    stream.close()  # type: ignore[attr-defined]
    assert answer(model) == wanted
    stream = model.generate_tokens(PROMPT)
    next(stream)
    del stream  # nobody holds it any more
    assert answer(model) == wanted
