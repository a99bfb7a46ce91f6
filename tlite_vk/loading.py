"""From a model file to a Model on a device: compile it or open what was compiled, bind, upload.

model = tlite_vk.load("model.onnx", device="llvmpipe", context=1024)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .budget import MAX_MEMORY_OF_AN_OPEN_DEVICE, limited
from .compiled.archive import is_compiled
from .compiled.reader import CompiledFile
from .device import Device, open_device
from .engine import Engine
from .errors import InputError, ModelError
from .generate import Model
from .program import Program
from .target import Precision, Target
from .tuned import tuned

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

DEFAULT_CONTEXT = 2048
SUBMISSION_MS = 50.0


def load(
    model: str | Path,
    *,
    device: Device | int | str | None = None,
    context: int | None = None,
    shorten: bool = False,
    window: int = 0,
    precision: Precision = "fp16",
    chunk: int | None = None,
    scoring: bool = False,
    submission_ms: float | None = None,
    max_memory: int | None = None,
    tune: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Model:
    """Load a model for generation: compile it or open what was compiled, bind it to a device, upload its weights.

    model: an ONNX file with cached keys and values, or the folder of a model.onnx, with tokenizer.json beside it; or a
    compiled file. What an ONNX file was compiled to is kept in the cache folder, for the next time.
    context: most tokens, prompt and answer together (default: 2048, or what the model allows if that is less); with a
    window, the model's own or `window`, generation goes on as far as the model knows positions.
    shorten: take the longest context that the model knows where it is less than `context`.
    window: make a model with full attention see only this many positions back, and go on past the context.
    precision: "fp16" keeps the KV cache in halves, "fp32" in floats. chunk: most prompt tokens of one step.
    submission_ms: a step is cut into submissions of at most so many milliseconds, as measured (default: 50 on a GPU, so
    that a screen stays smooth; 0, any, on a CPU driver).
    scoring: for `Model.score` instead of generation. progress(done, total): bytes of weights uploaded.
    max_memory: refuse what takes more bytes, on the device or of the host (default: TLITE_VK_MEMORY, else what they
    have). A device that is open already has a limit of its own.
    tune: measure first what the device is fastest with, where that is not known; what is known is used in any case.
    Raises ModelError or GraphError for the file, InputError for the arguments, DeviceError for the device.
    """
    if max_memory is not None and isinstance(device, Device):
        raise InputError(MAX_MEMORY_OF_AN_OPEN_DEVICE)
    if (chunk is not None and chunk < 1) or window < 0 or (context is not None and context < 1):
        raise InputError("context, window and chunk must be positive")
    with limited(max_memory):
        return _load(
            _model_file(Path(model)), device, precision, scoring, tune=tune,
            context=context, shorten=shorten, window=window, chunk=chunk, submission_ms=submission_ms,
            progress=progress,
        )  # fmt: skip


def _load(
    path: Path,
    device: Device | int | str | None,
    precision: Precision,
    scoring: bool,
    *,
    tune: bool,
    context: int | None,
    shorten: bool,
    window: int,
    chunk: int | None,
    submission_ms: float | None,
    progress: Callable[[int, int], None] | None,
) -> Model:
    opened = device if isinstance(device, Device) else open_device(device)
    target = tuned(Target.of(opened.info, precision), opened.info)
    if tune and not target.tuning and not is_compiled(path):
        from .tuning import tune as measure

        measure(path, opened, precision=precision)
        target = tuned(target, opened.info)
    entries = ("score",) if scoring else ("decode", "prefill")
    chunk = chunk or (64 if scoring else 128 if target.cpu else 512)
    submission_ms = (0.0 if target.cpu else SUBMISSION_MS) if submission_ms is None else submission_ms
    if not 0.0 <= submission_ms < float("inf"):
        raise InputError("submission_ms must be 0 (any length) or more")
    make = partial(
        _engine, opened, context=context, shorten=shorten, window=window, chunk=chunk, progress=progress,
        submission_s=submission_ms / 1000,
    )  # fmt: skip
    if is_compiled(path):
        return _open(path, target, entries, make)
    from .tokenizer import Tokenizer  # with the compiler: what a compiled file does without
    from .warm_start import engine_of

    reach = None if window else max(context or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    engine = engine_of(path, target, entries, reach, make)
    return Model(engine, Tokenizer.load(path) if (path.parent / "tokenizer.json").is_file() else None, path)


def _open(path: Path, target: Target, entries: tuple[str, ...], make: Callable[[Program, Target], Engine]) -> Model:
    """The model of a compiled file. Every byte of it has been checked in the end."""
    file = CompiledFile(path)
    engine = make(*file.program(target, entries))
    try:
        file.check_all()
        texts = file.texts("tokenizer/")
    except BaseException:
        engine.close()
        raise
    return Model(engine, partial(_tokenizer, texts, path) if texts else None, path, file.stop_ids or frozenset())


def _tokenizer(texts: dict[str, str], path: Path) -> Tokenizer:
    try:
        from .tokenizer import Tokenizer
    except ImportError as error:
        raise InputError(f"text needs the package {error.name}; install it, or give {path} token ids") from error
    return Tokenizer(texts)


def _engine(
    device: Device,
    program: Program,
    target: Target,
    *,
    context: int | None,
    shorten: bool,
    window: int,
    chunk: int,
    submission_s: float,
    progress: Callable[[int, int], None] | None,
) -> Engine:
    """Raises InputError where the context or the window does not fit the program."""
    chunk = -(-chunk // target.bucket) * target.bucket
    most = program.positions or DEFAULT_CONTEXT
    if context is not None and shorten:
        context = min(context, most)
    if context is not None and context > most:
        raise InputError(
            f"the model knows {most} positions, a context of {context} does not fit; choose at most {most}"
        )
    if window and program.window:
        raise InputError(f"the model has a window of its own ({program.window}); --window is for models without one")
    seen = window or program.window
    capacity = seen + chunk - 1 if seen else min(context or DEFAULT_CONTEXT, most)
    return Engine(
        device, program, target, capacity=capacity, window=window, chunk=chunk, submission_s=submission_s,
        progress=progress,
    )  # fmt: skip


def _model_file(path: Path) -> Path:
    """The file that is meant. Raises ModelError with the next step where it is none."""
    if path.is_dir():
        path = path / "model.onnx"
    if not path.is_file():
        raise ModelError(f"no such model: {path}")
    with path.open("rb") as file:
        if file.read(4) == b"GGUF":
            raise ModelError(f"{path} is a GGUF file; convert it first: tlite-vk convert {path} -o model.onnx")
    return path
