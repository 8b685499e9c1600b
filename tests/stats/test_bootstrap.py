"""Bootstraps: against scipy, at the edges, and how fast."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm, ttest_1samp, ttest_ind
from scipy.stats import t as student

from harness.stats.bootstrap import bca_mean, bootstrap_difference, hierarchical_difference
from harness.stats.intervals import mean
from harness.stats.paired import paired_difference

SCALE = (1.0, 10.0)


def ends(found):
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def expanded(n: int) -> float:
    """The normal level of an interval that is expanded for a small sample."""
    return 2 * float(norm.cdf(student.ppf(0.975, n - 1) * (n / (n - 1)) ** 0.5)) - 1


def by_scipy(values, clusters):
    """BCa of a ratio of cluster sums over cluster sizes, which is the mean of all items."""
    sums, sizes = np.bincount(clusters, weights=values), np.bincount(clusters)
    return bootstrap(
        (sums, sizes),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        paired=True,
        n_resamples=20_000,
        confidence_level=expanded(sizes.size),
        rng=0,
    ).confidence_interval


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("clustered", [False, True])
def test_bca_is_scipy_s(seed, clustered):
    rng = np.random.default_rng(seed)
    values = 1 + 9 * rng.beta(0.5, 2, 120)
    clusters = rng.integers(0, 25, 120) if clustered else np.arange(120)
    clusters = np.unique(clusters, return_inverse=True)[1]
    found = bca_mean(values, 130, SCALE, list(clusters), seed=seed)
    assert ends(found) == pytest.approx(tuple(by_scipy(values, clusters)), abs=0.03)
    assert found.method == ("cluster BCa bootstrap" if clustered else "BCa bootstrap")
    plain = mean(values, 130, SCALE, list(clusters))
    kept = {"low", "high", "method"}
    assert found.model_dump(exclude=kept) == plain.model_dump(exclude=kept)


def test_bca_leans_with_the_skew():
    values = np.array([10.0] * 45 + [1.0, 2.0, 4.0, 5.0, 6.0])
    low, high = ends(bca_mean(values, 50, SCALE))
    assert values.mean() - low > 1.3 * (high - values.mean())


def test_flat_few_and_no_values_are_those_of_the_mean():
    for values, clusters in (([7.0] * 9, None), ([7.0], None), ([], None), ([1.0, 9.0], ["a", "a"])):
        assert bca_mean(values, 9, SCALE, clusters) == mean(values, 9, SCALE, clusters)
    assert bca_mean([3.0, 4.0], 2, (0, 9), higher_is_better=False).worst == 3.5


@given(st.lists(st.floats(1, 10), min_size=2, max_size=40), st.integers(0, 3))
@settings(max_examples=60)
def test_bca_is_seeded_and_on_the_scale(values, seed):
    found = bca_mean(values, len(values), SCALE, n_resamples=200, seed=seed)
    assert found == bca_mean(values, len(values), SCALE, n_resamples=200, seed=seed)
    if found.low is not None:
        low, high = ends(found)
        assert 1 - 1e-9 <= low <= high <= 10 + 1e-9


def test_a_difference_is_scipy_s_and_close_to_t():
    rng = np.random.default_rng(1)
    second = rng.normal(6, 1, 150)
    first = second + rng.normal(0.2, 1, 150)
    found = bootstrap_difference(first, second, seed=3)
    difference = first - second
    expected = bootstrap(
        (difference,), np.mean, n_resamples=20_000, confidence_level=expanded(150), rng=1, method="percentile"
    )
    assert ends(found) == pytest.approx(tuple(expected.confidence_interval), abs=0.01)
    assert found.p_value == pytest.approx(ttest_1samp(difference, 0).pvalue, abs=0.04)
    assert found.test == "paired bootstrap"


@given(st.integers(0, 60), st.floats(-0.6, 0.6))
@settings(max_examples=60)
def test_the_p_value_says_what_the_interval_says(seed, shift):
    rng = np.random.default_rng(seed)
    first, second = rng.gamma(1, 1, 40) + shift, rng.gamma(1, 1, 40)
    found = bootstrap_difference(first, second, n_resamples=2000)
    low, high = ends(found)
    assert found.p_value is not None
    if abs(found.p_value - 0.05) > 0.005:
        assert (found.p_value < 0.05) == (low > 0 or high < 0)
    back = bootstrap_difference(second, first, n_resamples=2000)
    assert ends(back) == pytest.approx((-high, -low), abs=1e-6)
    assert back.p_value == pytest.approx(found.p_value, abs=1e-6)


def test_lost_items_clusters_and_flat_differences():
    nan = float("nan")
    found = bootstrap_difference([1.0, 3.0, nan, 5.0], [0.0, 1.0, 1.0, nan], ["a", "b", "c", "d"])
    assert (found.n_pairs, found.n_unpaired, found.difference) == (2, 2, 1.5)
    flat = bootstrap_difference([2.0] * 8, [1.0] * 8)
    assert flat == paired_difference([2.0] * 8, [1.0] * 8, binary=False)
    assert bootstrap_difference([nan], [1.0]).difference is None
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(0, 1, 30), 5)
    alone, together = (bootstrap_difference(values, np.zeros(150), c) for c in (None, list(np.repeat(range(30), 5))))
    assert together.test == "paired bootstrap by cluster"
    assert np.diff(ends(together)) > 1.8 * np.diff(ends(alone))


# Seeds and prompts


def runs(rng, n_seeds, n_items, shift=0.0, seed_sd=0.1, prompts=None, first_seed=0):
    base = rng.normal(0, 1, n_items) if prompts is None else prompts
    return {first_seed + s: base + shift + rng.normal(0, seed_sd) + rng.normal(0, 0.5, n_items) for s in range(n_seeds)}


def test_with_many_prompts_it_is_the_t_test_over_seeds():
    rng = np.random.default_rng(0)
    prompts = rng.normal(0, 1, 3000)
    first, second = (runs(rng, 5, 3000, shift, 0.3, prompts, start) for shift, start in ((1.0, 0), (0.0, 50)))
    means = [[values.mean() for values in side.values()] for side in (first, second)]
    welch = ttest_ind(*means, equal_var=False)
    found = hierarchical_difference(first, second, paired_seeds=False, span=9)
    assert found.p_value == pytest.approx(welch.pvalue, abs=0.02)
    assert ends(found) == pytest.approx(tuple(welch.confidence_interval()), abs=0.08)
    paired = hierarchical_difference(first, {s - 50: values for s, values in second.items()}, paired_seeds=True, span=9)
    expected = ttest_1samp(np.subtract(*means), 0).confidence_interval()
    assert ends(paired) == pytest.approx(tuple(expected), abs=0.1)
    assert (paired.n_seeds, paired.n_pairs, paired.difference) == (5, 15_000, pytest.approx(np.subtract(*means).mean()))


def test_one_seed_a_side_is_about_the_items_alone():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.3, 1, 200), rng.normal(0, 1, 200)
    expected = ttest_1samp(first - second, 0).confidence_interval()
    for paired, other in ((True, 4), (False, 7)):
        found = hierarchical_difference({4: first}, {other: second}, paired_seeds=paired, span=9)
        assert ends(found) == pytest.approx(tuple(expected), abs=0.02)
        assert found.n_seeds == 1


def test_a_side_with_one_seed_takes_the_other_s_spread():
    rng = np.random.default_rng(2)
    prompts = rng.normal(0, 1, 400)
    many = runs(rng, 3, 400, 0, 0.5, prompts)
    one = runs(rng, 1, 400, 0, 0.5, prompts, 9)
    alone = hierarchical_difference(one, {0: many[0]}, paired_seeds=False, span=9)
    both = hierarchical_difference(one, many, paired_seeds=False, span=9)
    assert np.diff(ends(both)) > 3 * np.diff(ends(alone))
    assert both.test == "hierarchical bootstrap (1+3 seeds, 400 prompts)"


def test_prompts_are_shared_by_the_two_sides():
    rng = np.random.default_rng(3)
    prompts = rng.normal(0, 3, 60)
    first, second = (runs(rng, 4, 60, 0, 0.01, prompts, start) for start in (0, 10))
    low, high = ends(hierarchical_difference(first, second, paired_seeds=False, span=20))
    assert high - low < 0.7, "60 prompts with an SD of 3 would alone give 3"


def test_clusters_lost_items_and_seeds_of_one_side():
    rng = np.random.default_rng(4)
    first, second = runs(rng, 3, 80), runs(rng, 4, 80)
    first[0][:10] = np.nan
    for seed in first:
        first[seed][70:] = np.nan
    found = hierarchical_difference(first, second, list(np.arange(80) // 4), paired_seeds=True, span=9)
    assert (found.n_seeds, found.n_pairs, found.n_unpaired) == (3, 60 + 70 + 70, 10)
    assert "3 seeds, 18 clusters of prompts" in found.test
    shared = [np.nanmean((first[s] - second[s])[:70]) for s in range(3)]
    assert found.difference == pytest.approx(np.mean(shared))
    again = hierarchical_difference(first, second, list(np.arange(80) // 4), paired_seeds=True, span=9)
    assert found == again


def test_edges_over_levels():
    ones, nothing = {0: [1.0] * 40, 1: [1.0] * 40}, {0: [float("nan")] * 40}
    same = hierarchical_difference(ones, ones, paired_seeds=True)
    assert (same.difference, same.decision, same.n_pairs, same.n_seeds) == (0, "no difference", 80, 2)
    assert ends(same)[0] < 0 < ends(same)[1]
    assert hierarchical_difference(ones, nothing, paired_seeds=False).decision == "not measured"
    assert hierarchical_difference(ones, ones, ["a"] * 40, paired_seeds=True).low is None
    with pytest.raises(ValueError, match="no training seed"):
        hierarchical_difference(ones, {7: [1.0] * 40}, paired_seeds=True)
    with pytest.raises(ValueError, match="items"):
        hierarchical_difference(ones, {0: [1.0]}, paired_seeds=True)
    with pytest.raises(ValueError, match="every seed"):
        hierarchical_difference({0: [1.0], 1: [1.0, 2.0]}, ones, paired_seeds=True)


def test_ten_thousand_resamples_of_ten_thousand_items_take_seconds():
    rng = np.random.default_rng(5)
    values = (rng.random((4, 10_000)) < 0.5).astype(float)
    start = time.process_time()
    found = bootstrap_difference(values[0], values[1])
    hierarchical_difference({0: values[0], 1: values[1]}, {2: values[2], 3: values[3]}, paired_seeds=False)
    assert time.process_time() - start < 15  # 2 s on an idle core
    half = 1.96 * (values[0] - values[1]).std() / 100
    assert ends(found) == pytest.approx((found.difference - half, found.difference + half), abs=0.002)
