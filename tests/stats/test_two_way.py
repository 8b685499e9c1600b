"""The standard error over seeds and prompts: against the two-way layout, and one-way where there is one level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.regression.linear_model import OLS

from harness.stats.paired import Differences
from harness.stats.two_way import Influences, Table, table_of, two_way, two_way_of


def table(values):
    return Table(values, np.ones_like(values))


@given(st.integers(0, 200), st.integers(2, 6), st.integers(3, 30))
@settings(max_examples=60)
def test_balanced_it_is_the_mean_squares_of_the_two_way_layout(seed, n_seeds, n_items):
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (n_items, n_seeds)) + rng.normal(0, 1, n_seeds) + rng.normal(0, 1, (n_items, 1))
    rows, columns, grand = values.mean(axis=1, keepdims=True), values.mean(axis=0), values.mean()
    of_seeds = n_items * ((columns - grand) ** 2).sum() / (n_seeds - 1)
    of_items = n_seeds * ((rows - grand) ** 2).sum() / (n_items - 1)
    residual = ((values - rows - columns + grand) ** 2).sum() / ((n_seeds - 1) * (n_items - 1))
    found = two_way(table(values))
    assert found.value == pytest.approx(grand)
    expected = max(of_seeds, residual) + max(of_items - residual, 0)
    assert found.error**2 == pytest.approx(expected / values.size)
    assert 1 <= found.df <= n_items - 1
    assert found.seed_error == pytest.approx(columns.std(ddof=1) / n_seeds**0.5)
    assert found.seed_df == pytest.approx(n_seeds - 1)


def test_one_seed_is_the_cluster_robust_error():
    rng = np.random.default_rng(0)
    values, groups = rng.normal(0, 1, 90), rng.integers(0, 12, 90)
    fit = OLS(values, np.ones((90, 1))).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    found = two_way(table_of([Differences(values, list(groups))]))
    assert (found.value, found.error) == pytest.approx((values.mean(), fit.bse[0]))
    assert (found.df, found.n_clusters, found.n_seeds) == (pytest.approx(11), 12, 1)


def test_two_sides_are_welch_where_prompts_do_not_matter():
    rng = np.random.default_rng(1)
    first, second = (np.tile(rng.normal(0, sd, n), (50, 1)) for sd, n in ((1, 3), (3, 6)))
    found = two_way(table(first), table(second))
    parts = [side[0].var(ddof=1) / side.shape[1] for side in (first, second)]
    assert found.error**2 == pytest.approx(sum(parts))
    assert found.df == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 5))


def test_the_order_of_items_and_gaps_do_not_matter():
    rng = np.random.default_rng(2)
    names = [f"q{i}" for i in range(40)]
    seeds = [rng.permutation(40)[: 40 - s] for s in range(3)]
    values = rng.normal(0, 1, (3, 40))
    per_seed = [Differences(values[s][kept], [names[i] for i in kept]) for s, kept in enumerate(seeds)]
    ordered = [Differences(values[s][np.sort(kept)], [names[i] for i in np.sort(kept)]) for s, kept in enumerate(seeds)]
    one, two = two_way(table_of(per_seed)), two_way(table_of([*ordered, Differences(np.empty(0), [])]))
    assert one == pytest.approx(two)
    assert one.n_clusters == 40


def test_flat_and_single():
    flat = two_way(table(np.ones((9, 3))))
    assert (flat.error, flat.df) == (0.0, 8.0)
    assert two_way(table(np.ones((1, 3)))).error == float("inf")


@pytest.mark.parametrize("n_sides", [1, 2])
def test_influences_on_a_mean_give_the_error_of_the_mean(n_sides):
    rng = np.random.default_rng(3)
    sides = [rng.normal(0, 0.3, n) + rng.normal(0, 1, (60, 1)) + rng.normal(0, 1, (60, n)) for n in (3, 4)[:n_sides]]
    means = [side.mean(axis=0) for side in sides]
    pairs = zip(sides, means, strict=True)
    found = two_way_of([Influences(mean, (side - mean) / 60) for side, mean in pairs], 60)
    assert found[:8] == pytest.approx(two_way(*map(table, sides))[:8])


def test_clusters_of_several_items_are_called_so():
    """Four items to a prompt, in three seeds: not 12 prompts, and not 3 of them either."""
    rng = np.random.default_rng(4)
    alone, shared = (
        two_way(table_of([Differences(rng.normal(0, 1, 12), [f"q{i // size}" for i in range(12)]) for _ in range(3)]))
        for size in (1, 4)
    )
    assert alone.levels == "over 3 seeds and 12 prompts"
    assert shared.levels == "over 3 seeds and 3 clusters of prompts"
