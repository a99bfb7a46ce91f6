"""Sessions and models in several threads, and after they were closed."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from faults.conftest import COUNT, PROMPT, OpenDriver, answer
from faults.test_memory import product

from tlite_vk.device import Device
from tlite_vk.errors import DeviceError, InputError
from tlite_vk.loading import load
from tlite_vk.session import Session

ROUNDS = 6


def in_threads(*tasks: Callable[[], object]) -> list[object]:
    """Their results; they start together."""
    barrier = threading.Barrier(len(tasks))

    def run(task: Callable[[], object]) -> object:
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(run, task) for task in tasks]]


def rows(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.arange(count * 64, dtype=np.float32).reshape(count, 64)


@pytest.mark.parametrize("staging", [False, True])
def test_two_sessions_in_two_threads(open_driver: OpenDriver, main_driver: str, staging: bool) -> None:
    device = open_driver(main_driver, staging=staging)

    def work(first: int) -> bool:
        with Session(product(), device) as session:
            lengths = [first + i for i in range(ROUNDS)] * 2
            return all(np.array_equal(y, rows(n)) for n in lengths for y in session.run({"x": rows(n)}).values())

    assert in_threads(lambda: work(1), lambda: work(100)) == [True, True]


def test_one_session_in_two_threads(fresh: Device) -> None:
    with Session(product(), fresh) as session:

        def work(first: int) -> bool:
            lengths = [first + i for i in range(ROUNDS)] * 2
            return all(np.array_equal(y, rows(n)) for n in lengths for y in session.run({"x": rows(n)}).values())

        assert in_threads(lambda: work(1), lambda: work(4)) == [True, True]


def test_two_models_in_two_threads(fresh: Device, tiny: Path, expected: list[int]) -> None:
    def work() -> bool:
        with load(tiny, device=fresh) as model:
            return all(answer(model) == expected for _ in range(3))

    assert in_threads(work, work) == [True, True]


def test_one_model_in_two_threads(fresh: Device, tiny: Path, expected: list[int]) -> None:
    with load(tiny, device=fresh) as model:
        stream = model.generate_tokens(PROMPT, max_tokens=COUNT)
        got = [next(stream)]

        def other() -> str:
            with pytest.raises(InputError) as refused:
                answer(model)
            return str(refused.value)

        (said,) = in_threads(other)
        assert "generating already; finish or close that generation, or load a second model" in str(said)
        assert [*got, *stream] == expected


def test_closing_while_another_thread_generates(fresh: Device, tiny: Path) -> None:
    model = load(tiny, device=fresh, window=8)
    started = threading.Event()

    def generate() -> str:
        with pytest.raises(InputError) as ended:
            for _ in model.generate_tokens(PROMPT):
                started.set()
        return str(ended.value)

    def close() -> None:
        started.wait()
        model.close()

    said, _ = in_threads(generate, close)
    assert said == "the model is closed; load it again"
    assert fresh.memory_used == 0


def test_a_closed_model(fresh: Device, tiny: Path) -> None:
    model = load(tiny, device=fresh)
    stream = model.generate_tokens(PROMPT, max_tokens=COUNT)
    next(stream)
    model.close()
    assert fresh.memory_used == 0
    uses: list[Callable[[], object]] = [
        lambda: next(stream),
        lambda: model.encode("a"),
        lambda: model.generate("a"),
        lambda: model.generate_tokens([3]),
        lambda: model.prefill([3]),
        lambda: model.score([3, 4]),
        lambda: model.__enter__(),
    ]
    for use in uses:
        with pytest.raises(InputError, match="the model is closed; load it again"):
            use()
    model.close()
    assert model.program.vocabulary == 288 and model.stats.prompt_tokens == len(PROMPT)  # plain facts stay readable


def test_a_closed_session(fresh: Device) -> None:
    session = Session(product(), fresh)
    session.run({"x": rows(3)})
    session.close()
    assert fresh.memory_used == 0
    for use in (lambda: session.run({"x": rows(3)}), session.__enter__):
        with pytest.raises(InputError, match="the session is closed; make a new one"):
            use()
    session.close()
    assert [v.name for v in session.inputs] == ["x"]


def test_a_device_that_is_closed_first(open_driver: OpenDriver, main_driver: str, tiny: Path) -> None:
    device = open_driver(main_driver)
    model, session = load(tiny, device=device), Session(product(), device)
    device.close()
    for use in (lambda: answer(model), lambda: session.run({"x": rows(3)})):
        with pytest.raises(DeviceError, match="this device is closed"):
            use()
    model.close()
    session.close()
