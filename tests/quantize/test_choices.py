"""Which weights are quantized and how: roles, patterns, groups; what stays, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.products import Info, save, weight, write_tiny

from tlite_vk.errors import InputError
from tlite_vk.quantize import Options, QuantizeReport, quantize_model

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
RNG = np.random.default_rng(0)
node = helper.make_node


def report_of(source: Path, **options: Any) -> QuantizeReport:
    return quantize_model(source, source.parent / "out" / "model.onnx", Options(**options))


def formats(source: Path, **options: Any) -> dict[str, str]:
    return {t.name: t.format for t in report_of(source, **options).tensors}


def kept(report: QuantizeReport) -> dict[str, str]:
    return {k.name: k.reason for k in report.kept}


def test_a_tied_table_gets_the_format_of_more_bits(tmp_path: Path) -> None:
    for number, (embedding, head, want) in enumerate(
        [("e0m4", "int8", "int8"), ("int8", "e0m4", "int8"), ("e0m4", "e0m4", "e0m4"), ("fp16", "int8", "fp16")]
    ):
        source = write_tiny(tmp_path / str(number) / "model.onnx")
        assert formats(source, embedding=embedding, head=head)["table"] == want
    source = write_tiny(tmp_path / "keep" / "model.onnx")
    assert "table" not in formats(source, embedding="int8", head="keep")


def test_an_untied_head_has_a_format_of_its_own(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "model.onnx", tied=False)
    found = formats(source, embedding="fp16", head="e0m4", format="int8")
    assert (found["table"], found["head.T"], found["up.weight"]) == ("fp16", "e0m4", "int8")


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({"keep": ["up.weight"]}, {"table": "int8", "down.weight": "e0m4", "gemm.weight": "e0m4"}),
        ({"keep": ["layer/*"]}, {"table": "int8"}),  # the nodes that read them
        ({"keep": ["*.weight"], "embedding": "fp16"}, {"table": "fp16"}),
        ({"types": {"up.*": "int8", "layer/gemm": "fp16"}},
         {"table": "int8", "up.weight": "int8", "down.weight": "e0m4", "gemm.weight": "fp16"}),
        ({"types": [("*", "int8"), ("down*", "int4")]},
         {"table": "int8", "up.weight": "int8", "down.weight": "int4", "gemm.weight": "int8"}),
        ({"types": {"*": "int8"}, "keep": ["table"]},
         {"up.weight": "int8", "down.weight": "int8", "gemm.weight": "int8"}),
    ],
)  # fmt: skip
def test_patterns(tmp_path: Path, options: dict[str, Any], want: dict[str, str]) -> None:
    source = write_tiny(tmp_path / "model.onnx")
    report = report_of(source, **options)
    assert {t.name: t.format for t in report.tensors} == want
    assert {name for name, why in kept(report).items() if why == "as asked for"} == (
        {"table", "up.weight", "down.weight", "gemm.weight"} - set(want)
    )


def test_a_pattern_that_matches_nothing_is_a_slip(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"pattern 'upp\.\*' matches no weight and no node that reads one, such as"):
        report_of(source, keep=["upp.*"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "e0m5"}, "unknown format 'e0m5'; known: e0m4, int4, int8, fp16, keep"),
        ({"head": "q8"}, "unknown format 'q8'"),
        ({"types": {"*": "fp8"}}, "unknown format 'fp8'"),
        ({"method": "best"}, "unknown method 'best'; known: least-squares, minmax"),
        ({"group": 48}, "groups of 48 are not supported; choose 32, 64 or 128"),
    ],
)
def test_unknown_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Options(**options)


def test_groups_fall_back_to_what_divides(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "model.onnx", hidden=192, inner=288)
    groups = {t.name: t.group for t in report_of(source, group=128).tensors}
    assert groups == {"table": 64, "up.weight": 64, "down.weight": 32, "gemm.weight": 64}


def test_what_is_no_weight_of_a_product_stays(tmp_path: Path) -> None:
    weights = {
        "w": weight(RNG, 64, 64),
        "odd": weight(RNG, 72, 64),
        "left": weight(RNG, 64, 64),
        "kernel": weight(RNG, 8, 64, 3, 3),
        "added": weight(RNG, 64, 64),
        "double": weight(RNG, 64, 64).astype(np.float64),
        "unused": weight(RNG, 64, 64),
        "both": weight(RNG, 64, 64),
        "output": weight(RNG, 64, 64),
        "rows": weight(RNG, 64, 64),
        "three": np.array(3),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["a"], "product"),
        node("MatMul", ["z", "odd"], ["b"], "odd product"),
        node("MatMul", ["left", "x"], ["c"], "left product"),
        node("Conv", ["image", "kernel"], ["d"], "conv"),
        node("Add", ["a", "added"], ["e"], "add"),
        node("MatMul", ["xd", "double"], ["f"], "double product"),
        node("Gather", ["both", "ids"], ["h"], "lookup"),
        node("MatMul", ["e", "both"], ["i"], "same table"),
        node("MatMul", ["i", "output"], ["j"], "last"),
        node("Gather", ["rows", "three"], ["k"], "a row"),
    ]
    inputs: dict[str, Info] = {
        "x": (FLOAT, (64, 64)), "z": (FLOAT, ("N", 72)), "image": (FLOAT, (1, 64, 5, 5)),
        "xd": (TensorProto.DOUBLE, (64, 64)), "ids": (INT64, ("N",)),
    }  # fmt: skip
    shape: Info = (FLOAT, (64, 64))
    outputs: dict[str, Info] = {
        "c": shape, "j": shape, "output": shape,
        "b": (FLOAT, ("N", 64)), "d": (FLOAT, (1, 8, 3, 3)), "f": (TensorProto.DOUBLE, (64, 64)),
        "h": (FLOAT, ("N", 64)), "k": (FLOAT, (64,)),
    }  # fmt: skip
    report = report_of(save(tmp_path / "model.onnx", nodes, inputs, outputs, weights))
    assert [t.name for t in report.tensors] == ["w"]
    assert kept(report) == {
        "odd": "its reduction length 72 is not a multiple of 32",
        "left": "it is read by MatMul 'left product', on the left",
        "kernel": "it has rank 4: read by Conv 'conv'",
        "added": "it is read by Add 'add'",
        "double": "it is float64",
        "unused": "nothing reads it",
        "both": "its readers sum over different axes",
        "output": "it is a graph output",
        "rows": "Gather 'a row' picks constant rows of it",
    }


def test_a_rotary_table_is_no_embedding(tmp_path: Path) -> None:
    weights = {"w": weight(RNG, 64, 64), "cos": weight(RNG, 128, 64), "axes": np.array([0])}
    nodes = [
        node("MatMul", ["x", "w"], ["q"], "q"),
        node("Gather", ["cos", "positions"], ["c"], "pick"),
        node("Unsqueeze", ["c", "axes"], ["u"], "u"),
        node("Mul", ["q", "u"], ["y"], "rotate"),
    ]
    inputs = {"x": (FLOAT, (1, "T", 64)), "positions": (INT64, ("T",))}
    report = report_of(save(tmp_path / "model.onnx", nodes, inputs, {"y": (FLOAT, (1, "T", 64))}, weights))
    assert [(t.name, t.role) for t in report.tensors] == [("w", "product")]
    assert kept(report) == {"cos": "what Gather 'pick' picks scales other values, as a rotary table does"}


def test_a_matrix_read_inside_a_branch_stays(tmp_path: Path) -> None:
    def branch(name: str, op: str) -> Any:
        out = helper.make_tensor_value_info(name, FLOAT, ["N", 64])
        return helper.make_graph([node(op, ["x", "inner"], [name])], name, [], [out])

    nodes = [
        node("If", ["flag"], ["a"], "choice", then_branch=branch("t", "MatMul"), else_branch=branch("e", "MatMul")),
        node("MatMul", ["a", "w"], ["y"], "product"),
    ]
    inputs = {"x": (FLOAT, ("N", 64)), "flag": (TensorProto.BOOL, ())}
    weights = {"w": weight(RNG, 64, 64), "inner": weight(RNG, 64, 64)}
    report = report_of(save(tmp_path / "model.onnx", nodes, inputs, {"y": (FLOAT, ("N", 64))}, weights))
    assert [t.name for t in report.tensors] == ["w"]
    assert kept(report) == {"inner": "it is read inside a subgraph of If 'choice'"}


def test_a_projection_that_attention_reads_too_is_no_head(tmp_path: Path) -> None:
    """Keys become an output as well, and what follows a residual is no head either."""
    weights = {name: weight(RNG, 64, 64) for name in ("k", "o", "classifier")} | {"scale": np.ones(64, np.float32)}
    nodes = [
        node("MatMul", ["x", "k"], ["keys"], "k"),
        node("Transpose", ["keys"], ["turned"], "turn", perm=[1, 0]),
        node("MatMul", ["x", "turned"], ["scores"], "scores"),
        node("MatMul", ["scores", "x"], ["context"], "context"),
        node("MatMul", ["context", "o"], ["out"], "o"),
        node("Add", ["x", "out"], ["hidden"], "residual"),
        node("Mul", ["hidden", "scale"], ["scaled"], "scale"),
        node("MatMul", ["scaled", "classifier"], ["product"], "classify"),
        node("Softmax", ["product"], ["y"], "softmax"),
    ]
    shape = (FLOAT, (64, 64))
    outputs = {"y": shape, "keys": shape, "hidden": shape}
    report = report_of(save(tmp_path / "model.onnx", nodes, {"x": shape}, outputs, weights))
    assert {t.name: t.role for t in report.tensors} == {"k": "product", "o": "product", "classifier": "head"}
