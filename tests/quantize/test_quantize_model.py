"""Whole models: what changes and what does not, and that onnxruntime and a Session compute the same from the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.products import save, weight, write_tiny

from tlite_vk.device import Device
from tlite_vk.graph.onnx_load import load_model
from tlite_vk.graph.pipeline import optimize
from tlite_vk.graph.weights import AffineWeight
from tlite_vk.quantize import Options, QuantizeReport, quantize_model
from tlite_vk.session import Session

Array = npt.NDArray[Any]
IDS = {"ids": np.array([[1, 5, 49, 0, 7], [3, 3, 2, 11, 48]])}


def run_onnxruntime(path: Path, inputs: dict[str, Array]) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [v.name for v in session.get_outputs()]
    return {name: np.asarray(array) for name, array in zip(names, session.run(names, inputs), strict=True)}


def difference(got: dict[str, Array], want: dict[str, Array]) -> float:
    """The largest difference, relative to the largest value, over all outputs."""
    assert list(got) == list(want)
    return max(float(np.abs(got[n] - want[n]).max() / np.abs(want[n]).max()) for n in want)


def quantized(source: Path, **options: Any) -> tuple[Path, QuantizeReport]:
    target = source.parent / "out" / "model.onnx"
    return target, quantize_model(source, target, Options(**options), overwrite=True)


def check(path: Path, device: Device, inputs: dict[str, Array], tolerance: float = 2e-4) -> dict[str, Array]:
    """onnxruntime and a Session agree; returns what onnxruntime computed."""
    onnx.checker.check_model(str(path))
    want = run_onnxruntime(path, inputs)
    assert difference(Session(path, device).run(inputs), want) <= tolerance
    return want


def affine(path: Path) -> dict[str, AffineWeight]:
    """The weights that stay in their bits on the device, by the names of the nodes that read them."""
    graph, _ = optimize(load_model(path), generate=False)
    return {
        node.name: value.constant
        for node in graph.nodes
        for value in node.inputs
        if value is not None and isinstance(value.constant, AffineWeight)
    }


def facts(report: QuantizeReport) -> dict[str, tuple[str, str, int, tuple[int, int]]]:
    return {t.name: (t.role, t.format, t.group, t.shape) for t in report.tensors}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("opset", [17, 20, 24])
def test_a_model_in_every_orientation(tmp_path: Path, device: Device, tied: bool, opset: int) -> None:
    source = write_tiny(tmp_path / "model.onnx", tied=tied, opset=opset)
    path, report = quantized(source)
    table = {"table": ("embedding and head" if tied else "embedding", "int8", 32, (50, 64))}
    assert facts(report) == table | {
        "up.weight": ("product", "e0m4", 32, (96, 64)),
        "down.weight": ("product", "e0m4", 32, (64, 96)),
        "gemm.weight": ("product", "e0m4", 32, (64, 64)),
    } | ({} if tied else {"head.T": ("head", "int8", 32, (50, 64))})
    found = check(path, device, IDS)
    assert 0.001 < difference(found, run_onnxruntime(source, IDS)) < 0.15
    assert len(affine(path)) == 5  # the table, the head and three products


@pytest.mark.parametrize("options", [
    {"group": 64}, {"group": 128}, {"symmetric": True, "group": 64}, {"method": "minmax"}, {"hold_zero": True},
    {"format": "int8", "group": 64}, {"format": "int4"}, {"format": "int4", "group": 64, "method": "minmax"},
    {"format": "fp16"}, {"embedding": "e0m4", "head": "e0m4"}, {"embedding": "fp16", "head": "keep"},
])  # fmt: skip
def test_every_format_runs(tmp_path: Path, any_device: Device, options: dict[str, Any]) -> None:
    source = write_tiny(tmp_path / "model.onnx", hidden=128, inner=192, tied=False, external=True)
    path, report = quantized(source, **options)
    found = check(path, any_device, IDS)
    assert difference(found, run_onnxruntime(source, IDS)) < 0.2
    for tensor in report.tensors:
        want = int(options.get("group", 32)) if tensor.group else 0
        assert tensor.group == (64 if want == 128 and tensor.shape[1] == 192 else want)


def test_the_weights_are_those_of_the_report(tmp_path: Path) -> None:
    """Dequantized from the file, they differ from the source's by the errors that are reported."""
    source = write_tiny(tmp_path / "model.onnx", tied=False)
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(source)).graph.initializer}
    path, report = quantized(source)
    weights = affine(path)
    for tensor in report.tensors:
        original = tensors[tensor.name].astype(np.float64)
        stored = weights[tensor.readers[0]].dequantize()
        error = (original if original.shape == tensor.shape else original.T) - stored
        assert tensor.relative_rms == pytest.approx(float(np.sqrt((error**2).sum() / (original**2).sum())), rel=1e-5)
        assert tensor.max_error == pytest.approx(float(np.abs(error).max()), rel=1e-5)
    assert report.bytes_after < 0.3 * report.bytes_before
    written = sum(t.bytes_after for t in report.tensors)
    assert report.data.stat().st_size >= written


def test_bits_count_everything_that_is_stored(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "model.onnx", hidden=128, inner=128)
    want = {("e0m4", 32, False): 5, ("e0m4", 64, False): 4.5, ("e0m4", 128, False): 4.25, ("e0m4", 32, True): 4.5,
            ("int4", 32, False): 4.625, ("int8", 128, False): 8.125, ("fp16", 32, False): 16}  # fmt: skip
    for (form, group, symmetric), bits in want.items():
        _, report = quantized(source, format=form, group=group, symmetric=symmetric)
        tensor = next(t for t in report.tensors if t.name == "up.weight")
        assert tensor.bits == bits
    model = onnx.load(str(tmp_path / "out" / "model.onnx"))
    assert any(t.data_type == TensorProto.FLOAT16 for t in model.graph.initializer)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_stored_in_halves_behind_a_cast(tmp_path: Path, device: Device, dtype: str) -> None:
    """As `tlite-vk convert --weights float16` writes them: the graph works in float32, the casts disappear."""
    rng = np.random.default_rng(1)
    node = helper.make_node
    nodes = [
        node("Cast", ["table.stored"], ["table"], "table.cast", to=TensorProto.FLOAT),
        node("Cast", ["w.stored"], ["w"], "w.cast", to=TensorProto.FLOAT),
        node("Gather", ["table", "ids"], ["x"], "embed"),
        node("MatMul", ["x", "w"], ["h"], "product"),
        node("Tanh", ["h"], ["a"]),
        node("Transpose", ["table"], ["head.T"], perm=[1, 0]),
        node("MatMul", ["a", "head.T"], ["y"], "head"),
    ]
    stored = {"table.stored": weight(rng, 50, 64, dtype=dtype), "w.stored": weight(rng, 64, 64, dtype=dtype)}
    source = save(
        tmp_path / "model.onnx", nodes, {"ids": (TensorProto.INT64, ("B", "T"))},
        {"y": (TensorProto.FLOAT, ("B", "T", 50))}, stored, external=True,
    )  # fmt: skip
    path, report = quantized(source)
    assert [(t.name, t.role) for t in report.tensors] == [("table", "embedding and head"), ("w", "product")]
    assert not [n.name for n in onnx.load(str(path)).graph.node if n.name.endswith(".cast")]
    check(path, device, IDS)


def test_a_graph_in_halves_stays_in_halves(tmp_path: Path, device: Device) -> None:
    source = write_tiny(tmp_path / "model.onnx", dtype="float16", tied=False)
    path, report = quantized(source)
    assert len(report.tensors) == 5
    found = run_onnxruntime(path, IDS)
    assert found["logits"].dtype == np.float16
    assert difference(found, run_onnxruntime(source, IDS)) < 0.15
    assert len(affine(path)) == 5
    assert difference(Session(path, device).run(IDS), found) < 4e-3  # halves are rounded in other places


def test_everything_else_stays(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "model.onnx", opset=21)
    path, _ = quantized(source)
    before, after = onnx.load(str(source)), onnx.load(str(path))
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert [n for n in after.graph.node if n in list(before.graph.node)] == list(before.graph.node)
    assert after.producer_name == before.producer_name
    props = {p.key: p.value for p in after.metadata_props}
    assert props == {"author": "nobody", "quantized": "e0m4, groups of 32, least-squares"}
    kept = {t.name: numpy_helper.to_array(t) for t in after.graph.initializer}
    for tensor in before.graph.initializer:
        if tensor.name in ("gemm.bias", "flat"):
            np.testing.assert_array_equal(kept[tensor.name], numpy_helper.to_array(tensor))


def test_old_operators_are_rewritten_where_only_the_number_would_not_do(tmp_path: Path, device: Device) -> None:
    """ReduceMean took its axes as an attribute until opset 18."""
    rng = np.random.default_rng(2)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node("ReduceMean", ["h"], ["y"], "mean", axes=[1], keepdims=0),
    ]
    source = save(
        tmp_path / "model.onnx", nodes, {"x": (TensorProto.FLOAT, ("N", 64))}, {"y": (TensorProto.FLOAT, ("N",))},
        {"w": weight(rng, 64, 200)}, opset=13, external=True,
    )  # fmt: skip
    path, _ = quantized(source)
    model = onnx.load(str(path), load_external_data=False)
    assert (model.opset_import[0].version, [v.name for v in model.graph.input]) == (23, ["x"])
    check(path, device, {"x": rng.standard_normal((3, 64)).astype(np.float32)})


def test_a_matrix_that_a_constant_node_holds(tmp_path: Path, device: Device) -> None:
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight(rng, 96, 40))),
        helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
    ]
    inputs, outputs = {"x": (TensorProto.FLOAT, ("N", 96))}, {"y": (TensorProto.FLOAT, ("N", 40))}
    path, report = quantized(save(tmp_path / "model.onnx", nodes, inputs, outputs, {}))
    assert [(t.name, t.role, t.shape) for t in report.tensors] == [("w", "head", (40, 96))]
    check(path, device, {"x": rng.standard_normal((3, 96)).astype(np.float32)})


@pytest.mark.parametrize(
    ("rows", "columns", "group"), [(1, 32, 32), (3, 96, 32), (257, 64, 64), (127, 576, 64), (5, 384, 128)]
)
@pytest.mark.parametrize("transposed", [True, False])
def test_odd_sizes(tmp_path: Path, any_device: Device, rows: int, columns: int, group: int, transposed: bool) -> None:
    rng = np.random.default_rng(rows)
    inputs, outputs = {"x": (TensorProto.FLOAT, ("N", columns))}, {"y": (TensorProto.FLOAT, ("N", rows))}
    shape = (rows, columns) if transposed else (columns, rows)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "product", transB=int(transposed))
    source = save(tmp_path / "model.onnx", [node], inputs, outputs, {"w": weight(rng, *shape)})
    for form in ("e0m4", "int4"):
        path, report = quantized(source, format=form, head=form, group=128)
        assert (report.tensors[0].shape, report.tensors[0].group) == ((rows, columns), group)
        for count in (1, 7):
            check(path, any_device, {"x": rng.standard_normal((count, columns)).astype(np.float32)})


def test_names_that_are_taken_are_not_used_again(tmp_path: Path, device: Device) -> None:
    rng = np.random.default_rng(4)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["w.levels"], "w.rows"),
        helper.make_node("MatMul", ["w.levels", "v"], ["y"], "shape.64x64"),
    ]
    weights = {"w": weight(rng, 64, 64), "v": weight(rng, 64, 64)}
    shape = (TensorProto.FLOAT, ("N", 64))
    path, _ = quantized(save(tmp_path / "model.onnx", nodes, {"x": shape}, {"y": shape}, weights))
    check(path, device, {"x": rng.standard_normal((3, 64)).astype(np.float32)})


def test_quantizing_twice_gives_the_same_files(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "model.onnx")
    files = ("model.onnx", "model.onnx.data")
    path, _ = quantized(source)
    first = [(path.parent / name).read_bytes() for name in files]
    path, _ = quantized(source)
    assert [(path.parent / name).read_bytes() for name in files] == first
