"""Lengths that exporters name differently though they are equal."""

import numpy as np
from support.graphs import Builder

from tlite_vk.graph.ir import Value
from tlite_vk.graph.lengths import same_lengths
from tlite_vk.graph.shape import parse_dim, symbol


def pasts(b: Builder, *, present: bool = True) -> list[Value]:
    """Two pasts of lengths P0 and P1, each extended by T rows; the outputs."""
    new = b.input("new", "B", 2, "T", 4)
    joined = [b.node("Concat", b.input(f"past{i}", "B", 2, f"P{i}", 4), new, axis=-2) for i in range(2)]
    return joined if present else [b.node("Relu", v) for v in joined]


def test_pasts_and_the_mask_over_them_are_equally_long() -> None:
    b = Builder()
    outputs = pasts(b)
    b.input("attention_mask", "B", "S", dtype="int64")
    found = same_lengths(b.graph(*outputs))
    assert found == {symbol("P1"): symbol("P0"), symbol("S"): parse_dim("P0 + T")}


def test_other_joined_inputs_are_left_alone() -> None:
    b = Builder()
    assert same_lengths(b.graph(*pasts(b, present=False))) == {}


def test_a_length_that_other_inputs_have_too_is_left_alone() -> None:
    b = Builder()
    outputs = pasts(b)
    b.input("encoder_mask", "B", "E", dtype="int64")
    b.input("encoder_rows", "B", "E", 8)
    assert same_lengths(b.graph(*outputs)) == {symbol("P1"): symbol("P0")}


def test_without_a_past_nothing_is_bound() -> None:
    b = Builder()
    x = b.input("x", "B", "T", dtype="int64")
    b.input("mask", "B", "S", dtype="int64")
    assert same_lengths(b.graph(b.node("Add", x, b.constant(np.int64(1))))) == {}
