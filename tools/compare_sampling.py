#!/usr/bin/env python3
"""What drawing tokens costs: sampled decoding beside greedy decoding, on the device and on the host, in turns.

    tools/compare_sampling.py MODEL.onnx --gen 64 --rounds 5

Prints medians of tokens per second after the first token, of their ratio to greedy decoding in the same round, and of
what the choice takes of the device's time, from timestamps. On the host: the logits of each step are read back, and
numpy draws from them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np

from tlite_vk.engine import Variant
from tlite_vk.errors import TliteError
from tlite_vk.generate import Model
from tlite_vk.graph.errors import GraphError
from tlite_vk.host_sampler import Sampler
from tlite_vk.loading import load
from tlite_vk.sampling import SamplingOptions, Settings

PROMPT = 16
WAYS = {
    "greedy": SamplingOptions(),
    "temperature 0.8": SamplingOptions(temperature=0.8, seed=1),
    "and top-k 40, top-p 0.95": SamplingOptions(temperature=0.8, top_k=40, top_p=0.95, seed=1),
    "and a repetition penalty": SamplingOptions(temperature=0.8, top_k=40, top_p=0.95, repetition_penalty=1.1, seed=1),
    "top-p 0.95 of all tokens": SamplingOptions(temperature=0.8, top_p=0.95, seed=1),
}


def on_host(model: Model, ids: Sequence[int], count: int, options: SamplingOptions) -> Iterator[int]:
    """Tokens drawn by numpy from logits that are read back, one step at a time."""
    sampler, seen = Sampler(options), list(ids)
    model.prefill(ids, pick=False)
    for _ in range(count):
        seen.append(sampler(model.engine.logits()[0], seen))
        yield seen[-1]
        model.prefill(seen[-1:], start=len(seen) - 1, pick=False)


def rate(tokens: Iterator[int]) -> float:
    """Tokens per second after the first."""
    next(tokens)
    started = time.perf_counter()
    return sum(1 for _ in tokens) / (time.perf_counter() - started)


def measure(model: Model, gen: int, rounds: int) -> dict[str, list[float]]:
    """Tokens per second of each way in each round, by its name; an untimed round comes first."""
    ids = [int(i) for i in np.random.default_rng(1).integers(0, model.program.vocabulary, PROMPT)]
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, options in WAYS.items():
            rates = {name: rate(model.generate_tokens(ids, max_tokens=gen, sampling=options))}
            if not options.greedy:
                rates[f"{name}, on the host"] = rate(on_host(model, ids, gen, options))
            for key, value in rates.items() if number else ():
                found.setdefault(key, []).append(value)
    return found


def choice(model: Model, options: SamplingOptions, rounds: int) -> tuple[float, float]:
    """Seconds on the device of the dispatches that choose a token, and of a whole decode step, one by one; medians."""
    engine, sample = model.engine, not options.greedy
    settings = Settings.of(options).words([1], model.program.vocabulary)
    entry = model.program.entries["decode"]
    recording, _ = engine.timed(Variant("decode", 1, pick=True, sample=sample))
    found = []
    for _ in range(rounds + 1):
        engine.sample_by(settings)
        engine.feed(PROMPT, [1])
        recording.run()
        times = np.array(recording.timestamps())
        spans = times[1::2] - times[::2]
        found.append((float(spans[entry.pick :].sum()), float(spans.sum())))
    recording.close()
    return median(f for f, _ in found[1:]), median(s for _, s in found[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="an ONNX model that generates")
    parser.add_argument("--device", help="index, or a part of the name; default: the best one")
    parser.add_argument("--gen", type=int, default=64, help="tokens per measurement")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.gen < 2 or arguments.rounds < 1:
        parser.error("--gen must be at least 2, --rounds at least 1")
    try:
        with load(arguments.model, device=arguments.device) as loaded:
            model = Model(loaded.engine, None, loaded.path)  # without a tokenizer nothing stops a generation early
            found = measure(model, arguments.gen, arguments.rounds)
            spans = {name: choice(model, options, 2 * arguments.rounds) for name, options in WAYS.items()}
            print(f"{loaded.path}, vocabulary {loaded.program.vocabulary}, on {loaded.device.info.name}")
    except (TliteError, GraphError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, rates in found.items():
        ratio = median(r / greedy for r, greedy in zip(rates, found["greedy"], strict=True))
        line = f"{name:40}{median(rates):8.1f} tokens/s {ratio:7.3f} times greedy"
        if name in spans:
            line += "   choice {:.3f} ms of {:.3f} ms".format(*(1e3 * s for s in spans[name]))
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
