"""Kernels against the numpy oracles: run a graph on a device for several lengths and compare."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from support.graphs import random_inputs

from tlite_vk.device import Device
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.ir import Graph
from tlite_vk.session import Session

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

    tolerance: of the difference, relative to the largest element. highest: random integer inputs lie below it.
    dispatches: how many kernels the graph must take. Returns the last outputs.
    """
    session = Session(graph, device)
    if dispatches is not None:
        assert session.dispatches == dispatches
    got: dict[str, Array] = {}
    for case in [lengths] if isinstance(lengths, Mapping) else lengths or [{}]:
        given = random_inputs(graph, case, highest_id=highest) | dict(inputs or {})
        expected, got = evaluate(graph, given), session.run(given)
        assert list(got) == list(expected)
        for name, array in expected.items():
            assert_close(got[name], array, tolerance, f"{name} for {dict(case)}")
    return got


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
