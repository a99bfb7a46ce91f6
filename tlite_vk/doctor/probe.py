"""python -m tlite_vk.doctor.probe devices | run INDEX | validation | compiler: one JSON object on standard output.

A process of its own, since a driver may crash.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

COUNT, GROUP, SCALE, OFFSET = 4096, 64, 3, 7
_KERNEL = """#version 450
layout(local_size_x = 1) in;
layout(std430, binding = 0) buffer X { uint x[]; };
void main() { x[gl_GlobalInvocationID.x] += 1u; }
"""


def devices() -> list[dict[str, Any]]:
    """Name, kind, driver, memory and features of each device."""
    from tlite_vk.device import list_devices

    return [
        {
            "index": info.index,
            "name": info.name,
            "type": info.device_type,
            "driver": f"{info.driver_name} {info.driver_info}".strip(),
            "vulkan": ".".join(str(part) for part in info.api_version),
            "device_bytes": info.device_bytes,
            "features": dict(info.features),
        }
        for info in list_devices()
    ]


def run(index: str) -> dict[str, Any]:
    """A small kernel on a device, y[i] = 3 x[i] + 7, and whether its answer is right; seconds, opening included."""
    import numpy as np

    from tlite_vk import spirv
    from tlite_vk.device import open_device

    started = time.perf_counter()
    device = open_device(int(index))
    x = np.arange(COUNT, dtype=np.uint32)
    source, target = device.buffer(x.nbytes), device.buffer(x.nbytes)
    source.write(x)
    code = spirv.load("test_chain")
    pipeline = device.pipeline(code, ["storage", "storage"], specialization=[GROUP, SCALE], push_bytes=8)
    recording = device.recording()
    windows = [(source, 0, x.nbytes), (target, 0, x.nbytes)]
    recording.dispatch(pipeline, windows, (COUNT // GROUP, 1, 1), struct.pack("<II", COUNT, OFFSET))
    recording.end()
    recording.run()
    y = target.read(x.nbytes).view(np.uint32)
    wrong = int(np.count_nonzero(y != SCALE * x + OFFSET))
    return {"wrong": wrong, "of": COUNT, "seconds": time.perf_counter() - started}


def validation() -> bool:
    """Whether a device can be opened with the validation layer. Raises DeviceError where it is missing."""
    from tlite_vk.device import open_device

    open_device(validation=True)
    return True


def compiler() -> str:
    """The GLSL compiler, after it has compiled something."""
    from tlite_vk.compiler import compile_glsl, find_compiler

    found = find_compiler()
    compile_glsl(_KERNEL)
    return f"glslang {found.version}".strip() + f", {found.path}"


_PROBES: dict[str, Callable[..., Any]] = {
    "devices": devices, "run": run, "validation": validation, "compiler": compiler,
}  # fmt: skip


def main(arguments: list[str]) -> None:
    """Print {"found": ...}, or {"error": message} for an error that users meet."""
    from tlite_vk.errors import TliteError

    try:
        answer = {"found": _PROBES[arguments[0]](*arguments[1:])}
    except TliteError as error:
        answer = {"error": " ".join(str(error).split())}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
