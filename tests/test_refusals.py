"""Models that cannot be run or mean harm: one line that names the culprit, at once, without taking memory for it."""

import time
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.hostile import HOSTILE, bad, floats, model

import tlite_vk
from tlite_vk.device import Device
from tlite_vk.errors import TliteError
from tlite_vk.graph.errors import GraphError

SECONDS = 1.0  # of the processor
BYTES = 40 << 20


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_models_are_refused_at_once(device: Device, tmp_path: Path, name: str) -> None:
    proto, culprit = HOSTILE[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    started = time.process_time()
    with pytest.raises((GraphError, TliteError)) as caught:
        tlite_vk.Session(path, device)
    assert time.process_time() - started < SECONDS
    message = str(caught.value)
    assert culprit in message and "\n" not in message and len(message) < 400
    with pytest.raises((GraphError, TliteError)) as caught:
        tlite_vk.load(path, device=device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_refusal_takes_no_memory(device: Device, tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(HOSTILE[name][0].SerializeToString())
    tracemalloc.start()  # numpy's arrays count
    try:
        with pytest.raises((GraphError, TliteError)):
            tlite_vk.Session(path, device)
        assert tracemalloc.get_traced_memory()[1] < BYTES + 3 * path.stat().st_size
    finally:
        tracemalloc.stop()


def external(folder: Path, **fields: object) -> Path:
    """A model whose tensor "w" lies in the file that the fields say."""
    proto = model([bad("Add", "x", "w")], [floats("w", 0, 0, 0)])
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in fields.items():
        tensor.external_data.add(key=key, value=str(value))
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize(
    "location", ["/etc/hostname", "../secret", "a/../../secret", "C:\\secret", "", "link", "linked/secret", ".", "a\0b"]
)
def test_data_outside_of_the_folder(device: Device, tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    with pytest.raises(GraphError, match="tensor 'w': its data file"):
        tlite_vk.Session(external(folder, location=location, length=12), device)


@pytest.mark.parametrize(
    "fields",
    [{"offset": -4}, {"offset": 2**62}, {"length": 2**62}, {"offset": "x"}, {"length": "9" * 5000}, {"offset": 60}],
    ids=str,
)
def test_data_outside_of_its_file(device: Device, tmp_path: Path, fields: dict[str, object]) -> None:
    (tmp_path / "data").write_bytes(bytes(64))
    assert np.isfinite(tlite_vk.Session(external(tmp_path, location="data", length=12), device).run(
        {"x": np.ones((2, 3), np.float32)})["y"]).all()  # fmt: skip
    with pytest.raises(GraphError, match="tensor 'w'"):
        tlite_vk.Session(external(tmp_path, **{"location": "data", "length": 12} | fields), device)


def test_a_file_larger_than_a_protobuf_can_be(device: Device, tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)  # a hole: it takes no space
    started = time.process_time()
    with pytest.raises(GraphError, match=r"large.onnx is larger than a protobuf can be"):
        tlite_vk.Session(path, device)
    assert time.process_time() - started < SECONDS
