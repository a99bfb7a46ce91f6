"""The text form of graphs, against files that one reviews: TLITE_VK_UPDATE_GOLDEN=1 writes them anew."""

import os
from pathlib import Path

import numpy as np
import pytest
from support.graphs import Builder
from support.llama import Llama, build_llama

from tlite_vk.graph.dump import dump
from tlite_vk.graph.pipeline import optimize

GOLDEN = Path(__file__).parents[1] / "golden"


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("TLITE_VK_UPDATE_GOLDEN") == "1":
        path.write_text(text)
    assert text == path.read_text(), (
        f"{path} differs; if that is intended, run with TLITE_VK_UPDATE_GOLDEN=1 and review"
    )


@pytest.mark.parametrize("form", ["affine4", "float16"])
@pytest.mark.parametrize("tokens", [1, None])
def test_fused_llama(form: str, tokens: int | None) -> None:
    graph, _ = optimize(build_llama(Llama(layers=1, weights=form)), generate=True, tokens=tokens)
    check_golden(f"llama_{form}_{'decode' if tokens else 'prefill'}.txt", dump(graph))


def test_stateless_llama() -> None:
    graph, _ = optimize(build_llama(Llama(layers=1)), generate=False)
    check_golden("llama_affine4_stateless.txt", dump(graph))


def test_every_kind_of_operand() -> None:
    b = Builder()
    x = b.input("x", "B", "T", 4)
    shape = b.node("Concat", b.node("Shape", x, end=2), b.constant(np.array([2, 2])), axis=0)
    y = b.node("Reshape", x, shape, name="split")
    z = b.node("Clip", y, None, b.constant(np.float32(6)), name="capped")
    filled = b.node("ConstantOfShape", shape, value=np.array([1.5], np.float32), name="filled")
    assert dump(b.graph(z, filled)).splitlines() == [
        "graph test",
        "  symbol B >= 1",
        "  symbol T >= 1",
        "  in  x: float32[B, T, 4]",
        "  split = Reshape(x, concat_3<[B, T, 2, 2]>) : float32[B, T, 2, 2]",
        "  capped = Clip(split, _, c_4<float32 scalar>) : float32[B, T, 2, 2]",
        "  filled = ConstantOfShape(concat_3<[B, T, 2, 2]>; value=float32[1.5]) : float32[B, T, 2, 2]",
        "  out capped: float32[B, T, 2, 2]",
        "  out filled: float32[B, T, 2, 2]",
    ]
