"""Mermaid's flowcharts and sequence diagrams, as far as the documentation uses them, as SVG without any script.

GitHub draws them itself. Flowcharts go through Graphviz; a sequence is drawn here.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from html import escape

NODE = re.compile(r'(\w+)(?:\["?(.+?)"?\]|\("?(.+?)"?\)|\{"?(.+?)"?\})?')
EDGE = re.compile(r"\s*(?:--\s*([^->|]+?)\s*-->|-->\|([^|]+)\||-->|---|-\.->)\s*")
DOT = """digraph {{
rankdir={direction} bgcolor=transparent compound=true nodesep=0.3 ranksep=0.45
node [shape=box style="rounded" fontname="sans-serif" fontsize=12 margin="0.14,0.08"]
edge [fontname="sans-serif" fontsize=11 arrowsize=0.7]
{body}
}}"""


class DiagramError(Exception):
    """A line that is not understood."""


def draw(text: str) -> str:
    """An <svg> element. Raises DiagramError naming the line that is not understood."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("%%")]
    kind, _, direction = lines[0].partition(" ")
    if kind in ("flowchart", "graph"):
        return _svg(DOT.format(direction=direction or "TB", body="\n".join(_flowchart(lines[1:]))))
    if kind == "sequenceDiagram":
        return _sequence(lines[1:])
    raise DiagramError(f"only flowcharts and sequence diagrams are drawn, not {lines[0]!r}")


# ---- flowcharts


def _flowchart(lines: list[str]) -> Iterator[str]:
    """Statements of Graphviz."""
    for line in lines:
        group = re.fullmatch(r'subgraph (\w+)(?:\s*\["?(.+?)"?\])?', line)
        if group:
            yield f"subgraph cluster_{group[1]} {{ label={_label(group[2] or group[1])} style=rounded"
            yield 'fontname="sans-serif" fontsize=11'
        elif line == "end":
            yield "}"
        else:
            yield from _chain(line)


def _chain(line: str) -> Iterator[str]:
    """a["text"] -- text --> b --> c."""
    at, before, text = 0, "", ""
    while True:
        node = NODE.match(line, at)
        if not node:
            raise DiagramError(f"not understood in a flowchart: {line!r}")
        label = next(filter(None, node.groups()[1:]), None)
        if label:
            yield f'"{node[1]}" [label={_label(label)}]'
        elif not before and node.end() == len(line):
            yield f'"{node[1]}"'
        if before:
            yield f'"{before}" -> "{node[1]}" [label={_label(text)}]'
        if node.end() == len(line):
            return
        edge = EDGE.match(line, node.end())
        if not edge:
            raise DiagramError(f"not understood in a flowchart: {line!r}")
        before, text, at = node[1], edge[1] or edge[2] or "", edge.end()


def _label(text: str) -> str:
    quoted = re.sub(r"<br\s*/?>", r"\\n", text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{quoted}"'


def _svg(dot: str) -> str:
    done = subprocess.run(["dot", "-Tsvg"], input=dot, capture_output=True, text=True, check=True)
    svg = done.stdout[done.stdout.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<title>.*?</title>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(stroke|fill)="(black|#000000)"', r'\1="currentColor"', svg)
    svg = svg.replace("<text ", '<text fill="currentColor" ')
    return " ".join(svg.split())


# ---- sequences

WIDTH, STEP, MARGIN, LINE, SIDE = 340, 46, 20, 15, 170
MESSAGE = re.compile(r"(\w+)\s*(--?>>)\s*(\w+)\s*:\s*(.*)")
NOTE = re.compile(r"[Nn]ote over (\w+)(?:,\s*\w+)?\s*:\s*(.*)")


def _sequence(lines: list[str]) -> str:
    """Participants side by side, messages and notes from top to bottom."""
    names = [line.split()[1] for line in lines if line.startswith("participant ")]
    places = {name: SIDE + WIDTH * number for number, name in enumerate(names)}
    parts, y = [], 50
    for line in lines:
        message, note = MESSAGE.fullmatch(line), NOTE.fullmatch(line)
        if message:
            y += STEP
            parts.append(_message(places[message[1]], places[message[3]], y, message[4], message[2] == "-->>"))
        elif note:
            rows = re.split(r"<br\s*/?>", note[2])
            y += 18
            parts.append(_note(places[note[1]], y, rows))
            y += LINE * len(rows)
        elif not line.startswith("participant "):
            raise DiagramError(f"not understood in a sequence: {line!r}")
    width, height = 2 * SIDE + WIDTH * (len(names) - 1), y + 30
    lives = [_box(x, name, height - 10) for name, x in places.items()]
    head = '<marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
    head = f'<defs>{head}<path d="M0,0 L8,4 L0,8 z" fill="currentColor"/></marker></defs>'
    frame = f'width="{width}" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg"'
    return f'<svg {frame} font-family="sans-serif" font-size="12">{head}{"".join(lives + parts)}</svg>'


def _box(x: int, name: str, bottom: int) -> str:
    """A participant, and its line down to the bottom."""
    line = f'<line x1="{x}" y1="40" x2="{x}" y2="{bottom}" stroke="currentColor" stroke-dasharray="4"/>'
    box = f'<rect x="{x - 50}" y="10" width="100" height="30" rx="6" fill="none" stroke="currentColor"/>'
    return line + box + _text(x, 30, name)


def _text(x: int, y: int, text: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="middle" fill="currentColor">{escape(text)}</text>'


def _message(start: int, end: int, y: int, text: str, dashed: bool) -> str:
    dashes = ' stroke-dasharray="5"' if dashed else ""
    arrow = f'stroke="currentColor"{dashes} marker-end="url(#tip)"'
    line = f'<line x1="{start}" y1="{y}" x2="{end}" y2="{y}" {arrow}/>'
    return line + _text((start + end) // 2, y - 6, text)


def _note(x: int, y: int, rows: list[str]) -> str:
    wide = 7 * max(map(len, rows)) + MARGIN
    frame = f'x="{x - wide // 2}" y="{y - 6}" width="{wide}" height="{LINE * len(rows) + 8}" rx="3"'
    box = f'<rect {frame} class="note" stroke="currentColor" stroke-width="0.5"/>'
    return box + "".join(_text(x, y + LINE * number + 7, row) for number, row in enumerate(rows))
