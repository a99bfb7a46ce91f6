"""Operators of com.microsoft through a Session, against onnxruntime."""

import pytest
from support.contrib_cases import all_cases, check_case
from support.onnx_models import Case

from tlite_vk.device import Device


@pytest.mark.parametrize("case", all_cases(), ids=lambda c: c.name)
def test_a_session_gives_what_onnxruntime_gives(device: Device, case: Case) -> None:
    check_case(case, device)
