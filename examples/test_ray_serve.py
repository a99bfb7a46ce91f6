"""examples/ray_serve.py with two replicas over SmolLM2: both answer, and rightly. Run by `make ray-test`."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import ray
from openai import OpenAI
from ray import serve

ROOT = Path(__file__).parents[1]
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def created(metrics: str) -> str:
    """When a replica made its metrics."""
    return next(line for line in metrics.splitlines() if line.startswith("tlite_vk_cancelled_created"))


def test_two_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Path(os.environ["TLITE_VK_CACHE"]) / "models" / "smollm2-135m"
    for name, value in {"MODEL": str(model), "NAME": "smollm2", "REPLICAS": "2"}.items():
        monkeypatch.setenv(f"TLITE_VK_{name}", value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        from examples.ray_serve import app

        serve.start(http_options={"host": "127.0.0.1", "port": 8765})
        serve.run(app)
        replicas = serve.status().applications["default"].deployments["Replica"].replica_states
        assert {str(state): count for state, count in replicas.items()} == {"RUNNING": 2}, replicas

        def ask(_: int) -> str | None:
            client = OpenAI(base_url="http://127.0.0.1:8765/v1", api_key="none", max_retries=0, timeout=300)
            answer = client.chat.completions.create(model="smollm2", messages=QUESTION, temperature=0)  # type: ignore[arg-type]
            return answer.choices[0].message.content

        with ThreadPoolExecutor(4) as threads:
            assert set(threads.map(ask, range(8))) == {"The capital of France is Paris."}
        # Each counts from its own start, so the two tell different times of it.
        started = {created(httpx.get("http://127.0.0.1:8765/metrics").text) for _ in range(40)}
        assert len(started) == 2
    finally:
        serve.shutdown()
        ray.shutdown()
