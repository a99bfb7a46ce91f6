"""Random damage to a model: every outcome is a graph or one clear line, never a Python error."""

import random

import pytest
from support.llama import Llama, build_llama

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.infer import infer
from tlite_vk.graph.ir import Graph, Value
from tlite_vk.graph.pipeline import optimize

OPERATORS = ["Add", "MatMul", "Gemm", "Reshape", "Slice", "Gather", "Concat", "Split"]
OPERATORS += ["Attention", "Range", "TopK", "Conv"]
NUMBERS = [-(2**62), -100, -1, 0, 1, 3, 2**40]
DTYPES = ["float32", "float16", "int64", "bool", "uint4", "string"]


def damage(graph: Graph, rng: random.Random) -> None:
    node = rng.choice(graph.nodes)
    values: list[Value] = [v for n in graph.nodes for v in n.inputs if v is not None]
    kind = rng.randrange(7)
    if kind == 0 and node.inputs:
        node.inputs[rng.randrange(len(node.inputs))] = rng.choice([None, *values])
    elif kind == 1 and node.attributes:
        name = rng.choice(sorted(node.attributes))
        node.attributes[name] = rng.choice([*NUMBERS, "text", [1, 2], 0.5])
    elif kind == 2 and node.attributes:
        del node.attributes[rng.choice(sorted(node.attributes))]
    elif kind == 3:
        node.op = rng.choice(OPERATORS)
    elif kind == 4:
        node.inputs.append(rng.choice(values))
    elif kind == 5:
        value = rng.choice(graph.inputs)
        value.shape = tuple(rng.choice([0, 1, 7, 2**45, d]) for d in value.dims)
    else:
        rng.choice(graph.inputs).dtype = rng.choice(DTYPES)


@pytest.mark.parametrize("seed", range(120))
def test_damage_is_refused_in_one_line_or_does_no_harm(seed: int) -> None:
    rng = random.Random(seed)
    graph = build_llama(Llama(layers=1))
    for _ in range(rng.randint(1, 3)):
        damage(graph, rng)
    try:
        graph.verify()
        infer(graph)
        optimize(graph, generate=rng.random() < 0.5, tokens=rng.choice([None, 1, 5]))
    except GraphError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
