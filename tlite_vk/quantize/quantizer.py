"""`quantize_model`: one ONNX file in, another with fewer bits out, all or nothing."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from pathlib import Path

from tlite_vk.convert.staging import refuse_clash, staged
from tlite_vk.errors import ModelError

from .choice import Choice, Format, Options, check_patterns, choose
from .report import Kept, QuantizeReport
from .rewrite import Rewrite
from .source import Source
from .uses import Uses, Weight

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in total) as work goes on."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "config.json",
)
SMALL = 1024  # elements; smaller constants are not worth a line in the report


def quantize_model(
    src: str | Path,
    dst: str | Path,
    options: Options | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> QuantizeReport:
    """Quantize the weights of the ONNX file `src` (or of a folder's model.onnx) and write the ONNX file `dst`.

    Weights are the matrices that MatMul, Gemm or Gather read: initializers in float32, float16 or bfloat16, in either
    orientation. They become standard operators (DequantizeLinear in groups along the reduction); everything else of
    the graph stays as it is, but for its operator set, which is raised to 23 where it is older. Beside `dst` go
    `<dst name>.data` and copies of the tokenizer's files. Either all of them appear or none.

    Raises ModelError or InputError, in one line, if `src` is not an ONNX file with float weights, an option names what
    does not exist, or `dst` exists (unless `overwrite`) or cannot be written.
    """
    src, dst, options = _model_file(Path(src)), Path(dst), options or Options()
    data = dst.name + ".data"
    source = Source(src)
    _refuse_outputs(source, dst, data, overwrite)
    chosen, kept = _choices(source, options)
    before = sum(source.raw(t).size for t in source.proto.graph.initializer if t.data_type != t.STRING)
    rewrite = Rewrite(source, options, data)
    for weight, choice in chosen:
        if choice.format is not Format.KEEP:
            rewrite.replace(weight, choice)
    files = {name: (src.parent / name).read_bytes() for name in TOKENIZER_FILES if (src.parent / name).is_file()}
    _write(rewrite, src, dst, {} if src.parent.resolve() == dst.parent.resolve() else files, options, progress)
    tensors = tuple(report() for report in rewrite.errors)
    after = before - sum(t.bytes_before - t.bytes_after for t in tensors)
    return QuantizeReport(dst, dst.with_name(data), bool(files), tensors, kept, before, after)


def _choices(source: Source, options: Options) -> tuple[list[tuple[Weight, Choice]], tuple[Kept, ...]]:
    """What becomes of each weight, and what stays. Raises ModelError where all of it stays."""
    weights, others = Uses(source.proto.graph).weights()
    check_patterns(options, weights)
    chosen = [(w, choose(w, options)) for w in weights]
    if all(choice.format is Format.KEEP for _, choice in chosen):
        raise ModelError(_nothing(source.path, chosen))
    return chosen, _kept(source, chosen, others)


def _write(
    rewrite: Rewrite,
    src: Path,
    dst: Path,
    files: dict[str, bytes],
    options: Options,
    progress: Progress | None,
) -> None:
    refuse_clash(dst, files)
    proto, writer = rewrite.finish(), rewrite.writer
    entry = proto.metadata_props.add(key="quantized")
    entry.value = f"{options.format}, groups of {options.group}, {options.method}"
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, writer.stored_bytes)

    try:
        with staged(dst, src, [dst.name + ".data", *files, dst.name]) as folder:
            writer.write_data(folder / (dst.name + ".data"), advance)
            for name, content in files.items():
                (folder / name).write_bytes(content)
            (folder / dst.name).write_bytes(proto.SerializeToString())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            need = f"{writer.data_bytes / 1e6:.0f} MB"
            raise ModelError(f"no space left for {dst}: the model needs {need}; choose another folder") from error
        raise ModelError(f"cannot write {dst}: {error.strerror or error}") from error


def _model_file(path: Path) -> Path:
    return path / "model.onnx" if path.is_dir() else path


def _refuse_outputs(source: Source, dst: Path, data: str, overwrite: bool) -> None:
    outputs = [dst, dst.parent / data]
    if dst.is_dir():
        raise ModelError(f"{dst} is a folder; name the file to write, e.g. {dst / 'model.onnx'}")
    taken = [p for p in outputs if p.resolve() in source.files()]
    if taken:
        raise ModelError(f"{taken[0]} belongs to the model that is quantized; choose another output name")
    present = [p for p in outputs if p.exists()]
    if present and not overwrite:
        raise ModelError(f"{present[0]} exists; choose another output name, or overwrite it with --overwrite")


def _nothing(src: Path, chosen: list[tuple[Weight, Choice]]) -> str:
    if not chosen:
        return f"{src} has nothing to quantize: no product and no Gather reads a matrix of floats"
    weight, choice = chosen[0]
    return f"{src} has nothing to quantize: {weight.label!r} stays ({choice.reason}), and so do the others"


def _kept(source: Source, chosen: list[tuple[Weight, Choice]], others: list[tuple[str, str]]) -> tuple[Kept, ...]:
    """What stays, with its reason; small constants are left out."""
    reasons = [(w.name, w.label, c.reason) for w, c in chosen if c.format is Format.KEEP]
    reasons += [(name, name, why) for name, why in others]
    found = []
    for name, label, why in reasons:
        tensor = source.tensors[name]
        if math.prod(tensor.dims) >= SMALL:
            found.append(Kept(label, tuple(tensor.dims), source.raw(tensor).size, why))
    return tuple(found)
