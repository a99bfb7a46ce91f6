"""Attention over caches of sequences that each have a length of their own -> over past and new rows: in generation
there is one sequence, without padding.

TensorScatter(Concat(past, new), new, write), as GroupQueryAttention is rewritten (`contrib.attention`), puts the new
rows of a sequence right behind its own tokens. Where write is the length P of the past, that is Concat(past, new). It
must come to P where the inputs [B, P + T] of integers that say which tokens are valid are 1 throughout, or be counted
from an input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tlite_vk.graph.elements.polynomial import ONE, Polynomial
from tlite_vk.graph.elements.reader import Reader
from tlite_vk.graph.ir import Node, Value
from tlite_vk.graph.ops.dtypes import INDICES
from tlite_vk.graph.shape import Dim, add, equal

from .base import Pass, RejectedError, Rewriter, require, scalar


@dataclass(frozen=True)
class _Cache:
    scatter: Node
    past: Value
    new: Value
    write: Value


class Unpadded(Pass):
    name: ClassVar[str] = "unpadded"

    def rewrite(self, rewriter: Rewriter) -> None:
        done: set[Value] = set()
        for node in rewriter.nodes:
            if node.op != "Attention" or node.domain or node.optional(6) is None:
                continue
            try:
                caches = [_cache(rewriter, node, i) for i in (1, 2)]
                if caches[0] is None or caches[1] is None:
                    continue  # some other cache
                self._replace(rewriter, node, caches[0], caches[1], done)
                rewriter.matched(node)
            except RejectedError as why:
                rewriter.reject(node, str(why))

    def _replace(self, rewriter: Rewriter, node: Node, k: _Cache, v: _Cache, done: set[Value]) -> None:
        past, rows = k.past.dims[2], k.new.dims[2]
        require(k.write is v.write and equal(past, v.past.dims[2]), "its keys and values are cached differently")
        reader = _reader(rewriter, add(past, rows))
        batch = reader.atoms.index("b", k.past.dims[0])
        valid = reader.read(node.input(6), (batch,))
        require(valid == reader.read(k.write, (batch,)) + reader.atoms.dim(rows), f"its valid keys are {valid}")  # type: ignore[operator]
        if k.write not in done:
            self._known(rewriter, reader, k, batch)
            done.add(k.write)
        inputs = [node.input(0), k.new, v.new, node.optional(3), k.past, v.past]
        outputs = [node.output, k.scatter.output, v.scatter.output]
        for cache in (k, v):
            rewriter.replace(cache.scatter)
        new = rewriter.make("Attention", inputs, node, node.attributes, domain="", outputs=outputs)
        rewriter.replace(node, new)

    def _known(self, rewriter: Rewriter, reader: Reader, cache: _Cache, batch: Polynomial) -> None:
        """Put the length of the past in the place of the write index, for the positions that are counted from it."""
        past, rows = (cache.past.dims[2], cache.new.dims[2])
        maker = rewriter.maker(cache.write, "Max")
        require(maker is not None and scalar(maker.input(1)) == 0, "its write index is not a length")
        assert maker is not None
        first = reader.read(maker.input(0), (batch,))
        require(isinstance(first, Polynomial), f"its write index is {first}")
        assert isinstance(first, Polynomial)
        counted = (first + reader.atoms.dim(rows) - ONE).atom  # tokens after the step, less one: from an input
        known = first == reader.atoms.dim(past) or (counted is not None and _is_input(rewriter, counted.key))
        require(known, f"its write index is {first}, not {past}")
        lengths = [_one(rewriter, name, d) for name, d in (("past", past), ("batch", cache.past.dims[0]))]
        rewriter.replace(maker, rewriter.make("Expand", [*lengths], maker, domain="", outputs=[cache.write]))


def _cache(rewriter: Rewriter, node: Node, index: int) -> _Cache | None:
    scatter = rewriter.maker(node.input(index), "TensorScatter")
    joined = None if scatter is None else rewriter.maker(scatter.input(0), "Concat")
    if scatter is None or joined is None or scatter.optional(2) is None:
        return None
    what = ("keys", "values")[index - 1]
    past, new = (rewriter.resolve(v) for v in (joined.input(0), joined.input(1)))
    axes = scatter.attributes.get("axis", -2), joined.attributes["axis"]
    require(all(a in (2, -2) for a in axes) and len(past.dims) == 4, f"its {what} are not cached by rows")
    require(scatter.attributes.get("mode", "linear") == "linear", f"its {what} are scattered in a circle")
    require(rewriter.resolve(scatter.input(1)) is new, f"other {what} are scattered than are joined")
    require(past in rewriter.inputs, f"the past of its {what} is not a graph input")
    require(all(n is node for n in rewriter.users(scatter.output)), f"its cached {what} are read elsewhere too")
    return _Cache(scatter, past, new, rewriter.resolve(scatter.input(2)))


def _reader(rewriter: Rewriter, total: Dim) -> Reader:
    """A reader for which all tokens are valid."""
    masks = [v for v in rewriter.inputs if v.dtype in (*INDICES, "bool") and len(v.dims) == 2]
    known = {v: 1 for v in masks if equal(v.dims[1], total)}
    return Reader(rewriter.producer.get, known=known, resolve=rewriter.resolve)


def _is_input(rewriter: Rewriter, key: tuple[object, ...]) -> bool:
    return key[0] == "element" and key[1] in rewriter.inputs


def _one(rewriter: Rewriter, name: str, dim: Dim) -> Value:
    """A length as a tensor [1]."""
    if isinstance(dim, int):
        return rewriter.constant(name, np.array([dim], np.int64))
    content = np.empty(1, object)
    content[0] = dim
    return Value(rewriter.fresh(name), "int64", (1,), content=content)
