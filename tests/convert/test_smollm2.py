"""The demo model, fetched, converted and asked in onnxruntime: the whole way to the file that everything else reads."""

from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from tlite_vk.convert import ConvertReport, convert
from tlite_vk.convert.llama_graph import half_split_order
from tlite_vk.fetch import fetch
from tlite_vk.tokenizer import Tokenizer

Floats = npt.NDArray[np.float32]
CAPACITY = 64


@pytest.fixture(scope="module")
def source() -> Path:
    return fetch("smollm2-135m")


@pytest.fixture(scope="module")
def converted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> ConvertReport:
    return convert(source, tmp_path_factory.mktemp("smollm2") / "model.onnx")


class OnnxModel:
    """Runs a converted model, keeping its caches."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.names = [value.name for value in self.session.get_outputs()]
        self.past = 0
        self.caches = {
            value.name: np.zeros((1, CAPACITY, value.shape[2]), np.float32)
            for value in self.session.get_inputs()
            if value.name.startswith("past_key_values.")
        }

    def step(self, ids: list[int]) -> Floats:
        """The logits [V] after the last of `ids`."""
        now = self.past + len(ids)
        feed = {
            "input_ids": np.array([ids]),
            "position_ids": np.arange(self.past, now)[None],
            "write_indices": np.array([self.past]),
            "nonpad_kv_seqlen": np.array([now]),
        }
        outputs = dict(zip(self.names, self.session.run(self.names, feed | self.caches), strict=True))
        logits: Floats = np.asarray(outputs.pop("logits"))[0, -1]
        self.caches = {name.replace("present.", "past_key_values."): np.asarray(v) for name, v in outputs.items()}
        self.past = now
        return logits


def test_the_report(converted: ConvertReport) -> None:
    assert (converted.layers, converted.parameters, converted.context_length) == (30, 134_515_008, 8192)
    assert converted.tokenizer
    assert converted.data_bytes < 101e6


def test_the_answer(converted: ConvertReport) -> None:
    tokenizer = Tokenizer.load(converted.model)
    model = OnnxModel(converted.model)
    ids = tokenizer.encode_chat([{"role": "user", "content": "What is the capital of France?"}])
    answer: list[int] = []
    stream, text = tokenizer.stream(ids), ""
    while len(answer) < 16 and not (answer and answer[-1] in tokenizer.stop_ids):
        answer.append(int(np.argmax(model.step(answer[-1:] or ids))))
        text += "" if answer[-1] in tokenizer.stop_ids else stream.push(answer[-1])
    assert tokenizer.decode(answer, skip_special=False) == "The capital of France is Paris.<|im_end|>"
    assert text + stream.finish() == "The capital of France is Paris."


def test_weights_arrive_bit_for_bit(source: Path, converted: ConvertReport) -> None:
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(str(source)).tensors}
    model = onnx.load(str(converted.model), load_external_data=False)
    for name, heads in (("blk.0.attn_q.weight", 9), ("blk.29.attn_k.weight", 3), ("blk.7.ffn_down.weight", 0)):
        expected = gguf.quants.dequantize(stored[name].data, stored[name].tensor_type)
        if heads:
            order = half_split_order(64, 64)
            expected = expected.reshape(heads, 64, -1)[:, order].reshape(expected.shape)
        np.testing.assert_array_equal(affine(model, converted, name), expected, err_msg=name)


def affine(model: onnx.ModelProto, converted: ConvertReport, name: str) -> Floats:
    """levels * scale + minimum, read straight from the external data: [N, K]."""
    parts = {tensor.name: tensor for tensor in model.graph.initializer}
    arrays = [
        onnx.numpy_helper.to_array(parts[f"{name}.{part}"], base_dir=str(converted.model.parent)).astype(np.float32)
        for part in ("levels", "scale", "min")
    ]
    value: Floats = arrays[0] * arrays[1] + arrays[2]
    return value.reshape(len(value), -1)


def test_its_tokenizer(converted: ConvertReport) -> None:
    tokenizer = Tokenizer.load(converted.model)
    assert (tokenizer.vocabulary_size, tokenizer.context_length) == (49152, 8192)
    assert set(tokenizer.stop_ids) == {0, 2}
    assert tokenizer.encode("Hello world! 123") == [19556, 905, 17, 216, 33, 34, 35]
    assert tokenizer.encode("The capital of France is") == [504, 3575, 282, 4649, 314]
