"""Reading ONNX files: what comes out, that weights stay mapped, and one clear line for every bad file."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.evaluate import constant_array, evaluate
from tlite_vk.graph.infer import infer
from tlite_vk.graph.onnx_load import from_proto, load_model
from tlite_vk.graph.shape import lower_bound, symbol

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
WEIGHT = np.arange(8, dtype=np.float32).reshape(4, 2)


def model(
    nodes: list[onnx.NodeProto] | None = None, initializers: list[TensorProto] | None = None, **parts: Any
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes if nodes is not None else [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "g",
        parts.get("inputs", [X]),
        parts.get("outputs", [Y]),
        initializers if initializers is not None else [numpy_helper.from_array(WEIGHT, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", parts.get("opset", 24))])


def external(name: str, dtype: int, shape: list[int], **fields: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=dtype, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in fields.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def saved(folder: Path, proto: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(GraphError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


# --- what comes out --------------------------------------------------------------------------------------------------


def test_a_small_model(tmp_path: Path) -> None:
    graph = infer(load_model(saved(tmp_path, model())))
    assert [str(v) for v in graph.inputs] == ["x: float32[N, 4]"]
    assert [str(v) for v in graph.outputs] == ["y: float32[N, 2]"]
    assert graph.nodes[0].name == "product" and graph.opset == {"": 24}
    np.testing.assert_array_equal(graph.nodes[0].input(1).array(), WEIGHT)


def test_external_data_is_mapped_and_never_read(tmp_path: Path) -> None:
    size = 1 << 30
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(size + 256)  # a sparse file of 1 GiB
    tensor = external("w", TensorProto.FLOAT, [4, size // 16], location="w.bin", offset="256", length=str(size))
    graph = load_model(saved(tmp_path, model(initializers=[tensor])))
    weight = graph.nodes[0].input(1).array()
    assert weight.shape == (4, size // 16) and not weight.flags.writeable
    base: Any = weight
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


def test_unaligned_external_offsets_are_read_right(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"abc" + WEIGHT.tobytes())
    tensor = external("w", TensorProto.FLOAT, [4, 2], location="w.bin", offset="3", length="32")
    graph = load_model(saved(tmp_path, model(initializers=[tensor])))
    np.testing.assert_array_equal(graph.nodes[0].input(1).array(), WEIGHT)


@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.UINT4, "uint4"), (TensorProto.INT4, "int4")])
@pytest.mark.parametrize("raw", [True, False])
def test_four_bit_constants_stay_packed(kind: int, dtype: str, raw: bool) -> None:
    codes = [1, 2, 15, 7, 9] if dtype == "uint4" else [1, -2, -8, 7, 3]
    tensor = helper.make_tensor("w", kind, [5], codes)
    if raw:
        packed = bytes([(codes[i] & 15) | ((codes[i + 1] & 15) << 4 if i < 4 else 0) for i in (0, 2, 4)])
        tensor = TensorProto(name="w", data_type=kind, dims=[5], raw_data=packed)
    node = helper.make_node("Cast", ["w"], ["y"], to=TensorProto.FLOAT)
    value = from_proto(model([node], [tensor])).nodes[0].input(0)
    assert value.dtype == dtype and value.shape == (5,) and value.array().dtype == np.uint8 and value.array().size == 3
    assert constant_array(value).tolist() == codes


def test_typed_lists_and_raw_bytes_read_alike() -> None:
    listed = helper.make_tensor("w", TensorProto.FLOAT16, [2, 2], np.array([1, 2, 3, 4], np.float16))
    raw = numpy_helper.from_array(np.array([[1, 2], [3, 4]], np.float16), "w")
    node = helper.make_node("Identity", ["w"], ["y"])
    arrays = [from_proto(model([node], [t])).nodes[0].input(0).array() for t in (listed, raw)]
    np.testing.assert_array_equal(arrays[0], arrays[1])


def test_constant_nodes_become_constants() -> None:
    constant = helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0, 4.0])
    nodes = [constant, helper.make_node("Add", ["x", "c"], ["y"])]
    graph = from_proto(model(nodes, []))
    assert [n.op for n in graph.nodes] == ["Add"]
    assert graph.nodes[0].input(1).array().tolist() == [1, 2, 3, 4]


def test_an_initializer_that_is_also_an_input_is_a_constant() -> None:
    w = helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 2])
    assert [v.name for v in from_proto(model(inputs=[X, w])).inputs] == ["x"]


def test_nodes_in_any_order_are_sorted() -> None:
    nodes = [helper.make_node("Relu", ["h"], ["y"]), helper.make_node("Exp", ["x"], ["h"])]
    assert [n.op for n in from_proto(model(nodes)).nodes] == ["Exp", "Relu"]


def test_model_local_functions_are_inlined() -> None:
    body = [helper.make_node("Mul", ["a", "a"], ["s"]), helper.make_node("Relu", ["s"], ["b"])]
    function = helper.make_function("mine", "Square", ["a"], ["b"], body, [helper.make_opsetid("", 24)])
    proto = model([helper.make_node("Square", ["x"], ["y"], domain="mine")])
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    assert [n.op for n in from_proto(proto).nodes] == ["Mul", "Relu"]


def test_dimensions_without_a_name_are_symbols_of_their_own() -> None:
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 4]) for n in "ab"]
    graph = from_proto(model([helper.make_node("Relu", ["a"], ["y"])], inputs=inputs))
    (first, _), (second, _) = (v.dims for v in graph.inputs)
    assert first != second


def test_a_past_that_is_concatenated_may_be_empty() -> None:
    inputs = [
        helper.make_tensor_value_info("past", TensorProto.FLOAT, ["B", "P", 4]),
        helper.make_tensor_value_info("new", TensorProto.FLOAT, ["B", "T", 4]),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["B", "P + T"]),
    ]
    graph = from_proto(model([helper.make_node("Concat", ["past", "new"], ["y"], axis=1)], inputs=inputs))
    past, new, mask = (v.dims for v in graph.inputs)
    assert lower_bound(past[1]) == 0 and lower_bound(past[0]) == 1 and lower_bound(new[1]) == 1
    assert mask[1] == symbol("P", 0) + symbol("T")


@pytest.mark.parametrize("opset", [11, 12, 13, 24])
def test_older_forms_become_the_newest(opset: int) -> None:

    def over_axis(op: str, source: str, result: str, axis: int, since: int) -> onnx.NodeProto:
        if opset < since:
            return helper.make_node(op, [source], [result], axes=[axis])
        return helper.make_node(op, [source, "a" if axis else "z"], [result])

    nodes = [
        over_axis("ReduceMean", "x", "m", 1, 18),
        over_axis("Unsqueeze", "m", "u", 0, 13),
        over_axis("Squeeze", "u", "s", 0, 13),
        helper.make_node("Dropout", ["s"], ["y"]),
    ]
    constants = [numpy_helper.from_array(np.array([v], np.int64), n) for n, v in (("a", 1), ("z", 0))]
    graph = infer(from_proto(model(nodes, constants, opset=opset)))
    assert [n.op for n in graph.nodes] == ["ReduceMean", "Unsqueeze", "Squeeze", "Identity"]
    assert all("axes" not in n.attributes for n in graph.nodes)
    assert graph.outputs[0].dims == (symbol("N"), 1)


# --- bad files -------------------------------------------------------------------------------------------------------


def test_no_such_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.onnx") == f"no such file: {tmp_path / 'none.onnx'}"
    assert "is not a file" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"GGUF\x03\x00\x00\x00", b"{}", os.urandom(200), b"\x00" * 64])
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert "is not an ONNX file" in refusal(path)


def test_truncated_anywhere(tmp_path: Path) -> None:
    whole = model().SerializeToString()
    path = tmp_path / "model.onnx"
    for cut in range(1, len(whole), 7):
        path.write_bytes(whole[:cut])
        try:
            load_model(path)
        except GraphError as error:
            assert "\n" not in str(error)


def test_a_protobuf_beyond_two_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    assert "save the model with external data" in refusal(path)


def test_a_newer_opset_is_refused(tmp_path: Path) -> None:
    assert "uses opset 999" in refusal(saved(tmp_path, model(opset=999)))


def test_a_missing_initializer_is_named(tmp_path: Path) -> None:
    message = refusal(saved(tmp_path, model(initializers=[])))
    assert message == "MatMul node 'product': 'w' is neither an input, an initializer nor the output of a node"


def test_a_cycle_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"], name="p"), helper.make_node("Relu", ["a"], ["b"], name="q")]
    assert "cycle" in refusal(saved(tmp_path, model(nodes, outputs=[helper.make_tensor_value_info("a", 1, None)])))


def test_a_name_defined_twice_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Exp", ["x"], ["y"])]
    assert re.search(r"node '.+': 'y' is defined twice", refusal(saved(tmp_path, model(nodes))))


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "C:\\w.bin", "..\\w.bin", "", "a\0b"])
def test_external_data_outside_of_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    tensor = external("w", TensorProto.FLOAT, [4, 2], location=location, length="32")
    message = refusal(saved(folder, model(initializers=[tensor])))
    assert "tensor 'w'" in message and "outside of the model's folder" in message


def test_a_link_that_leads_outside_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").symlink_to(tmp_path / "secret")
    tensor = external("w", TensorProto.FLOAT, [4, 2], location="w.bin", length="32")
    assert "leads outside of the model's folder" in refusal(saved(folder, model(initializers=[tensor])))


def test_a_store_of_linked_files_works(tmp_path: Path) -> None:
    """A model folder whose files, the model among them, are all links into one store."""
    store, folder = tmp_path / "blobs", tmp_path / "snapshot"
    store.mkdir()
    folder.mkdir()
    tensor = external("w", TensorProto.FLOAT, [4, 2], location="w.bin", length="32")
    saved(store, model(initializers=[tensor])).rename(store / "1")
    (store / "2").write_bytes(WEIGHT.tobytes())
    (folder / "model.onnx").symlink_to(store / "1")
    (folder / "w.bin").symlink_to(store / "2")
    np.testing.assert_array_equal(load_model(folder / "model.onnx").nodes[0].input(1).array(), WEIGHT)


@pytest.mark.parametrize(
    ("shape", "fields", "complaint"),
    [
        ([4, 2], {"length": "64"}, "outside of 'w.bin'"),
        ([4, 2], {"offset": "16", "length": "32"}, "is the file truncated"),
        ([4, 2], {"offset": "-8", "length": "32"}, "outside of"),
        ([4, 2], {"offset": "9999999999", "length": "32"}, "outside of"),
        ([4, 2], {"length": "abc"}, "not a number"),
        ([4, 3], {"length": "32"}, "needs 48"),
        ([-4, 2], {"length": "32"}, "claims the shape"),
        ([2**62, 2**62], {"length": "32"}, "claims the shape"),
        ([4, 2], {"location": "nowhere.bin"}, "does not exist"),
    ],
)
def test_hostile_external_data(tmp_path: Path, shape: list[int], fields: dict[str, str], complaint: str) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    tensor = external("w", TensorProto.FLOAT, shape, **{"location": "w.bin", **fields})
    message = refusal(saved(tmp_path, model(initializers=[tensor])))
    assert "tensor 'w'" in message and complaint in message


def test_a_tensor_with_too_few_bytes_is_named(tmp_path: Path) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 2], raw_data=b"\0" * 31)
    assert "tensor 'w' has 31 bytes of data" in refusal(saved(tmp_path, model(initializers=[tensor])))


def test_rare_types_and_forms_are_named(tmp_path: Path) -> None:
    complex_input = helper.make_tensor_value_info("x", TensorProto.COMPLEX64, [1])
    assert "graph input 'x': ONNX element type 14" in refusal(saved(tmp_path, model(inputs=[complex_input])))
    shapeless = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    assert "graph input 'x' has no shape" in refusal(saved(tmp_path, model(inputs=[shapeless])))
    huge = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2**60])
    assert "graph input 'x' claims the extent" in refusal(saved(tmp_path, model(inputs=[huge])))
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [1])
    assert "graph input 'x' is not a tensor" in refusal(saved(tmp_path, model(inputs=[sequence])))


def test_a_subgraph_is_refused_by_operator_and_node(tmp_path: Path) -> None:
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "branch", [], [Y])
    node = helper.make_node("If", ["c"], ["y"], name="choice", then_branch=branch, else_branch=branch)
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    message = refusal(saved(tmp_path, model([node], inputs=[X, condition])))
    assert "operator If" in message and "node 'choice'" in message


def test_an_operator_that_the_standard_defines_by_others_is_expanded() -> None:
    """MeanVarianceNormalization has no definition of ours; its default axes must survive."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 5])
    graph = infer(from_proto(model([helper.make_node("MeanVarianceNormalization", ["x"], ["y"])], [], inputs=[x])))
    array = np.random.default_rng(0).normal(3, 2, (2, 3, 4, 5)).astype(np.float32)
    expected = (array - array.mean((0, 2, 3), keepdims=True)) / array.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(evaluate(graph, {"x": array})["y"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("version", [6, 11])
def test_an_old_operator_without_its_inputs_is_refused_in_one_line(version: int) -> None:
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Clip", [], ["y"])], "g", [], [y])
    with pytest.raises(GraphError, match="Clip") as refused:
        infer(from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])))
    assert "\n" not in str(refused.value)
