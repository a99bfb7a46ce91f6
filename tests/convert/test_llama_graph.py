"""Converted models in onnxruntime against a plain numpy Llama that reads the GGUF itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from gguf import GGMLQuantizationType as Kind
from support.plain_llama import PlainLlama

from tlite_vk.convert import convert
from tlite_vk.convert.llama_graph import half_split_order

WriteModel = Callable[..., Path]

Floats = npt.NDArray[np.float64]
CAPACITY = 24


def run_chunks(model: Path, ids: list[int], chunks: list[int]) -> Floats:
    """Logits [T, V] of the ONNX model, fed in chunks of the given sizes, caches handed back each time."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    caches = {
        value.name: np.zeros((1, CAPACITY, value.shape[2]), np.float32)
        for value in session.get_inputs()
        if value.name.startswith("past_key_values.")
    }
    logits, past = [], 0
    for size in chunks:
        now = past + size
        feed = {
            "input_ids": np.array([ids[past:now]]),
            "position_ids": np.arange(past, now)[None],
            "write_indices": np.array([past]),
            "nonpad_kv_seqlen": np.array([now]),
        }
        outputs = dict(zip(names, session.run(names, feed | caches), strict=True))
        logits.append(np.asarray(outputs.pop("logits"))[0])
        caches = {name.replace("present.", "past_key_values."): np.asarray(v) for name, v in outputs.items()}
        past = now
    return np.concatenate(logits).astype(np.float64)


SHAPES: dict[str, dict[str, Any]] = {
    "tied head": {},
    "own head": {"output": Kind.F32},
    "a key/value head for each head": {"kv_heads": 4},
    "one key/value head": {"kv_heads": 1},
    "biases": {"biases": True},
    "heads wider than the model": {"head_dim": 32},
    "values narrower than keys": {"head_dim": 32, "value_dim": 16},
    "partly rotated": {"rotary_dim": 6, "biases": True},
    "linear rope scaling": {"linear_factor": 4.0},
    "rope factors": {"rope_factors": [1, 1.5, 2, 3, 4, 5, 6, 8]},
    "odd sizes": {"hidden": 36, "heads": 3, "kv_heads": 1, "head_dim": 10, "ffn": 51, "vocab": 259, "layers": 3},
    "Q4_1 with a Q8_0 embedding": {"kind": Kind.Q4_1, "embedding": Kind.Q8_0},
    "Q4_0 with a Q6_K head": {"kind": Kind.Q4_0, "output": Kind.Q6_K, "hidden": 256, "ffn": 64},
    "Q4_K": {"kind": Kind.Q4_K, "embedding": Kind.Q6_K, "hidden": 256, "ffn": 256},
    "F16 with biases": {"kind": Kind.F16, "biases": True},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_a_plain_llama(write_model: WriteModel, tmp_path: Path, shape: str) -> None:
    source = write_model(**SHAPES[shape])
    model = tmp_path / "out" / "model.onnx"
    convert(source, model)
    ids = np.random.default_rng(1).integers(0, 259, 17).tolist()
    expected = PlainLlama(source)(ids)
    tolerance = 2e-5 * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(run_chunks(model, ids, [17]), expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(run_chunks(model, ids, [5, 1, 1, 3, 7]), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"])
def test_weights_are_bit_exact_in_onnxruntime(write_model: WriteModel, tmp_path: Path, kind: str) -> None:
    source = write_model(kind=Kind[kind], hidden=256, ffn=256, heads=4, layers=1, vocab=97)
    convert(source, tmp_path / "model.onnx")
    names = ["token_embd.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"]
    values = dequantized(tmp_path / "model.onnx", names)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(str(source)).tensors}
    for name in names:
        tensor = tensors[name]
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if "attn_q" in name or "attn_k" in name:
            expected = expected.reshape(-1, 64, 256)[:, half_split_order(64, 64)].reshape(-1, 256)
        np.testing.assert_array_equal(values[name], expected, err_msg=name)


def dequantized(path: Path, names: list[str]) -> dict[str, npt.NDArray[np.float32]]:
    """The values `names` of the graph, as onnxruntime computes them."""
    model = onnx.load(str(path), load_external_data=False)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    probe = path.with_name("probe.onnx")
    onnx.save(model, str(probe))
    session = onnxruntime.InferenceSession(str(probe), providers=["CPUExecutionProvider"])
    one = np.zeros((1, 1), np.int64)
    feed = {"input_ids": one, "position_ids": one, "write_indices": one[0], "nonpad_kv_seqlen": one[0] + 1}
    caches = {
        v.name: np.zeros((1, 2, v.shape[2]), np.float32) for v in session.get_inputs() if v.name.startswith("past")
    }
    return {name: np.asarray(v) for name, v in zip(names, session.run(names, feed | caches), strict=True)}


def test_order_pairs_halves() -> None:
    assert half_split_order(8, 8).tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert half_split_order(8, 4).tolist() == [0, 2, 1, 3, 4, 5, 6, 7]


def test_the_graph_is_valid_and_uses_the_default_operators_only(write_model: WriteModel, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    convert(write_model(kind=Kind.Q4_1, embedding=Kind.Q8_0, biases=True), path)
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path), load_external_data=False)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 24)]
    inputs = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    assert inputs == {
        "input_ids": ["B", "T"],
        "position_ids": ["B", "T"],
        "write_indices": ["B"],
        "nonpad_kv_seqlen": ["B"],
        **{f"past_key_values.{i}.{part}": ["B", "C", 32] for i in range(2) for part in ("key", "value")},
    }
    outputs = [v.name for v in model.graph.output]
    assert outputs == ["logits", *(f"present.{i}.{part}" for i in range(2) for part in ("key", "value"))]
    offsets = [
        int(entry.value) for item in model.graph.initializer for entry in item.external_data if entry.key == "offset"
    ]
    assert len(offsets) > 20 and all(offset % 4096 == 0 for offset in offsets)
