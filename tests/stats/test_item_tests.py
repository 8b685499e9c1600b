"""Tests of paired items: against scipy, statsmodels and their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, norm, permutation_test
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from harness.stats.item_tests import effective_pairs, mcnemar_exact, mcnemar_mid_p, sign_flip, tango, tango_interval

COUNTS = st.integers(0, 40)


def discordant(n_first: int, n_second: int, n_same: int = 0):
    return np.array([1.0] * n_first + [-1.0] * n_second + [0.0] * n_same)


# McNemar


@given(COUNTS, COUNTS)
@settings(max_examples=80)
def test_mid_p_is_the_exact_p_less_half_of_what_was_seen(n_first, n_second):
    assume(n_first + n_second > 0)
    seen = binomtest(n_first, n_first + n_second, 0.5).pvalue
    exact = mcnemar([[3, n_first], [n_second, 5]], exact=True).pvalue
    assert exact == pytest.approx(seen)
    found = mcnemar_mid_p(discordant(n_first, n_second, 8), "two-sided")
    chance = float(np.exp(np.log(2) * -(n_first + n_second))) * _choose(n_first + n_second, n_first)
    assert found == pytest.approx(min(1.0, exact - chance if n_first != n_second else 1.0))
    assert found <= exact
    assert mcnemar_exact(discordant(n_first, n_second, 8), "two-sided") == pytest.approx(exact)
    one = mcnemar_mid_p(discordant(n_first, n_second), "greater")
    other = mcnemar_mid_p(discordant(n_second, n_first), "greater")
    assert one + other == pytest.approx(1)
    assert min(1, 2 * min(one, other)) == pytest.approx(found)


def _choose(n: int, k: int) -> int:
    from math import comb

    return comb(n, k)


def test_no_discordant_pair_shows_nothing():
    assert mcnemar_mid_p(np.zeros(9), "two-sided") == mcnemar_mid_p(np.zeros(9), "greater") == 1.0


# Sign flips


def scipy_p(values, alternative):
    found = permutation_test(
        (values,), lambda x, axis: x.sum(axis=axis), permutation_type="samples", alternative=alternative
    )
    return float(found.pvalue)


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=12), st.sampled_from(["two-sided", "greater"]))
@settings(max_examples=60)
def test_few_values_are_flipped_in_every_way_as_scipy_does(values, alternative):
    known = np.array([value for value in values if value], dtype=float)
    assume(known.size > 1)
    assert sign_flip(np.array(values, dtype=float), alternative, 0) == pytest.approx(scipy_p(known, alternative))


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_many_values_are_flipped_at_random_as_scipy_does(alternative):
    values = np.random.default_rng(2).normal(0.25, 1, 60)
    found = sign_flip(values, alternative, 1)
    assert found == sign_flip(values, alternative, 1) != sign_flip(values, alternative, 2)
    assert found == pytest.approx(scipy_p(values, alternative), abs=0.01)


def test_one_value_and_none_show_nothing():
    assert sign_flip(np.array([0.0, 0.0]), "two-sided", 0) == 1.0
    assert sign_flip(np.array([3.0]), "two-sided", 0) == 1.0
    assert sign_flip(np.array([3.0]), "greater", 0) == 0.5


# Tango


def by_likelihood(n_first, n_second, n_pairs, difference):
    """The score statistic from a search for the likeliest rate of second-only pairs under the supposed difference."""

    def minus_log(second):
        first = second + difference
        return -(n_first * np.log(first) + n_second * np.log(second) + _rest(1 - first - second))

    def _rest(share):
        return (n_pairs - n_first - n_second) * np.log(share)

    ends = max(0.0, -difference) + 1e-12, (1 - difference) / 2 - 1e-12
    second = minimize_scalar(minus_log, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
    variance = n_pairs * (2 * second + difference - difference**2)
    return (n_first - n_second - n_pairs * difference) / variance**0.5


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 40), st.floats(-0.8, 0.8))
@settings(max_examples=80)
def test_tango_is_the_score_test(n_first, n_second, n_same, difference):
    n_pairs = n_first + n_second + n_same
    expected = by_likelihood(n_first, n_second, n_pairs, difference)
    assert tango(n_first, n_second, n_pairs, difference) == pytest.approx(expected, abs=2e-3, rel=2e-3)


@given(COUNTS, COUNTS, COUNTS)
@settings(max_examples=80)
def test_tango_at_zero_is_mcnemar_s_chi_squared(n_first, n_second, n_same):
    assume(n_first + n_second > 0)
    expected = mcnemar([[0, n_first], [n_second, n_same]], exact=False, correction=False).statistic
    assert tango(n_first, n_second, n_first + n_second + n_same, 0.0) ** 2 == pytest.approx(expected)


@given(COUNTS, COUNTS, COUNTS)
@settings(max_examples=80)
def test_the_interval_holds_what_the_statistic_does_not_reject(n_first, n_second, n_same):
    n_pairs = n_first + n_second + n_same
    assume(n_pairs > 0)
    low, high = tango_interval(n_first, n_second, n_pairs, 1.96)
    assert -1 <= low <= (n_first - n_second) / n_pairs <= high <= 1
    for end, sign in ((low, 1), (high, -1)):
        if abs(end) < 1:
            assert tango(n_first, n_second, n_pairs, end) == pytest.approx(1.96 * sign, abs=1e-4)
    back = tango_interval(n_second, n_first, n_pairs, 1.96)
    assert back == pytest.approx((-high, -low), abs=1e-6)


def test_no_discordant_pair_still_has_wilson_s_width():
    quantile = float(norm.ppf(0.975))
    assert tango_interval(0, 0, 50, quantile)[1] == pytest.approx(proportion_confint(0, 50, method="wilson")[1])


def test_independent_pairs_are_worth_themselves_and_flat_ones_their_clusters():
    values = discordant(12, 5, 33)
    error = float(values.std(ddof=0)) / 50**0.5
    assert effective_pairs(values.mean(), 17 / 50, error, 50, 50) == pytest.approx(50)
    assert effective_pairs(values.mean(), 17 / 50, 2 * error, 50, 10) == pytest.approx(12.5)
    assert effective_pairs(0.0, 0.0, 0.0, 50, 10) == 10
