"""Symbols, lengths and random expressions for tests about dimensions."""

from hypothesis import strategies as st

from tlite_vk.graph import shape as s
from tlite_vk.graph.shape import Dim, symbol

B, T, C = symbol("B"), symbol("T"), symbol("C")
P = symbol("P", 0)
LENGTHS = st.fixed_dictionaries(
    {"B": st.integers(1, 5), "T": st.integers(1, 300), "C": st.integers(1, 99), "P": st.integers(0, 300)}
)


def dims() -> st.SearchStrategy[Dim]:
    """Expressions such as shape arithmetic makes them."""
    leaves = st.one_of(st.integers(0, 70), st.sampled_from([B, T, C, P]))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(s.add, inner, inner),
            st.builds(s.multiply, inner, inner),
            st.builds(s.maximum, inner, inner),
            st.builds(s.minimum, inner, inner),
            st.builds(s.ceil_div, inner, st.integers(1, 9)),
            st.builds(s.floor_div, inner, st.integers(1, 9)),
        ),
        max_leaves=4,
    )


def polynomials() -> st.SearchStrategy[Dim]:
    """Sums and products of lengths and numbers."""
    leaves = st.one_of(st.integers(0, 70), st.sampled_from([B, T, C, P]))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.builds(s.add, inner, inner), st.builds(s.multiply, inner, inner)),
        max_leaves=4,
    )
