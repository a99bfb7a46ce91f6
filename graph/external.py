"""The bytes of tensors that a model keeps in files beside it: mapped, never read; paths and ranges checked."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import GraphError

EXTERNAL = 1  # TensorProto.DataLocation


class ExternalFiles:
    """The files beside a model, each mapped once."""

    def __init__(self, model: Path):
        self.folder = model.parent
        self.roots = (model.parent.resolve(), model.resolve().parent)  # a model may itself be a link into a store
        self.maps: dict[str, npt.NDArray[np.uint8]] = {}

    def file(self, tensor: str, location: str) -> npt.NDArray[np.uint8]:
        """The whole file as bytes. Raises GraphError for a path that leaves the model's folder, or no such file."""
        if location not in self.maps:
            self.maps[location] = self._map(tensor, location)
        return self.maps[location]

    def _map(self, tensor: str, location: str) -> npt.NDArray[np.uint8]:
        pure = PurePosixPath(location.replace("\\", "/"))
        if (
            not location
            or "\0" in location
            or pure.is_absolute()
            or PureWindowsPath(location).drive
            or ".." in pure.parts
        ):
            raise GraphError(f"tensor {tensor!r}: its data file {location!r} lies outside of the model's folder")
        path = self.folder / pure
        if not path.is_file():
            raise GraphError(f"tensor {tensor!r}: its data file {path} does not exist")
        if not any(path.resolve().is_relative_to(root) for root in self.roots):
            raise GraphError(f"tensor {tensor!r}: its data file {location!r} leads outside of the model's folder")
        if path.stat().st_size == 0:
            return np.zeros(0, np.uint8)
        return np.asarray(np.memmap(path, np.uint8, "r"))


def tensor_bytes(proto: Any, files: ExternalFiles) -> npt.NDArray[np.uint8] | None:
    """The raw bytes of an ONNX TensorProto, mapped or in the protobuf; None where its elements are in typed lists."""
    if proto.data_location != EXTERNAL:
        return np.frombuffer(proto.raw_data, np.uint8) if proto.HasField("raw_data") else None
    fields: dict[str, Any] = {e.key: e.value for e in proto.external_data}
    whole = files.file(proto.name, fields.get("location", ""))
    try:
        offset, length = int(fields.get("offset", 0)), int(fields["length"]) if "length" in fields else None
    except ValueError:
        raise GraphError(f"tensor {proto.name!r}: its offset or length is not a number") from None
    end = whole.size if length is None else offset + length
    if offset < 0 or end < offset or end > whole.size:
        raise GraphError(
            f"tensor {proto.name!r}: bytes {offset} to {end} are outside of {fields.get('location')!r}, "
            f"which has {whole.size}; is the file truncated?"
        )
    return whole[offset:end]
