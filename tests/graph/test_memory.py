"""The memory plan: proved apart for all lengths, aligned, close to the lower bound, in place where allowed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dims import LENGTHS, B, P, T
from support.llama import Llama, build_llama

from tlite_vk.graph import shape as s
from tlite_vk.graph.arena_search import Blocks
from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.ir import Graph
from tlite_vk.graph.memory import Lifetime, MemoryPlan, plan_memory
from tlite_vk.graph.pipeline import optimize
from tlite_vk.graph.shape import Dim, ceil_div

SIZES = st.sampled_from(
    [256, 1000, 4 * T, 64 * T, 64 * B * T, 256 * ceil_div(T, 64), 4 * T * T, 4 * (P + T), 512 * T + 256]
)


@st.composite
def lifetimes(draw: st.DrawFn) -> list[Lifetime]:
    result: list[Lifetime] = []
    for i in range(draw(st.integers(1, 9))):
        first = draw(st.integers(0, 9))
        donors = tuple(v.name for v in result) if draw(st.booleans()) else ()
        result.append(Lifetime(f"v{i}", s.simplify(draw(SIZES)), first, first + draw(st.integers(0, 4)), donors))
    return result


@settings(deadline=None, max_examples=60)
@given(lifetimes(), LENGTHS)
def test_values_alive_together_never_overlap(values: list[Lifetime], lengths: dict[str, int]) -> None:
    plan = plan_memory(values, alignment=64)
    plan.verify()
    placed = {
        v.name: (s.evaluate(plan.offsets[v.name], lengths), s.evaluate(plan.sizes[v.name], lengths)) for v in values
    }
    for i, a in enumerate(values):
        start, size = placed[a.name]
        assert start % 64 == 0 and size % 64 == 0 and size >= s.evaluate(a.size, lengths)
        assert start >= 0 and start + size <= plan.bytes(lengths)
        for b in values[:i]:
            other, other_size = placed[b.name]
            apart = start + size <= other or other + other_size <= start
            handed_over = (b.name in a.in_place and b.last == a.first) or (a.name in b.in_place and a.last == b.first)
            together = not (a.first > b.last or b.first > a.last)
            assert apart or not together or (handed_over and start == other)
    assert plan.lower_bound(lengths) <= plan.bytes(lengths)


def chain(*sizes: Dim) -> list[Lifetime]:
    return [Lifetime(f"v{i}", size, i, i + 1) for i, size in enumerate(sizes)]


def test_a_chain_takes_two_places() -> None:
    plan = plan_memory(chain(*[256 * T] * 6), alignment=256)
    assert plan.total == 512 * T
    assert plan.without_reuse({"T": 3}) == 6 * 768 and plan.lower_bound({"T": 3}) == plan.bytes({"T": 3}) == 2 * 768


def test_a_place_is_shared_only_where_it_fits_at_every_length() -> None:
    values = [Lifetime("a", 256 * T, 0, 1), Lifetime("b", 65536, 2, 3)]
    plan = plan_memory(values, alignment=256)
    for length in (1, 255, 256, 1000):
        assert plan.bytes({"T": length}) == max(256 * length, 65536)


def test_sizes_are_padded_to_the_alignment() -> None:
    plan = plan_memory(chain(100 * T, 4), alignment=256)
    assert plan.sizes == {"v0": 256 * ceil_div(100 * T, 256), "v1": 256}


def test_in_place_needs_the_same_size_and_a_death_in_that_step() -> None:
    same = [Lifetime("a", 64 * T, 0, 1), Lifetime("b", 64 * T, 1, 2, ("a",))]
    assert plan_memory(same, alignment=64).total == 64 * T
    larger = [Lifetime("a", 64 * T, 0, 1), Lifetime("b", 128 * T, 1, 2, ("a",))]
    assert plan_memory(larger, alignment=64).total == 192 * T
    later = [Lifetime("a", 64 * T, 0, 2), Lifetime("b", 64 * T, 1, 2, ("a",))]
    assert plan_memory(later, alignment=64).total == 128 * T


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([Lifetime("a", 4, 0, 1), Lifetime("a", 4, 2, 3)], "listed twice"),
        ([Lifetime("a", 4, 2, 1)], "dies before it is born"),
        ([Lifetime("a", P - 1, 0, 1)], "may be negative"),
    ],
)
def test_bad_lifetimes_are_refused(values: list[Lifetime], complaint: str) -> None:
    with pytest.raises(GraphError, match=complaint):
        plan_memory(values, alignment=4)


def test_a_plan_that_overlaps_is_caught() -> None:
    values = chain(64 * T, 64 * T)
    plan = plan_memory(values, alignment=64)
    broken = MemoryPlan(plan.lifetimes, {"v0": 0, "v1": 0}, plan.sizes, plan.total)
    with pytest.raises(GraphError, match="v1 and v0 overlap"):
        broken.verify()
    outside = MemoryPlan(plan.lifetimes, {"v0": 0, "v1": 128 * T}, plan.sizes, plan.total)
    with pytest.raises(GraphError, match="outside of the arena"):
        outside.verify()


def activations(graph: Graph) -> list[Lifetime]:
    """Every value between the nodes; the graph's outputs have memory of their own."""
    last = {v: i for i, n in enumerate(graph.nodes) for v in n.inputs if v is not None and not v.known}
    return [
        Lifetime(v.name, s.multiply(4, s.product(v.dims)), i, last[v])
        for i, n in enumerate(graph.nodes)
        for v in n.outputs
        if v not in graph.outputs
    ]


@pytest.mark.parametrize("generate", [True, False])
@pytest.mark.parametrize("tokens", [1, None])
def test_a_llama_graph_reaches_the_bound(generate: bool, tokens: int | None) -> None:
    graph, _ = optimize(build_llama(Llama(layers=3)), generate=generate, tokens=tokens)
    plan = plan_memory(activations(graph), alignment=64)
    plan.verify()
    for length in (1, 64, 512):
        lengths = {"B": 1, "T": length, "C": 2048}
        assert plan.bytes(lengths) <= 1.01 * plan.lower_bound(lengths) < plan.without_reuse(lengths)


def layers(count: int) -> list[Lifetime]:
    """An encoder written out: the stream, its norm, queries and keys, scores and weights, and so on, in every layer."""
    found: list[Lifetime] = [Lifetime("mask", 4 * B * T, 0, 10 * count), Lifetime("stream", 512 * B * T, 0, 2)]
    for i in range(count):
        at = 10 * i + 1
        sizes = {
            "norm": (512, at, at + 1), "qkv": (1536, at + 1, at + 4), "scores": (0, at + 2, at + 3),
            "weights": (0, at + 3, at + 4), "mixed": (512, at + 4, at + 5), "added": (512, at + 5, at + 8),
            "norm2": (512, at + 6, at + 7), "inner": (2048, at + 7, at + 8), "stream": (512, at + 8, at + 12),
        }  # fmt: skip
        for name, (width, first, last) in sizes.items():
            size = width * B * T if width else 16 * B * T * T
            found.append(Lifetime(f"{name}.{i}", s.simplify(size), first, last))
    return found


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_repeated_layers_reach_the_bound_at_every_length(count: int) -> None:
    plan = plan_memory(layers(count), alignment=64)
    for length in (1, 7, 64, 300, 512, 2048):
        lengths = {"B": 1, "T": length}
        assert plan.bytes(lengths) <= 1.02 * plan.lower_bound(lengths), length


def test_many_layers_are_planned_like_few(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    init = Blocks.__init__

    def counted(self: Blocks, spans: list[tuple[int, int]], *others: object) -> None:
        sizes.append(len(spans))
        init(self, spans, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(Blocks, "__init__", counted)
    for count in (10, 40):
        plan_memory(layers(count), alignment=64)
    assert sizes[0] == sizes[1] < len(layers(10))  # what is searched does not grow with the layers


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(1, 40)), min_size=1, max_size=14))
def test_plans_for_one_length_are_small(blocks: list[tuple[int, int, int]]) -> None:
    values = [Lifetime(f"v{i}", 64 * n, first, first + more) for i, (first, more, n) in enumerate(blocks)]
    plan = plan_memory(values, alignment=64)
    assert plan.bytes({}) <= 1.25 * plan.lower_bound({})  # not every set of lifetimes has a plan at the bound


def test_the_same_lifetimes_give_the_same_plan() -> None:
    assert plan_memory(layers(3), alignment=64) == plan_memory(layers(3), alignment=64)
