"""What is refused, in one line; and that nothing is left behind."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.products import save, weight, write_tiny

from tlite_vk.errors import ModelError, TliteError
from tlite_vk.graph.errors import GraphError
from tlite_vk.quantize import Options, quantize_model


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def refused(source: Path, target: Path, message: str, options: Options | None = None, **keywords: Any) -> None:
    with pytest.raises((TliteError, GraphError), match=message) as caught:
        quantize_model(source, target, options, **keywords)
    assert "\n" not in str(caught.value)


def test_what_is_no_model(tmp_path: Path) -> None:
    source, out = tmp_path / "model.onnx", tmp_path / "out" / "model.onnx"
    refused(source, out, "no such file: .*model.onnx")
    refused(tmp_path, out, "no such file: .*model.onnx")  # a folder without a model
    for content in (b"", b"hello", write_tiny(tmp_path / "good" / "model.onnx").read_bytes()[:-1000]):
        source.write_bytes(content)
        refused(source, out, "is not an ONNX file")
    assert names(tmp_path) == ["good", "model.onnx"]


def test_an_output_that_exists(tmp_path: Path) -> None:
    source, target = write_tiny(tmp_path / "model.onnx"), tmp_path / "out" / "model.onnx"
    quantize_model(source, target)
    before = target.read_bytes()
    refused(source, target, "model.onnx exists; choose another output name, or overwrite it with --overwrite")
    target.unlink()
    refused(source, target, "model.onnx.data exists")
    quantize_model(source, target, overwrite=True)
    assert target.read_bytes() == before
    assert names(target.parent) == ["model.onnx", "model.onnx.data"]


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "model.onnx", external=True)
    shutil.copy(source, tmp_path / "copy.onnx")  # its weights are those of the other
    for overwrite in (True, False):
        refused(source, source, "belongs to the model that is quantized", overwrite=overwrite)
        refused(tmp_path / "copy.onnx", source, "belongs to the model that is quantized", overwrite=overwrite)
    refused(source, tmp_path, "is a folder; name the file to write")
    assert names(tmp_path) == ["copy.onnx", "model.onnx", "model.onnx.data"]


def test_nothing_to_quantize(tmp_path: Path) -> None:
    out = tmp_path / "out" / "model.onnx"
    refused(write_tiny(tmp_path / "a" / "model.onnx", hidden=40, inner=40), out,
            r"nothing to quantize: 'table' stays \(its reduction length 40 is not a multiple of 32\)")  # fmt: skip
    shape = (TensorProto.FLOAT, ("N", 64))
    plain = save(tmp_path / "b.onnx", [helper.make_node("Tanh", ["x"], ["y"])], {"x": shape}, {"y": shape}, {})
    refused(plain, out, "has nothing to quantize: no product and no Gather reads a matrix of floats")
    keep = Options(keep=["*"])
    refused(write_tiny(tmp_path / "c" / "model.onnx"), out, "'table' stays .as asked for.", keep)
    quantize_model(write_tiny(tmp_path / "d" / "model.onnx"), out)
    refused(out, tmp_path / "again.onnx", "nothing to quantize")
    assert "again.onnx" not in names(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "not finite"), (np.inf, "not finite"), (1e6, "beyond the range of fp16")]
)
def test_weights_that_no_step_fits(tmp_path: Path, value: float, message: str) -> None:
    shape = (TensorProto.FLOAT, ("N", 64))
    broken = weight(np.random.default_rng(0), 64, 64)
    broken[3, 5] = value
    source = save(
        tmp_path / "model.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": shape}, {"y": shape},
        {"w": broken},
    )  # fmt: skip
    out = tmp_path / "new" / "out.onnx"
    refused(source, out, f"the weight 'w' holds values that are {message}; leave it out with --keep 'w'")
    assert names(tmp_path) == ["model.onnx"]


def changed(source: Path, name: str, **fields: str) -> None:
    """Change what a tensor says of its external data."""
    model = onnx.load(str(source), load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.name == name)
    for entry in tensor.external_data:
        entry.value = fields.get(entry.key, entry.value)
    source.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"location": "../elsewhere"}, "lies outside of the model's folder"),
        ({"location": "nowhere"}, "does not exist"),
        ({"offset": "999999999"}, "outside of 'model.onnx.data'"),
        ({"length": "100"}, "has 100 bytes of data, its shape needs"),
    ],
)
def test_damaged_external_data(tmp_path: Path, fields: dict[str, str], message: str) -> None:
    source = write_tiny(tmp_path / "in" / "model.onnx", external=True)
    changed(source, "up.weight", **fields)
    refused(source, tmp_path / "out" / "model.onnx", f"tensor 'up.weight'.*{message}")
    assert names(tmp_path) == ["in"]


def test_a_hostile_size(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "in" / "model.onnx", external=True)
    model = onnx.load(str(source), load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.name == "up.weight")
    tensor.dims[:] = [2**40, 2**20]
    source.write_bytes(model.SerializeToString())
    refused(source, tmp_path / "out" / "model.onnx", "'up.weight' claims the shape")


def test_an_operator_that_cannot_be_brought_to_a_newer_set(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Glow", ["h"], ["y"], "last")]
    shape = (TensorProto.FLOAT, ("N", 64))
    weights = {"w": weight(np.random.default_rng(0), 64, 64)}
    source = save(tmp_path / "model.onnx", nodes, {"x": shape}, {"y": shape}, weights, opset=20)
    refused(source, tmp_path / "out.onnx", r"cannot be brought from opset 20 to 23 \(at Glow 'last'\); export it anew")


def test_a_graph_in_circles(tmp_path: Path) -> None:
    """Whoever loads the result refuses it; the search for weights just ends."""
    nodes = [
        helper.make_node("Gather", ["w", "ids"], ["g"], "lookup"),
        helper.make_node("Concat", ["g", "s"], ["r"], "r", axis=0),
        helper.make_node("Identity", ["r"], ["s"], "s"),
    ]
    inputs = {"ids": (TensorProto.INT64, ("N",))}
    weights = {"w": weight(np.random.default_rng(0), 64, 64)}
    source = save(tmp_path / "model.onnx", nodes, inputs, {"s": (TensorProto.FLOAT, ("M", 64))}, weights)
    assert len(quantize_model(source, tmp_path / "out.onnx").tensors) == 1


# -- nothing half-written ---------------------------------------------------------------------------------------------


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_tiny(tmp_path / "model.onnx")
    monkeypatch.setattr(os, "posix_fallocate", full_disk)
    refused(source, tmp_path / "new" / "model.onnx", "no space left for .*model.onnx")
    assert names(tmp_path) == ["model.onnx"]


def test_an_interruption_leaves_the_former_output(tmp_path: Path) -> None:
    source, target = write_tiny(tmp_path / "model.onnx"), tmp_path / "out" / "model.onnx"
    quantize_model(source, target)
    before = [(target.parent / name).read_bytes() for name in names(target.parent)]

    def interrupt(done: int, total: int) -> None:
        if 2 * done > total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_model(source, target, Options(group=64), overwrite=True, progress=interrupt)
    assert [(target.parent / name).read_bytes() for name in names(target.parent)] == before


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "model.onnx")
    refused(source, source / "out.onnx", "cannot write")


# -- beside the model -------------------------------------------------------------------------------------------------


def test_tokenizer_files_come_along(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "in" / "model.onnx")
    for name in ("tokenizer.json", "generation_config.json", "notes.txt"):
        (source.parent / name).write_text(name)
    assert quantize_model(source, tmp_path / "out" / "model.onnx").tokenizer
    assert names(tmp_path / "out") == ["generation_config.json", "model.onnx", "model.onnx.data", "tokenizer.json"]
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "tokenizer.json"


def test_another_models_tokenizer_is_not_overwritten(tmp_path: Path) -> None:
    for folder, text in (("a", "one"), ("b", "two")):
        write_tiny(tmp_path / folder / "model.onnx")
        (tmp_path / folder / "tokenizer.json").write_text(text)
    quantize_model(tmp_path / "a", tmp_path / "out" / "a.onnx")
    with pytest.raises(ModelError, match=r"holds a\.onnx with another tokenizer\.json"):
        quantize_model(tmp_path / "b", tmp_path / "out" / "b.onnx")
    quantize_model(tmp_path / "a", tmp_path / "a" / "small.onnx")  # in its own folder: nothing to copy
    assert names(tmp_path / "a") == ["model.onnx", "small.onnx", "small.onnx.data", "tokenizer.json"]
