"""`convert`: one GGUF file in, a folder's worth of ONNX model out, all or nothing."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tlite_vk.convert.gguf_reader import GgufFile
from tlite_vk.convert.llama_config import LlamaConfig, read_config, rotary_frequencies
from tlite_vk.convert.llama_graph import LlamaGraph
from tlite_vk.convert.onnx_writer import OnnxWriter
from tlite_vk.convert.staging import refuse_clash, staged
from tlite_vk.convert.tokenizer_files import tokenizer_files
from tlite_vk.convert.weights import Weights
from tlite_vk.errors import ModelError

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in total) as work goes on."""

_FACTORS = "rope_freqs.weight"
_IGNORED = (".attn_rot_embd.weight", ".attention.rotary_emb.inv_freq")  # old files carry what the metadata say as well


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion wrote."""

    model: Path
    data: Path  # the external data file, beside the model
    tokenizer: bool  # whether tokenizer files were written (a GGUF need not hold a tokenizer)
    architecture: str
    name: str
    layers: int
    parameters: int  # weights and biases
    data_bytes: int
    context_length: int  # positions
    source_sha256: str


def convert(src: Path, dst: Path, progress: Progress | None = None, *, halves: bool = False) -> ConvertReport:
    """Convert the GGUF file `src` to the ONNX file `dst`.

    Beside `dst` go `<dst name>.data` (the weights) and, if the GGUF holds a tokenizer, tokenizer.json,
    tokenizer_config.json and generation_config.json. Either all of them appear or none; an interrupted or failed
    conversion leaves nothing behind. With `halves` quantized matrices are written in fp16, each weight rounded: larger,
    and what another tool may quantize in its own way.

    Raises ModelError, in one line, if `src` is not a complete GGUF file of a supported model, or if `dst` cannot be
    written.
    """
    with GgufFile(src) as gguf:
        config = read_config(gguf)
        writer = OnnxWriter(data_name(dst))
        weights = Weights(gguf, writer, halves=halves)
        LlamaGraph(config, weights, writer).build(rotary_frequencies(config, _rotary_factors(gguf, config)))
        _refuse_leftovers(gguf, weights.used | {_FACTORS})
        texts = tokenizer_files(gguf, config)
        refuse_clash(dst, {name: text.encode() for name, text in texts.items()})
        steps = _Steps(progress, gguf.size + writer.data_bytes)
        digest = _sha256(gguf, steps)
        try:
            with staged(dst, src, [data_name(dst), *texts, dst.name]) as folder:
                writer.write_data(folder / data_name(dst), steps.advance)
                for file_name, text in texts.items():
                    (folder / file_name).write_text(text, encoding="utf-8")
                model = writer.model(_name(gguf), _version(), _facts(gguf, config, digest))
                (folder / dst.name).write_bytes(model.SerializeToString())
        except OSError as error:
            raise _cannot_write(dst, writer.data_bytes, error) from error
        steps.finish()
        return _report(dst, gguf, config, bool(texts), writer.data_bytes, digest)


def data_name(dst: Path) -> str:
    """Name of the external data file of the model `dst`."""
    return dst.name + ".data"


class _Steps:
    """Adds up bytes for a progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def advance(self, count: int) -> None:
        self._done = min(self._done + count, self._total)
        if self._progress is not None:
            self._progress(self._done, self._total)

    def finish(self) -> None:
        self.advance(self._total - self._done)  # alignment gaps count as done at the end


def _sha256(gguf: GgufFile, steps: _Steps) -> str:
    digest = hashlib.sha256()
    for chunk in gguf.chunks():
        digest.update(chunk)
        steps.advance(len(chunk))
    return digest.hexdigest()


def _rotary_factors(gguf: GgufFile, config: LlamaConfig) -> npt.NDArray[np.float32] | None:
    tensor = gguf.tensors.get(_FACTORS)
    if tensor is None:
        return None
    if tensor.type.name != "F32" or tensor.shape != (config.rotary_dim // 2,):
        raise ModelError(f"{gguf.path}: tensor {_FACTORS!r} should be F32 [{config.rotary_dim // 2}]")
    factors = gguf.read_rows(tensor, 0, 1).view("<f4").reshape(-1)
    if not (np.isfinite(factors) & (factors > 0)).all():
        raise ModelError(f"{gguf.path}: tensor {_FACTORS!r} holds a factor that is not positive")
    return factors


def _refuse_leftovers(gguf: GgufFile, used: set[str]) -> None:
    """A tensor that the graph does not use means another kind of model: its answers would be wrong."""
    for name in gguf.tensors.keys() - used:
        if not name.endswith(_IGNORED):
            raise ModelError(f"{gguf.path}: tensor {name!r} belongs to no Llama model that this converter knows")


def _facts(gguf: GgufFile, config: LlamaConfig, digest: str) -> dict[str, str]:
    """Where the model comes from, and the one limit that its graph does not show, for metadata_props."""
    facts = {"context_length": str(config.context), "architecture": "llama", "source_format": "GGUF"}
    facts |= {"source_file": gguf.path.name, "source_sha256": digest}
    for key in ("name", "license", "organization", "author", "url", "source.url", "license.link"):
        value = gguf.metadata.get(f"general.{key}")
        if isinstance(value, str):
            facts[key.replace(".", "_")] = value
    return facts


def _name(gguf: GgufFile) -> str:
    return str(gguf.metadata.get("general.name", gguf.path.stem))


def _report(
    dst: Path, gguf: GgufFile, config: LlamaConfig, tokenizer: bool, data_bytes: int, digest: str
) -> ConvertReport:
    return ConvertReport(
        model=dst,
        data=dst.with_name(data_name(dst)),
        tokenizer=tokenizer,
        architecture="llama",
        name=_name(gguf),
        layers=config.layers,
        parameters=sum(t.rows * t.shape[-1] for t in gguf.tensors.values()),
        data_bytes=data_bytes,
        context_length=config.context,
        source_sha256=digest,
    )


def _cannot_write(dst: Path, data_bytes: int, error: OSError) -> ModelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        need = f"{data_bytes / 1e6:.0f} MB"
        return ModelError(f"no space left for {dst}: the model needs {need}; free some space or choose another folder")
    return ModelError(f"cannot write {dst}: {error.strerror or error}")


def _version() -> str:
    try:
        return importlib.metadata.version("tlite-vk")
    except importlib.metadata.PackageNotFoundError:
        return "0"
