"""The SPIR-V that was compiled from shaders/ when the package was built."""

from functools import cache
from importlib.resources import files
from typing import Any

import tlite_vk
from tlite_vk.errors import DeviceError


@cache
def load(name: str) -> bytes:
    """The SPIR-V module of a variant declared in shaders/variants.txt.

    Raises DeviceError, naming the file to edit, if there is no such variant.
    """
    try:
        return files("tlite_vk").joinpath("spv", f"{name}.spv").read_bytes()
    except FileNotFoundError:
        raise DeviceError(f"no shader {name!r}; declare it in shaders/variants.txt and rebuild") from None


def names() -> list[str]:
    """The names of all variants, sorted."""
    folder = files("tlite_vk").joinpath("spv")
    return sorted(entry.name.removesuffix(".spv") for entry in folder.iterdir() if entry.name.endswith(".spv"))


def rebuild() -> bool:
    """Compile edited shaders (and C++) of a development install; False where the package is installed for good.

    Needs cmake and ninja on PATH. A changed extension module takes effect in the next process.
    """
    loader: Any = tlite_vk.__loader__
    if not hasattr(loader, "rebuild"):
        return False
    loader.rebuild()
    load.cache_clear()
    return True
