"""Write tlite_vk/_kompute.pyi from the installed extension module. Run it after changing tlite_vk/native."""

import argparse
import importlib
import re
import subprocess
from pathlib import Path

from nanobind.stubgen import StubGen  # type: ignore[import-untyped]

TARGET = Path(__file__).parents[1] / "tlite_vk" / "_kompute.pyi"
HEADER = '''"""The extension module built from tlite_vk/native: Kompute's sequences, with our buffers and pipelines.

Every failure is a tlite_vk.errors.DeviceError. Import it through tlite_vk.device only.
Written by tools/make_stub.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Writable: TypeAlias = NDArray[Any] | bytearray | memoryview
_Readable: TypeAlias = _Writable | bytes
'''


def main() -> None:
    """Generate, put in our header and plainer array types, and format."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    module = importlib.import_module("tlite_vk._kompute")
    generator = StubGen(module)
    generator.put(module)
    body = generator.get()
    body = body[body.index("class ") :]
    body = re.sub(r"Annotated\[NDArray\[numpy\.uint8\], [^]]*\]", "NDArray[np.uint8]", body)
    body = re.sub(r'^( +)"""\n +(.*)\n +"""$', r'\1"""\2"""', body, flags=re.M)
    body = body.replace("groups: Sequence[int]", "groups: tuple[int, int, int]")
    body = body.replace("push: bytes = ...", 'push: bytes = b""')
    body = body.replace("\n    def __repr__(self) -> str: ...\n", "")
    TARGET.write_text(HEADER + "\n" + body)
    subprocess.run(["ruff", "format", "--quiet", str(TARGET)], check=True)


if __name__ == "__main__":
    main()
