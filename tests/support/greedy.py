"""Greedy decoding by onnxruntime, over the caches that a graph gives out."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from support.onnx_models import Array, onnxruntime_session


class OnnxruntimeGreedy:
    """A model with inputs past_key_values.N.key and .value [B, KV, P, D]; outputs present.N.key and .value, logits."""

    def __init__(self, path: Path, kv_heads: int, head_dim: int) -> None:
        self.session, self.shape = onnxruntime_session(path), (1, kv_heads, 0, head_dim)
        self.inputs = {v.name for v in self.session.get_inputs()}
        self.outputs = [v.name for v in self.session.get_outputs()]

    def tokens(self, ids: list[int], count: int) -> list[tuple[int, float]]:
        """The next `count` tokens, each with its margin over the second best."""
        return list(islice(self._tokens(ids), count))

    def _tokens(self, ids: list[int]) -> Iterator[tuple[int, float]]:
        past, caches = 0, {n: np.zeros(self.shape, np.float32) for n in self.inputs if n.startswith("past")}
        while True:
            total = past + len(ids)
            feeds: dict[str, Array] = {
                "input_ids": np.array([ids]),
                "attention_mask": np.ones((1, total), np.int64),
                "position_ids": np.arange(past, total)[None],
                "seqlens_k": np.array([total - 1], np.int32),
                "total_sequence_length": np.array(total, np.int32),
                **caches,
            }
            feeds = {n: a for n, a in feeds.items() if n in self.inputs}
            found = dict(zip(self.outputs, self.session.run(None, feeds), strict=True))
            caches = {n: found[n.replace("past_key_values", "present")] for n in caches}
            logits = next(a for n, a in found.items() if n.startswith("logits"))[0, -1]
            low, high = np.sort(logits)[-2:]
            past, ids = total, [int(logits.argmax())]
            yield ids[0], float(high - low)
