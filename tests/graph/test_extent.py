"""Sizes as vectors: the same numbers as the expressions, and no wrong proof."""

from hypothesis import given, settings
from hypothesis import strategies as st
from support.dims import LENGTHS, B, C, P, T

from tlite_vk.graph import shape as s
from tlite_vk.graph.extent import MAX_ALTERNATIVES, Extents
from tlite_vk.graph.shape import ceil_div, symbol

SIZES = [
    256,
    64 * T,
    64 * B * T,
    4 * T * T,
    64 * ceil_div(T, 16),
    64 * ceil_div(B * T, 16),
    8 * P + 8 * T,
    12 * C,
    T * T - T,
]
STACKS = st.lists(st.sampled_from(SIZES), min_size=0, max_size=4)


@settings(deadline=None, max_examples=150)
@given(STACKS, STACKS, STACKS, LENGTHS)
def test_extents_are_what_the_expressions_are(
    a: list[s.Dim], b: list[s.Dim], c: list[s.Dim], lengths: dict[str, int]
) -> None:
    extents = Extents(SIZES)
    values = extents.term_values(lengths)
    numbers = [sum(s.evaluate(d, lengths) for d in stack) for stack in (a, b, c)]
    made = []
    for stack in (a, b, c):
        extent = extents.zero
        for d in stack:
            extent = extents.after(extent, d)
        made.append(extent)
    assert [extents.number(e, values) for e in made] == numbers
    larger = extents.largest(made[0], made[1])
    assert extents.number(larger, values) == max(numbers[:2])
    assert s.evaluate(extents.dim(larger), lengths) == max(numbers[:2])
    assert not extents.at_least(larger, made[2]) or max(numbers[:2]) >= numbers[2]
    assert not extents.at_least(made[2], larger) or numbers[2] >= max(numbers[:2])


def test_what_the_slow_proof_shows_the_fast_one_shows_too() -> None:
    extents = Extents(SIZES)
    stacks = {d: extents.after(extents.zero, d) for d in SIZES}
    for a in SIZES:
        for b in SIZES:
            assert extents.at_least(stacks[a], stacks[b]) == s.at_least(a, b), (a, b)


def test_too_many_alternatives_are_rounded_up() -> None:
    sizes = [symbol(f"s{i}") for i in range(MAX_ALTERNATIVES + 3)]
    extents = Extents(sizes)
    extent = extents.zero
    for size in sizes:
        extent = extents.largest(extent, extents.after(extents.zero, size))
    assert len(extent.vectors) <= MAX_ALTERNATIVES
    lengths = {f"s{i}": i + 1 for i in range(len(sizes))}
    assert extents.number(extent, extents.term_values(lengths)) >= len(sizes)
