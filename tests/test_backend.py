"""ONNX's backend interface, and the standard's own node tests through it on both drivers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper
from support.node_tests import Outcome, cases, run_all

from tlite_vk import backend
from tlite_vk.backend import NotSupportedError
from tlite_vk.device import Device
from tlite_vk.errors import DeviceError, InputError

AT_LEAST = 1533
"""Node tests that pass, of the 1,884 of onnx 1.23: more may be added, none may be lost."""

Array = npt.NDArray[Any]
Outcomes = Callable[[Device], list[Outcome]]


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """The node tests' outcomes on a device; each device runs them once."""
    done: dict[str, list[Outcome]] = {}

    def on(device: Device) -> list[Outcome]:
        name = device.info.name
        if name not in done:
            done[name] = list(run_all(device))
        return done[name]

    return on


def test_no_node_test_is_wrong(any_device: Device, outcomes: Outcomes) -> None:
    assert [f"{o.name}: {o.wrong}" for o in outcomes(any_device) if o.wrong] == []


def test_the_node_tests_that_pass_are_those_listed(any_device: Device, outcomes: Outcomes) -> None:
    """docs/operators.md lists what is refused; tools/operators.py writes it."""
    results = outcomes(any_device)
    assert len(results) == len(cases())
    assert sum(o.passed for o in results) >= AT_LEAST
    listed = Path(__file__).parents[1].joinpath("docs", "operators.md").read_text(encoding="utf-8")
    unlisted = [o.name for o in results if o.refusal and f"`{o.name}`" not in listed]
    assert unlisted == [], "run tools/operators.py"
    assert [o.name for o in results if o.passed and f"`{o.name}`" in listed] == [], "run tools/operators.py"


def test_refusals_are_one_line_that_names_the_culprit(device: Device, outcomes: Outcomes) -> None:
    for outcome in outcomes(device):
        assert "\n" not in outcome.refusal and len(outcome.refusal) < 300, outcome.name
        if outcome.refusal:
            assert any(word in outcome.refusal for word in ("node '", "graph input", "tensor '", "input '")), outcome


def test_nearly_all_run_on_the_device(device: Device, outcomes: Outcomes) -> None:
    """Only shape arithmetic, constants and views need no kernel."""
    idle = [o.name for o in outcomes(device) if o.passed and o.dispatches == 0]
    assert len(idle) <= 70, idle


# --- the interface ---------------------------------------------------------------------------------------------------


def model(node: onnx.NodeProto, inputs: dict[str, tuple[int, tuple[Any, ...]]], opset: int = 21) -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output]
    graph = helper.make_graph([node], "test", infos, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def test_inputs_in_order_or_by_name(device: Device) -> None:
    node = helper.make_node("Sub", ["a", "b"], ["y"])
    prepared = backend.prepare(model(node, {"a": (FLOAT, (2, "N")), "b": (FLOAT, (1,))}), vulkan=device)
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([2.0], np.float32)
    for given in ([a, b], (a, b), {"b": b, "a": a}):
        np.testing.assert_array_equal(prepared.run(given)[0], a - b)
    longer = np.zeros((2, 70), np.float32)  # another length of the same model
    np.testing.assert_array_equal(prepared.run([longer, b])[0], longer - b)


def test_one_node(device: Device) -> None:
    x = np.array([-1.5, 2.0], np.float32)
    (y,) = backend.run_node(helper.make_node("Relu", ["x"], ["y"]), [x], vulkan=device)
    np.testing.assert_array_equal(y, [0, 2])
    product = helper.make_node("Mul", ["x", "x"], ["y"])
    np.testing.assert_array_equal(backend.run_node(product, [x], vulkan=device)[0], x * x)


def test_shapes_as_inputs_are_compiled_for_their_values(device: Device) -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    prepared = backend.prepare(model(node, {"x": (FLOAT, (2, 6)), "shape": (INT64, (2,))}), vulkan=device)
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    for shape in ((3, 4), (12, 1), (3, 4), (-1, 2)):
        np.testing.assert_array_equal(prepared.run([x, np.array(shape)])[0], x.reshape(shape))
    axes = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    (y,) = backend.run_model(
        model(axes, {"x": (FLOAT, (2, 6)), "axes": (INT64, (1,))}), [x, np.array([0])], vulkan=device
    )
    np.testing.assert_array_equal(y, x.sum(0))


def test_data_is_not_taken_for_a_shape(device: Device) -> None:
    """Integer inputs that are data stay on the device: no new compilation for other values."""
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=0)
    prepared = backend.prepare(model(node, {"x": (FLOAT, (5, 2)), "i": (INT64, (3,))}), vulkan=device)
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    for i in ([0, 1, 2], [4, -1, 3]):
        np.testing.assert_array_equal(prepared.run([x, np.array(i)])[0], x[i])
    assert len(prepared._sessions) == 1


def test_devices() -> None:
    assert not backend.supports_device("CUDA") and not backend.supports_device("VULKAN:99")
    with pytest.raises(DeviceError, match="VULKAN:index"):
        backend.prepare(model(helper.make_node("Relu", ["x"], ["y"]), {"x": (FLOAT, (1,))}), "TPU")


def test_the_default_device_is_supported(open_driver: Any) -> None:
    assert backend.supports_device("CPU") and backend.supports_device("VULKAN")


def test_refusals_are_skips_for_test_runners(device: Device) -> None:
    strange = model(helper.make_node("Unique", ["x"], ["y"]), {"x": (FLOAT, (4,))})
    with pytest.raises(NotSupportedError, match=r"operator Unique is not supported \(node 'y'\)") as caught:
        backend.prepare(strange, vulkan=device)
    assert isinstance(caught.value, SkipTest)
    assert not backend.TliteBackend.is_compatible(strange, vulkan=device)


def test_inputs_that_do_not_fit(device: Device) -> None:
    prepared = backend.prepare(model(helper.make_node("Relu", ["x"], ["y"]), {"x": (FLOAT, (2,))}), vulkan=device)
    for wrong, text in (
        ([], "missing"),
        ([np.zeros(2), np.zeros(2)], "2 inputs"),
        ([np.zeros(3, np.float32)], "extent 3"),
        ([np.zeros(2, np.int64)], "must be float32"),
        ({"z": np.zeros(2)}, "no input 'z'"),
    ):
        with pytest.raises(InputError, match=text):
            prepared.run(wrong)


def test_integers_beyond_32_bits_are_refused(device: Device) -> None:
    prepared = backend.prepare(model(helper.make_node("Neg", ["x"], ["y"]), {"x": (INT64, (2, 2))}), vulkan=device)
    with pytest.raises(InputError, match="int64 values outside"):
        prepared.run([np.full((2, 2), 2**40)])
