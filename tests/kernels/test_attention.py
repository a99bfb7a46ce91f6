"""Attention over the ring against a plain numpy softmax by position: prefill, decode, window, wrap, grouped heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tlite_vk.binding import Buffers, Pipelines, record
from tlite_vk.book import Book
from tlite_vk.device import Buffer, Device
from tlite_vk.expression import evaluate
from tlite_vk.graph import shape as dims
from tlite_vk.graph.infer import make_node
from tlite_vk.graph.ir import Graph, Value, constant
from tlite_vk.hazards import find_hazards, schedule
from tlite_vk.kernels.split_attention import default
from tlite_vk.lower import Lowering
from tlite_vk.program import Entry, Program
from tlite_vk.target import Target
from tlite_vk.upload import upload

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One attention: heads, sizes, ring."""

    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    rotary: int = 16
    interleaved: int = 0
    window: int = 0
    capacity: int = 64
    softcap: float = 0.0
    normed: bool = False

    @property
    def columns(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    def tables(self, positions: int = 1024) -> tuple[Array, Array]:
        angle = np.arange(positions)[:, None] / 100.0 ** (
            np.arange(max(1, self.rotary // 2)) / max(1, self.rotary // 2)
        )
        return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)

    def norms(self) -> tuple[Array, Array]:
        """Scales of a norm over each head of queries and of keys, [head_dim] each."""
        d = np.arange(self.head_dim, dtype=np.float32)
        return 1 + np.sin(d), 2 + np.cos(d)


EPSILON = 0.01


class Ring:
    """The RingAttention kernels on a device, one entry for a single token and one for T tokens, over one cache."""

    def __init__(self, device: Device, case: Case, target: Target) -> None:
        self.device, self.case = device, case
        book = Book(target.half_cache)
        self.entries = {tokens: _lower(case, target, book, tokens) for tokens in (1, None)}
        self.program = Program(tuple(book.kernels), {}, (), tuple(book.weights.values()), {}, 0, 0, 0)
        self.pipelines = Pipelines(device, self.program)
        self.weights = upload(device, self.program.weights, target.alignment)
        item = 2 if target.half_cache else 4
        size = case.capacity * case.kv_heads * case.head_dim * item
        self.named: dict[str, Buffer] = {f"state:{n}": device.buffer(size) for n in ("k", "v")}
        self.named |= {"step": device.buffer(256), "qkv": device.buffer(4 * 256 * case.columns)}

    def step(self, qkv: Array, position: int, padded: int) -> Array:
        """Rows qkv [n, columns] at positions position...; returns y [n, heads * head_dim]."""
        count = len(qkv)
        entry = self.entries[1 if padded == 1 else None]
        symbols = {"T": padded, "C": self.case.capacity, "W": self.case.window}
        assert not find_hazards(schedule(entry.dispatches, symbols), symbols)
        rows = np.full((padded, self.case.columns), np.nan, np.float32)
        rows[:count] = qkv
        self.named["qkv"].write(rows)
        self.named["step"].write(np.array([position, count, 0, 0], np.uint32))
        named = self.named | {"arena": self.device.buffer(max(16, evaluate(entry.arena, symbols)))}
        recording = self.device.recording()
        record(recording, entry.dispatches, symbols, Buffers(named, self.weights), self.pipelines)
        recording.end()
        recording.run()
        _, offset, size = entry.outputs["y"].resolve(symbols)
        got = named["arena"].read(size, offset).view(np.float32)
        width = self.case.heads * self.case.head_dim
        return got[: padded * width].reshape(padded, width)[:count]


def _lower(case: Case, target: Target, book: Book, tokens: int | None) -> Entry:
    length = tokens or dims.symbol("T")
    qkv = Value("qkv", "float32", (1, length, case.columns))
    shape = (1, dims.symbol("C"), case.kv_heads * case.head_dim)
    k, v = Value("k", "float32", shape), Value("v", "float32", shape)
    cos, sin = (constant(n, t) for n, t in zip(("cos", "sin"), case.tables(), strict=True))
    q_width, kv_width = case.heads * case.head_dim, case.kv_heads * case.head_dim
    attributes: Mapping[str, Any] = {
        "heads": case.heads,
        "kv_heads": case.kv_heads,
        "head_dim": case.head_dim,
        "scale": case.head_dim**-0.5,
        "window": case.window,
        "interleaved": case.interleaved,
        "rotary_dim": case.rotary,
        "softcap": case.softcap,
        "q_offset": 0,
        "k_offset": q_width,
        "v_offset": q_width + kv_width,
    }
    inputs: list[Value | None] = [qkv, qkv, qkv, k, v, *((cos, sin) if case.rotary else (None, None))]
    if case.normed:
        inputs += [constant(f"{n}_norm", scale) for n, scale in zip("qk", case.norms(), strict=True)]
        attributes = {**attributes, "norm_epsilon": EPSILON}
    node = make_node("RingAttention", inputs, "attention", attributes, output_names=["y", "k_out", "v_out"])
    graph = Graph("ring", [qkv, k, v], [node], node.outputs)
    low = Lowering(graph, target, book, {}, {k: "k", v: "v"}, {qkv: "qkv"}, multiple=target.bucket)
    low.run()
    return low.finish("ring", {"y": node.output}, None)


def rotate(x: Array, positions: Array, case: Case) -> Array:
    """x [T, heads, D] rotated for positions [T], float64."""
    if not case.rotary:
        return x
    cos, sin = (t[positions][:, None, :].astype(np.float64) for t in case.tables())
    half = case.rotary // 2
    first = slice(0, case.rotary, 2) if case.interleaved else slice(0, half)
    second = slice(1, case.rotary, 2) if case.interleaved else slice(half, case.rotary)
    out = x.copy()
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., first] * sin + x[..., second] * cos
    return out


def reference(qkv: Array, case: Case) -> Array:
    """Full attention over all rows at once with the band mask: float64 [T, heads * D]."""
    count, d = len(qkv), case.head_dim
    heads = qkv.astype(np.float64).reshape(count, -1, d)
    positions = np.arange(count)
    q, k = heads[:, : case.heads], heads[:, case.heads : case.heads + case.kv_heads]
    if case.normed:
        scaled = zip((q, k), case.norms(), strict=True)
        q, k = (x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * scale for x, scale in scaled)
    q, k = rotate(q, positions, case), rotate(k, positions, case)
    v = heads[:, case.heads + case.kv_heads :]
    group = case.heads // case.kv_heads
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    scores = np.einsum("qhd,khd->hqk", q, k) * d**-0.5
    if case.softcap:
        scores = case.softcap * np.tanh(scores / case.softcap)
    seen = positions[None] <= positions[:, None]
    if case.window:
        seen &= positions[None] > positions[:, None] - case.window
    weights = np.exp(np.where(seen, scores, -np.inf) - np.where(seen, scores, -np.inf).max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.asarray(np.einsum("hqk,khd->qhd", weights, v).reshape(count, -1))


CASES = {
    "plain": Case(),
    "one head": Case(heads=1, kv_heads=1, head_dim=8, rotary=8),
    "no rotary": Case(rotary=0),
    "partial interleaved": Case(head_dim=24, rotary=16, interleaved=1),
    "many heads per key": Case(heads=12, kv_heads=1, head_dim=64, rotary=64),
    "three heads per key": Case(heads=9, kv_heads=3, head_dim=64, rotary=64),
    "wide head": Case(heads=2, kv_heads=1, head_dim=128, rotary=128),
    "widest head": Case(heads=2, kv_heads=2, head_dim=256, rotary=256),
    "softcap": Case(softcap=2.0),
    "normed, partial": Case(head_dim=24, rotary=16, normed=True),
    "normed, no rotary": Case(heads=3, kv_heads=3, rotary=0, normed=True),
    "normed, three heads per key": Case(heads=9, kv_heads=3, head_dim=64, rotary=64, normed=True),
    "normed, wide": Case(heads=2, kv_heads=1, head_dim=128, rotary=128, normed=True),
    "window": Case(window=7, capacity=7 + 16 - 1),
    "window, wrapped often": Case(window=16, capacity=16 + 16 - 1),
}


@pytest.fixture
def device(any_device: Device) -> Device:
    """Both drivers: subgroups of 8 and of 4."""
    return any_device


@pytest.fixture(params=["cpu texel", "cpu", "gpu", "gpu without subgroups"])
def target(request: pytest.FixtureRequest, device: Device) -> Iterator[Target]:
    """Each family of kernels, on whatever device is at hand."""
    own = Target.of(device.info, "fp32")
    texel = device.info.limits["max_texel_buffer_elements"] >= 1 << 24
    yield {
        "cpu texel": replace(own, cpu=True, texel=texel),
        "cpu": replace(own, cpu=True, texel=False),
        "gpu": replace(own, cpu=False, texel=False),
        "gpu without subgroups": replace(own, cpu=False, texel=False, subgroup=0),
    }[request.param]


@pytest.mark.parametrize("name", CASES)
def test_chunks_and_single_tokens(device: Device, target: Target, name: str) -> None:
    case = CASES[name]
    rng = np.random.default_rng(7)
    chunks = [5, 1, 1, 16, 3, 1, 9, 1, 1]
    qkv = rng.standard_normal((sum(chunks), case.columns)).astype(np.float32)
    want = reference(qkv, case)
    ring, at = Ring(device, case, target), 0
    for count in chunks:
        padded = 1 if count == 1 else -(-count // 8) * 8
        got = ring.step(qkv[at : at + count], at, padded)
        assert np.abs(got - want[at : at + count]).max() < 2e-5, f"rows from {at}"
        at += count


@pytest.mark.parametrize("fused", [True, False])
def test_half_cache_is_close(device: Device, target: Target, fused: bool) -> None:
    case = CASES["three heads per key"]
    qkv = np.random.default_rng(8).standard_normal((24, case.columns)).astype(np.float32)
    ring = Ring(device, case, replace(target, half_cache=True))
    got = [ring.step(qkv[:16], 0, 16)]
    got += [ring.step(qkv[i : i + 1], i, 1 if fused else 8) for i in range(16, 24)]
    assert np.abs(np.concatenate(got) - reference(qkv, case)).max() < 5e-3


@pytest.mark.parametrize("texel", [True, False])
def test_little_shared_memory_for_wide_subgroups(device: Device, texel: bool) -> None:
    """What a CPU driver with subgroups of 32 and 16 KiB of shared memory would run, for heads of 128."""
    texel = texel and device.info.limits["max_texel_buffer_elements"] >= 1 << 24
    target = replace(Target.of(device.info, "fp32"), cpu=True, texel=texel, lanes=32, max_shared_bytes=16384)
    case = Case(head_dim=128, rotary=128, window=20, capacity=64)
    qkv = np.random.default_rng(11).standard_normal((40, case.columns)).astype(np.float32)
    ring = Ring(device, case, target)
    (dispatch,) = ring.entries[1].dispatches
    constants = dict(ring.program.kernels[dispatch.kernel].specialization)
    assert constants[0] == 16 and 4 * constants[8] <= target.max_shared_bytes
    ring.step(qkv[:32], 0, 32)
    got = [ring.step(qkv[i : i + 1], i, 1) for i in range(32, 40)]
    assert np.abs(np.concatenate(got) - reference(qkv, case)[32:]).max() < 2e-5


@pytest.mark.parametrize("half", [True, False])
def test_long_decode_covers_several_tiles_and_shares(device: Device, target: Target, half: bool) -> None:
    case = Case(heads=4, kv_heads=2, head_dim=32, rotary=32, capacity=1100)
    rng = np.random.default_rng(9)
    count = 2 * default(target)[2] + 70
    qkv = rng.standard_normal((count, case.columns)).astype(np.float32)
    ring = Ring(device, case, replace(target, half_cache=half))
    for at in range(0, count - 2, 64):
        ring.step(qkv[at : min(at + 64, count - 2)], at, 64)
    got = [ring.step(qkv[i : i + 1], i, 1) for i in (count - 2, count - 1)]
    assert np.abs(np.concatenate(got) - reference(qkv, case)[-2:]).max() < (2e-3 if half else 2e-5)


def test_shares_of_a_ring_that_has_wrapped(device: Device, target: Target) -> None:
    window = 2 * default(target)[2] + 5
    case = Case(heads=2, kv_heads=1, head_dim=16, window=window, capacity=window + 64 - 1)
    count = case.capacity + 101
    qkv = np.random.default_rng(12).standard_normal((count, case.columns)).astype(np.float32)
    ring = Ring(device, case, target)
    for at in range(0, count - 1, 64):
        ring.step(qkv[at : min(at + 64, count - 1)], at, 64)
    got = ring.step(qkv[-1:], count - 1, 1)
    assert np.abs(got - reference(qkv, case)[-1:]).max() < 2e-5


@pytest.mark.parametrize("head_dim", [16, 64, 80, 128, 256])
@pytest.mark.parametrize("window", [0, 50])
def test_cooperative_matrices(device: Device, head_dim: int, window: int) -> None:
    """Where the device has them (a GPU: TLITE_VK_TEST_DRIVER=system); the cache and all operands are halves."""
    target = Target.of(device.info, "fp16")
    if not target.matrix:
        pytest.skip("this device has no cooperative matrices")
    capacity = window + 144 - 1 if window else 512
    case = Case(heads=6, kv_heads=2, head_dim=head_dim, rotary=16, window=window, capacity=capacity)
    chunks = [37, 1, 64, 144, 17, 5]
    qkv = np.random.default_rng(10).standard_normal((sum(chunks), case.columns)).astype(np.float32)
    want = reference(qkv, case)
    ring, at = Ring(device, case, target), 0
    assert any(k.shader == "attention_matrix" for k in ring.program.kernels)
    for count in chunks:
        got = ring.step(qkv[at : at + count], at, 1 if count == 1 else -(-count // 16) * 16)
        assert np.abs(got - want[at : at + count]).max() < 1e-2, f"rows from {at}"
        at += count
