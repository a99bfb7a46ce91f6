"""What to do about an error that tells only what is wrong: errors of the library know no commands."""

from __future__ import annotations

import re

from tlite_vk.errors import ModelError, NoDeviceError
from tlite_vk.graph.errors import GraphError

SAYS_IT = re.compile(r"; |\b(choose|give|known:|must|supported:|export it|run:|apt-get|pip install|it has|try|set)\b")
"""Messages that name the next step, or what is allowed, themselves."""

STEPS = (
    (r"^no such (model|file)", "check the path; tlite-vk fetch smollm2-135m downloads a model to try"),
    (r"is not an ONNX file", "give a .onnx file or the folder of a model.onnx; a .gguf goes through tlite-vk convert"),
    (r"is not a GGUF file", "give a .gguf file; a .onnx needs no conversion"),
    (r"data file .* does not exist", "copy it beside the model"),
    (r"outside of the model's folder", "save the model with its data beside it"),
    (r"damaged|truncated|malformed|contradictory|claims|bytes of data", "download or copy it again"),
    (r"no kernel|not supported|is not known", "docs/operators.md and docs/models.md list what is"),
    (r"no saved chat", "name a file that /save wrote"),
    (r"cannot read", "check that the file may be read"),
    (r"cannot write", "choose another folder"),
)
"""(what a message says, the next step): the first that fits counts."""


def advised(error: Exception) -> str:
    """The message of an error of ours, with the next step."""
    message = str(error)
    if isinstance(error, NoDeviceError):
        return f"{message}; tlite-vk doctor examines this machine"
    if SAYS_IT.search(message):
        return message
    for pattern, step in STEPS:
        if re.search(pattern, message):
            return f"{message}; {step}"
    return (
        f"{message}; docs/models.md says what a model needs" if isinstance(error, ModelError | GraphError) else message
    )
