"""The fit of groups: never worse than min/max, exact on a grid, near the best that an exhaustive search finds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tlite_vk.quantize import fit
from tlite_vk.quantize.fit import Fit

Floats = npt.NDArray[np.float32]
FORMS: dict[str, tuple[Callable[..., Fit], int, int]] = {
    "affine": (fit.affine, 0, 15),
    "affine_zero": (lambda w, **o: fit.affine(w, hold_zero=True, **o), 0, 15),
    "symmetric4": (lambda w, **o: fit.symmetric(w, 4, **o), -8, 7),
    "symmetric8": (lambda w, **o: fit.symmetric(w, 8, **o), -128, 127),
    "zero_point": (fit.zero_point, 0, 15),
}
forms = pytest.mark.parametrize("form", FORMS)


def squared(w: Floats, found: Fit) -> npt.NDArray[np.float64]:
    """The squared error of each group, in double precision and from the stored parts alone."""
    difference = found.values().astype(np.float64) - w.astype(np.float64)
    return np.asarray((difference**2).sum(axis=1))


def check(form: str, w: Floats) -> None:
    """Codes in range, values from the stored parts, no group worse than with min/max."""
    function, low, high = FORMS[form]
    best, plain = function(w), function(w, least_squares=False)
    for found in (best, plain):
        assert found.codes.min() >= low and found.codes.max() <= high
        assert np.isfinite(found.step).all() and np.isfinite(found.values()).all()
        np.testing.assert_allclose(found.error, squared(w, found), rtol=1e-4, atol=1e-12)
    slack = 1e-6 * squared(w, plain) + 1e-13 * (w.astype(np.float64) ** 2).sum(axis=1)
    assert (squared(w, best) <= squared(w, plain) + slack).all()


@forms
@pytest.mark.parametrize("group", [1, 3, 32, 64, 127, 128])
def test_no_group_is_worse_than_with_min_max(form: str, group: int) -> None:
    rng = np.random.default_rng(group)
    for scale, offset in ((0.02, 0.0), (1.0, 0.5), (1e-4, 0.0), (300.0, -2000.0)):
        w = (rng.standard_t(4, (257, group)) * scale + offset).astype(np.float32)
        check(form, w)


@forms
@given(w=arrays(np.float32, (3, 8), elements=st.floats(-100, 100, width=32)))
def test_no_group_is_worse_whatever_it_holds(form: str, w: Floats) -> None:
    check(form, w)


@forms
def test_groups_of_one_value(form: str) -> None:
    w = np.repeat(np.array([[0.0], [1.0], [-0.375], [6e-8], [1e-9], [1000.5]], np.float32), 32, axis=1)
    check(form, w)
    if form == "affine":
        np.testing.assert_array_equal(fit.affine(w).values()[:3], w[:3])


def grid(rng: np.random.Generator, low: int, high: int, groups: int, size: int) -> tuple[Floats, Floats]:
    """(codes [groups, size] that use the whole range, steps [groups, 1] that are halves)."""
    codes = rng.integers(low, high + 1, (groups, size)).astype(np.float32)
    codes[:, 0], codes[:, 1] = low, high
    steps = rng.uniform(0.001, 0.1, (groups, 1)).astype(np.float16).astype(np.float32)
    return codes, steps


@pytest.mark.parametrize("least_squares", [True, False])
def test_weights_on_a_grid_come_back_exactly(least_squares: bool) -> None:
    rng = np.random.default_rng(7)
    codes, steps = grid(rng, 0, 15, 100, 64)
    minimum = rng.uniform(-1, 1, (100, 1)).astype(np.float16).astype(np.float32)
    w = codes * steps + minimum
    found = fit.affine(w, least_squares=least_squares)
    np.testing.assert_array_equal(found.values(), w)
    np.testing.assert_array_equal(found.codes, codes)


@pytest.mark.parametrize(("bits", "low", "high"), [(4, -8, 7), (8, -128, 127), (4, -7, 7), (8, -127, 127)])
def test_weights_on_a_symmetric_grid_come_back_exactly(bits: int, low: int, high: int) -> None:
    codes, steps = grid(np.random.default_rng(8), low, high, 50, 64)
    np.testing.assert_array_equal(fit.symmetric(codes * steps, bits).values(), codes * steps)


def test_weights_on_a_grid_with_a_zero_point_come_back_exactly() -> None:
    rng = np.random.default_rng(9)
    codes, steps = grid(rng, 0, 15, 50, 64)
    zero = rng.integers(0, 16, (50, 1)).astype(np.float32)
    found = fit.zero_point((codes - zero) * steps, least_squares=False)
    np.testing.assert_array_equal(found.values(), (codes - zero) * steps)
    assert found.zero is not None
    np.testing.assert_array_equal(found.zero, zero[:, 0])


@pytest.mark.parametrize("group", [32, 64, 128])
def test_least_squares_comes_close_to_an_exhaustive_search(group: int) -> None:
    w = np.random.default_rng(10).standard_normal((300, group)).astype(np.float32)
    low, high = w.min(axis=1), w.max(axis=1)
    best = np.full(len(w), np.inf)
    for cut_low in np.linspace(0, 0.3, 25):
        for cut_high in np.linspace(0, 0.3, 25):
            step = (high - low) * (1 - cut_low - cut_high) / 15
            start = low + cut_low * (high - low)
            codes = np.clip(np.rint((w - start[:, None]) / step[:, None]), 0, 15)
            best = np.minimum(best, ((codes * step[:, None] + start[:, None] - w) ** 2).sum(axis=1))
    assert fit.affine(w).error.sum() <= 1.02 * best.sum()
    assert fit.affine(w).error.sum() <= 0.87 * fit.affine(w, least_squares=False).error.sum()


def test_a_code_for_zero_where_it_costs_no_more_than_min_max() -> None:
    """Then small weights stay small: the nearest code to 0 stands for 0, but for the rounding of the minimum."""
    w = np.random.default_rng(12).standard_normal((400, 64)).astype(np.float32)
    plain, free, held = fit.affine(w, least_squares=False), fit.affine(w), fit.affine(w, hold_zero=True)
    assert held.minimum is not None
    levels = np.arange(16) * held.step.astype(np.float32)[:, None] + held.minimum.astype(np.float32)[:, None]
    holds = np.abs(levels).min(axis=1) < 0.01 * held.step.astype(np.float32)
    assert 0.3 < holds.mean() < 1
    assert free.error.sum() < held.error.sum() < plain.error.sum()
    np.testing.assert_array_equal(held.values()[~holds], free.values()[~holds])


def test_the_minimum_pays_where_groups_lie_off_centre() -> None:
    w = np.random.default_rng(11).uniform(0.5, 1.0, (64, 32)).astype(np.float32)
    assert fit.affine(w).error.sum() < 0.2 * fit.symmetric(w, 4).error.sum()
