"""Sampling on the host, the twin that tests/kernels compares the device with: what may be drawn, what is refused."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlite_vk.errors import InputError, ModelError
from tlite_vk.host_sampler import Sampler, candidates, masses, penalize, philox
from tlite_vk.sampling import LOG2_E, SamplingOptions, Settings, top_logprobs

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.25, 0.05], np.float32))


def kept_by(logits: npt.NDArray[np.float32], top_k: int, top_p: float) -> npt.NDArray[np.int64]:
    """Ids that pass the filters, most likely first."""
    settings = Settings.of(SamplingOptions(temperature=1.0, top_k=top_k, top_p=top_p))
    return candidates(logits, settings.top_k, settings.top_p)


def draw(options: SamplingOptions, count: int = 4000) -> np.ndarray:
    """How often each token is drawn, as a share."""
    sampler = Sampler(options)
    return np.bincount([sampler(LOGITS) for _ in range(count)], minlength=len(LOGITS)) / count


def test_greedy_takes_the_most_likely_and_the_first_of_equals() -> None:
    assert Sampler()(LOGITS) == 1
    assert Sampler()(np.array([0.0, 2.0, 2.0], np.float32)) == 1
    assert SamplingOptions().greedy and not SamplingOptions(temperature=0.1).greedy


def test_draws_follow_the_probabilities() -> None:
    np.testing.assert_allclose(draw(SamplingOptions(temperature=1.0, seed=1)), np.exp(LOGITS), atol=0.03)


def test_temperature_sharpens_and_flattens() -> None:
    probabilities = np.exp(LOGITS.astype(np.float64))
    for temperature in (0.5, 2.0):
        expected = probabilities ** (1 / temperature)
        shares = draw(SamplingOptions(temperature=temperature, seed=2))
        np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.03)


def test_a_tiny_temperature_is_greedy() -> None:
    assert draw(SamplingOptions(temperature=1e-30, seed=0), 20)[1] == 1.0


def test_the_seed_decides() -> None:
    first, second, other = (Sampler(SamplingOptions(temperature=1.0, seed=s)) for s in (5, 5, 6))
    runs = [[sampler(LOGITS) for _ in range(50)] for sampler in (first, second, other)]
    assert runs[0] == runs[1] != runs[2]


def test_without_a_seed_each_generation_has_its_own() -> None:
    assert Settings.of(SamplingOptions(temperature=1.0)).seed != Settings.of(SamplingOptions(temperature=1.0)).seed


def test_philox_gives_the_known_answers_of_its_authors() -> None:
    assert philox(0, 0) == 0xE169C58D_6627E8D5


def test_masses_are_the_exponential() -> None:
    logits = np.linspace(-27, 0, 100_001, dtype=np.float32)
    found = masses(logits, np.float32(0), LOG2_E) / 2.0**40
    np.testing.assert_allclose(found, np.exp(logits.astype(np.float64)), rtol=1e-6, atol=2.0**-40)
    assert masses(np.array([0, -40, -np.inf], np.float32), np.float32(0), LOG2_E).tolist() == [2**40, 0, 0]


def test_top_k_keeps_the_most_likely() -> None:
    assert kept_by(LOGITS, 2, 1.0).tolist() == [1, 3]
    assert kept_by(LOGITS, 0, 1.0).tolist() == [1, 3, 2, 0, 4]
    assert kept_by(LOGITS, 99, 1.0).tolist() == [1, 3, 2, 0, 4]
    assert kept_by(np.zeros(6, np.float32), 3, 1.0).tolist() == [0, 1, 2]
    assert set(np.flatnonzero(draw(SamplingOptions(temperature=5.0, top_k=2, seed=3)))) == {1, 3}


@pytest.mark.parametrize(("p", "kept"), [(0.3, [1]), (0.41, [1, 3]), (0.64, [1, 3]), (0.8, [1, 3, 2]), (1e-9, [1])])
def test_top_p_keeps_the_smallest_nucleus(p: float, kept: list[int]) -> None:
    assert kept_by(LOGITS, 0, p).tolist() == kept


@given(st.integers(0, 10**6), st.floats(0.01, 0.999))
def test_top_p_of_many_tokens_is_the_nucleus_by_definition(seed: int, p: float) -> None:
    logits = (5 * np.random.default_rng(seed).standard_normal(300)).astype(np.float32)
    order = np.argsort(-logits, kind="stable")
    mass = np.cumsum(np.exp(logits[order].astype(np.float64)))
    kept = kept_by(logits, 0, p)
    size = len(kept)
    assert kept.tolist() == order[:size].tolist()
    assert mass[size - 1] >= p * mass[-1] * (1 - 1e-6)
    assert size == 1 or mass[size - 2] <= p * mass[-1] * (1 + 1e-6)


def test_top_p_counts_only_what_top_k_left() -> None:
    assert kept_by(LOGITS, 2, 0.6).tolist() == [1]  # 0.4 of 0.65 is 0.615


@given(
    logits=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=40),
    top_k=st.integers(0, 45),
    top_p=st.floats(0.01, 1.0),
    temperature=st.floats(0.05, 5.0),
    seed=st.integers(0, 99),
)
def test_draws_come_from_the_filtered_tokens(
    logits: list[float], top_k: int, top_p: float, temperature: float, seed: int
) -> None:
    values = np.array(logits, np.float32)
    kept = kept_by(values, top_k, top_p)
    assert 1 <= len(kept) <= (top_k or len(values))
    assert values[kept[0]] == values.max()
    left_out = np.delete(values, kept)
    assert left_out.size == 0 or left_out.max() <= values[kept].min()
    options = SamplingOptions(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    assert Sampler(options)(values) in kept


def test_tokens_that_are_ruled_out_are_never_drawn() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, 1.0], np.float32)
    sampler = Sampler(SamplingOptions(temperature=10.0, seed=0))
    assert {sampler(logits) for _ in range(200)} == {1, 3}


def test_repetition_penalty() -> None:
    logits = np.array([2.0, -2.0, 1.5], np.float32)
    assert penalize(logits, [0, 0, 1], Settings.of(SamplingOptions(repetition_penalty=2.0))).tolist() == [
        1.0,
        -4.0,
        1.5,
    ]
    assert logits.tolist() == [2.0, -2.0, 1.5]
    assert Sampler(SamplingOptions(repetition_penalty=2.0))(logits, [0]) == 2
    assert Sampler(SamplingOptions(repetition_penalty=2.0))(logits) == 0


@pytest.mark.parametrize("bad", [[0.0, np.nan], [np.inf, 0.0], [-np.inf, -np.inf]])
def test_logits_that_are_not_finite_are_refused(bad: list[float]) -> None:
    for options in (SamplingOptions(), SamplingOptions(temperature=1.0)):
        with pytest.raises(ModelError, match="not finite"):
            Sampler(options)(np.array(bad, np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_k": -1}, "top-k"),
        ({"top_p": 0.0}, "top-p"),
        ({"top_p": 1.5}, "top-p"),
        ({"seed": -1}, "seed"),
        ({"seed": 1 << 64}, "seed"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"top_k": 2.5}, "top-k must be a whole number"),
        ({"repetition_penalty": 0.0}, "repetition penalty"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SamplingOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 3, 5, 99])
def test_log_probabilities_of_the_most_likely(count: int) -> None:
    tokens, total = top_logprobs(LOGITS + 300, count)
    order = [1, 3, 2, 0, 4][:count]
    assert [i for i, _ in tokens] == order
    np.testing.assert_allclose([p for _, p in tokens], LOGITS[order], atol=1e-4)
    assert float(LOGITS[4]) + 300 - total == pytest.approx(np.log(0.05), abs=1e-4)


def test_log_probabilities_of_equal_and_impossible_tokens() -> None:
    tokens, _ = top_logprobs(np.array([-np.inf, 1.0, 1.0, 1.0], np.float32), 2)
    assert [i for i, _ in tokens] == [1, 2]
    assert top_logprobs(np.array([-np.inf, 1.0], np.float32), 2)[0] == [(1, 0.0), (0, -np.inf)]
    with pytest.raises(InputError, match="must be 0 or more"):
        top_logprobs(LOGITS, -1)
