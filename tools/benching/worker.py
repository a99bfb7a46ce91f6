"""Measures one commit: python worker.py SITE MODEL [--device D]. Lines in: "prefill N" or "decode N"; lines out: JSON.

The first line out has the facts; each other one the milliseconds of what was asked for. It uses public names only, so
that it runs with older commits as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

SEED = 1


def use(site: Path) -> Any:
    """tlite_vk of this folder, even where a development install of another one stands before it."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable")]
    sys.path[:] = [str(site), *sys.path[1:]]  # without the folder of this file
    import tlite_vk

    found = Path(str(tlite_vk.__file__)).resolve()
    if not found.is_relative_to(site.resolve()):
        raise SystemExit(f"tlite_vk comes from {found}, not from {site}")
    return tlite_vk


def measured(model: Any, what: str, ids: list[int]) -> float:
    """ms of a prompt until its logits are on the host; of one of several tokens, each in a submission of its own."""
    started = time.perf_counter()
    if what == "prefill":
        model.prefill(ids, pick=False)
        return 1e3 * (time.perf_counter() - started)
    for position, token in enumerate(ids):
        model.prefill([token], start=position, pick=False)
    return 1e3 * (time.perf_counter() - started) / len(ids)


def main() -> None:
    """Load, say what was loaded, answer until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--device")
    chosen = parser.parse_args()
    package = use(chosen.site)
    import numpy as np

    started = time.perf_counter()
    with package.load(chosen.model, device=chosen.device) as model:
        info = model.device.info
        facts = {"device": info.name, "driver": f"{info.driver_name} {info.driver_info}".strip()}
        print(json.dumps(facts | {"load_s": time.perf_counter() - started}), flush=True)
        random = np.random.default_rng(SEED)
        for line in sys.stdin:
            what, count = line.split()
            ids = [int(i) for i in random.integers(0, model.program.vocabulary, int(count))]
            print(json.dumps(measured(model, what, ids)), flush=True)


if __name__ == "__main__":
    main()
