"""Paired differences and Holm: against statsmodels and scipy, and their behaviour at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from harness.stats.paired import (
    Differences,
    benjamini_hochberg,
    compare_seeds,
    holm,
    pair_aligned,
    pair_by_key,
    paired_difference,
    paired_over_seeds,
)


def test_binary_is_mcnemar() -> None:
    """The mid-p value is the exact one less the chance of what was seen (of 9 to 2 among 11, and of 2 to 9)."""
    first, second = [1] * 30 + [1] * 9 + [0] * 2 + [0] * 7, [1] * 30 + [0] * 9 + [1] * 2 + [0] * 7
    found = paired_difference(first, second, binary=True)
    assert found.p_value == pytest.approx(mcnemar([[30, 9], [2, 7]], exact=True).pvalue - 55 / 2**11)
    assert found.test == "McNemar mid-p"
    assert found.difference == pytest.approx(7 / 48)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < 7 / 48 < found.high
    one_sided = paired_difference(first, second, binary=True, alternative="greater").p_value
    assert one_sided is not None
    assert found.p_value is not None
    assert one_sided == pytest.approx(found.p_value / 2)


def test_identical_answers_differ_by_nothing_but_have_width() -> None:
    found = paired_difference([1] * 48, [1] * 48, binary=True)
    assert (found.difference, found.p_value, found.decision) == (0.0, 1.0, "no difference")
    assert found.low is not None
    assert found.high is not None
    assert found.low < -0.01
    assert found.high > 0.01


def test_equal_scores_differences_have_width() -> None:
    found = paired_difference([5.0] * 6, [4.0] * 6, binary=False, span=9)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1 < found.high
    assert found.p_value == pytest.approx(2 / 64)


def test_lost_items_are_unpaired() -> None:
    nan = float("nan")
    found = paired_difference([1, nan, 1, nan], [0, 1, nan, nan], binary=True)
    assert (found.n_pairs, found.n_unpaired, found.difference) == (1, 2, 1.0)
    assert found.decision == "not measured"
    assert paired_difference([nan], [1], binary=True).difference is None


def test_permutation_is_seeded_and_close_to_t() -> None:
    rng = np.random.default_rng(1)
    first = rng.normal(6, 1, 80)
    second = first - rng.normal(0.25, 1, 80)
    found = paired_difference(first, second, binary=False, span=9, seed=4)
    assert found == paired_difference(first, second, binary=False, span=9, seed=4)
    assert found.p_value == pytest.approx(ttest_1samp(first - second, 0).pvalue, abs=0.02)


def test_clusters_flip_together() -> None:
    first, second = np.repeat([1, 1, 1, 0, 1, 1], 10), np.zeros(60)
    clusters = list(np.repeat(np.arange(6), 10))
    found = paired_difference(first, second, clusters, binary=True)
    assert found.test == "sign-flip permutation by cluster"
    assert found.p_value == pytest.approx(2 / 32)
    alone = paired_difference(first, second, binary=True).p_value
    assert alone is not None
    assert alone < 1e-6


def test_false_alarms_are_rare_under_the_null() -> None:
    rng = np.random.default_rng(5)
    n_alarms = 0
    for run in range(80):
        shared = np.repeat(rng.normal(0, 1, 12), 4)
        found = paired_difference(
            shared + rng.normal(0, 0.5, 48), np.zeros(48), list(np.repeat(np.arange(12), 4)), binary=False, seed=run
        )
        n_alarms += found.p_value is not None and found.p_value < 0.05
    assert n_alarms <= 10


def test_over_seeds_is_a_t_test_of_the_means() -> None:
    per_seed = [Differences(np.array(values, dtype=float)) for values in ([1, 0, 1], [1, 1, 0, 1], [0, 0, 1])]
    found = paired_over_seeds(per_seed, binary=True, alternative="greater")
    means = [2 / 3, 3 / 4, 1 / 3]
    assert found.difference == pytest.approx(np.mean(means))
    assert found.p_value == pytest.approx(ttest_1samp(means, 0, alternative="greater").pvalue)
    interval = ttest_1samp(means, 0).confidence_interval()
    assert found.low == pytest.approx(interval.low)
    assert found.high == pytest.approx(min(1, interval.high))
    assert (found.n_pairs, found.n_seeds) == (10, 3)


def test_one_seed_falls_back_on_items() -> None:
    pairs = pair_aligned([1, 1, 0, 1], [0, 1, 0, 0])
    assert paired_over_seeds([pairs], binary=True).test == "McNemar mid-p"
    assert paired_over_seeds([], binary=True).decision == "not measured"


def test_equal_seeds_fall_back_on_the_pooled_items() -> None:
    same = Differences(np.array([1.0, 0, 0, 1]), ["a", "b", "c", "d"])
    found = paired_over_seeds([same, same], binary=True)
    assert found.n_seeds == 2
    assert found.n_pairs == 8
    assert found.test == "sign-flip permutation by cluster"
    assert found.low is not None
    assert compare_seeds([0.1, 0.1], 8).low is None


def test_pairing_by_key() -> None:
    pairs = pair_by_key({"b": 1.0, "a": 0.0, "x": 1.0}, {"a": 1.0, "b": 1.0, "y": 0.0}, {"a": "p", "b": "q", "x": "p"})
    assert pairs.values.tolist() == [-1.0, 0.0]
    assert pairs.clusters == ["p", "q"]
    assert pairs.n_unpaired == 2


def test_holm_is_statsmodels_and_keeps_gaps() -> None:
    p_values = [0.01, None, 0.04, 0.03, 0.5]
    found = holm(p_values)
    assert found[1] is None
    expected = multipletests([0.01, 0.04, 0.03, 0.5], method="holm")[1]
    assert [value for value in found if value is not None] == pytest.approx(list(expected))
    assert holm([None]) == benjamini_hochberg([None]) == [None]
    assert holm([]) == []


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=20))
@settings(max_examples=15, deadline=None)
def test_corrections_are_statsmodels(p_values: list[float | None]) -> None:
    q_values, adjusted = benjamini_hochberg(p_values), holm(p_values)
    assert [q is None for q in q_values] == [p is None for p in p_values]
    known = [p for p in p_values if p is not None]
    for found, method in ((q_values, "fdr_bh"), (adjusted, "holm")):
        expected = multipletests(known, method=method)[1] if known else []
        assert [q for q in found if q is not None] == pytest.approx(list(expected))
    pairs = [(q, p) for q, p in zip(q_values, adjusted, strict=True) if q is not None and p is not None]
    assert all(q <= p + 1e-12 for q, p in pairs)


def test_items_are_known_again_in_other_seeds() -> None:
    """An item lost in one seed does not push another into its place."""
    nan = float("nan")
    whole, gap = pair_aligned([1, 1, 0], [0, 1, 0]), pair_aligned([nan, 1, 0], [0, 1, 0])
    assert gap.clusters == whole.clusters[1:]  # type: ignore[index]
    keyed = pair_by_key({"b": 1.0, "c": 0.0}, {"b": 0.0, "c": 0.0}, {"b": None, "c": "shared"})
    assert keyed.clusters == [("item", "b"), "shared"]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=30))
@settings(max_examples=60, deadline=None)
def test_swapping_sides_turns_the_sign(pairs: list[tuple[int, int]]) -> None:
    first, second = [one for one, _ in pairs], [two for _, two in pairs]
    there, back = paired_difference(first, second, binary=True), paired_difference(second, first, binary=True)
    assert there.difference is not None
    assert back.difference == -there.difference
    assert there.low is not None
    assert there.high is not None
    assert back.high == pytest.approx(-there.low)
    assert there.low <= there.difference <= there.high
    assert there.low < there.high
    assert there.p_value == pytest.approx(back.p_value)
