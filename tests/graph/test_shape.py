"""Symbolic dimensions: arithmetic, canonical forms, evaluation, text and plain programs."""

import pytest
from hypothesis import given
from support.dims import LENGTHS, B, C, P, T, dims, polynomials

from tlite_vk.expression import evaluate as evaluate_program
from tlite_vk.graph import shape as s
from tlite_vk.graph.dimtext import parse_dim
from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.shape import Dim, symbol


def test_equal_expressions_are_one_object_of_comparison() -> None:
    assert s.multiply(B, s.add(T, 1)) == s.add(s.multiply(B, T), B)
    assert s.equal(s.multiply(s.add(T, 1), s.add(T, 1)), s.add(s.multiply(T, T), s.add(s.multiply(2, T), 1)))
    assert s.simplify(T - T) == 0 and isinstance(s.simplify(T - T), int)


def test_a_symbol_with_another_bound_is_another_symbol() -> None:
    assert symbol("x") == symbol("x") and symbol("x") != symbol("x", 0)
    with pytest.raises(GraphError, match="must be 0 or 1"):
        symbol("x", 2)


@pytest.mark.parametrize(
    ("total", "divisor", "expected"),
    [(576 * B * T, 64, 9 * B * T), (576 * B * T, B * T, 576), (B * T + B * P, B, T + P), (T * 64, T, 64), (0, T, 0)],
)
def test_division_without_remainder_leaves_no_rounding(total: Dim, divisor: Dim, expected: Dim) -> None:
    assert s.exact_div(total, divisor) == expected
    assert s.floor_div(total, divisor) == expected


@pytest.mark.parametrize(("total", "divisor"), [(T, 2), (T + 1, T), (3 * T, 2 * T), (1, T)])
def test_division_with_a_remainder_is_not_exact(total: Dim, divisor: Dim) -> None:
    assert s.exact_div(total, divisor) is None


@given(dims(), LENGTHS)
def test_a_program_gives_what_the_expression_gives(dim: Dim, lengths: dict[str, int]) -> None:
    assert evaluate_program(s.to_program(dim), lengths) == s.evaluate(dim, lengths)


@given(polynomials())
def test_text_reads_back_as_the_same_dimension(dim: Dim) -> None:
    names = {"B": B, "T": T, "C": C, "P": P}
    assert s.equal(parse_dim(s.format_dim(dim), names.__getitem__), dim)


def test_a_program_is_plain_data() -> None:
    assert s.to_program(5) == 5
    assert s.to_program(T) == "T"
    assert s.to_program(s.add(s.multiply(576, T), 4)) == ("+", 4, ("*", 576, "T"))
    assert s.to_program(s.multiply(64, s.ceil_div(T, 64))) == ("*", 64, ("ceildiv", "T", 64))


def test_a_sum_of_fractions_that_is_an_integer_has_a_program() -> None:
    triangle = s.floor_div(s.add(s.multiply(T, T), T), 2)
    assert evaluate_program(s.to_program(triangle), {"T": 7}) == 28


@pytest.mark.parametrize("expression", [["/", 4, 2], ["floordiv", 4], [], ["max"], ["import os", 1]])
def test_a_malformed_program_is_refused(expression: list[object]) -> None:
    with pytest.raises(ValueError, match="malformed"):
        evaluate_program(expression, {})


def test_evaluation_names_the_missing_length() -> None:
    with pytest.raises(GraphError, match="no value for the dimension T"):
        s.evaluate(B * T, {"B": 1})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("T", T),
        ("past + 1", symbol("past") + 1),
        ("a*b - (c+2)", symbol("a") * symbol("b") - symbol("c") - 2),
        ("2*s//2", symbol("s")),
        ("Max(1, s)", symbol("s")),
        ("batch size", symbol("batch size")),
        ("input.0-dim", symbol("input.0") - symbol("dim")),
        ("3", 3),
        ("s**2", symbol("s") * symbol("s")),
        ("", symbol("")),
    ],
)
def test_dim_params_are_names_or_arithmetic(text: str, expected: Dim) -> None:
    assert s.parse_dim(text) == expected


@pytest.mark.parametrize("text", ["9**9**9**9", "__import__('os')", "a.b(c)", "s//0", "(" * 150, "x;y", "1e9", "s +"])
def test_hostile_dim_params_are_only_names(text: str) -> None:
    assert s.parse_dim(text) == symbol(text)
