"""Proofs about dimensions: what must be proved, what must not, and that no proof is ever wrong."""

import pytest
from hypothesis import given, settings
from support.dims import LENGTHS, dims

from tlite_vk.graph import shape as s
from tlite_vk.graph.shape import Dim, at_least, ceil_div, floor_div, maximum, minimum, symbol

T, S, B = symbol("T"), symbol("S"), symbol("B")
P = symbol("P", 0)


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [
        (T * T + T, 2 * T),
        (64 * ceil_div(T, 64), T),
        (64 * ceil_div(T, 64), 32 * ceil_div(T, 32)),
        (256 * ceil_div(4 * T, 256), 4 * T),
        (T, 1),
        (P, 0),
        (P + T, T),
        (B * T * 576, B * T * 64),
        (maximum(T, P + 3), T),
        (maximum(T, P + 3), P + 3),
        (T, minimum(T, 512)),
        (512, minimum(T, 512)),
        (T, floor_div(T, 2)),
        (T + 1, 2 * floor_div(T + 1, 2)),
        (maximum(256, 64 * ceil_div(T * T, 16)), 64 * ceil_div(T, 16)),
        (maximum(198912, 10752 * T), maximum(196608, 8448 * T) + 2304),
        (maximum(2 * T, 100) + 3, maximum(2 * T, 100)),
        ((T + S) * (T + S), 4 * 1 * T + T * T + S * S - 4 * T + 2),
    ],
)
def test_proved(larger: Dim, smaller: Dim) -> None:
    assert at_least(larger, smaller)


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [
        (T, 2),
        (P, 1),
        (T, S),
        (T, 64 * ceil_div(T, 64)),
        (T * T, 2 * T),
        (32 * ceil_div(T, 32), 64 * ceil_div(T, 64)),
        (minimum(T, 512), T),
        (2 * T, maximum(T, 3)),
        (floor_div(T, 2), 1),
        (T * S, T + S),
    ],
)
def test_not_proved_because_it_is_false(larger: Dim, smaller: Dim) -> None:
    assert not at_least(larger, smaller)


@settings(max_examples=200, deadline=None)
@given(dims(), dims(), LENGTHS)
def test_no_proof_is_wrong(a: Dim, b: Dim, lengths: dict[str, int]) -> None:
    x, y = s.evaluate(a, lengths), s.evaluate(b, lengths)
    assert not at_least(a, b) or x >= y
    assert not s.different(a, b) or x != y
    assert not s.equal(a, b) or x == y


def test_different_needs_a_proof() -> None:
    assert s.different(T, -1) and s.different(T, 0) and s.different(T + 1, T)
    assert not s.different(T, 1) and not s.different(T, S) and not s.different(P, 0)
