"""Kernels against the numpy oracles: run a graph on a device for several lengths and compare."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from support.graphs import random_inputs

from tlite_vk.device import Device
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.ir import Graph
from tlite_vk.session import Session
from tlite_vk.target import Target

Array = npt.NDArray[Any]
Lengths = Mapping[str, int]


def check(
    device: Device,
    graph: Graph,
    lengths: Lengths | Sequence[Lengths] = (),
    *,
    inputs: Mapping[str, Array] | None = None,
    tolerance: float = 2e-6,
    highest: int = 4,
    dispatches: int | None = None,
) -> dict[str, Array]:
    """Fail unless the device's outputs are the oracle's, for each set of lengths; integers must be equal.

    The kernels for CPU drivers and those for GPUs are both run. tolerance: of the difference, relative to the largest
    element. highest: random integer inputs lie below it. dispatches: how many kernels the graph must take. Returns the
    last outputs.
    """
    got: dict[str, Array] = {}
    for target in targets(device):
        session = Session(graph, device, target=target)
        assert dispatches in (None, session.dispatches)
        for case in [lengths] if isinstance(lengths, Mapping) else lengths or [{}]:
            given = random_inputs(graph, case, highest_id=highest) | dict(inputs or {})
            expected, got = evaluate(graph, given), session.run(given)
            assert list(got) == list(expected)
            for name, array in expected.items():
                assert_close(got[name], array, tolerance, f"{name} for {dict(case)}, cpu: {target.cpu}")
    return got


def targets(device: Device) -> list[Target]:
    """The device as it is, and as a GPU of the smallest workgroups and the least shared memory."""
    own = Target.of(device.info, "fp32")
    return [own, replace(own, cpu=False, texel=False, max_invocations=128, max_shared_bytes=16384)]


def assert_close(got: Array, expected: Array, tolerance: float, what: str = "") -> None:
    """Equal types and shapes, equal integers, equal NaN and inf; floats within a share of the largest finite one."""
    assert got.dtype == expected.dtype and got.shape == expected.shape, f"{what}: {got.dtype}{got.shape}"
    if expected.dtype.kind not in "fV":
        np.testing.assert_array_equal(got, expected, err_msg=what)
        return
    a, b = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    np.testing.assert_array_equal(a[~finite], b[~finite], err_msg=what)
    size = float(np.abs(b[finite]).max(initial=1e-30))
    np.testing.assert_allclose(a[finite], b[finite], rtol=0, atol=tolerance * size, err_msg=what)
