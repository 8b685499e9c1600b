"""Rates, means and estimates over seeds: against the references, as properties, and by simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint

from harness.scores import Estimate
from harness.stats.core import Differences
from harness.stats.intervals import mean, over_seeds, rate
from harness.stats.two_way import Table, table_of, two_way

BITS = st.lists(st.integers(0, 1), min_size=1, max_size=40)
SCALE = (1.0, 10.0)


def ends(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


def test_rate_is_wilson() -> None:
    found = rate([1] * 37 + [0] * 11, 48)
    assert ends(found) == pytest.approx(proportion_confint(37, 48, method="wilson"))
    assert (found.value, found.method, found.n_scored) == (37 / 48, "wilson", 48)


def test_clusters_of_one_change_nothing() -> None:
    values = [1, 0, 1, 1, 0]
    assert rate(values, 5, clusters=list("abcde")) == rate(values, 5) == rate(values, 5, clusters=[None] * 5)


def test_fully_correlated_clusters_count_once() -> None:
    values = [1] * 8 + [0] * 4
    found = rate(np.repeat(values, 6), 72, clusters=list(np.repeat(np.arange(12), 6)))
    low, high = ends(found)
    alone_low, alone_high = ends(rate(values, 12))
    assert low < alone_low, "as wide as the clusters alone, and more for the t quantile"
    assert high > alone_high
    assert found.method == "cluster wilson"


def test_clustered_rate_is_close_to_the_robust_t_interval() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(200), 3)
    values = (rng.random(600) < np.repeat(rng.beta(3, 3, 200), 3)).astype(float)
    fit = OLS(values, np.ones((600, 1))).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    assert ends(rate(values, 600, clusters=list(groups))) == pytest.approx(tuple(fit.conf_int()[0]), abs=0.002)


@pytest.mark.parametrize("bit", [0, 1])
def test_unanimous_clusters_still_have_width(bit: int) -> None:
    low, high = ends(rate([bit] * 60, 60, clusters=list(np.repeat(np.arange(10), 6))))
    assert 0.2 < high - low < 0.45


def test_one_cluster_gives_no_interval() -> None:
    found = rate([1, 0, 1], 3, clusters=["a"] * 3)
    assert found.value == pytest.approx(2 / 3)
    assert found.low is None
    assert found.method == "one cluster"


def test_lost_items_are_bounds_and_never_numbers() -> None:
    found = rate([1, 1, 0], 5)
    assert found.value == pytest.approx(2 / 3)
    assert (found.worst, found.best) == (0.4, 0.8)
    refusals = rate([1, 1, 0], 5, higher_is_better=False)
    assert (refusals.worst, refusals.best) == (0.8, 0.4)


def test_nothing_scored() -> None:
    found = rate([], 5)
    assert (found.value, found.low, found.worst, found.best, found.n_total) == (None, None, 0.0, 1.0, 5)
    assert mean([], 0, SCALE).worst is None


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="0 and 1"):
        rate([0.5], 1)
    with pytest.raises(ValueError, match="0 and 1"):
        rate([float("nan")], 1)
    with pytest.raises(ValueError, match="planned"):
        rate([1, 1], 1)
    with pytest.raises(ValueError, match="scale"):
        mean([0.0], 1, SCALE)
    with pytest.raises(ValueError, match="clusters"):
        rate([1, 1], 2, clusters=["a"])


def test_mean_is_the_t_interval() -> None:
    values = np.array([2.0, 5, 7, 7, 9, 4])
    expected = student.interval(0.95, 5, values.mean(), values.std(ddof=1) / 6**0.5)
    assert ends(mean(values, 6, SCALE)) == pytest.approx(expected)


def test_clustered_mean_is_cr1() -> None:
    rng = np.random.default_rng(0)
    values, groups = rng.uniform(1, 10, 40), rng.integers(0, 9, 40)
    fit = OLS(values, np.ones((40, 1))).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    found = mean(values, 40, SCALE, clusters=list(groups))
    assert ends(found) == pytest.approx(tuple(fit.conf_int()[0]))
    assert found.method == "cluster t"


def test_equal_scores_have_width_and_stay_on_the_scale() -> None:
    low, high = ends(mean([10.0] * 24, 24, SCALE))
    assert 8 < low < 9.5
    assert high == 10.0


def seeds_of(values: np.ndarray, bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate:
    """Over seeds, the columns of values; NaN where an item was lost."""
    kept = [~np.isnan(column) for column in values.T]
    columns = [column[known] for column, known in zip(values.T, kept, strict=True)]
    one = (lambda column: rate(column, len(values))) if bounds == (0.0, 1.0) else lambda c: mean(c, len(values), bounds)
    items = [Differences(c, list(np.flatnonzero(known))) for c, known in zip(columns, kept, strict=True)]
    return over_seeds([one(column) for column in columns], bounds, two_way(table_of(items)) if kept else None)


def test_a_score_over_seeds_is_the_wider_of_two_t_intervals() -> None:
    rng = np.random.default_rng(0)
    for seed_sd in (0.0, 0.8):
        values = np.clip(5.5 + rng.normal(0, 1, (50, 1)) + rng.normal(0, seed_sd, 3) + rng.normal(0, 1, (50, 3)), 1, 10)
        found, joint = seeds_of(values, SCALE), two_way(Table(values, np.ones_like(values)))
        means = values.mean(axis=0)
        pairs = ((joint.df, joint.error), (2, means.std(ddof=1) / 3**0.5))
        both = [student.interval(0.95, df, means.mean(), error) for df, error in pairs]
        assert found.value == pytest.approx(means.mean())
        assert ends(found) == pytest.approx(
            (max(1.0, min(low for low, _ in both)), min(10.0, max(high for _, high in both)))
        )
        assert (found.n_scored, found.n_seeds, found.method) == (150, 3, "t over 3 seeds and 50 prompts")


def test_a_rate_over_seeds_keeps_within_its_bounds_and_has_width() -> None:
    rng = np.random.default_rng(1)
    for chance in (0.0, 0.02, 0.5, 0.99, 1.0):
        values = (rng.random((40, 3)) < chance).astype(float)
        found = seeds_of(values)
        low, high = ends(found)
        assert found.value is not None
        assert 0 <= low <= found.value <= high <= 1
        assert high - low > 0.03
        assert found.method == "wilson over 3 seeds and 40 prompts"


@pytest.mark.parametrize("values", [[1] * 30, [1] * 29 + [0], [1, 0] * 15])
def test_equal_seeds_are_not_surer_than_one(values: list[int]) -> None:
    low, high = ends(seeds_of(np.tile(np.array(values, dtype=float)[:, None], (1, 3))))
    alone_low, alone_high = ends(rate(values, 30))
    assert low <= alone_low
    assert high >= alone_high
    assert high - low < 1.2 * (alone_high - alone_low)


def test_one_wrong_answer_among_six_hundred_does_not_make_it_surer_than_none() -> None:
    none = np.ones((200, 3))
    one = none.copy()
    one[0, 0] = 0.0
    assert ends(seeds_of(one))[0] < ends(seeds_of(none))[0]


def test_over_seeds_skips_what_was_not_measured() -> None:
    one = rate([1, 1, 0], 3)
    assert over_seeds([one], (0.0, 1.0)) == one
    half = over_seeds([one, rate([], 3)], (0.0, 1.0))
    assert (half.value, half.n_seeds, half.n_scored, half.n_total) == (one.value, 1, 3, 6)
    assert half.worst == pytest.approx((2 / 3 + 0) / 2)
    assert half.best == pytest.approx((2 / 3 + 1) / 2)
    assert over_seeds([rate([], 3)] * 2, (0.0, 1.0)).value is None
    joint = two_way(table_of([Differences(np.array([1.0, 0.0]), ["a", "a"])] * 2))
    assert over_seeds([one, one], (0.0, 1.0), joint).method == "one cluster"


def test_without_the_items_the_seeds_own_errors_count_in_full() -> None:
    rates = [rate([1] * k + [0] * (48 - k), 50) for k in (30, 36, 33)]
    means = np.array([30, 36, 33]) / 48
    found = over_seeds(rates, (0.0, 1.0))
    half = student.ppf(0.975, 2) * means.std(ddof=1) / 3**0.5
    own = means.mean() - np.mean([ends(one)[0] for one in rates])
    assert ends(found)[0] == pytest.approx(means.mean() - np.hypot(half, own))
    assert (found.n_scored, found.n_total, found.n_seeds) == (144, 150, 3)
    assert (found.worst, found.best) == pytest.approx((0.66, 0.7))
    assert ends(over_seeds([rates[0]] * 2, (0.0, 1.0))) == pytest.approx(ends(rates[0]))
    assert ends(over_seeds([rate([1] * 9, 9), rate([0] * 9, 9)], (0.0, 1.0))) == (0.0, 1.0)


@given(BITS, st.integers(1, 6), st.randoms())
@settings(max_examples=60)
def test_rate_properties(values: list[int], n_clusters: int, random: object) -> None:
    clusters = [i % n_clusters for i in range(len(values))]
    found = rate(values, len(values) + 2, clusters=clusters)
    order = np.random.default_rng(len(values)).permutation(len(values))
    again = rate([values[i] for i in order], len(values) + 2, clusters=[clusters[i] for i in order])
    assert found.value is not None
    assert found.worst is not None
    assert found.best is not None
    assert found.worst <= found.value <= found.best
    if found.low is not None:
        low, high = ends(found)
        assert 0 <= low <= found.value <= high <= 1
        assert high - low > 0
        assert ends(again) == pytest.approx((low, high), abs=1e-6)


@given(st.lists(st.floats(1, 10), min_size=2, max_size=30))
@settings(max_examples=60)
def test_mean_properties(values: list[float]) -> None:
    found = mean(values, len(values), SCALE)
    low, high = ends(found)
    assert found.value is not None
    assert 1 <= low <= found.value <= high <= 10
    assert ends(mean(values[::-1], len(values), SCALE)) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(("chance", "clustered"), [(0.5, False), (0.9, False), (0.6, True)])
def test_rate_covers_the_truth(chance: float, clustered: bool) -> None:
    rng = np.random.default_rng(11)
    hits, n_runs, n_groups = 0, 200, 30
    for _ in range(n_runs):
        if clustered:
            inner = np.repeat(rng.beta(3 * chance, 3 * (1 - chance), n_groups), 4)
            found = rate((rng.random(120) < inner).astype(float), 120, clusters=list(np.repeat(np.arange(n_groups), 4)))
        else:
            found = rate((rng.random(60) < chance).astype(float), 60)
        low, high = ends(found)
        hits += low <= chance <= high
    assert 0.9 <= hits / n_runs <= 0.99
