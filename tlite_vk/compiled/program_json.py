"""Programs to and from JSON. Windows and expressions, of which a program has many alike, are stored once each.

{
  "expressions": [expression ...],                       64, "T", ["*", 4, "T"]; all others name them by number
  "windows": [[buffer, offset, size, access] ...],
  "kernels": [[shader, [binding ...], [[constant, value] ...], push bytes, subgroup size] ...],
  "entries": {name: {"dispatches": [[kernel, [window ...], [x, y, z], [word ...], label] ...],
                     "arena": .., "outputs": {name: window}, "head": .., "pick": ..,
                     "sampling": [as dispatches ...]}},
  "states": [[name, size] ...],  "inputs": {name: size},
  "weights": [[name, bytes, kind, rows, columns, section, [outer, rows, item, [[start, stop] ...]] or null] ...],
  "vocabulary": .., "window": .., "positions": .., "notes": [..],
  "modules": {shader: member}
}
A word of push constants is a float, or the number of an expression.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tlite_vk.errors import ModelError
from tlite_vk.expression import Expression
from tlite_vk.program import Dispatch, Entry, Kernel, Program, State, WeightPlan, Window
from tlite_vk.stored import Section, StoredWeight

SYMBOLS = frozenset("TCW")
_MOST = 1 << 48
"""No size, offset or count of a program is larger."""
_WORD = (1 << 32) - 1
"""The most that Vulkan takes for what describes a kernel."""
_MOST_TOKENS = 1 << 24
"""Of a vocabulary: sampling takes memory of the host for each."""
_ACCESSES = ("read", "write", "update")
_MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError)


def freeze(expression: Expression) -> Expression:
    """The same in tuples, which can be compared and hashed."""
    return tuple(freeze(e) for e in expression) if isinstance(expression, list | tuple) else expression


class _Tables:
    """Expressions and windows, numbered as they come."""

    def __init__(self) -> None:
        self.expressions: dict[Expression, int] = {}
        self.windows: dict[tuple[str, int, int, str], int] = {}

    def expression(self, expression: Expression) -> int:
        return self.expressions.setdefault(freeze(expression), len(self.expressions))

    def window(self, window: Window) -> int:
        key = (window.buffer, self.expression(window.offset), self.expression(window.size), window.access)
        return self.windows.setdefault(key, len(self.windows))

    def word(self, word: Expression | float) -> int | float:
        return word if isinstance(word, float) else self.expression(word)

    def dispatch(self, dispatch: Dispatch) -> list[Any]:
        windows, groups = [self.window(w) for w in dispatch.windows], [self.expression(g) for g in dispatch.groups]
        return [dispatch.kernel, windows, groups, [self.word(w) for w in dispatch.push], dispatch.label]

    def entry(self, entry: Entry) -> dict[str, Any]:
        return {
            "dispatches": [self.dispatch(d) for d in entry.dispatches],
            "arena": self.expression(entry.arena),
            "outputs": {name: self.window(w) for name, w in entry.outputs.items()},
            "head": entry.head,
            "pick": entry.pick,
            "sampling": [self.dispatch(d) for d in entry.sampling],
        }


def to_json(program: Program, weights: Mapping[str, Any], modules: Mapping[str, str]) -> bytes:
    """weights: by name, the section that holds it and its part of a matrix, or None: ["weights/0", None].
    modules: the member that holds the SPIR-V of each shader."""
    tables = _Tables()
    found: dict[str, Any] = {
        "kernels": [
            [k.shader, list(k.bindings), [list(c) for c in k.specialization], k.push_bytes, k.subgroup_size]
            for k in program.kernels
        ],
        "entries": {name: tables.entry(entry) for name, entry in program.entries.items()},
        "states": [[s.name, tables.expression(s.size)] for s in program.states],
        "inputs": {name: tables.expression(size) for name, size in program.inputs.items()},
        "weights": [[w.name, w.size, w.kind, w.rows, w.columns, *weights[w.name]] for w in program.weights],
        "vocabulary": program.vocabulary,
        "window": program.window,
        "positions": program.positions,
        "notes": list(program.notes),
        "modules": {kernel.shader: modules[kernel.shader] for kernel in program.kernels},
    }
    found |= {"expressions": list(tables.expressions), "windows": [list(w) for w in tables.windows]}
    return json.dumps(found, separators=(",", ":")).encode()


def from_json(
    text: bytes, section: Callable[[str], Section], module: Callable[[str], bytes], what: str = "the file"
) -> Program:
    """section and module: a mapped and a small member by name. Raises ModelError for anything malformed."""
    try:
        return _Reader(json.loads(text), section, module).program()
    except _MALFORMED as error:
        why = " ".join(str(error).split())[:100]
        raise ModelError(f"{what} holds a program that is malformed ({why}); compile the model again") from error


class _Reader:
    """Checks what it reads: types, numbers of kernels and windows, ranges of sections. Raises one of _MALFORMED."""

    def __init__(self, data: Any, section: Callable[[str], Section], module: Callable[[str], bytes]) -> None:
        self.data, self._section, self._module = data, section, module
        self.expressions = [_expression(e) for e in data["expressions"]]
        self.windows = [self._window(w) for w in data["windows"]]

    def program(self) -> Program:
        data = self.data
        self.kernels = tuple(_kernel(k) for k in data["kernels"])
        weights = tuple(self._weight(w) for w in data["weights"])
        states = tuple(State(_text(name), self.expression(size)) for name, size in data["states"])
        inputs = {_text(name): self.expression(size) for name, size in data["inputs"].items()}
        self._buffers = {f"weight:{w.name}" for w in weights} | {f"state:{s.name}" for s in states} | inputs.keys()
        entries = {_text(name): self._entry(name, entry) for name, entry in data["entries"].items()}
        return Program(
            self.kernels,
            entries,
            states,
            weights,
            inputs,
            _count(data["vocabulary"], _MOST_TOKENS),
            _count(data["window"]),
            _count(data["positions"]),
            tuple(_text(note) for note in data["notes"]),
            {_text(shader): self._module(_text(member)) for shader, member in data["modules"].items()},
        )

    def expression(self, number: Any) -> Expression:
        return self.expressions[_count(number)]

    def _window(self, given: Any) -> Window:
        buffer, offset, size, access = given
        if access not in _ACCESSES:
            raise ValueError(f"an access of {access!r}")
        return Window(_text(buffer), self.expression(offset), self.expression(size), access)

    def _entry(self, name: str, data: Any) -> Entry:
        dispatches = tuple(self._dispatch(d) for d in data["dispatches"])
        outputs = {_text(key): _at(self.windows, number) for key, number in data["outputs"].items()}
        head, pick = (min(_count(data[key]), len(dispatches)) for key in ("head", "pick"))
        sampling = tuple(self._dispatch(d) for d in data["sampling"])
        return Entry(name, dispatches, self.expression(data["arena"]), outputs, head, pick, sampling)

    def _dispatch(self, data: Any) -> Dispatch:
        kernel, windows, groups, push, label = data
        x, y, z = (self.expression(g) for g in groups)
        bound = tuple(_at(self.windows, w) for w in windows)
        words = tuple(w if isinstance(w, float) else self.expression(w) for w in push)
        made = _at(self.kernels, kernel)
        if len(bound) != len(made.bindings) or 4 * len(words) != made.push_bytes:
            raise ValueError("a dispatch that does not fit its kernel")
        for window in bound:
            if window.buffer not in self._buffers and window.buffer not in ("arena", "step"):
                raise ValueError(f"there is no buffer {window.buffer!r}")
        return Dispatch(kernel, bound, (x, y, z), words, _text(label))

    def _weight(self, data: Any) -> WeightPlan:
        name, size, kind, rows, columns, member, part = data
        section = self._section(_text(member))
        source = StoredWeight(section) if part is None else _part(section, part)
        if source.nbytes > _count(size):
            raise ValueError(f"the weight {name!r} is longer than its place")
        return WeightPlan(_text(name), size, _text(kind), source, _count(rows), _count(columns))


def _part(section: Section, data: Any) -> StoredWeight:
    outer, rows, item, ranges = data
    pairs = tuple((_count(start), _count(stop)) for start, stop in ranges)
    if outer * rows * item > section.data.size or min(_count(outer), _count(rows), _count(item)) < 1 or not pairs:
        raise ValueError("a matrix longer than its section")
    if any(not start < stop <= rows for start, stop in pairs):
        raise ValueError("rows outside of a matrix")
    return StoredWeight(section, outer, rows, item, pairs)


def _kernel(data: Any) -> Kernel:
    shader, bindings, constants, push_bytes, subgroup = data
    pairs = tuple((_count(key, _WORD), int(value)) for key, value in constants)
    if any(not -(1 << 31) <= value <= _WORD for _, value in pairs):
        raise ValueError("a constant of more than 32 bits")
    names = tuple(_text(b) for b in bindings)
    return Kernel(_text(shader), names, pairs, _count(push_bytes, _WORD), _count(subgroup, _WORD))


def _expression(data: Any) -> Expression:
    """Checked as `expression.evaluate` needs it. Raises ValueError."""
    if isinstance(data, str):
        if data not in SYMBOLS:
            raise ValueError(f"an unknown symbol {data!r}")
        return data
    if not isinstance(data, list):
        if not isinstance(data, int) or isinstance(data, bool) or abs(data) > _MOST:
            raise ValueError(f"a number {data!r}")
        return data
    operator, *operands = data
    made = tuple(_expression(operand) for operand in operands)
    divides = operator in ("floordiv", "ceildiv")
    if operator not in ("+", "*", "max", "min") and not divides:
        raise ValueError(f"an unknown operator {operator!r}")
    if not made or (divides and not (len(made) == 2 and isinstance(made[1], int) and made[1] > 0)):
        raise ValueError(f"operands of {operator}")
    return (operator, *made)


def _at(items: Any, number: Any) -> Any:
    return items[_count(number)]


def _count(value: Any, most: int = _MOST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"a count of {value!r}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a name {value!r}")
    return value
