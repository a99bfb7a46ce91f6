"""Where a step is cut so that no submission lasts longer than a bound: made-up times, no device."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlite_vk.pacing import HEADROOM, Pace, Work
from tlite_vk.program import Dispatch

A, B, C = Work("a", 10), Work("b", 1), Work("c", 100)
MS = 1e-3


def paced(bound: float, **per_group: float) -> Pace:
    """A pace that was taught what a workgroup of each kind takes."""
    pace = Pace(bound)
    for kind, seconds in per_group.items():
        pace.learn([Work(kind, 1)], seconds)
    return pace


def test_without_a_bound_nothing_is_cut() -> None:
    assert Pace().cut([A, B, C]) == [range(3)]
    assert Pace().cut([]) == [range(0)]
    assert Pace().tokens({8: [A], 64: [C]}) == 64


def test_what_was_never_measured_is_submitted_alone() -> None:
    pace = paced(50 * MS, a=MS)
    assert pace.cut([A, A, B, A, A]) == [range(2), range(2, 3), range(3, 5)]
    assert pace.seconds([A, B]) is None and pace.seconds([A, A]) == pytest.approx(20 * MS)


def test_time_grows_with_workgroups() -> None:
    pace = Pace(50 * MS)
    pace.learn([Work("a", 10)], 5 * MS)
    assert pace.seconds([Work("a", 40)]) == pytest.approx(20 * MS)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 100)), min_size=1, max_size=40),
    st.fixed_dictionaries({kind: st.floats(1e-6, 1e-2) for kind in "abcd"}),
    st.floats(1e-4, 1.0),
)
def test_every_part_keeps_to_the_bound(pairs: list[tuple[str, int]], rates: dict[str, float], bound: float) -> None:
    works = [Work(*pair) for pair in pairs]
    pace = paced(bound, **rates)
    parts = pace.cut(works)
    assert [i for part in parts for i in part] == list(range(len(works)))  # all of them, in order
    for part in parts:
        expected = pace.seconds(works[part.start : part.stop])
        assert expected is not None
        assert expected <= bound * (HEADROOM + 1e-9) or len(part) == 1
    for part, following in pairwise(parts):  # and none that had room for one more
        longer = pace.seconds(works[part.start : following.start + 1])
        assert longer is not None and longer > bound * HEADROOM * (1 - 1e-9)


def test_a_run_that_was_too_long_is_cut_anew_and_then_fits() -> None:
    pace, works = paced(50 * MS, a=MS), [A] * 12
    parts = pace.cut(works)
    assert parts == [range(3), range(3, 6), range(6, 9), range(9, 12)]
    took = [90 * MS] * 4  # three times what was expected: a cache that has grown, a GPU that is hot
    assert not pace.suits(works, parts, took)
    for part in parts:
        pace.learn(works[part.start : part.stop], 90 * MS)
    assert all(len(part) == 1 for part in pace.cut(works))
    assert pace.suits(works, pace.cut(works), [30 * MS] * 12)


def test_a_run_that_was_much_faster_takes_fewer_submissions() -> None:
    pace, works = paced(50 * MS, a=3 * MS), [A] * 12
    parts = pace.cut(works)
    assert len(parts) == 12
    for part in parts:
        pace.learn(works[part.start : part.stop], MS)
    assert not pace.suits(works, parts, [MS] * 12) and pace.cut(works) == [range(12)]


def test_one_slow_run_changes_little_at_once() -> None:
    pace = paced(50 * MS, a=MS)
    pace.learn([A], 10.0)
    assert pace.seconds([A]) == pytest.approx(40 * MS)


def test_a_dispatch_that_is_too_long_alone_asks_for_shorter_steps() -> None:
    works = {tokens: [Work("product", tokens), Work("head", 900)] for tokens in (32, 64, 128)}
    assert Pace(50 * MS).tokens(works) == 32  # nothing is known
    assert paced(50 * MS, product=0.1 * MS, head=MS).tokens(works) == 128  # no shorter step makes the head shorter
    assert paced(50 * MS, product=0.5 * MS, head=MS).tokens(works) == 64
    assert paced(50 * MS, product=9 * MS, head=MS).tokens(works) == 32


def test_alike_are_dispatches_of_one_kernel_with_the_same_constants() -> None:
    def work(kernel: int, push: tuple[object, ...], tokens: int) -> Work:
        groups = (["*", 2, "T"], 3, 1)
        return Work.of(Dispatch(kernel, (), groups, push, "any"), {"T": tokens})  # type: ignore[arg-type]

    assert work(1, (576, "T", 0.5), 8) == Work((1, (576, 0.5)), 48)
    assert work(1, (576, "T", 0.5), 8).kind == work(1, (576, "T", 0.5), 16).kind
    assert work(1, (576, "T", 0.5), 8).kind != work(1, (1536, "T", 0.5), 8).kind != work(2, (1536, "T", 0.5), 8).kind
