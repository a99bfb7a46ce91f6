"""Running a graph with the oracles: lengths from the inputs, and complaints about inputs that do not fit."""

import numpy as np
import pytest
from support.graphs import Builder

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.evaluate import bind_lengths, constant_array, evaluate
from tlite_vk.graph.ir import Graph, Value
from tlite_vk.graph.shape import symbol


def two_inputs() -> Graph:
    b = Builder()
    mask = b.input("mask", "B", symbol("P", 0) + symbol("T"))
    past, new = b.input("past", "B", symbol("P", 0)), b.input("new", "B", "T")
    return b.graph(b.node("Add", b.node("Concat", past, new, axis=1), mask))


def arrays(past: int, new: int, mask: int, batch: int = 2) -> dict[str, np.ndarray]:
    return {n: np.ones((batch, k), np.float32) for n, k in (("past", past), ("new", new), ("mask", mask))}


def test_lengths_come_from_the_inputs() -> None:
    graph = two_inputs()
    assert bind_lengths(graph, arrays(0, 3, 3)) == {"B": 2, "P": 0, "T": 3}
    assert next(iter(evaluate(graph, arrays(4, 3, 7)).values())).shape == (2, 7)


def test_contradicting_lengths_are_named() -> None:
    with pytest.raises(GraphError, match=r"input 'mask' has the extent 8 where P \+ T = 7 is needed"):
        evaluate(two_inputs(), arrays(4, 3, 8))
    wrong = {**arrays(4, 3, 7), "past": np.ones((3, 4), np.float32)}
    with pytest.raises(GraphError, match="input 'past' has the extent 3 where B = 2"):
        evaluate(two_inputs(), wrong)
    with pytest.raises(GraphError, match="input 'new' has rank 1, not 2"):
        evaluate(two_inputs(), {**arrays(4, 3, 7), "new": np.ones(3)})


def test_a_missing_input_is_named() -> None:
    given = arrays(4, 3, 7)
    del given["past"]
    with pytest.raises(GraphError, match="no array for the input 'past'"):
        evaluate(two_inputs(), given)


def test_a_narrow_constant_is_used_wide() -> None:
    value = Value("w", "float32", (2,), np.array([1, 2], np.float16))
    assert constant_array(value).dtype == np.float32


def test_a_value_that_is_not_known_is_named() -> None:
    with pytest.raises(GraphError, match="value 'x' is not known"):
        constant_array(Value("x", "float32", (2,)))
