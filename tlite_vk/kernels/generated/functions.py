"""GLSL functions that are more careful than the built-in ones.

Vulkan allows a driver errors of 2^-11 in sin and cos, no accuracy to speak of near the zeros of log, tanh or atan, and
any result for NaN; integer division by zero is undefined. These functions follow numpy instead, on every driver.
Polynomials were fitted at Chebyshev nodes to full single precision.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files


@cache
def _library() -> dict[str, tuple[str, tuple[str, ...]]]:
    """name: (text, the functions it calls), in an order in which callees come first."""
    texts: dict[str, str] = {}
    source = files("tlite_vk.kernels.generated").joinpath("functions.glsl").read_text(encoding="utf-8")
    for text in re.split(r"\n(?=\w)", source.strip())[1:]:
        found = re.match(r"\w+ (\w+)\(", text)
        assert found is not None, text
        texts[found[1]] = text
    return {
        name: (text, tuple(c for c in texts if c != name and re.search(rf"\b{c}\(", text)))
        for name, text in texts.items()
    }


def function_names() -> list[str]:
    """All functions, callees first."""
    return list(_library())


def with_dependencies(names: Iterable[str]) -> list[str]:
    """The text of these functions and of all that they call, callees first."""
    library = _library()
    needed: set[str] = set()
    rest = list(names)
    while rest:
        name = rest.pop()
        if name not in needed:
            needed.add(name)
            rest += library[name][1]
    return [library[name][0] for name in library if name in needed]
