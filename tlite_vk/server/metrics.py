"""Figures for Prometheus."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tlite_vk.decoding import Stats
from tlite_vk.device import Device

from .job import Job

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self, device: Device) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "tlite_vk_requests", "Requests by path and status", ["path", "status"], registry=registry
        )
        self.cancelled = Counter("tlite_vk_cancelled", "Requests whose client went away", registry=registry)
        self.waiting = Gauge("tlite_vk_waiting", "Requests that wait for a ring", registry=registry)
        self.running = Gauge("tlite_vk_running", "Requests that have a ring", registry=registry)
        self.tokens = Counter(
            "tlite_vk_tokens", "Tokens: computed and cached ones of prompts, generated", ["kind"], registry=registry
        )
        self.first = Histogram(
            "tlite_vk_first_token_seconds", "From a request to its first token", registry=registry, buckets=_SECONDS
        )
        self.whole = Histogram(
            "tlite_vk_answer_seconds", "From a request to the end of its answer", registry=registry, buckets=_SECONDS
        )
        memory = Gauge("tlite_vk_device_bytes", "Memory of the device in use", registry=registry)
        memory.set_function(lambda: device.memory_used)

    def answered(self, job: Job, stats: Stats) -> None:
        """A request was answered to its end."""
        self.tokens.labels("prompt").inc(stats.prompt_tokens - stats.cached_tokens)
        self.tokens.labels("cached").inc(stats.cached_tokens)
        self.tokens.labels("generated").inc(stats.generated_tokens)
        self.whole.observe(time.monotonic() - job.asked)
        if job.first_token is not None:
            self.first.observe(job.first_token - job.asked)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
