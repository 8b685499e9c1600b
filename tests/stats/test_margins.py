"""Non-inferiority and equivalence: against statsmodels, the decisions, the directions and the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from harness.stats.item_tests import tango
from harness.stats.margins import equivalent, non_inferior
from harness.stats.paired import Differences

VALUES = st.lists(st.integers(-1, 1), min_size=2, max_size=60)


def pairs(n_first: int, n_second: int, n_pairs: int) -> list[Differences]:
    same = n_pairs - n_first - n_second
    return [Differences(np.array([1.0] * n_first + [-1.0] * n_second + [0.0] * same))]


@given(st.integers(0, 500), st.floats(0.05, 2))
@settings(max_examples=60)
def test_scores_are_statsmodels(seed, margin):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(6, 1, 30), rng.normal(6.2, 1, 30)
    both = [Differences(first - second)]
    p_value, lower, upper = ttost_paired(first, second, -margin, margin)
    assert equivalent(both, margin, binary=False, span=9).p_value == pytest.approx(p_value)
    found = non_inferior(both, margin, binary=False, span=9)
    assert found.p_value == pytest.approx(lower[1])
    assert found.bound == pytest.approx(DescrStatsW(first - second).tconfint_mean(alpha=0.1)[0])
    turned = non_inferior(both, margin, binary=False, span=9, higher_is_better=False)
    assert turned.p_value == pytest.approx(upper[1])


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60), st.floats(0.02, 0.4))
@settings(max_examples=60)
def test_rates_are_tango_s_score_test(n_first, n_second, n_same, margin):
    n_pairs = n_first + n_second + n_same + 2
    found = non_inferior(pairs(n_first, n_second, n_pairs), margin, binary=True)
    assert found.p_value == pytest.approx(norm.sf(tango(n_first, n_second, n_pairs, -margin)))
    assert found.test == "Tango's score test"


@given(VALUES, st.floats(0.01, 1.2), st.booleans(), st.sampled_from([None, 3]))
@settings(max_examples=150)
def test_the_decision_is_the_bound_s_and_the_p_value_s(values, margin, binary, size):
    clusters = None if size is None else [i // size for i in range(len(values))]
    both = [Differences(np.array(values, dtype=float), clusters)]
    higher = non_inferior(both, margin, binary=binary)
    lower = non_inferior([Differences(-both[0].values, clusters)], margin, binary=binary, higher_is_better=False)
    assert lower.decision == higher.decision
    if higher.bound is None or higher.p_value is None or lower.bound is None:
        assert higher.decision == "unclear"
        return
    assert lower.bound == pytest.approx(-higher.bound, abs=1e-6)
    assert higher.bound <= higher.difference + 1e-9
    assert (higher.decision == "yes") == (higher.bound > -margin)
    if abs(higher.p_value - 0.05) > 1e-6 and margin <= 1:
        assert (higher.p_value < 0.05) == (higher.decision == "yes")
    same = equivalent(both, margin, binary=binary)
    if same.decision == "yes":
        assert higher.decision == "yes"
        assert same.p_value <= 0.05 + 1e-6
    if higher.decision == "no":
        assert same.decision == "no"


def test_the_three_decisions():
    assert non_inferior(pairs(20, 20, 400), 0.05, binary=True).decision == "yes"
    assert non_inferior(pairs(5, 12, 100), 0.05, binary=True).decision == "unclear"
    assert non_inferior(pairs(0, 60, 400), 0.05, binary=True).decision == "no"
    assert non_inferior(pairs(60, 0, 400), 0.05, binary=True).decision == "yes"
    assert non_inferior(pairs(60, 0, 400), 0.05, binary=True, higher_is_better=False).decision == "no"
    assert equivalent(pairs(20, 20, 400), 0.05, binary=True).decision == "yes"
    assert equivalent(pairs(60, 0, 400), 0.05, binary=True).decision == "no"
    assert equivalent(pairs(12, 5, 100), 0.05, binary=True).decision == "unclear"


def test_identical_answers_are_only_as_good_as_they_are_many():
    assert non_inferior(pairs(0, 0, 40), 0.05, binary=True).decision == "unclear"
    assert non_inferior(pairs(0, 0, 80), 0.05, binary=True).decision == "yes"
    one_prompt_each = [Differences(np.zeros(400), [i // 10 for i in range(400)])]
    assert non_inferior(one_prompt_each, 0.05, binary=True).decision == "unclear"
    scores = non_inferior(pairs(0, 0, 8), 1.0, binary=False, span=9)
    assert scores.test == "t on plus two"
    assert scores.bound is not None
    assert scores.bound < -1


def test_clusters_and_seeds_widen():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.choice([-1.0, 0.0, 0.0, 0.0, 1.0], 40), 5)
    alone = non_inferior([Differences(values)], 0.1, binary=True)
    together = non_inferior([Differences(values, list(np.repeat(range(40), 5)))], 0.1, binary=True)
    assert together.test == "Tango's score test by cluster"
    assert together.bound < alone.bound
    seeds = [Differences(np.where(rng.random(200) < p, 1.0, 0.0)) for p in (0.1, 0.3, 0.5)]
    apart = non_inferior(seeds, 0.1, binary=True)
    assert apart.difference == pytest.approx(np.mean([pair.values.mean() for pair in seeds]))
    assert apart.test == "Tango's score test over 3 seeds and 200 prompts"
    assert apart.bound < apart.difference - 0.15


def test_what_cannot_be_tested_is_unclear():
    for found in (non_inferior([], 0.1, binary=True), equivalent([Differences(np.empty(0))], 0.1, binary=False)):
        assert (found.difference, found.bound, found.p_value, found.decision) == (None, None, None, "unclear")
    one = non_inferior([Differences(np.array([0.0, 0.0]), ["a", "a"])], 0.1, binary=True)
    assert (one.difference, one.bound, one.decision, one.test) == (0.0, None, "unclear", "none: one cluster")
    with pytest.raises(ValueError, match="above zero"):
        non_inferior([], 0.0, binary=True)
    with pytest.raises(ValueError, match="-1, 0 or 1"):
        non_inferior([Differences(np.array([0.5, 1.0]))], 0.1, binary=True)
