"""Models exported by tools/export_model.py beside torch: what is exported, inputs with padding, greedy references."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from exporting.architectures import ARCHITECTURES, DECODERS, build
from exporting.export import EXPORTER_FAULTS, EXPORTERS, Decoder, Encoder, export_module, past_shapes
from transformers.cache_utils import DynamicCache

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
CANDIDATES = 8  # prompts that a reference may choose from


@dataclass(frozen=True)
class Variant:
    """One way to export one architecture."""

    name: str
    exporter: str
    past: bool
    opset: int | None = None
    attention: str = "sdpa"

    def __str__(self) -> str:
        more = [f"opset{self.opset}"] if self.opset else []
        more += [self.attention] if self.attention != "sdpa" else []
        return "-".join([self.name, self.exporter, "past" if self.past else "no_past", *more])

    def export(self, folder: Path, layers: int = 2) -> Path:
        """Writes folder/<its name>-<layers>/model.onnx and returns its path."""
        module = model_of(self.name, layers, self.attention)
        return export_module(
            module, folder / f"{self}-{layers}", exporter=self.exporter, past=self.past, opset=self.opset
        )


def variants(names: tuple[str, ...] = tuple(ARCHITECTURES)) -> Iterator[Variant]:
    """Each architecture through each exporter, with and without a past, but for what the exporter can't do."""
    for name in names:
        for exporter in EXPORTERS:
            for past in (True, False) if name in DECODERS else (False,):
                if (name, exporter, past) not in EXPORTER_FAULTS:
                    yield Variant(name, exporter, past)


# Forms that an exporter writes at other opsets, or when asked for attention in its plain form.
OTHER_FORMS = (
    Variant("llama", "dynamo", True, opset=18),
    Variant("llama", "dynamo", True, opset=23),
    Variant("mistral", "dynamo", True, opset=23),
    Variant("glm", "dynamo", True, opset=23),
    Variant("mistral", "dynamo", True, attention="eager"),
    Variant("mistral", "torchscript", True, attention="eager"),
    Variant("gpt2", "torchscript", True, attention="eager"),
    Variant("llama", "torchscript", False, opset=15),
)


@cache
def model_of(name: str, layers: int = 2, attention: str = "sdpa") -> torch.nn.Module:
    """The model that is exported: the same weights each time."""
    return build(name, layers, attention=attention)


@dataclass(frozen=True)
class Lengths:
    """Sequences of this batch, new tokens, cached tokens."""

    batch: int
    tokens: int
    cached: int = 0


def feed(name: str, at: Lengths, past: bool) -> Arrays:
    """Random inputs. In a batch the first sequence is padded on its left, the second on its right."""
    rng = np.random.default_rng([at.batch, at.tokens, at.cached])
    config: Any = model_of(name).config
    if name == "vit":
        shape = (at.batch, 3, config.image_size, config.image_size)
        return {"pixel_values": rng.standard_normal(shape).astype(np.float32)}
    ids = rng.integers(0, config.vocab_size, (at.batch, at.tokens))
    mask = np.ones((at.batch, at.cached + at.tokens), np.int64)
    if at.batch > 1 and at.cached + at.tokens > 3:
        mask[0, :2] = 0
        mask[1, -1:] = 0
    if name == "bert":
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": rng.integers(0, 2, ids.shape)}
    positions = np.maximum(mask.cumsum(1) - 1, 0)[:, at.cached :]
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    for key, size in past_shapes(model_of(name), at.batch, at.cached).items() if past else ():
        inputs[key] = rng.standard_normal(size).astype(np.float32)
    return inputs


def torch_outputs(name: str, inputs: Arrays) -> list[Array]:
    """What the model itself gives, in the order of the exported outputs."""
    model = model_of(name)
    module = (Decoder(model) if name in DECODERS else Encoder(model, list(inputs))).eval()
    with torch.no_grad():
        outputs = module(*(torch.from_numpy(array) for array in inputs.values()))
    return [each.numpy() for each in (outputs if isinstance(outputs, tuple) else (outputs,))]


def valid(outputs: list[Array], inputs: Arrays) -> list[Array]:
    """The rows of real tokens, [rows, ...]; what a model gives for padding is nobody's business."""
    if "attention_mask" not in inputs:
        return outputs
    mask = inputs["attention_mask"] > 0  # [B, P + T]
    rows = [each.transpose(0, 2, 1, 3) if each.ndim == 4 else each for each in outputs]  # [B, T or P + T, ...]
    return [each[mask[:, mask.shape[1] - each.shape[1] :]] for each in rows]


def difference(got: list[Array], want: list[Array]) -> float:
    """The largest over all outputs of (largest difference / largest value)."""
    assert [each.shape for each in got] == [each.shape for each in want]
    return float(np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in zip(got, want, strict=True)]))


@dataclass(frozen=True)
class Greedy:
    """A prompt and what torch says after it. margin: the least (best - second best) / largest |logit| of a step."""

    prompt: list[int]
    tokens: list[int]
    margin: float


@cache
def greedy(name: str, length: int, count: int = 32, layers: int = 2) -> Greedy:
    """Of a few random prompts the one whose answer is the least ambiguous, among the answers that vary."""
    model: Any = model_of(name, layers)
    generator = torch.Generator().manual_seed(length)
    prompts = torch.randint(3, model.config.vocab_size, (CANDIDATES, length), generator=generator)
    with torch.no_grad():
        answers = _continued(model, prompts, count)
        logits = model(input_ids=torch.cat([prompts, answers], 1)[:, :-1], use_cache=False).logits
    rows = logits[:, length - 1 :]  # [prompts, count, V], from one pass over all tokens: no cache is involved
    assert torch.equal(rows.argmax(-1), answers), "torch with a cache and without one differ"
    best = rows.topk(2).values
    margins = ((best[..., 0] - best[..., 1]) / rows.abs().amax(-1)).amin(-1)  # [prompts]
    varied = torch.tensor([len(set(answer.tolist())) >= count // 4 for answer in answers])
    chosen = int(torch.where(varied, margins, -1.0).argmax())
    return Greedy(prompts[chosen].tolist(), answers[chosen].tolist(), float(margins[chosen]) * bool(varied[chosen]))


def _continued(model: Any, prompts: torch.Tensor, count: int) -> torch.Tensor:
    """Greedy tokens [prompts, count], with a cache that forgets nothing, for speed."""
    kept, ids, found = DynamicCache(), prompts, []
    for _ in range(count):
        ids = model(input_ids=ids, cache=kept, use_cache=True).logits[:, -1:].argmax(-1)
        found.append(ids)
    return torch.cat(found, 1)
