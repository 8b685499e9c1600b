"""Power: against statsmodels, against exact probabilities, and there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.power import NormalIndPower, TTestIndPower, TTestPower
from statsmodels.stats.proportion import proportion_effectsize

from harness.stats.item_tests import mcnemar_mid_p
from harness.stats.paired import Differences, paired_over_seeds
from harness.stats.power import (
    detectable_rate_difference,
    detectable_score_difference,
    detectable_unpaired_rate,
    needed_items_paired_rate,
    needed_items_score,
    needed_items_unpaired_rate,
    over_seeds_factor,
)

POWER = st.floats(0.6, 0.95)


@given(st.floats(0.1, 1.5), st.floats(0.75, 3), POWER)
@settings(max_examples=40)
def test_scores_are_statsmodels(difference, sd, power):
    for paired, test in ((True, TTestPower()), (False, TTestIndPower())):
        n = needed_items_score(difference, sd, power, paired=paired)
        assert test.power(difference / sd, n, 0.05) >= power - 1e-6
        if n > 2:
            assert test.power(difference / sd, n - 1, 0.05) < power
    n = needed_items_score(difference, sd, power)
    if n > 30:
        assert detectable_score_difference(n, sd, power) == pytest.approx(difference, rel=0.06)


@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95), POWER)
@settings(max_examples=40)
def test_unpaired_rates_are_statsmodels(first, second, power):
    if abs(first - second) < 0.02:
        return
    n = needed_items_unpaired_rate(first, second, power)
    size = abs(proportion_effectsize(first, second))
    test = NormalIndPower()
    assert test.power(size, n, 0.05) >= power
    assert n < 3 or test.power(size, n * 0.998 - 1, 0.05) < power
    low, high = sorted((first, second))
    assert detectable_unpaired_rate(n, low, power) <= high - low + 1e-9
    if n > 30:
        assert detectable_unpaired_rate(n, low, power) == pytest.approx(high - low, rel=0.05)


def test_the_smallest_rise_has_the_power_it_says():
    rise = detectable_unpaired_rate(300, 0.2)
    size = proportion_effectsize(0.2 + rise, 0.2)
    assert NormalIndPower().power(size, 300, 0.05) == pytest.approx(0.8, abs=1e-4)
    assert detectable_unpaired_rate(5, 0.9) == pytest.approx(0.1)
    assert detectable_unpaired_rate(300, 0.2, design_effect=3) == pytest.approx(detectable_unpaired_rate(100, 0.2))


@given(st.floats(0.02, 0.5), st.floats(0.05, 1), POWER)
@settings(max_examples=40)
def test_paired_rates_there_and_back(difference, share, power):
    if difference > share:
        with pytest.raises(ValueError, match="share of items"):
            needed_items_paired_rate(difference, share, power)
        return
    n = needed_items_paired_rate(difference, share, power)
    assert detectable_rate_difference(n, share, power) <= difference + 1e-12
    assert detectable_rate_difference(n - 1, share, power) > difference or n == 1
    assert needed_items_paired_rate(difference, share, power, design_effect=2) in (2 * n - 1, 2 * n)


@pytest.mark.parametrize(("difference", "share"), [(0.05, 0.2), (0.1, 0.2), (0.1, 0.4)])
def test_so_many_items_find_a_paired_difference_as_often_as_promised(difference, share):
    """Exact power of the test that is run: over the number of discordant pairs and the side that they favour."""
    n = needed_items_paired_rate(difference, share)
    power = 0.0
    for m in range(1, n + 1):
        chance = binom.pmf(m, n, share)
        if chance > 1e-7:
            wins = np.arange(m + 1)
            found = [mcnemar_mid_p(np.array([1.0] * k + [-1.0] * (m - k)), "two-sided") <= 0.05 for k in wins]
            power += chance * binom.pmf(wins, m, (1 + difference / share) / 2)[found].sum()
    assert 0.78 <= power <= 0.86


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_over_seeds_the_factor_gives_the_power_of_the_test_that_is_run(n_seeds):
    rng = np.random.default_rng(n_seeds)
    shift = over_seeds_factor(n_seeds) * detectable_score_difference(40, 1.0)
    drawn = rng.normal(shift, 1, (250, n_seeds, 40))
    p_values = [
        paired_over_seeds([Differences(one, list(range(40))) for one in each], binary=False, span=9).p_value
        for each in drawn
    ]
    assert 0.72 <= np.mean(np.array(p_values) <= 0.05) <= 0.87


def test_two_seeds_find_less_than_one_and_five_find_more():
    assert over_seeds_factor(2) > 4 > 1.2 > over_seeds_factor(3) > 1 > over_seeds_factor(5)
    with pytest.raises(ValueError, match="no spread"):
        over_seeds_factor(1)


def test_clusters_cost_items():
    assert detectable_rate_difference(300, design_effect=3) == pytest.approx(detectable_rate_difference(100))
    assert detectable_score_difference(300, 2.0, design_effect=3) == detectable_score_difference(100, 2.0)
    assert needed_items_score(1, 2, design_effect=2.5) > 2.4 * needed_items_score(1, 2)


def test_no_difference_needs_no_number():
    for wrong in (
        lambda: needed_items_score(0, 1),
        lambda: needed_items_unpaired_rate(0.3, 0.3),
        lambda: needed_items_paired_rate(0),
    ):
        with pytest.raises(ValueError, match=r"zero|apart"):
            wrong()
