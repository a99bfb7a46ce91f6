"""The invariants of a graph, and the edits that passes are made of."""

import numpy as np
import pytest
from support.graphs import Builder

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.ir import Graph, Node, Value, rewire, toposort


def value(name: str) -> Value:
    return Value(name, "float32", (2,))


def graph_of(inputs: list[Value], nodes: list[Node], outputs: list[Value]) -> Graph:
    return Graph("g", inputs, nodes, outputs)


def test_a_value_that_nothing_defines_is_named() -> None:
    x, y = value("x"), value("y")
    with pytest.raises(GraphError, match="Relu node 'r': input 'x' is not defined before it is used"):
        graph_of([], [Node("Relu", [x], [y], name="r")], [y]).verify()


def test_an_output_that_is_defined_twice_is_named() -> None:
    x, y = value("x"), value("y")
    nodes = [Node("Relu", [x], [y], name="a"), Node("Exp", [x], [y], name="b")]
    with pytest.raises(GraphError, match="'b': output 'y' is defined twice"):
        graph_of([x], nodes, [y]).verify()


def test_two_values_of_one_name_are_refused() -> None:
    x, y, other = value("x"), value("y"), value("y")
    nodes = [Node("Relu", [x], [y], name="a"), Node("Exp", [x], [other], name="b")]
    with pytest.raises(GraphError, match="two values are named 'y'"):
        graph_of([x], nodes, [y, other]).verify()


def test_a_graph_output_that_nothing_computes_is_named() -> None:
    with pytest.raises(GraphError, match="graph output 'y' is never computed"):
        graph_of([value("x")], [], [value("y")]).verify()


def test_known_values_need_no_producer() -> None:
    constant = Value("c", "int64", (1,), np.array([3]))
    content = Value("n", "int64", (1,), content=np.array([3], object))
    y = value("y")
    graph_of([], [Node("Add", [constant, content], [y], name="a")], [y, constant]).verify()


def test_toposort_puts_producers_first() -> None:
    a, b, c = value("a"), value("b"), value("c")
    late, early = Node("Relu", [b], [c], name="late"), Node("Relu", [a], [b], name="early")
    assert toposort([late, early], [a]) == [early, late]


def test_a_deep_chain_needs_no_recursion() -> None:
    values = [value(f"v{i}") for i in range(5001)]
    nodes = [Node("Relu", [values[i]], [values[i + 1]], name=f"n{i}") for i in range(5000)]
    assert toposort(nodes[::-1], [values[0]]) == nodes


def test_a_cycle_is_named() -> None:
    a, b = value("a"), value("b")
    nodes = [Node("Relu", [b], [a], name="p"), Node("Relu", [a], [b], name="q")]
    with pytest.raises(GraphError, match="the graph has a cycle through"):
        toposort(nodes, [])


def test_rewire_follows_chains_and_leaves_the_old_graph_alone() -> None:
    b = Builder()
    x = b.input("x", 2)
    first = b.node("Identity", x)
    second = b.node("Identity", first)
    graph = b.graph(b.node("Relu", second))
    x, (i, j, relu) = graph.inputs[0], graph.nodes
    after = rewire(graph, {j.output: i.output, i.output: x})
    assert after.nodes[2].inputs == [x]
    assert relu.inputs == [j.output] and graph.nodes[2] is relu


def test_missing_inputs_are_named() -> None:
    node = Node("Gemm", [value("x"), None], [value("y")], name="g")
    assert node.optional(1) is None and node.optional(5) is None
    with pytest.raises(GraphError, match="Gemm node 'g': input 1 is missing"):
        node.input(1)
    graph = graph_of([value("x")], [], [])
    with pytest.raises(GraphError, match="no input 'z'; it has x"):
        graph.find_input("z")
