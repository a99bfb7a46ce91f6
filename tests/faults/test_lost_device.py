"""A device that is lost: every later use says so, closing frees all, and a device opened anew works."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults.conftest import OpenDriver, answer
from faults.test_memory import product
from support.chain import Span, make_pipeline, record_chain, upload

from tlite_vk.device import Device, save_pipeline_cache
from tlite_vk.errors import DeviceError
from tlite_vk.loading import load
from tlite_vk.session import Session

LOST = r"was lost"


def chain(device: Device) -> tuple[Span, ...]:
    return tuple(upload(device, np.zeros(64, np.uint32)) for _ in range(2))


@pytest.mark.parametrize("waiting", [False, True])
def test_every_use_of_a_lost_device_says_so(fresh: Device, waiting: bool) -> None:
    source, target = chain(fresh)
    pipeline = make_pipeline(fresh)
    recording = record_chain(fresh, pipeline, (source, target), 1, barriers=True)
    other = record_chain(fresh, pipeline, (source, target), 1, barriers=True)
    recording.run()
    fresh.fail_after(1, waiting)
    recording.run()
    assert not fresh.lost
    with pytest.raises(DeviceError, match=r"the device was lost: .* open it again"):
        recording.run()
    assert fresh.lost and not recording.pending
    uses: list[Callable[[], object]] = [
        recording.submit, other.run, lambda: fresh.buffer(16), fresh.recording, lambda: make_pipeline(fresh),
        source.read, lambda: source.buffer.write(b"1234"), lambda: source.buffer.mapped,
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(DeviceError, match=LOST):
            use()
    assert not save_pipeline_cache(fresh)
    for held in (recording, other, pipeline, source.buffer, target.buffer):
        held.close()
    assert fresh.memory_used == 0


def test_one_that_is_under_way_when_the_device_is_lost(fresh: Device) -> None:
    spans, pipeline = chain(fresh), make_pipeline(fresh)
    first = record_chain(fresh, pipeline, (spans[0], spans[1]), 1, barriers=True)
    second = record_chain(fresh, pipeline, (spans[0], spans[1]), 1, barriers=True)
    first.submit()
    fresh.fail_after(0)
    with pytest.raises(DeviceError, match=LOST):
        second.submit()
    with pytest.raises(DeviceError, match=LOST):
        first.wait()
    assert not first.pending


def test_copies_through_staging(open_driver: OpenDriver, main_driver: str) -> None:
    staged = open_driver(main_driver, staging=True)
    buffer = staged.buffer(4096)
    buffer.write(bytes(4096))
    staged.fail_after(0, True)
    with pytest.raises(DeviceError, match=LOST):
        buffer.read()
    with pytest.raises(DeviceError, match=LOST):
        buffer.write(bytes(16))
    buffer.close()


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_model(
    open_driver: OpenDriver, main_driver: str, tiny: Path, expected: list[int], at: int, waiting: bool
) -> None:
    device = open_driver(main_driver)
    model = load(tiny, device=device)
    device.fail_after(at, waiting)
    got: list[int] = []
    with pytest.raises(DeviceError, match=LOST):
        got.extend(model.generate_tokens([*range(3, 23)], max_tokens=12))
    for _ in range(2):
        with pytest.raises(DeviceError, match=LOST):
            answer(model)
    with pytest.raises(DeviceError, match=LOST):
        model.prefill([3, 4, 5])
    with pytest.raises(DeviceError, match=LOST):
        load(tiny, device=device)
    model.close()
    model.close()
    assert device.memory_used == 0
    with load(tiny, device=open_driver(main_driver)) as again:
        assert answer(again) == expected


def test_while_weights_are_uploaded(open_driver: OpenDriver, main_driver: str, tiny: Path) -> None:
    staged = open_driver(main_driver, staging=True)
    staged.fail_after(0)
    with pytest.raises(DeviceError, match=LOST):
        load(tiny, device=staged)
    assert staged.memory_used <= 16 << 20  # what copies go through is the device's own


def test_a_session(open_driver: OpenDriver, main_driver: str) -> None:
    device, x = open_driver(main_driver), np.ones((5, 64), np.float32)
    session = Session(product(), device)
    session.run({"x": x})
    device.fail_after(0)
    for rows in (5, 5, 7):
        with pytest.raises(DeviceError, match=LOST):
            session.run({"x": np.ones((rows, 64), np.float32)})
    session.close()
    assert device.memory_used == 0
    with Session(product(), open_driver(main_driver)) as again:
        assert all(np.array_equal(y, x) for y in again.run({"x": x}).values())
