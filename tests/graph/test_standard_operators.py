"""The ONNX standard's own node tests against our shape rules and numpy oracles: right, or refused in one line."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tlite_vk.graph.errors import GraphError
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.infer import infer
from tlite_vk.graph.onnx_load import from_proto
from tlite_vk.graph.ops.dtypes import numpy_dtype
from tlite_vk.graph.shape import evaluate as evaluate_dim
from tlite_vk.graph.shape import symbols

Array = npt.NDArray[Any]
AT_LEAST = 1340  # of the 1,884 tests of onnx 1.23; more may be added, none may be lost
SMALL = 64  # integer vectors up to this size (axes, shapes) are given to the compiler as constants
TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Outcome:
    name: str
    refusal: str  # "" where it ran
    wrong: str  # "" where it is right


def run(case: Any) -> Outcome:
    for inputs, outputs in case.data_sets:
        try:
            wrong = check(case.model, list(inputs), list(outputs))
        except GraphError as error:
            return Outcome(case.name, str(error), "")
        if wrong:
            return Outcome(case.name, "", wrong)
    return Outcome(case.name, "", "")


def check(proto: Any, inputs: list[Any], outputs: list[Any]) -> str:
    """What is wrong with the shapes, types or values, or ""."""
    graph = from_proto(proto)
    arrays = {info.name: np.asarray(array) for info, array in zip(proto.graph.input, inputs, strict=False)}
    for value in graph.inputs:
        array = arrays[value.name] = as_ours(arrays[value.name], value.dtype)
        if array.size <= SMALL and array.ndim <= 1:
            value.constant, value.shape = array, array.shape
    shaped = infer(graph)
    got = evaluate(shaped, arrays)
    for value, expected in zip(shaped.outputs, map(np.asarray, outputs), strict=False):
        wanted, actual = as_ours(expected, value.dtype), got[value.name]
        if actual.shape != wanted.shape or value.dtype != expected.dtype.name:
            return f"{value.name}: {actual.dtype}{list(actual.shape)} instead of {expected.dtype}{list(wanted.shape)}"
        if any(not symbols(d) and evaluate_dim(d, {}) != n for d, n in zip(value.dims, wanted.shape, strict=True)):
            return f"{value.name}: inferred {value}"
        tolerance = TOLERANCE.get(value.dtype, 1e-4)
        if not np.allclose(wide(actual), wide(wanted), rtol=tolerance, atol=tolerance, equal_nan=True):
            return f"{value.name}: off by {np.nanmax(np.abs(wide(actual) - wide(wanted)))}"
    return ""


def as_ours(array: Array, dtype: str) -> Array:
    """4-bit elements as one byte each."""
    return array.astype(numpy_dtype(dtype)) if dtype in ("uint4", "int4") else array


def wide(array: Array) -> Array:
    return array.astype(np.float64)


@cache
def outcomes() -> list[Outcome]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the standard's own generators divide by zero on purpose
        from onnx.backend.test.loader import load_model_tests

        cases = [c for c in load_model_tests(kind="node") if all_arrays(c)]
    return [run(case) for case in cases]


def all_arrays(case: Any) -> bool:
    """False for tests of sequences, optionals and strings, which are no tensors of numbers."""
    arrays: Iterator[Any] = (a for data in case.data_sets for part in data for a in part)
    return all(hasattr(a, "dtype") and a.dtype != object and a.dtype.kind not in "US" for a in arrays)


def test_none_is_wrong() -> None:
    assert [f"{o.name}: {o.wrong}" for o in outcomes() if o.wrong] == []


def test_many_are_right() -> None:
    right = [o.name for o in outcomes() if not o.refusal and not o.wrong]
    assert len(right) >= AT_LEAST


FAMILIES = """reshape gather slice attention_3d attention_4d rotary_embedding tensorscatter dequantizelinear expand
rms_normalization layer_normalization softmax where concat split transpose gemm"""


@pytest.mark.parametrize("family", FAMILIES.split())
def test_families_that_transformers_need_run(family: str) -> None:
    of_family = [o for o in outcomes() if o.name.startswith(f"test_{family}")]
    ran = [o.name for o in of_family if not o.refusal]
    assert len(ran) >= max(1, len(of_family) // 2), f"of {len(of_family)} tests only {ran} ran"


def test_each_refusal_is_one_line_that_names_what_is_missing() -> None:
    for outcome in outcomes():
        assert "\n" not in outcome.refusal and len(outcome.refusal) < 300, outcome.name
        if outcome.refusal:
            assert any(word in outcome.refusal for word in ("node '", "graph input", "tensor '")), outcome.refusal
