"""Attention, RotaryEmbedding, RMSNormalization and TensorScatter of opset 25 in random forms, against onnx's reference
evaluator."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from support.onnx_models import Case, run_onnxruntime
from support.standard_draws import attention, draws

from tlite_vk.device import Device
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.infer import infer
from tlite_vk.graph.onnx_load import from_proto
from tlite_vk.session import Session


@pytest.mark.parametrize("case", draws(48), ids=lambda c: c.name)
def test_random_forms(device: Device, case: Case) -> None:
    with np.errstate(all="ignore"):
        expected = [np.asarray(a) for a in ReferenceEvaluator(case.model).run(None, dict(case.inputs))]
    model = from_proto(case.model)
    for got in (evaluate(infer(model), case.inputs), Session(model, device).run(case.inputs)):
        for (name, array), wanted in zip(got.items(), expected, strict=True):
            np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("precision", [None, 1, 10])
@pytest.mark.parametrize("seed", [0, 6, 7])
def test_halves(device: Device, seed: int, precision: int | None) -> None:
    """The device computes in float32, whatever the precision that the softmax asks for."""
    case = attention(seed, np.float16)
    if precision is not None:
        case.model.graph.node[0].attribute.append(onnx.helper.make_attribute("softmax_precision", precision))
    expected = np.asarray(next(iter(ReferenceEvaluator(case.model).run(None, dict(case.inputs)))))
    got = Session(from_proto(case.model), device).run(case.inputs)["y"]
    assert got.dtype == np.float16
    np.testing.assert_allclose(got.astype(np.float32), expected.astype(np.float32), rtol=0, atol=5e-3)


def test_raw_scores_have_no_soft_cap(device: Device) -> None:
    """As the standard's text has it and onnxruntime does; onnx's reference evaluator gives capped ones."""
    case = attention(6)
    node = case.model.graph.node[0]
    kept = [a for a in node.attribute if a.name != "qk_matmul_output_mode"]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute("softcap", 0.5)])
    expected, got = run_onnxruntime(case.model, case.inputs), Session(from_proto(case.model), device).run(case.inputs)
    assert np.abs(expected["scores"]).max() > 0.5
    np.testing.assert_allclose(got["scores"], expected["scores"], rtol=1e-5, atol=1e-5)
