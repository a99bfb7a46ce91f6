"""Elements as expressions: index arithmetic, formulas, and what reading a graph backwards says of its elements."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.graphs import Builder

from tlite_vk.graph.elements.formula import (
    FALSE,
    TRUE,
    Element,
    Formula,
    Select,
    at_least_0,
    both,
    either,
    negated,
    nonzero,
    select,
)
from tlite_vk.graph.elements.moves import reshaped
from tlite_vk.graph.elements.polynomial import ONE, ZERO, Atom, Atoms, Polynomial, never_negative, number, of, to_dim
from tlite_vk.graph.elements.reader import Reader
from tlite_vk.graph.evaluate import evaluate
from tlite_vk.graph.ir import Graph, Value
from tlite_vk.graph.shape import parse_dim, symbol


def value_of(p: Polynomial, numbers: dict[Atom, int]) -> float:
    """The polynomial for given indices and symbols; floors are computed."""
    total: float = 0
    for monomial, coefficient in p.terms.items():
        part: float = coefficient
        for atom in monomial:
            if atom.kind == "floor":
                part *= int(value_of(atom.key[1], numbers)) // atom.key[2]
            else:
                part *= numbers[atom]
        total += part
    return total


def test_arithmetic_is_exact() -> None:
    atoms = Atoms()
    i, t = atoms.index("i", 5), atoms.dim(symbol("T"))
    assert (i + t) * (i - t) == i * i - t * t
    assert i - i == ZERO and (i + ONE).constant is None and number(3).constant == 3
    assert of(next(iter(i.atoms()))).atom in i.atoms()
    assert atoms.index("j", 1) == ZERO  # an index over one element
    assert atoms.dim(parse_dim("2*T + 3")) == t.scaled(2) + number(3)
    assert to_dim(atoms.dim(parse_dim("T*B + 1"))) == parse_dim("T*B + 1")


@pytest.mark.parametrize(("extents", "n"), [((4, 6), 6), ((3, 8), 4), ((5, 7), 3), ((2, 12), 24)])
def test_division_by_an_extent(extents: tuple[int, int], n: int) -> None:
    atoms = Atoms()
    a, b = (atoms.index(name, e) for name, e in zip("ab", extents, strict=True))
    flat = a.scaled(extents[1]) + b
    quotient, rest = atoms.divide(flat, n)
    for x, y in itertools.product(range(extents[0]), range(extents[1])):
        numbers = {next(iter(a.atoms())): x, next(iter(b.atoms())): y}
        whole = x * extents[1] + y
        assert (value_of(quotient, numbers), value_of(rest, numbers)) == divmod(whole, n)
    assert quotient.scaled(n) + rest == flat


def test_division_by_a_symbolic_extent() -> None:
    atoms = Atoms()
    length = parse_dim("P + T")
    b, j = atoms.index("b", symbol("B")), atoms.index("j", length)
    assert atoms.divide(b * atoms.dim(length) + j, length) == (b, j)
    wide = atoms.index("w", parse_dim("2*T"))  # may be as large as the divisor: not decided
    quotient, _ = atoms.divide(wide, symbol("T"))
    assert [a.kind for a in quotient.atoms()] == ["floor"]


SHAPES = [((2, 3, 4), (6, 4)), ((6, 4), (2, 3, 4)), ((4, 6), (3, 8)), ((1, 12, 1), (3, 1, 4)), ((12,), (2, 2, 3))]


@pytest.mark.parametrize(("source", "target"), SHAPES)
def test_reshapes_move_elements_as_numpy_does(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    atoms = Atoms()
    index = tuple(atoms.index(f"i{n}", d) for n, d in enumerate(target))
    found = reshaped(atoms, index, source, target)
    assert found is not None
    array = np.arange(np.prod(source)).reshape(source)
    expected = array.reshape(target)
    for place in itertools.product(*map(range, target)):
        numbers = {a: n for i, n in zip(index, place, strict=True) for a in i.atoms()}
        assert array[tuple(int(value_of(p, numbers)) for p in found)] == expected[place]


def test_a_reshape_that_splits_extents_in_no_common_way_is_not_followed() -> None:
    atoms = Atoms()
    index = (atoms.index("a", symbol("T")), atoms.index("b", symbol("B")))
    assert reshaped(atoms, index, (symbol("B"), symbol("T"), 2), (symbol("T"), symbol("B"))) is None


def test_bounds_are_proved() -> None:
    atoms = Atoms()
    i, p = atoms.index("i", symbol("T")), atoms.dim(symbol("P", 0))
    t = atoms.dim(symbol("T"))
    assert never_negative(i + p, atoms) and never_negative(t - ONE - i, atoms)
    assert not never_negative(i - ONE, atoms) and not never_negative(p - ONE, atoms) and not never_negative(-i, atoms)


# --- formulas --------------------------------------------------------------------------------------------------------


def truth(f: Formula, numbers: dict[Atom, int]) -> bool:
    if f.kind == "all":
        return all(truth(p, numbers) for p in f.parts)
    if f.kind == "any":
        return any(truth(p, numbers) for p in f.parts)
    if f.kind == "not":
        return not truth(f.part, numbers)
    return value_of(f.part, numbers) >= 0 if f.kind == "at_least_0" else numbers[f.part] != 0


def test_formulas_simplify() -> None:
    atoms = Atoms()
    i = atoms.index("i", 4)
    f = at_least_0(i - ONE)
    assert both(f, TRUE) == f and either(f, FALSE) == f
    assert both(f, FALSE) == FALSE and either(f, TRUE) == TRUE
    assert both(f, negated(f)) == FALSE and either(f, negated(f)) == TRUE
    assert negated(negated(f)) == f and at_least_0(number(-1)) == FALSE
    assert select(f, TRUE, FALSE) == f and select(TRUE, i, ZERO) == i and select(f, i, i) == i


@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 3), st.integers(0, 3))
def test_negation_is_the_opposite(c: int, d: int, x: int, y: int) -> None:
    atoms = Atoms()
    i, j = atoms.index("i", 4), atoms.index("j", 4)
    leaf = atoms.atom("element", Value("m"), (j,))
    numbers = {**dict.fromkeys(i.atoms(), x), **dict.fromkeys(j.atoms(), y), leaf: y % 2}
    f = either(both(at_least_0(i + number(c)), nonzero(leaf)), at_least_0(j - i + number(d)))
    assert truth(negated(f), numbers) is not truth(f, numbers)


# --- reading graphs --------------------------------------------------------------------------------------------------


def read(graph: Graph, value: Value, names: str) -> tuple[Reader, Element]:
    reader = Reader(graph.producers().get)
    return reader, reader.read(value, reader.index(value, names))


def number_of(element: Element, numbers: dict[Atom, int], arrays: dict[str, np.ndarray]) -> float:
    """The element for given indices, elements of inputs looked up."""
    if isinstance(element, Select):
        return number_of(element.yes if truth_of(element.condition, numbers, arrays) else element.no, numbers, arrays)
    if isinstance(element, Formula):
        return float(truth_of(element, numbers, arrays))
    return value_of(element, with_elements(element.atoms(), numbers, arrays))


def truth_of(f: Formula, numbers: dict[Atom, int], arrays: dict[str, np.ndarray]) -> bool:
    found: set[Atom] = set()
    pending = [f]
    while pending:
        g = pending.pop()
        for part in g.parts:
            if isinstance(part, Formula):
                pending.append(part)
            else:
                found |= {part} if isinstance(part, Atom) else part.atoms()
    return truth(f, with_elements(found, numbers, arrays))


def with_elements(atoms: set[Atom], numbers: dict[Atom, int], arrays: dict[str, np.ndarray]) -> dict[Atom, int]:
    known = dict(numbers)
    for atom in atoms:
        if atom.kind == "element":
            place = tuple(int(value_of(p, numbers)) for p in atom.key[2])
            known[atom] = arrays[atom.key[1].name][place]
    return known


def assert_reads_as_it_computes(b: Builder, out: Value, names: str, lengths: dict[str, int]) -> Element:
    """Reading `out` at symbolic indices, then putting numbers in, gives what the oracle computes."""
    graph = b.graph(out)
    rng = np.random.default_rng(0)
    arrays = {}
    for v in graph.inputs:
        shape = [d if isinstance(d, int) else lengths[str(d)] for d in v.dims]
        arrays[v.name] = rng.integers(0, 2, shape).astype("bool" if v.dtype == "bool" else v.dtype)
    result = graph.outputs[0]
    expected = evaluate(graph, arrays)[result.name]
    reader, element = read(graph, result, names)
    index = reader.index(result, names)
    symbols = {reader.atoms.atom("symbol", symbol(n)): v for n, v in lengths.items()}
    for place in itertools.product(*map(range, expected.shape)):
        numbers = symbols | {a: n for i, n in zip(index, place, strict=True) for a in i.atoms()}
        assert number_of(element, numbers, arrays) == expected[place], place
    return element


def causal(b: Builder, rows: Value, keys: Value) -> Value:
    def along(v: Value, axis: int) -> Value:
        length = b.node("Gather", b.node("Shape", v), b.constant(np.int64(1)))
        line = b.node("Range", b.constant(np.int64(0)), length, b.constant(np.int64(1)))
        return b.node("Unsqueeze", line, b.constant(np.asarray([axis])))

    return b.node("LessOrEqual", along(keys, 0), along(rows, 1))


def test_a_causal_mask_is_a_formula() -> None:
    b = Builder()
    x = b.input("x", "B", "T", dtype="int64")
    element = assert_reads_as_it_computes(b, causal(b, x, x), "ij", {"B": 2, "T": 4})
    assert isinstance(element, Formula) and element.kind == "at_least_0"


def test_masks_by_where_and_arithmetic() -> None:
    b = Builder()
    x, keep = b.input("x", "B", "T", dtype="int64"), b.input("keep", "B", "T", dtype="bool")
    padded = b.node("And", causal(b, x, x), b.node("Unsqueeze", keep, b.constant(np.asarray([1]))))
    inverted = b.node("Sub", b.constant(np.float32(1)), b.node("Cast", padded, to=1))
    element = assert_reads_as_it_computes(
        b, b.node("Mul", inverted, b.constant(np.float32(-1e9))), "bij", {"B": 2, "T": 3}
    )
    assert isinstance(element, Select)


def test_gathers_and_running_sums() -> None:
    b = Builder()
    x = b.input("x", "B", "T", dtype="int64")
    ones = b.node("ConstantOfShape", b.node("Shape", x), value=np.asarray([1]))
    count = b.node("CumSum", ones, b.constant(np.int64(1)))
    assert_reads_as_it_computes(b, b.node("Sub", count, b.constant(np.int64(1))), "ij", {"B": 2, "T": 3})
    b = Builder()
    x = b.input("x", 3, 5, dtype="int64")
    line = b.node("Range", b.constant(np.int64(0)), b.constant(np.int64(4)), b.constant(np.int64(2)))
    assert_reads_as_it_computes(b, b.node("Gather", x, line, axis=1), "ij", {})


@pytest.mark.parametrize("op", ["Trilu", "Concat", "Split", "Slice", "Expand", "MatMul"])
def test_other_operators(op: str) -> None:
    b = Builder()
    x = b.input("x", 4, 6, dtype="int64")
    two = b.constant(np.asarray([2]))
    outs = {
        "Trilu": lambda: b.node("Trilu", x, b.constant(np.int64(1)), upper=0),
        "Concat": lambda: b.node(
            "Slice", b.node("Concat", x, x, axis=1), two, b.constant(np.asarray([5])), b.constant(np.asarray([1]))
        ),
        "Split": lambda: b.nodes_of("Split", x, outputs=3, axis=1, num_outputs=3)[1],
        "Slice": lambda: b.node("Slice", x, two, b.constant(np.asarray([6])), b.constant(np.asarray([1])), two),
        "Expand": lambda: b.node(
            "Unsqueeze", b.node("Expand", x, b.constant(np.asarray([4, 6]))), b.constant(np.asarray([0]))
        ),
        "MatMul": lambda: b.node("MatMul", b.node("Unsqueeze", x, two), b.constant(np.full((1, 3), 2))),
    }
    out = outs[op]()
    assert_reads_as_it_computes(b, out, "ijk"[: 3 if op in ("Expand", "MatMul") else 2], {})


def test_what_is_not_understood_is_an_element_of_its_own() -> None:
    b = Builder()
    x = b.input("x", 2, 3)
    graph = b.graph(b.node("Softmax", x))
    _, element = read(graph, graph.outputs[0], "ij")
    assert isinstance(element, Polynomial) and element.atom is not None
    assert element.atom.key[1] is graph.outputs[0]
