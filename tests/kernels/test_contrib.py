"""Operators of com.microsoft through a Session, against onnxruntime."""

import numpy as np
import pytest
from support.contrib_cases import all_cases
from support.onnx_models import Case, run_onnxruntime

from tlite_vk.device import Device
from tlite_vk.graph.onnx_load import from_proto
from tlite_vk.session import Session


@pytest.mark.parametrize("case", all_cases(), ids=lambda c: c.name)
def test_a_session_gives_what_onnxruntime_gives(device: Device, case: Case) -> None:
    session = Session(from_proto(case.model), device)
    expected, got = run_onnxruntime(case.model, case.inputs), session.run(case.inputs)
    assert list(got) == list(expected)
    for name, array in expected.items():
        a, b = case.valid(name, got[name]), case.valid(name, array)
        assert a.dtype == b.dtype and a.shape == b.shape, name
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-6 * max(1.0, float(np.abs(b).max())), err_msg=name)
