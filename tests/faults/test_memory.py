"""Memory that ends, while loading and while running: one line, nothing left behind, and the next try works."""

import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults.conftest import answer
from support.graphs import Builder

from tlite_vk import budget
from tlite_vk.cli import main
from tlite_vk.device import Device
from tlite_vk.errors import DeviceError, InputError
from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.ir import Graph
from tlite_vk.graph.onnx_load import load_model
from tlite_vk.loading import load
from tlite_vk.session import Session

REFUSAL = re.compile(
    r"[^\n]+: cannot allocate \d+ bytes \(more than the memory limit allows\); \d+ bytes are in use and the heap has "
    r"\d+, the limit is \d+ \(--max-memory\); use a smaller model, context or chunk"
)


def product() -> Graph:
    """y [T, 64] = x [T, 64] w: weights of 16 KiB and inputs of 256 bytes a row."""
    b = Builder()
    x = b.input("x", "T", 64)
    return b.graph(b.node("MatMul", x, b.constant(np.eye(64, dtype=np.float32))))


def test_the_limit_counts_all_buffers(fresh: Device) -> None:
    fresh.memory_limit = 1 << 20
    first = fresh.buffer(1 << 19)
    with pytest.raises(DeviceError) as refused:
        fresh.buffer((1 << 19) + 1)
    assert REFUSAL.fullmatch(str(refused.value)) and f"{fresh.memory_used} bytes are in use" in str(refused.value)
    second = fresh.buffer(1 << 19)  # to the last byte
    first.close()
    second.close()
    assert (fresh.memory_used, fresh.memory_peak) == (0, 1 << 20)


def test_threads_do_not_pass_the_limit_together(fresh: Device) -> None:
    fresh.memory_limit = 64 << 12
    kept: list[object] = []

    def allocate() -> None:
        for _ in range(32):
            try:
                kept.append(fresh.buffer(1 << 12))
            except DeviceError:
                assert fresh.memory_used <= 64 << 12

    threads = [threading.Thread(target=allocate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 64 and fresh.memory_peak <= 64 << 12


def test_memory_ends_while_loading(fresh: Device, tiny: Path, expected: list[int]) -> None:
    with load(tiny, device=fresh) as model:
        need = fresh.memory_used
        model.close()
    for share in (0.01, 0.3, 0.6, 0.9, 0.999):
        fresh.memory_limit = int(need * share)
        with pytest.raises(DeviceError, match="more than the memory limit allows"):
            load(tiny, device=fresh)
        assert fresh.memory_used == 0
    fresh.memory_limit = 0
    with load(tiny, device=fresh) as model:
        assert answer(model) == expected


def test_memory_ends_while_running(fresh: Device, tiny: Path, expected: list[int]) -> None:
    with load(tiny, device=fresh) as model:
        held = fresh.memory_used
        fresh.memory_limit = held + 64  # the first step needs room for its activations
        for _ in range(2):
            with pytest.raises(DeviceError) as refused:
                answer(model)
            assert REFUSAL.fullmatch(str(refused.value))
            assert fresh.memory_used == held
        fresh.memory_limit = 0
        assert answer(model) == expected
        used = fresh.memory_used
        assert answer(model) == expected and fresh.memory_used == used


def test_memory_ends_in_a_session(fresh: Device) -> None:
    x = np.ones((1000, 64), np.float32)
    with Session(product(), fresh) as session:
        held = fresh.memory_used
        fresh.memory_limit = held + 300_000  # one of the two arrays
        with pytest.raises(DeviceError, match="the limit is"):
            session.run({"x": x})
        assert fresh.memory_used == held
        (name,) = session.run({"x": x[:10]})  # a shorter one fits
        fresh.memory_limit = 0
        assert np.array_equal(session.run({"x": x})[name], x)


def test_more_than_the_heap_has(fresh: Device) -> None:
    """Whatever the driver would promise: several buffers that together pass the heap are refused."""
    heap = max(size for size, _ in fresh.info.heaps)
    size = min(fresh.info.limits["max_buffer_size"], fresh.info.limits["max_allocation_size"], heap)
    if heap // size > 1000:  # a driver with tiny buffers: nothing to be tried here
        size = heap
    with pytest.raises(DeviceError, match=r"cannot allocate \d+ bytes|is over the device's limit"):
        kept = [fresh.buffer(size) for _ in range(heap // size + 2)]
        assert kept


def test_the_limit_from_python(tiny: Path, lavapipe_file: str, monkeypatch: pytest.MonkeyPatch, fresh: Device) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    with pytest.raises(DeviceError, match="the limit is 100000 "):
        load(tiny, max_memory=100_000)
    with pytest.raises(DeviceError, match="the limit is 1000 "):
        Session(product(), max_memory=1000)
    for make in (load, Session):
        with pytest.raises(InputError, match=r"open_device\(memory_limit="):
            make(tiny, device=fresh, max_memory=1 << 30)
    with pytest.raises(InputError, match="at least one byte, not 0"):
        load(tiny, max_memory=0)


@pytest.mark.parametrize(
    ("text", "count"),
    [("1", 1), ("800M", 800_000_000), ("1.5G", 1_500_000_000), ("2GiB", 2 << 30), (" 64 kb ", 64_000), ("3Ki", 3072)],
)
def test_sizes(text: str, count: int) -> None:
    assert budget.parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "0", "M", "-1", "1T", "1e9", "0.1", "1 000", "9" * 40, "1.G", "NaN"])
def test_what_is_no_size(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="is no size in bytes"):
        budget.parse_bytes(text)
    monkeypatch.setenv("TLITE_VK_MEMORY", text or "?")
    with pytest.raises(InputError, match=r"TLITE_VK_MEMORY: .* is no size"), budget.limited(None):
        pass


def test_the_innermost_limit_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert budget.current() is None
    monkeypatch.setenv("TLITE_VK_MEMORY", "3K")
    assert budget.current() == 3000
    with budget.limited(2000), budget.limited(None):
        assert budget.current() == 2000
    assert budget.current() == 3000


@pytest.mark.parametrize(
    "command",
    [
        lambda m, g: ["run", m, "hello"],
        lambda m, g: ["bench", m],
        lambda m, g: ["profile", m],
        lambda m, g: ["eval", m, m / "tokenizer.json"],
        lambda m, g: ["compile", m],
        lambda m, g: ["quantize", m / "model.onnx", "-o", m.parent / "q.onnx"],
        lambda m, g: ["convert", g, "-o", m.parent / "converted.onnx"],
    ],
    ids=["run", "bench", "profile", "eval", "compile", "quantize", "convert"],
)
def test_the_limit_on_the_command_line(
    tiny: Path, tiny_gguf: Path, lavapipe_file: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], command: Callable[[Path, Path], list[object]],
) -> None:  # fmt: skip
    monkeypatch.setenv("VK_DRIVER_FILES", lavapipe_file)
    before = sorted(tiny.parent.iterdir())
    line = [str(a) for a in command(tiny, tiny_gguf)]
    for option, text in ((["--max-memory", "3000"], "3000"), (["--max-memory", "much"], "'much' is no size")):
        assert main([*line, *option]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and text in err, err
    monkeypatch.setenv("TLITE_VK_MEMORY", "2000")
    assert main(line) == 2
    assert "limit is 2000" in capsys.readouterr().err
    assert sorted(tiny.parent.iterdir()) == before


def test_the_file_counts_as_memory_of_the_host(tiny: Path) -> None:
    size = (tiny / "model.onnx").stat().st_size
    with budget.limited(size), pytest.raises(GraphError, match=r"model\.onnx needs \d+ bytes of memory; the limit is"):
        load_model(tiny / "model.onnx")
    with budget.limited(16 * size):
        load_model(tiny / "model.onnx")
