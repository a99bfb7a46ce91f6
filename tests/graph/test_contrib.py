"""Operators of com.microsoft in standard ones: against onnxruntime, which runs them itself, and what is refused."""

import numpy as np
import pytest
from support.contrib_cases import Case, all_cases
from support.onnx_models import run_onnxruntime

from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.infer import infer
from tlite_vk.graph.onnx_load import from_proto


@pytest.mark.parametrize("case", all_cases(), ids=lambda c: c.name)
def test_the_oracles_give_what_onnxruntime_gives(case: Case) -> None:
    graph = infer(from_proto(case.model))
    assert not any(n.domain for n in graph.nodes)
    expected, got = run_onnxruntime(case.model, case.inputs), evaluate(graph, case.inputs)
    assert list(got) == list(expected)
    for name, array in expected.items():
        a, b = case.valid(name, got[name]), case.valid(name, array)
        assert a.dtype == b.dtype and a.shape == b.shape, name
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * max(1.0, float(np.abs(b).max())), err_msg=name)
