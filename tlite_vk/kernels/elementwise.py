"""Elementwise operators: one expression each. Chains of them become one kernel (see generated/fusion.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

from tlite_vk.errors import ModelError
from tlite_vk.graph.ir import Node

from .generated.fusion import pull, pulls
from .generated.index import Index
from .generated.source import Source, kind_of, number

Expression = Callable[..., str]

_BITS = {"int4": 4, "int8": 8, "int16": 16, "uint4": 4, "uint8": 8, "uint16": 16}


def wrap(element: str, dtype: str) -> str:
    """A 32-bit result in the range of a narrower integer type, as two's complement has it."""
    if dtype not in _BITS:
        return element
    if dtype.startswith("u"):
        return f"({element}) & {2 ** _BITS[dtype] - 1}"
    return f"bitfieldExtract({element}, 0, {_BITS[dtype]})"


def operands(source: Source, node: Node, at: Index) -> list[str]:
    """The elements of all inputs that an output position needs, by broadcasting."""
    return [pull(source, v, at.broadcast(v.dims)) for v in node.inputs if v is not None]


def _register(table: dict[str, Expression], work: int) -> None:
    """Operators whose element is a call of a function: (kernel, kind of the inputs, attributes, elements) -> text."""
    for op, expression in table.items():

        def rule(source: Source, node: Node, out: int, at: Index, expression: Expression = expression) -> str:
            kind = kind_of(node.input(0).dtype)
            text = expression(source, kind, node.attributes, *operands(source, node, at))
            return wrap(text, node.output.dtype)

        pulls(op, work=work)(rule)


def _plain(template: str) -> Expression:
    """The same text for all kinds."""
    return lambda source, kind, attributes, *x: template.format(*x)


def _called(function: str, **others: str) -> Expression:
    """One of our GLSL functions; `others` names those for other kinds than float."""
    return lambda source, kind, attributes, *x: source.call(others.get(kind, function), *x)


def _by_kind(**templates: str) -> Expression:
    return lambda source, kind, attributes, *x: templates[kind].format(*x)


def _with_attributes(template: str, **defaults: float) -> Expression:
    """A text with attributes (and their default values) by name."""

    def expression(source: Source, kind: str, attributes: dict[str, Any], *x: str) -> str:
        return template.format(*x, **{k: number(float(attributes.get(k, d))) for k, d in defaults.items()})

    return expression


def _relu(source: Source, kind: str, attributes: dict[str, Any], x: str) -> str:
    """Drivers may make max(x, 0) of a comparison, which loses NaN."""
    return source.call("maximum", x, "0.0") if kind == "float" else f"max({x}, 0)"


_register(
    {
        "Add": _plain("{0} + {1}"),
        "Sub": _plain("{0} - {1}"),
        "Mul": _plain("{0} * {1}"),
        "And": _plain("{0} && {1}"),
        "Or": _plain("{0} || {1}"),
        "Xor": _plain("{0} != {1}"),
        "Not": _plain("!{0}"),
        "BitwiseAnd": _plain("{0} & {1}"),
        "BitwiseOr": _plain("{0} | {1}"),
        "BitwiseXor": _plain("{0} ^ {1}"),
        "BitwiseNot": _plain("~{0}"),
        "Equal": _plain("{0} == {1}"),
        "Less": _plain("{0} < {1}"),
        "LessOrEqual": _plain("{0} <= {1}"),
        "Greater": _plain("{0} > {1}"),
        "GreaterOrEqual": _plain("{0} >= {1}"),
        "Where": _plain("{0} ? {1} : {2}"),
        "PRelu": lambda source, kind, attributes, x, slope: f"{x} >= {number(0, kind)} ? {x} : {x} * {slope}",
        "Neg": _plain("-{0}"),
        "Abs": _by_kind(float="abs({0})", int="abs({0})", uint="{0}", bool="{0}"),
        "Relu": _relu,
        "LeakyRelu": _with_attributes("{0} >= 0.0 ? {0} : {alpha} * {0}", alpha=0.01),
        "ThresholdedRelu": _with_attributes("{0} > {alpha} ? {0} : 0.0", alpha=1.0),
        "HardSigmoid": _with_attributes("clamp({alpha} * {0} + {beta}, 0.0, 1.0)", alpha=0.2, beta=0.5),
        "HardSwish": _plain("{0} * clamp({0} / 6.0 + 0.5, 0.0, 1.0)"),
        "Shrink": _with_attributes(
            "{0} < -{lambd} ? {0} + {bias} : {0} > {lambd} ? {0} - {bias} : 0.0", bias=0.0, lambd=0.5
        ),
        "Ceil": _plain("ceil({0})"),
        "Floor": _plain("floor({0})"),
        "Round": _plain("roundEven({0})"),
        "Sign": _by_kind(float="{0} > 0.0 ? 1.0 : {0} < 0.0 ? -1.0 : {0}", int="sign({0})", uint="min({0}, 1u)"),
        "IsNaN": _called("isNaN"),
        "Reciprocal": lambda source, kind, attributes, x: source.call("divide", "1.0", x),
        "Softsign": _plain("{0} / (1.0 + abs({0}))"),
        "Div": _called("divide", int="divideInt", uint="divideUint"),
        "Sqrt": _called("squareRoot"),
    },
    work=1,
)

_register(
    {
        "Acos": _called("arcCosine"),
        "Acosh": _called("areaCosine"),
        "Asin": _called("arcSine"),
        "Asinh": _called("areaSine"),
        "Atan": _called("arcTangent"),
        "Atanh": _called("areaTangent"),
        "Cos": _called("cosine"),
        "Cosh": _called("hyperbolicCosine"),
        "Erf": _called("errorFunction"),
        "Exp": _called("exponential"),
        "Log": _called("logarithm"),
        "Sigmoid": _called("sigmoid"),
        "Sin": _called("sine"),
        "Sinh": _called("hyperbolicSine"),
        "Softplus": _called("softplus"),
        "Tan": _called("tangent"),
        "Tanh": _called("hyperbolicTangent"),
        "Mish": lambda source, kind, attributes, x: (
            f"{x} * {source.call('hyperbolicTangent', source.call('softplus', x))}"
        ),
    },
    work=4,
)


def _variadic(op: str, combine: Callable[[Source, str, str, str], str]) -> None:
    """An operator of any number of inputs."""

    def rule(source: Source, node: Node, out: int, at: Index) -> str:
        kind = kind_of(node.output.dtype)
        return wrap(
            reduce(lambda a, b: source.let(kind, combine(source, kind, a, b)), operands(source, node, at)),
            node.output.dtype,
        )

    pulls(op)(rule)


def larger(source: Source, kind: str, a: str, b: str) -> str:
    return source.call("maximum", a, b) if kind == "float" else f"{a} || {b}" if kind == "bool" else f"max({a}, {b})"


def smaller(source: Source, kind: str, a: str, b: str) -> str:
    return source.call("minimum", a, b) if kind == "float" else f"{a} && {b}" if kind == "bool" else f"min({a}, {b})"


_variadic("Max", larger)
_variadic("Min", smaller)
_variadic("Sum", lambda source, kind, a, b: f"{a} + {b}")


@pulls("Mean")
def mean(source: Source, node: Node, out: int, at: Index) -> str:
    elements = operands(source, node, at)
    return f"({' + '.join(elements)}) / {number(len(elements))}"


@pulls("Clip")
def clip(source: Source, node: Node, out: int, at: Index) -> str:
    kind = kind_of(node.output.dtype)
    element = pull(source, node.input(0), at)
    for bound, combine in ((node.optional(1), larger), (node.optional(2), smaller)):
        if bound is not None:
            element = source.let(kind, combine(source, kind, element, pull(source, bound, at.broadcast(bound.dims))))
    return element


@pulls("Pow", work=4)
def power(source: Source, node: Node, out: int, at: Index) -> str:
    x, y = operands(source, node, at)
    base, exponent = kind_of(node.input(0).dtype), kind_of(node.input(1).dtype)
    if base == "float":
        if y in ("2.0", "2", "2u"):
            return f"{x} * {x}"
        return source.call("power", x, y if exponent == "float" else f"float({y})")
    if exponent == "float":
        raised = source.call("power", f"float({x})", y)
        return wrap(source.call("toUint" if base == "uint" else "toInt", raised), node.output.dtype)
    raised = source.call("powerInt", f"int({x})", f"int({y})")
    return wrap(f"{base}({raised})", node.output.dtype)


@pulls("Mod", work=4)
def modulo(source: Source, node: Node, out: int, at: Index) -> str:
    x, y = operands(source, node, at)
    truncated = bool(node.attributes.get("fmod", 0))
    name = {
        "float": "remainderFloat" if truncated else "moduloFloat",
        "uint": "moduloUint",
        "int": "remainderInt" if truncated else "moduloInt",
    }[kind_of(node.output.dtype)]
    return source.call(name, x, y)


@pulls("BitShift")
def bit_shift(source: Source, node: Node, out: int, at: Index) -> str:
    """Shifts by the width or more, and by less than nothing, leave nothing but the sign."""
    x, y = operands(source, node, at)
    left = node.attributes["direction"] == "LEFT"
    dtype = node.output.dtype
    kind = kind_of(dtype)
    rest = number(0, kind) if left or kind == "uint" else f"({x} < 0 ? -1 : 0)"
    far = f"uint({y}) >= {_BITS.get(dtype, 32)}u"
    return wrap(f"{far} ? {rest} : {x} {'<<' if left else '>>'} {y}", dtype)


@pulls("IsInf")
def is_infinite(source: Source, node: Node, out: int, at: Index) -> str:
    x = pull(source, node.input(0), at)
    signs = [
        f"{x} {sign} 0.0"
        for name, sign in (("detect_positive", ">"), ("detect_negative", "<"))
        if node.attributes.get(name, 1)
    ]
    return f"{source.call('isInfinite', x)} && ({' || '.join(signs)})" if signs else "false"


def _activation(op: str, text: Callable[[Source, dict[str, Any], str], str]) -> None:
    """An activation of floats with attributes."""
    pulls(op, work=4)(lambda source, node, out, at: text(source, node.attributes, pull(source, node.input(0), at)))


def _elu(source: Source, attributes: dict[str, Any], x: str) -> str:
    alpha = number(attributes.get("alpha", 1.0))
    return f"{x} > 0.0 ? {x} : {alpha} * {source.call('exponentialLess1', x)}"


def _celu(source: Source, attributes: dict[str, Any], x: str) -> str:
    alpha = number(attributes.get("alpha", 1.0))
    return f"max({x}, 0.0) + min(0.0, {alpha} * {source.call('exponentialLess1', f'{x} / {alpha}')})"


def _selu(source: Source, attributes: dict[str, Any], x: str) -> str:
    alpha = number(attributes.get("alpha", 1.67326319217681884765625))
    gamma = number(attributes.get("gamma", 1.05070102214813232421875))
    return f"{gamma} * ({x} > 0.0 ? {x} : {alpha} * {source.call('exponentialLess1', x)})"


def _swish(source: Source, attributes: dict[str, Any], x: str) -> str:
    alpha = number(attributes.get("alpha", 1.0))
    return f"{x} * {source.call('sigmoid', x if alpha == '1.0' else f'{alpha} * {x}')}"


def _gelu(source: Source, attributes: dict[str, Any], x: str) -> str:
    form = attributes.get("approximate", "none")
    if form == "tanh":
        inner = f"0.797884561 * ({x} + 0.044715 * {x} * {x} * {x})"
        return f"0.5 * {x} * (1.0 + {source.call('hyperbolicTangent', inner)})"
    if form != "none":
        raise ModelError(f"Gelu with approximate={form!r} is not supported")
    return f"0.5 * {x} * (1.0 + {source.call('errorFunction', f'0.707106781 * {x}')})"


for _op, _text in {"Elu": _elu, "Celu": _celu, "Selu": _selu, "Swish": _swish, "Gelu": _gelu}.items():
    _activation(_op, _text)
