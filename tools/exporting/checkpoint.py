"""A trained model of transformers, from its folder or from a GGUF file, and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers


def load_checkpoint(path: Path) -> tuple[torch.nn.Module, Any]:
    """The model, in float32 and evaluation mode, and its tokenizer or None.

    path: a folder with config.json and weights, or a GGUF file, whose weights transformers turns into floats (it asks
    for the package accelerate). Raises what transformers raises for a model that it does not know.
    """
    quantized = path.suffix == ".gguf"
    folder, options = (path.parent, {"gguf_file": path.name}) if quantized else (path, {})
    config = transformers.AutoConfig.from_pretrained(folder, **options)
    named = (getattr(config, "architectures", None) or [""])[0]
    kind = getattr(transformers, named, transformers.AutoModelForCausalLM)
    model = kind.from_pretrained(folder, dtype=torch.float32, **options).eval()
    try:
        return model, transformers.AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError):  # images have none
        return model, None
