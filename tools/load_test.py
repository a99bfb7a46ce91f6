#!/usr/bin/env python3
"""Load a running server: clients that chat, some over a shared system prompt, some that leave in the middle.

tlite-vk serve smollm2 --port 8000 &
tools/load_test.py http://127.0.0.1:8000 --pid $! --minutes 10 --clients 16 -o load.json

Writes counts of answers and errors, percentiles of times, and the server's memory over time; exits with 1 after an
error. An answer 429 is no error: the client waits as long as it is told, which is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

SHARED = "You are a careful assistant. " + "Answer in short sentences, and say so where you do not know. " * 8
WORDS = ("river", "stone", "lamp", "green", "walk", "seven", "quiet", "paper", "engine", "north", "bread", "signal")
LEAVING, SHARING, STREAMING = 0.1, 0.5, 0.7


@dataclass
class Seen:
    """What happened so far. Times in seconds."""

    ended: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    tokens: Counter[str] = field(default_factory=Counter)
    memory: list[dict[str, float]] = field(default_factory=list)


def body_of(rng: random.Random, longest: int) -> dict[str, Any]:
    """A request of random length; a third of them go on from an answer."""
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, longest)))
    messages = [{"role": "system", "content": SHARED}] if rng.random() < SHARING else []
    messages.append({"role": "user", "content": f"Write about this: {text}"})
    if rng.random() < 1 / 3:
        messages += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": rng.choice(WORDS)}]
    return {
        "messages": messages,
        "max_tokens": rng.randint(4, 32),
        "temperature": rng.choice([0, 0, 0.8]),
        "stream": rng.random() < STREAMING,
        "stream_options": {"include_usage": True},
    }


async def client(number: int, http: httpx.AsyncClient, end: float, longest: int, seen: Seen) -> None:
    """One client: one request after another until the time is up."""
    rng = random.Random(number)
    while time.monotonic() < end:
        body = body_of(rng, longest)
        leaves = rng.random() < LEAVING
        try:
            async with asyncio.timeout(rng.uniform(0.05, 2) if leaves else 600):
                await request(http, body, seen)
        except TimeoutError:
            seen.ended["left"] += 1
            if not leaves:
                seen.errors.append("no answer within 600 s")
        except Exception as error:  # each is counted and told
            seen.errors.append(f"{type(error).__name__}: {error}"[:200])


async def request(http: httpx.AsyncClient, body: dict[str, Any], seen: Seen) -> None:
    """One request and its answer, read to its end."""
    started = time.monotonic()
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code == 429:
            seen.ended["429"] += 1
            await asyncio.sleep(float(response.headers["retry-after"]))
            return
        if response.status_code != 200:
            seen.errors.append(f"{response.status_code} {(await response.aread())[:200]!r}")
            return
        if not body["stream"]:
            answer = json.loads(await response.aread())
            usage, complete = answer["usage"], bool(answer["choices"][0]["finish_reason"])
        else:
            usage, complete = await read_stream(response, started, seen)
    if not complete or usage is None:
        seen.errors.append("an answer ended before its end")
        return
    seen.whole.append(time.monotonic() - started)
    seen.ended["answered"] += 1
    seen.tokens["prompt"] += usage["prompt_tokens"]
    seen.tokens["cached"] += usage["prompt_tokens_details"]["cached_tokens"]
    seen.tokens["generated"] += usage["completion_tokens"]


async def read_stream(response: httpx.Response, started: float, seen: Seen) -> tuple[dict[str, Any] | None, bool]:
    """(usage, whether the stream came to its end)."""
    usage, first, done = None, False, False
    async for line in response.aiter_lines():
        if line == "data: [DONE]":
            done = True
        elif line.startswith("data: "):
            data = json.loads(line[6:])
            if "error" in data:
                seen.errors.append(data["error"]["message"])
                return None, False
            usage = data["usage"] or usage
            if not first and data["choices"] and data["choices"][0]["delta"].get("content"):
                first = True
                seen.first.append(time.monotonic() - started)
    return usage, done


async def watch(http: httpx.AsyncClient, pid: int | None, started: float, every: float, seen: Seen) -> None:
    """Note the server's memory and load, until cancelled."""
    while True:
        text = (await http.get("/metrics")).text
        figures = {name: float(value) for name, value in re.findall(r"^tlite_vk_(\w+) (\S+)$", text, re.MULTILINE)}
        row = {"s": time.monotonic() - started, "device_bytes": figures["device_bytes"], "waiting": figures["waiting"]}
        if pid is not None:
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            row["host_bytes"] = 1024 * float(re.findall(r"VmRSS:\s+(\d+)", status)[0])
            row["threads"] = float(re.findall(r"Threads:\s+(\d+)", status)[0])
        seen.memory.append(row)
        await asyncio.sleep(every)


def percentiles(times: list[float]) -> dict[str, float]:
    """In seconds: p50, p90, p99 and the longest."""
    ordered = sorted(times)
    if not ordered:
        return {}
    found = {f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 90, 99)}
    return {name: round(value, 3) for name, value in (found | {"max": ordered[-1]}).items()}


async def load(options: argparse.Namespace) -> dict[str, Any]:
    """Run it; returns the report."""
    seen, started = Seen(), time.monotonic()
    headers = {"authorization": f"Bearer {options.key}"} if options.key else {}
    limits = httpx.Limits(max_connections=options.clients + 4)
    async with httpx.AsyncClient(base_url=options.url, timeout=None, headers=headers, limits=limits) as http:
        watching = asyncio.create_task(watch(http, options.pid, started, options.every, seen))
        end = started + 60 * options.minutes
        await asyncio.gather(*(client(i, http, end, options.longest, seen) for i in range(options.clients)))
        seconds = time.monotonic() - started
        watching.cancel()
    return {
        "seconds": round(seconds, 1),
        "clients": options.clients,
        "ended": dict(seen.ended),
        "errors": len(seen.errors),
        "first_errors": seen.errors[:10],
        "first_token_s": percentiles(seen.first),
        "answer_s": percentiles(seen.whole),
        "tokens": dict(seen.tokens),
        "memory": seen.memory,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of the server")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--longest", type=int, default=60, help="most words of a message")
    parser.add_argument("--pid", type=int, help="of the server, whose memory is noted")
    parser.add_argument("--every", type=float, default=15, help="seconds between looks at the memory")
    parser.add_argument("--key", help="bearer token")
    parser.add_argument("-o", "--output", type=Path, help="file of the report; default: standard output")
    options = parser.parse_args()
    report = asyncio.run(load(options))
    text = json.dumps(report, indent=1)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
        text = json.dumps({k: v for k, v in report.items() if k != "memory"}, indent=1)
    print(text)
    return 1 if report["errors"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
