"""One small ONNX model per form of a com.microsoft operator, with inputs; onnxruntime is the reference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from support.contrib_attention import attention_cases
from support.onnx_models import CONTRIB, Array, Case, OnnxModel, floats, run_onnxruntime

from tlite_vk.device import Device
from tlite_vk.graph.onnx_load import from_proto
from tlite_vk.session import Session

# --- elementwise and norms -----------------------------------------------------------------------------------------


def simple(
    name: str, op: str, shapes: Sequence[tuple[int, ...]], outputs: int = 1, domain: str = CONTRIB, **a: Any
) -> Case:
    """The operator over inputs of these shapes; every output is compared, but for the moments of a norm.

    The leading axes of rank 3 are symbolic, except in products.
    """
    rng, m = np.random.default_rng(len(name)), OnnxModel()
    for i, shape in enumerate(shapes):
        symbolic = len(shape) == 3 and op != "FusedMatMul"
        dims = ("BT"[j] if symbolic and j < 2 and d > 1 else d for j, d in enumerate(shape))
        m.feed(f"x{i}", floats(rng, *shape), *dims)
    names = ["y", "", "", "sum"][:outputs]
    m.several(op, *m.fed, outputs=names, domain=domain, **a)
    return m.case(name, *(n for n in names if n))


def elementwise_cases() -> list[Case]:
    x, k = (2, 3, 10), (10,)
    return [
        simple("gelu", "Gelu", [x]),
        simple("bias-gelu", "BiasGelu", [x, k]),
        simple("fast-gelu", "FastGelu", [x]),
        simple("fast-gelu-bias", "FastGelu", [x, k]),
        simple("quick-gelu", "QuickGelu", [x]),
        simple("quick-gelu-alpha", "QuickGelu", [x], alpha=0.7),
        simple("rms", "SimplifiedLayerNormalization", [x, k], domain="", axis=-1, epsilon=1e-3, stash_type=1),
        simple("rms-default", "SimplifiedLayerNormalization", [x, k], domain=""),
        simple("skip-rms", "SkipSimplifiedLayerNormalization", [x, x, k], epsilon=1e-2),
        simple("skip-rms-sum", "SkipSimplifiedLayerNormalization", [x, x, k], 4),
        simple("skip-rms-bias", "SkipSimplifiedLayerNormalization", [x, x, k, k], 4, epsilon=1e-5),
        simple("skip-norm", "SkipLayerNormalization", [x, x, k], 4),
        simple("skip-norm-shift", "SkipLayerNormalization", [x, x, k, k], epsilon=1e-3),
        simple("skip-norm-bias", "SkipLayerNormalization", [x, x, k, k, k], 4),
        simple("skip-norm-broadcast", "SkipLayerNormalization", [x, (1, 3, 10), k, k], 4),
        simple("product", "FusedMatMul", [(2, 3, 10), (10, 5)]),
        simple("product-a", "FusedMatMul", [(2, 10, 3), (10, 5)], transA=1, alpha=0.5),
        simple("product-b", "FusedMatMul", [(2, 3, 10), (2, 5, 10)], transB=1, alpha=-2.0),
        simple("product-batch-a", "FusedMatMul", [(3, 2, 10), (2, 10, 5)], transBatchA=1),
        simple("product-batch-b", "FusedMatMul", [(2, 3, 10), (10, 2, 5)], transBatchB=1),
        simple("product-both-b", "FusedMatMul", [(3, 2, 10), (5, 2, 10)], transBatchA=1, transB=1, transBatchB=1),
        simple("product-both-a", "FusedMatMul", [(10, 2, 4, 3), (2, 4, 10, 5)], transBatchA=1, transA=1),
        simple("product-vector", "FusedMatMul", [(10,), (10, 5)]),
    ]


# --- quantized weights ----------------------------------------------------------------------------------------------


def quantized(rng: np.random.Generator, n: int, k: int, bits: int, block: int, zero: str, dtype: Any) -> list[Array]:
    """Codes, scales and zero points ("", "same", "packed" or "float") as MatMulNBits takes them."""
    blocks = -(-k // block)
    codes = rng.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8)
    scales = (rng.uniform(0.5, 1.5, (n, blocks)) / 2**bits).astype(dtype)
    arrays = [codes, scales]
    if zero in ("packed", "same"):
        points = rng.integers(0, 2**bits, (n, blocks)) if zero == "packed" else np.full((n, blocks), 3)
        points = np.pad(points, ((0, 0), (0, blocks % 2))).astype(np.uint8)
        arrays.append(points[:, 0::2] | points[:, 1::2] << 4 if bits == 4 else points[:, :blocks])
    elif zero == "float":
        arrays.append(rng.uniform(0, 2**bits, (n, blocks)).astype(dtype))
    return arrays


def n_bits(name: str, bits: int, block: int, zero: str = "", n: int = 12, k: int = 256, **options: Any) -> Case:
    """options: bias, dtype, and attributes of the node."""
    rng = np.random.default_rng(block + bits)
    dtype = options.pop("dtype", np.float32)
    m = OnnxModel()
    x = m.input("x", dtype, "B", "T", k)
    arrays = quantized(rng, n, k, bits, block, zero, dtype)
    inputs = [m.constant(a) for a in arrays] + [""] * (3 - len(arrays))
    if options.pop("bias", False):
        inputs += ["", m.constant(floats(rng, n).astype(dtype))]
    m.several(
        "MatMulNBits", x, *inputs, outputs=["y"], domain=CONTRIB, K=k, N=n, bits=bits, block_size=block, **options
    )
    return Case(name, m.proto("y"), {"x": floats(rng, 2, 5, k).astype(dtype)})


def quantized_table(name: str, bits: int, block: int, zero: str = "", rows: int = 9, columns: int = 64) -> Case:
    rng = np.random.default_rng(block + bits)
    codes, *others = quantized(rng, rows, columns, bits, block, zero, np.float32)
    m = OnnxModel()
    ids = m.input("ids", np.int64, "B", "T")
    inputs = [m.constant(codes.reshape(rows, -1)), ids, *map(m.constant, others)]
    m.several(
        "GatherBlockQuantized", *inputs, outputs=["y"], domain=CONTRIB, bits=bits, block_size=block, quantize_axis=1
    )
    return Case(name, m.proto("y"), {"ids": rng.integers(0, rows, (2, 3))})


def quantized_cases() -> list[Case]:
    return [
        *(n_bits(f"4-bits-{block}", 4, block) for block in (16, 32, 64, 128, 256)),
        *(n_bits(f"4-bits-{block}-zero", 4, block, "packed") for block in (16, 32, 128)),
        *(n_bits(f"8-bits-{block}", 8, block) for block in (16, 32, 128)),
        n_bits("4-bits-same-zero", 4, 32, "same"),
        n_bits("4-bits-float-zero", 4, 32, "float"),
        n_bits("4-bits-odd-blocks-zero", 4, 32, "packed", k=96, bias=True),
        n_bits("8-bits-zero", 8, 32, "packed"),
        n_bits("4-bits-bias", 4, 32, bias=True, accuracy_level=1),
        n_bits("4-bits-ragged", 4, 32, "packed", k=80, n=7),
        n_bits("4-bits-short", 4, 128, k=48),
        quantized_table("table-4", 4, 32),
        quantized_table("table-4-zero", 4, 16, "packed"),
        quantized_table("table-8", 8, 32),
        quantized_table("table-8-zero", 8, 64, "packed"),
    ]


def all_cases() -> list[Case]:
    return [*elementwise_cases(), *quantized_cases(), *attention_cases()]


def check_case(case: Case, device: Device) -> None:
    """Fail unless a Session gives what onnxruntime gives."""
    session = Session(from_proto(case.model), device)
    expected, got = run_onnxruntime(case.model, case.inputs), session.run(case.inputs)
    assert list(got) == list(expected)
    for name, array in expected.items():
        a, b = case.valid(name, got[name]), case.valid(name, array)
        assert a.dtype == b.dtype and a.shape == b.shape, name
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-6 * max(1.0, float(np.abs(b).max())), err_msg=name)
