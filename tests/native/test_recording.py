"""Recordings: dispatches in order, copies, fills, timestamps, submissions, and what they refuse."""

import signal
import threading
import time

import numpy as np
import pytest
from support.chain import GROUP, Span, Values, expected_chain, make_pipeline, push, record_chain, record_link, upload

from tlite_vk.device import Device
from tlite_vk.errors import DeviceError


def numbers(count: int) -> Values:
    return np.random.default_rng(count).integers(0, 2**32, count, dtype=np.uint32)


@pytest.mark.parametrize("count", [1, 3, 127, 257, 100_000])
def test_dependent_dispatches_with_barriers(any_device: Device, count: int) -> None:
    x = numbers(count)
    spans = upload(any_device, x), upload(any_device, np.zeros_like(x))
    record_chain(any_device, make_pipeline(any_device, 3), spans, 31, barriers=True).run()
    assert np.array_equal(spans[1].read(), expected_chain(x, 3, 31))


def test_recordings_follow_each_other_without_a_barrier_of_their_own(any_device: Device) -> None:
    x = numbers(5000)
    spans = upload(any_device, x), upload(any_device, np.zeros_like(x))
    there = record_chain(any_device, make_pipeline(any_device, 5), spans, 1, barriers=False)
    back = record_chain(any_device, make_pipeline(any_device, 7), (spans[1], spans[0]), 1, barriers=False)
    for _ in range(10):
        there.submit()
        back.submit()
        back.wait()
        there.wait()
        x = expected_chain(expected_chain(x, 5, 1), 7, 1)
    assert np.array_equal(spans[0].read(), x)


def test_windows_of_one_buffer(any_device: Device) -> None:
    step = any_device.info.limits["min_storage_offset_alignment"]
    x = numbers(step // 4)
    buffer = any_device.buffer(4 * step)
    buffer.write(np.tile(x, 4))
    recording = any_device.recording()
    record_link(recording, make_pipeline(any_device, 9), Span(buffer, x.size, step), Span(buffer, x.size, 3 * step), 2)
    recording.end()
    recording.run()
    expected = np.concatenate([x, x, x, x * np.uint32(9) + np.uint32(2)])
    assert np.array_equal(buffer.read().view(np.uint32), expected)


def test_a_dispatch_of_three_dimensions_runs_every_group(any_device: Device) -> None:
    x = np.arange(GROUP, dtype=np.uint32)
    source, target = upload(any_device, x), upload(any_device, np.zeros_like(x))
    recording = any_device.recording()
    windows = [source.window, target.window]
    recording.dispatch(make_pipeline(any_device), windows, (2, 3, 4), push(GROUP, 1))
    recording.end()
    recording.run()
    assert np.array_equal(target.read(), x + 1)


def test_one_pipeline_with_other_push_constants_and_windows(any_device: Device) -> None:
    pipeline = make_pipeline(any_device, 2)
    spans = [upload(any_device, numbers(n)) for n in (10, 20, 30)]
    targets = [upload(any_device, np.zeros(n, np.uint32)) for n in (10, 20, 30)]
    recording = any_device.recording()
    for offset, (source, target) in enumerate(zip(spans, targets, strict=True)):
        record_link(recording, pipeline, source, target, offset)
    recording.end()
    recording.run()
    for offset, (source, target) in enumerate(zip(spans, targets, strict=True)):
        assert np.array_equal(target.read(), source.read() * np.uint32(2) + np.uint32(offset))


def test_more_dispatches_than_one_descriptor_pool_holds(any_device: Device) -> None:
    x = numbers(64)
    spans = upload(any_device, x), upload(any_device, np.zeros_like(x))
    record_chain(any_device, make_pipeline(any_device, 3), spans, 1001, barriers=True).run()
    assert np.array_equal(spans[1].read(), expected_chain(x, 3, 1001))


def test_repeated_submission(any_device: Device) -> None:
    x = numbers(3000)
    spans = upload(any_device, x), upload(any_device, np.zeros_like(x))
    recording = record_chain(any_device, make_pipeline(any_device, 3), spans, 2, barriers=True)
    recording.run(repeat=25)
    recording.submit(4)
    assert recording.pending
    assert recording.wait()
    assert not recording.pending
    assert np.array_equal(spans[0].read(), expected_chain(x, 3, 58))


def test_copies_of_ranges(any_device: Device) -> None:
    data = np.random.default_rng(1).integers(0, 256, 300, dtype=np.uint8)
    source, target = any_device.buffer(300), any_device.buffer(400)
    source.write(data)
    target.write(bytes(400))
    recording = any_device.recording()
    recording.copy(source, 7, target, 301, 99)
    recording.copy(source, 0, target, 0, 1)
    recording.barrier()
    recording.copy(target, 301, target, 100, 50)
    recording.end()
    recording.run()
    expected = np.zeros(400, np.uint8)
    expected[301:] = data[7:106]
    expected[0] = data[0]
    expected[100:150] = data[7:57]
    assert np.array_equal(target.read(), expected)


def test_fill(any_device: Device) -> None:
    buffer = any_device.buffer(40)
    buffer.write(bytes(40))
    recording = any_device.recording()
    recording.fill(buffer, 8, 12, 0xDEADBEEF)
    recording.end()
    recording.run()
    assert buffer.read().view(np.uint32).tolist() == [0, 0, *[0xDEADBEEF] * 3, 0, 0, 0, 0, 0]


def test_timestamps_grow_and_are_taken_again_each_time(any_device: Device) -> None:
    x = numbers(200_000)
    spans = upload(any_device, x), upload(any_device, np.zeros_like(x))
    pipeline = make_pipeline(any_device, 3)
    recording = any_device.recording()
    indices = []
    for link in range(70):  # more than one query pool
        indices.append(recording.timestamp())
        record_link(recording, pipeline, spans[link % 2], spans[(link + 1) % 2], 1)
        recording.barrier()
    recording.end()
    with pytest.raises(DeviceError, match="after submit"):
        recording.timestamps()
    recording.run()
    first = recording.timestamps()
    recording.run(repeat=2)
    assert indices == list(range(70))
    assert first[0] == 0.0
    assert len(first) == 70
    assert first[-1] > 0
    assert first == sorted(first)
    assert recording.timestamps() != first


class LongWork:
    """A recording with the number of repetitions that keep its device busy for a good part of a second."""

    def __init__(self, device: Device) -> None:
        self.values = numbers(100_000)
        spans = upload(device, self.values), upload(device, np.zeros_like(self.values))
        self.recording = record_chain(device, make_pipeline(device, 3), spans, 200, barriers=True)
        begin = time.perf_counter()
        self.recording.run()
        self.repeat = 1 + int(0.4 / (time.perf_counter() - begin))
        self.target = spans[0]

    def check(self) -> None:
        """The result after one submission of all repetitions."""
        assert np.array_equal(self.target.read(), expected_chain(self.values, 3, 200 * (1 + self.repeat)))


def test_wait_with_a_time_limit_leaves_the_submission_intact(any_device: Device) -> None:
    work = LongWork(any_device)
    work.recording.submit(work.repeat)
    waits = 0
    while not work.recording.wait(0.0):
        assert work.recording.pending
        waits += 1
    assert waits > 0
    work.check()


def test_waiting_lets_other_threads_run(any_device: Device) -> None:
    work = LongWork(any_device)
    work.recording.submit(work.repeat)
    waiter = threading.Thread(target=work.recording.wait)
    waiter.start()
    assert sum(range(1000)) == 499500
    assert waiter.is_alive()  # this thread ran while the other one waited
    waiter.join()
    work.check()


def test_an_interrupted_wait_can_be_taken_up_again(any_device: Device) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    work = LongWork(any_device)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        work.recording.submit(work.repeat)
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            work.recording.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert work.recording.pending
    assert work.recording.wait()
    work.check()


def test_an_empty_recording_runs(any_device: Device) -> None:
    recording = any_device.recording()
    recording.end()
    recording.run()
    assert recording.timestamps() == []
