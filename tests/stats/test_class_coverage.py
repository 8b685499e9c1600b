"""What the intervals of a classifier's measures cover, and how often their differences alarm, by prevalence.

Margins are normal, two apart between the classes, and an answer is the margin's sign. The rarer class has six to ten
items where it is small, as in a test of refusals; there percentile bootstraps cover 65-85 %.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from harness.stats.classification import Answers, measure
from harness.stats.intervals import UNIT, over_seeds
from harness.stats.measure_levels import measure_over_seeds
from harness.stats.paired_measures import measure_difference_over_seeds

KINDS = ("balanced_accuracy", "f1", "auc")
APART = 2.0


def answered(rng, positive, ease, shared=0.5, clusters=None):
    """Margins that share what makes an item easy, SD 1 in all."""
    noise = rng.normal(0, 1, positive.size)
    margins = shared**0.5 * ease + (1 - shared) ** 0.5 * noise + np.where(positive, APART / 2, -APART / 2)
    labels = [np.where(side, "harmful", "harmless").tolist() for side in (positive, margins > 0)]
    return Answers(*labels, clusters=clusters, margins=margins.tolist())


def classes(rng, n_items, prevalence):
    """At least two of each, as without them there is no measure."""
    while True:
        positive = rng.random(n_items) < prevalence
        if 2 <= positive.sum() <= n_items - 2:
            return positive


def truth(kind, prevalence):
    if kind == "auc":
        return norm.cdf(APART / 2**0.5)
    right = norm.cdf(APART / 2)
    positive = prevalence * right
    return (
        right
        if kind == "balanced_accuracy"
        else 2 * positive / (positive + (1 - prevalence) * (1 - right) + prevalence)
    )


def shares(found, kind, prevalence):
    """How many intervals cover the truth, and how many lie above it."""
    low, high = np.array([(one.low, one.high) for one in found]).T
    right = truth(kind, prevalence)
    return float(np.mean((low <= right) & (right <= high))), float(np.mean(low > right))


@pytest.mark.parametrize(
    ("prevalence", "n_items"), [(0.1, 60), (0.1, 100), (0.05, 200), (0.3, 20), (0.3, 60), (0.5, 60)]
)
def test_measures_are_covered_whatever_the_prevalence(prevalence, n_items):
    rng = np.random.default_rng([n_items, int(100 * prevalence)])
    drawn = [answered(rng, classes(rng, n_items, prevalence), rng.normal(0, 1, n_items)) for _ in range(250)]
    for kind in KINDS:
        covered, above = shares([measure(kind, items) for items in drawn], kind, prevalence)
        assert 0.905 <= covered <= 0.995, kind  # 250 runs: three standard errors are 4.2 %
        assert above <= (0.06 if kind == "f1" else 0.03), f"{kind}: a floor at the true value is passed as often"


@pytest.mark.parametrize("both_classes", [False, True])
def test_clusters_of_three_are_covered(both_classes):
    """Three phrasings of a prompt share most of what makes it easy; of one class, or one in three of the other."""
    rng = np.random.default_rng(int(both_classes))
    names, found = list(np.repeat(np.arange(40), 3)), {kind: [] for kind in KINDS}
    for _ in range(150):
        positive = np.tile([True, False, False], 40) if both_classes else np.repeat(rng.permutation(40) < 12, 3)
        items = answered(rng, positive, np.repeat(rng.normal(0, 1, 40), 3), 0.8, names)
        for kind in KINDS:
            found[kind].append(measure(kind, items))
    for kind, estimates in found.items():
        covered, above = shares(estimates, kind, positive.mean())
        assert covered >= 0.90, kind  # 150 runs: three standard errors are 5.3 %
        assert above <= 0.065, kind


@pytest.mark.parametrize(("n_seeds", "prevalence"), [(1, 0.1), (1, 0.5), (3, 0.1), (3, 0.5)])
def test_differences_of_two_equally_good_sides_rarely_alarm(n_seeds, prevalence):
    rng = np.random.default_rng([n_seeds, int(10 * prevalence)])
    n_runs = 150 if n_seeds == 1 else 50
    alarms, single = {kind: [] for kind in KINDS}, {kind: [] for kind in KINDS}
    for _ in range(n_runs):
        positive, ease = classes(rng, 100, prevalence), rng.normal(0, 1, 100)
        first, second = ([answered(rng, positive, ease) for _ in range(n_seeds)] for _ in range(2))
        for kind in KINDS:
            found = measure_difference_over_seeds(kind, list(zip(first, second, strict=True)))
            alarms[kind].append(found.p_value <= 0.05)
            assert (found.p_value <= 0.05) == (not found.low <= 0 <= found.high)
            joint = measure_over_seeds(kind, first)
            single[kind].append(over_seeds([measure(kind, items) for items in first], UNIT, joint))
    for kind in KINDS:
        assert np.mean(alarms[kind]) <= 0.085, kind
        covered, above = shares(single[kind], kind, prevalence)
        assert covered >= 0.90, kind
        assert above <= 0.065, kind


def test_a_class_in_one_cluster_has_no_interval_over_seeds_either():
    rng = np.random.default_rng(5)
    positive = np.arange(210) < 10
    clusters = ["one" if side else f"c{i}" for i, side in enumerate(positive)]
    drawn = [answered(rng, positive, rng.normal(0, 1, 210), clusters=clusters) for _ in range(3)]
    for kind in ("balanced_accuracy", "auc"):
        each = [measure(kind, items) for items in drawn]
        assert [one.low for one in each] == [None] * 3
        assert over_seeds(each, UNIT, measure_over_seeds(kind, drawn)).low is None


def test_a_seed_that_lost_a_class_leaves_f1_without_an_interval():
    rng = np.random.default_rng(6)
    positive = np.arange(20) < 10
    whole = answered(rng, positive, rng.normal(0, 1, 20))
    lost = whole._replace(answers=[said if side else None for said, side in zip(whole.answers, positive, strict=True)])
    found = measure_difference_over_seeds("f1", [(whole, whole), (whole, lost)])
    assert (found.difference, found.n_pairs) == (0.0, 30)
