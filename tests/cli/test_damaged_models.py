"""Files that are no models, or models that are damaged or hold what is not supported: one line each, code 2."""

import os
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from support.cli import Cli
from support.hostile import HOSTILE

pytestmark = pytest.mark.usefixtures("lavapipe")


def truncate(path: Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def replace(path: Path, content: bytes) -> None:
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (lambda m: (m / "model.onnx").unlink(), "no such model: "),
    "text": (lambda m: replace(m / "model.onnx", b"hello, I am a text\n"), "not an ONNX file"),
    "empty": (lambda m: replace(m / "model.onnx", b""), "not an ONNX file"),
    "zip": (lambda m: replace(m / "model.onnx", b"PK\x03\x04" + bytes(100)), "not an ONNX file"),
    "gguf": (lambda m: replace(m / "model.onnx", b"GGUF" + bytes(100)), "convert it first: tlite-vk convert"),
    "truncated": (lambda m: truncate(m / "model.onnx", 0.5), "not an ONNX file, or it is truncated"),
    "data missing": (lambda m: (m / "model.onnx.data").unlink(), "model.onnx.data"),
    "data truncated": (lambda m: truncate(m / "model.onnx.data", 0.5), "model.onnx.data"),
    "tokenizer": (lambda m: replace(m / "tokenizer.json", b"{}"), "tokenizer.json is damaged"),
    "settings": (lambda m: replace(m / "generation_config.json", b"[1"), "generation_config.json is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_models(cli: Cli, model: Path, damage: str) -> None:
    apply, message = DAMAGES[damage]
    apply(model)
    before = sorted(path.name for path in model.iterdir())
    assert message in cli("run", model, "hello").error
    assert sorted(path.name for path in model.iterdir()) == before


def test_paths_that_are_no_files(cli: Cli, tmp_path: Path) -> None:
    assert "no such model" in cli("run", tmp_path / "absent.onnx", "hello").error
    assert "no such model" in cli("run", tmp_path, "hello").error
    (tmp_path / "model.onnx").mkdir()
    assert "no such model" in cli("bench", tmp_path / "model.onnx").error


def test_an_unsupported_operator_is_named_with_its_node(cli: Cli, model: Path) -> None:
    path = model / "model.onnx"
    proto = onnx.load(str(path), load_external_data=False)
    node = next(n for n in proto.graph.node if n.op_type == "RMSNormalization")
    node.op_type, node.domain, node.name = "Frobnicate", "com.example", "the_strange_one"
    proto.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    path.write_bytes(proto.SerializeToString())
    message = cli("run", model, "hello").error
    assert "Frobnicate" in message and "the_strange_one" in message


def test_a_graph_that_does_not_generate(cli: Cli, tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"], name="only")], "small",
        [value("x", onnx.TensorProto.FLOAT, [2, 3])], [value("y", onnx.TensorProto.FLOAT, [2, 3])],
    )  # fmt: skip
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "relu.onnx"))
    assert "no integer input [batch, tokens]" in cli("run", tmp_path / "relu.onnx", "hello").error


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("command", ["compile", "run"])
def test_hostile_models(cli: Cli, tmp_path: Path, name: str, command: str) -> None:
    proto, culprit = HOSTILE[name]
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    arguments = ["hello"] if command == "run" else []
    message = cli(command, tmp_path, *arguments).error
    assert culprit in message or command == "run"  # that it does not generate may be found first


@pytest.mark.parametrize("damage", ["cycle", "initializer", "type", "outside", "2 GiB"])
def test_a_generating_model_that_is_damaged(cli: Cli, model: Path, damage: str) -> None:
    path = model / "model.onnx"
    proto = onnx.load(str(path), load_external_data=False)
    graph = proto.graph
    node = next(n for n in graph.node if n.op_type == "RMSNormalization")
    tensor = next(t for t in graph.initializer if t.name == node.input[1])
    culprit = node.name or node.output[0]
    if damage == "cycle":
        node.input[0] = graph.output[0].name
    elif damage == "initializer":
        graph.initializer.remove(tensor)
        culprit = tensor.name
    elif damage == "type":
        tensor.data_type, culprit = onnx.TensorProto.STRING, tensor.name
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.ClearField("external_data")
        tensor.ClearField("raw_data")
    elif damage == "outside":
        large = next(t for t in graph.initializer if t.external_data)
        large.external_data[0].value, culprit = "/etc/hostname", large.name
    path.write_bytes(proto.SerializeToString())
    if damage == "2 GiB":
        os.truncate(path, 2**31)
        culprit = "larger than a protobuf can be"
    for command in (("run", model, "hello"), ("compile", model), ("bench", model)):
        message = cli(*command).error
        assert culprit in message or (damage == "cycle" and "cycle" in message), message
