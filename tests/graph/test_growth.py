"""Work on a model grows with its layers, not with their square: function calls are counted, not seconds."""

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from support.llama import Llama, build_llama

from tlite_vk.graph.infer import infer
from tlite_vk.graph.ir import Graph
from tlite_vk.graph.pipeline import optimize

LAYERS = (4, 8, 16)


def calls(work: Callable[[], object]) -> int:
    """How many Python functions are entered."""
    count = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


WORK: dict[str, Callable[[Graph], object]] = {
    "shapes": infer,
    "passes of a stateless graph": lambda graph: optimize(graph, generate=False),
    "passes of a decode step": lambda graph: optimize(graph, generate=True, tokens=1),
    "passes of a prompt": lambda graph: optimize(graph, generate=True),
}


@pytest.mark.parametrize("name", WORK)
def test_work_grows_linearly_with_the_layers(name: str) -> None:
    graphs = [build_llama(Llama(layers=n)) for n in LAYERS]
    WORK[name](graphs[-1])  # what is kept from one graph to the next is there for all
    few, some, many = (calls(lambda graph=graph: WORK[name](graph)) for graph in graphs)  # type: ignore[misc]
    per_layer = (some - few) / (LAYERS[1] - LAYERS[0])
    assert (many - some) / (LAYERS[2] - LAYERS[1]) <= 1.1 * per_layer
    assert few <= 3 * LAYERS[0] * per_layer, "most of the work is in the layers"
