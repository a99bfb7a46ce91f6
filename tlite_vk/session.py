"""Any graph, names to arrays: `Session("any.onnx").run({"input_ids": ids})`. Stateless: caches go in and come out.

The graph is compiled once with symbolic lengths; a set of lengths that was not seen before costs one recording.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .binding import Buffers, Pipelines, record
from .book import Book
from .budget import MAX_MEMORY_OF_AN_OPEN_DEVICE, limited
from .compile import lower_run
from .device import Buffer, Device, Recording, open_device
from .errors import InputError
from .expression import evaluate
from .graph.errors import GraphError
from .graph.evaluate import bind_lengths, constant_array
from .graph.ir import Graph, Value
from .graph.onnx_load import load_model
from .graph.ops.dtypes import FLOATS, numpy_dtype
from .graph.pipeline import optimize
from .target import Precision, Target
from .upload import upload
from .weight_bytes import device_array

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
MAX_BUCKETS = 8


@dataclass(eq=False)
class _Bucket:
    """What one set of lengths needs: buffers for inputs and activations, and the recording over them."""

    buffers: dict[str, Buffer]
    recording: Recording
    outputs: dict[str, tuple[Buffer, int, tuple[int, ...]]]

    def close(self) -> None:
        """Frees it all; waits for what an interrupt left under way."""
        self.recording.close()
        for buffer in self.buffers.values():
            buffer.close()


class Session:
    """A compiled graph on a device. Threads may share one: their runs take turns."""

    def __init__(
        self,
        model: str | Path | Graph,
        device: Device | int | str | None = None,
        *,
        precision: Precision = "fp32",
        target: Target | None = None,
        max_memory: int | None = None,
    ) -> None:
        """model: an ONNX file, or a graph. device: an opened device, or what `open_device` takes.
        target: what to assume of the device instead of what it reports. max_memory: as in `load`.

        Raises GraphError or ModelError for a model that cannot be run, DeviceError for a device that cannot be used.
        """
        if max_memory is not None and isinstance(device, Device):
            raise InputError(MAX_MEMORY_OF_AN_OPEN_DEVICE)
        self._using = threading.RLock()
        self._closed = False
        with limited(max_memory):
            self._compile(model, device, precision, target)

    def _compile(
        self,
        model: str | Path | Graph,
        device: Device | int | str | None,
        precision: Precision,
        target: Target | None,
    ) -> None:
        source = model if isinstance(model, Graph) else load_model(Path(model))
        self.device = device if isinstance(device, Device) else open_device(device)
        self.target = target or Target.of(self.device.info, precision)
        self.graph, self.report = optimize(source, generate=False)
        wide = sorted({v.dtype for v in self.graph.values()} & {"float64", "bfloat16"})
        if wide:
            log.info("%s: values of type %s are computed in float32", self.graph.name, " and ".join(wide))
        self._book = Book(half_states=False)
        self._lowered = lower_run(self.graph, self.target, self._book)
        self.program = self._book.program([], [], {}, 0, 0, 0)
        self._weights = upload(self.device, self.program.weights, self.target.alignment)
        self._pipelines = Pipelines(self.device, self.program)
        self._buckets: OrderedDict[tuple[tuple[str, int], ...], _Bucket] = OrderedDict()

    @property
    def dispatches(self) -> int:
        """How many kernels a run starts."""
        return len(self._lowered.dispatches)

    @property
    def inputs(self) -> tuple[Value, ...]:
        return tuple(self.graph.inputs)

    @property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(self.graph.outputs)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """The outputs (all by default) for the inputs, by name.

        Raises InputError for an input that is missing, unknown, or whose type or shape does not fit, or a closed
        session; DeviceError where the device's memory does not suffice for these lengths, or the device fails.
        """
        with self._using:
            self._check_open()
            return self._run(inputs, outputs)

    def _run(self, inputs: Mapping[str, Array], outputs: Sequence[str] | None) -> dict[str, Array]:
        arrays = self._checked(inputs)
        try:
            lengths = bind_lengths(self.graph, arrays)
        except GraphError as error:
            raise InputError(str(error)) from error
        bucket = self._bucket(lengths)
        if bucket.recording.pending:  # an interrupt ended the wait for it
            bucket.recording.wait()
        for value in self.graph.inputs:
            buffer = bucket.buffers.get(f"input:{value.name}")
            data = device_array(arrays[value.name])
            if buffer is not None and data.size:
                buffer.write(data)
        if self.dispatches:
            bucket.recording.run()
        wanted = [v for v in self.graph.outputs if outputs is None or v.name in outputs]
        return {v.name: constant_array(v, lengths) if v.known else self._read(bucket, v) for v in wanted}

    def _read(self, bucket: _Bucket, value: Value) -> Array:
        buffer, offset, shape = bucket.outputs[value.name]
        count = int(np.prod(shape, dtype=np.int64))
        raw = buffer.read(4 * count, offset) if count else np.zeros(0, np.uint8)
        words = np.float32 if value.dtype in FLOATS else np.uint32 if value.dtype.startswith("u") else np.int32
        with np.errstate(over="ignore"):
            return raw.view(words).reshape(shape).astype(numpy_dtype(self.graph.narrow.get(value.name, value.dtype)))

    def _checked(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        known = {v.name: v for v in self.graph.inputs}
        for name in inputs:
            if name not in known:
                raise InputError(f"the model has no input {name!r}; it has {', '.join(known)}")
        arrays: dict[str, Array] = {}
        for name, value in known.items():
            if name not in inputs:
                raise InputError(f"the input {name!r} {value.dtype} is missing")
            array = np.asarray(inputs[name])
            expected = np.dtype(numpy_dtype(value.dtype))
            if array.dtype.kind != expected.kind and array.dtype != expected:
                raise InputError(f"the input {name!r} must be {value.dtype}, not {array.dtype}")
            arrays[name] = array.astype(expected, copy=False)
        return arrays

    def _bucket(self, lengths: Mapping[str, int]) -> _Bucket:
        key = tuple(sorted(lengths.items()))
        if key in self._buckets:
            self._buckets.move_to_end(key)
            return self._buckets[key]
        bucket = self._record(dict(lengths))
        self._buckets[key] = bucket
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)[1].close()
        return bucket

    def close(self) -> None:
        """Free the device memory; a closed session cannot be used. A run under way in another thread ends first."""
        with self._using:
            if self._closed:
                return
            self._closed = True
            for bucket in self._buckets.values():
                bucket.close()
            self._buckets.clear()
            self._pipelines.close()
            for buffer, _ in self._weights.values():
                buffer.close()

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("the session is closed; make a new one")

    def __enter__(self) -> Session:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record(self, lengths: dict[str, int]) -> _Bucket:
        computed = {v.name: v for v in self.graph.outputs if not v.known}
        entry = self._lowered.finish("run", computed, None, lengths)
        sizes: dict[str, int] = {}
        for window in (*entry.outputs.values(), *(w for d in entry.dispatches for w in d.windows)):
            name, offset, size = window.resolve(lengths)
            if not name.startswith("weight:"):
                sizes[name] = max(sizes.get(name, 0), offset + size)
        if "arena" in sizes:
            sizes["arena"] = max(sizes["arena"], evaluate(entry.arena, lengths))
        buffers, recording = Buffers({}, self._weights), self.device.recording()
        try:
            for name, size in sizes.items():
                buffers.named[name] = self.device.buffer(max(16, size))
            record(recording, entry.dispatches, lengths, buffers, self._pipelines)
            recording.end()
        except BaseException:
            _Bucket(buffers.named, recording, {}).close()
            raise
        outputs: dict[str, tuple[Buffer, int, tuple[int, ...]]] = {}
        for value in (v for v in self.graph.outputs if not v.known):
            buffer, offset, _ = buffers.bind(entry.outputs[value.name], lengths)
            outputs[value.name] = (buffer, offset, value_shape(value, lengths))
        return _Bucket(buffers.named, recording, outputs)


def value_shape(value: Value, lengths: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a value for given lengths."""
    from .graph.shape import evaluate as evaluate_dim

    assert value.shape is not None
    return tuple(evaluate_dim(d, lengths) for d in value.shape)
