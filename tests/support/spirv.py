"""What a SPIR-V module declares."""

import struct

NAMES = {
    0: "Matrix", 1: "Shader", 9: "Float16", 11: "Int64", 22: "Int16", 39: "Int8", 46: "SampledBuffer",
    47: "ImageBuffer", 50: "ImageQuery", 61: "GroupNonUniform", 62: "GroupNonUniformVote",
    63: "GroupNonUniformArithmetic", 64: "GroupNonUniformBallot", 65: "GroupNonUniformShuffle",
    66: "GroupNonUniformShuffleRelative", 67: "GroupNonUniformClustered", 4433: "StorageBuffer16BitAccess",
    4434: "UniformAndStorageBuffer16BitAccess", 4448: "StorageBuffer8BitAccess", 5345: "VulkanMemoryModel",
    6019: "DotProduct", 6022: "CooperativeMatrixKHR",
}  # fmt: skip
"""Capabilities that modules here may declare, by their numbers in SPIR-V's specification."""
CAPABILITY = 17


def capabilities(module: bytes) -> set[str]:
    """The names of the capabilities of a module. KeyError for one that no shader here is known to declare."""
    words = struct.unpack(f"<{len(module) // 4}I", module)
    found, at = set(), 5
    while at < len(words) and words[at] & 0xFFFF == CAPABILITY:
        found.add(NAMES[words[at + 1]])
        at += words[at] >> 16
    return found
