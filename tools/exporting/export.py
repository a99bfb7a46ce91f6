"""A torch module of transformers to an ONNX file, with the names and dynamic axes that Hugging Face Optimum uses."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

Axes = dict[str, dict[int, str]]
EXPORTERS = ("dynamo", "torchscript")
# (architecture, exporter, past): what does not export, or onnxruntime itself does not reproduce, and why.
_RANK = "the TorchScript exporter fails on the interleaved rotary embedding: All tensors must have the same rank"
EXPORTER_FAULTS: dict[tuple[str, str, bool], str] = {
    ("glm", "torchscript", True): _RANK,
    ("glm", "torchscript", False): _RANK,
}


class Decoder(torch.nn.Module):
    """A decoder over plain tensors. Its past is key, value, key, value ..., each [B, KV, P, D], or nothing."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor, *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        cache: Any = DynamicCache() if past else None
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        result = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache,
            use_cache=bool(past),
        )
        present = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)] if cache else []
        return (result.logits, *present)


class Encoder(torch.nn.Module):
    """An encoder that returns its first output: hidden states [B, T, H] or the logits of classes [B, classes]."""

    def __init__(self, model: torch.nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        first: torch.Tensor = self.model(**dict(zip(self.names, inputs, strict=True)))[0]
        return first


class Example:
    """Inputs to trace with, and the names of inputs, outputs and dynamic axes."""

    def __init__(self, model: torch.nn.Module, past: bool) -> None:
        self.axes: Axes = {}
        self.inputs: dict[str, torch.Tensor] = {}
        config: Any = model.config
        if config.model_type == "vit":
            self._input("pixel_values", torch.randn(2, 3, config.image_size, config.image_size), {0: "batch_size"})
            self.outputs = ["logits"]
            return
        batch, tokens, cached = 2, 3, 5 if past else 0
        both = {0: "batch_size", 1: "sequence_length"}
        total = {0: "batch_size", 1: "total_sequence_length" if past else "sequence_length"}
        self._input("input_ids", torch.randint(0, config.vocab_size, (batch, tokens)), both)
        self._input("attention_mask", torch.ones(batch, cached + tokens, dtype=torch.int64), total)
        if config.model_type == "bert":
            self._input("token_type_ids", torch.zeros(batch, tokens, dtype=torch.int64), both)
            self.outputs = ["last_hidden_state"]
            return
        self._input("position_ids", torch.arange(cached, cached + tokens).repeat(batch, 1), both)
        self.outputs = ["logits"]
        for name, shape in past_shapes(model, batch, cached).items() if past else ():
            self._input(name, torch.randn(shape), {0: "batch_size", 2: "past_sequence_length"})
            self._output(name.replace("past_key_values", "present"), {0: "batch_size", 2: "total_sequence_length"})
        self.axes["logits"] = both

    def _input(self, name: str, value: torch.Tensor, axes: dict[int, str]) -> None:
        self.inputs[name] = value
        self.axes[name] = axes

    def _output(self, name: str, axes: dict[int, str]) -> None:
        self.outputs.append(name)
        self.axes[name] = axes


def past_shapes(model: torch.nn.Module, batch: int, cached: int) -> dict[str, tuple[int, int, int, int]]:
    """Names and shapes [B, KV, P, D] of a decoder's past, as its ONNX inputs have them."""
    config: Any = model.config
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    shape = (batch, getattr(config, "num_key_value_heads", heads), cached, size)
    return {f"past_key_values.{i}.{kind}": shape for i in range(config.num_hidden_layers) for kind in ("key", "value")}


def export_module(
    model: torch.nn.Module, folder: Path, *, exporter: str = "dynamo", past: bool = True, opset: int | None = None
) -> Path:
    """Writes folder/model.onnx and returns its path. `past` matters to decoders only."""
    decoder = "CausalLM" in type(model).__name__ or "LMHead" in type(model).__name__
    example = Example(model, past and decoder)
    wrapper = (Decoder(model) if decoder else Encoder(model, list(example.inputs))).eval()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    names: dict[str, Any] = {
        "input_names": list(example.inputs),
        "output_names": example.outputs,
        "opset_version": opset,
    }
    inputs = tuple(example.inputs.values())
    with quiet(), torch.no_grad():
        if exporter == "dynamo":
            axes = [example.axes[each] for each in example.inputs]
            fixed = 3 if decoder else 0  # the parameters before *past, *inputs
            shapes = (*axes[:fixed], tuple(axes[fixed:])) if axes[fixed:] else tuple(axes[:fixed])
            torch.onnx.export(wrapper, inputs, path, dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
        else:
            torch.onnx.export(wrapper, inputs, path, dynamo=False, dynamic_axes=example.axes, **names)
    return path


@contextmanager
def quiet() -> Iterator[None]:
    """The exporters warn about much that the tests check."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
