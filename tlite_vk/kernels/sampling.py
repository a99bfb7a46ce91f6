"""The random choice of a token, in the place of the greedy one: five dispatches of shaders/sample.comp."""

from __future__ import annotations

from tlite_vk.graph.ir import Value
from tlite_vk.lower import SAMPLE, Lowering
from tlite_vk.sampling import SETTING_WORDS
from tlite_vk.step import PICKED, STEP_BYTES

PHASES = ("largest", "count", "top-k", "top-p", "draw")
MOST_GROUPS = 64
_CPU_GROUPS = 4
_FIXED_WORDS = MOST_GROUPS + 6 + 3 * 512 + 2 * MOST_GROUPS
"""Of the scratch, before the list of tokens."""


def sampling_buffers(vocabulary: int) -> dict[str, int]:
    """Bytes of the buffers that the engine provides: what to draw by, and what the phases hand each other."""
    return {"sampling": 4 * (SETTING_WORDS + -(-vocabulary // 32)), "sampler": 4 * (_FIXED_WORDS + vocabulary)}


def sample(low: Lowering, logits: Value) -> None:
    """Append the choice of a token over the last axis of logits [1, V] by the settings in the buffer "sampling".

    The repetition penalty changes the logits in place.
    """
    rows = low.columns(logits)
    lanes = low.target.lanes if low.target.cpu else min(128, low.target.max_invocations)
    groups = max(1, min(_CPU_GROUPS if low.target.cpu else MOST_GROUPS, rows // (2 * lanes)))
    sizes = sampling_buffers(rows)
    for number, phase in enumerate(PHASES):
        first, last = number == 0, number == len(PHASES) - 1
        windows = [
            low.update(logits) if first else low.read(logits),
            low.named("ids", ["*", 4, "T"], "write" if last else "read"),
            low.named("picked", 4 * PICKED, "update" if last else "read"),
            low.named("step", STEP_BYTES, "update" if last else "read"),
            low.named("sampling", sizes["sampling"], "update" if last else "read"),
            low.named("sampler", sizes["sampler"], "update"),
            low.tickets(),
        ]
        bindings = [(w, "storage") for w in windows]
        low.emit("sample", bindings, (groups,), [rows, PICKED, number], {0: lanes}, f"{SAMPLE}.{phase}")
