"""A vocabulary of 256,000 by 2048 in 4 bits, as Gemma's: 250 MiB of codes, over what one storage window sees.

The table is split into row blocks, for the product with the head and for the embedding; rows on both sides of each cut
are compared with numpy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tlite_vk.device import Device
from tlite_vk.graph.infer import make_node
from tlite_vk.graph.ir import Graph, Value
from tlite_vk.graph.shape import symbol
from tlite_vk.graph.weights import AffineWeight, QuantizedRows
from tlite_vk.session import Session
from tlite_vk.target import Target

VOCABULARY, COLUMNS, GROUP = 256_000, 2048, 32
RANGE = 128 << 20
CUT = RANGE // (COLUMNS // 2)
"""Rows of the first block: all that 128 MiB hold."""


@pytest.mark.parametrize("cpu", [True, False])
def test_a_head_of_256000_rows(device: Device, cpu: bool) -> None:
    rng = np.random.default_rng(7)
    codes = np.frombuffer(rng.bytes(VOCABULARY * COLUMNS // 2), np.uint8).reshape(VOCABULARY, -1)
    scale = rng.uniform(0.5, 1.5, (VOCABULARY, COLUMNS // GROUP)).astype(np.float16) / np.float16(64)
    rows = QuantizedRows(codes, scale, None, bits=4, zero=8)
    weight = Value("w", "float32", (VOCABULARY, COLUMNS), AffineWeight((rows,)))
    ids = Value("ids", "int64", (1, symbol("T")))
    embedding = make_node("Embedding", [ids, weight], "x")
    head = make_node("Linear", [embedding.output, weight], "logits")
    graph = Graph("gemma", [ids], [embedding, head], [embedding.output, head.output])

    own = Target.of(device.info, "fp32")
    target = replace(own, cpu=cpu, texel=own.texel and cpu, max_storage_range=RANGE)
    session = Session(graph, device, target=target)
    pieces = [w for w in session.program.weights if w.name.endswith("/codes")]
    assert [w.size for w in pieces] == [RANGE, (VOCABULARY - CUT) * COLUMNS // 2]
    assert max(w.size for w in session.program.weights) <= RANGE

    picked = np.array([0, 1, CUT - 1, CUT, CUT + 1, VOCABULARY - 2, VOCABULARY - 1])
    got = session.run({"ids": picked[None]})
    table = np.concatenate([AffineWeight((rows.slice(i, i + 1),)).dequantize() for i in picked])  # [7, 2048]
    np.testing.assert_allclose(got["x"][0], table, rtol=0, atol=3e-7 * np.abs(table).max())
    want = table.astype(np.float64) @ table.T.astype(np.float64)
    assert got["logits"].shape == (1, len(picked), VOCABULARY)
    np.testing.assert_allclose(got["logits"][0][:, picked], want, rtol=0, atol=1e-5 * np.abs(want).max())
    assert np.isfinite(got["logits"]).all() and (got["logits"] != 0).mean() > 0.99  # no block was left out
