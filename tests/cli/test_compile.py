"""tlite-vk compile."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from support.cli import Cli

pytestmark = pytest.mark.usefixtures("lavapipe")


def test_tells_what_became_of_a_model(cli: Cli, model: Path) -> None:
    result = cli("compile", model, "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert list(found["entries"]) == ["decode", "prefill", "score"]
    for name, entry in found["entries"].items():
        assert entry["passes"]["ring-attention"] == {"matched": 2, "rejected": 0}, name
        assert 0 < entry["barriers"] < entry["dispatches"]
        assert list(entry["memory"]) == (["1"] if name == "decode" else ["1", "64", "512"])
        for memory in entry["memory"].values():
            assert 0 < memory["lower_bound_bytes"] <= memory["arena_bytes"] <= memory["without_reuse_bytes"]
    assert found["entries"]["decode"]["dispatches"] < found["entries"]["prefill"]["dispatches"]
    assert found["cache_bytes"] == {"2048": 2 * 2 * 2048 * 2 * 16 * 2}  # layers, keys and values, heads of 16, fp16


def test_report_and_dump(cli: Cli, model: Path, tmp_path: Path) -> None:
    text = cli("compile", model, "--report", "--dump", tmp_path / "graphs").out
    for part in ("passes of decode", "left alone in prefill", "norm-into-linear", "lower bound", "without reuse"):
        assert part in text
    rows = [line.split() for line in text.splitlines()]
    memory = {(row[0], row[1]): row[2:] for row in rows if len(row) == 6 and row[0] in ("decode", "prefill", "score")}
    assert list(memory) == [("decode", "1"), *((name, t) for name in ("prefill", "score") for t in ("1", "64", "512"))]
    assert ["ring-attention", "2", "0"] in [row[:3] for row in rows]
    assert any(line.startswith("found nothing: ") for line in text.splitlines())
    assert {folder.name for folder in (tmp_path / "graphs").iterdir()} == {"decode", "prefill", "score"}
    files = sorted((tmp_path / "graphs" / "decode").iterdir())
    assert files[0].name == "01-identities.txt"
    assert "tlite.RingAttention" in files[-1].read_text(encoding="utf-8")


def relu_chain(path: Path, layers: int) -> Path:
    """A graph that does not generate: x [batch, length, 4] through layers of Add and Relu."""
    helper, numbers = onnx.helper, np.arange(4, dtype=np.float32)
    nodes, weights = [], []
    for i in range(layers):
        weights.append(onnx.numpy_helper.from_array(numbers + i, f"bias.{i}"))
        nodes.append(helper.make_node("MatMul", [f"x{i}" if i else "x", "w"], [f"m{i}"], name=f"product.{i}"))
        nodes.append(helper.make_node("Add", [f"m{i}", f"bias.{i}"], [f"x{i + 1}"], name=f"add.{i}"))
    weights.append(onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"))
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", "length", 4])
        for name in ("x", f"x{layers}")
    ]
    onnx.save(helper.make_model(helper.make_graph(nodes, "chain", values[:1], values[1:], weights)), str(path))
    return path


def test_a_graph_that_does_not_generate(cli: Cli, tmp_path: Path) -> None:
    path = relu_chain(tmp_path / "chain.onnx", 3)
    found = json.loads(cli("compile", path, "--json").out)
    assert list(found["entries"]) == ["run"] and "no integer input" in found["does_not_generate"]
    run = found["entries"]["run"]
    assert (run["lengths"], run["fixed"]) == (["length"], {"batch": 1})
    for t in (1, 64, 512):  # two products [t, 4] of 4 bytes an element live at a time
        assert run["memory"][str(t)]["arena_bytes"] == run["memory"][str(t)]["lower_bound_bytes"] == 2 * 16 * t
    assert "does not generate" in cli("compile", path).out


def texts(svg: Path) -> str:
    """What a picture says; fails where it is no XML."""
    return "\n".join(ElementTree.parse(svg).getroot().itertext())


def test_a_picture(cli: Cli, model: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "decode.svg"
    assert cli("compile", model, "--svg", drawn).code == 0
    text = texts(drawn)
    for part in ("decode: ", "RingAttention", "cache past_key_values.0.key", "linear_tile_", "weight ", "logits"):
        assert part in text
    assert cli("compile", model, "--svg", drawn, "--entry", "score").code == 0
    assert "score: " in texts(drawn)
    assert (
        "no entry 'run'; it has decode, prefill, score" in cli("compile", model, "--svg", drawn, "--entry", "run").error
    )


def test_layers_that_are_alike_are_drawn_once(cli: Cli, tmp_path: Path) -> None:
    path, drawn = relu_chain(tmp_path / "chain.onnx", 9), tmp_path / "chain.svg"
    assert cli("compile", path, "--svg", drawn).code == 0
    folded = texts(drawn)
    assert "layer 1 of 8" in folded and "7 more layers like this" in folded and "product.4" not in folded
    assert cli("compile", path, "--svg", drawn, "--all-layers").code == 0
    whole = texts(drawn)
    assert "more layers" not in whole and "layer 8 of 8" in whole and all(f"product.{i}" in whole for i in range(9))


def test_without_graphviz(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = relu_chain(tmp_path / "chain.onnx", 1)
    assert "apt-get install graphviz" in cli("compile", path, "--svg", tmp_path / "chain.svg").error
    assert not (tmp_path / "chain.svg").exists()


def test_what_does_not_compile(cli: Cli, model: Path, tmp_path: Path) -> None:
    assert "no such model" in cli("compile", tmp_path / "absent.onnx").error
    assert "there is no device 9" in cli("compile", model, "--device", 9).error
    (tmp_path / "file").write_text("")
    assert "cannot use" in cli("compile", model, "--dump", tmp_path / "file" / "x").error
