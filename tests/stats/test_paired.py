"""Paired differences and Holm: against statsmodels and scipy, and their behaviour at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from scipy.stats import ttest_1samp
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from harness.scores import Comparison
from harness.stats.margins import non_inferior
from harness.stats.paired import (
    Differences,
    benjamini_hochberg,
    holm,
    pair_aligned,
    pair_by_key,
    paired_difference,
    paired_over_seeds,
)
from harness.stats.two_way import Table, two_way


def ends(found: Comparison) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


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


def test_over_seeds_of_scores_is_the_stricter_of_two_t_tests() -> None:
    """On the error over seeds and prompts, and on the error of the seeds alone."""
    rng = np.random.default_rng(0)
    for seed_sd, shift, levels in ((0.0, 0.2, "both"), (0.4, 2.0, "seeds")):
        values = rng.normal(shift, 1, (60, 1)) + np.array([-seed_sd, 0, seed_sd]) + rng.normal(0, 0.3, (60, 3))
        found = paired_over_seeds([Differences(column) for column in values.T], binary=False, span=99)
        joint = two_way(Table(values, np.ones_like(values)))
        half = student.ppf(0.975, joint.df) * joint.error
        means = values.mean(axis=0)
        interval = ttest_1samp(means, 0).confidence_interval()
        p_values = {
            "both": 2 * student.sf(abs(joint.value / joint.error), joint.df),
            "seeds": ttest_1samp(means, 0).pvalue,
        }
        assert found.difference == pytest.approx(means.mean())
        assert found.low == pytest.approx(min(joint.value - half, interval.low))
        assert found.high == pytest.approx(max(joint.value + half, interval.high))
        assert found.p_value == pytest.approx(max(p_values.values())) == pytest.approx(p_values[levels])
        assert (found.n_pairs, found.n_seeds, found.test) == (180, 3, "t over 3 seeds and 60 prompts")


def test_over_seeds_of_rates_agrees_with_non_inferiority() -> None:
    """One test behind both: the interval's end is where the margin would be."""
    rng = np.random.default_rng(1)
    better = rng.random((80, 1)) < 0.3
    per_seed = [Differences((better & (rng.random((80, 1)) < 0.8)).astype(float)[:, 0]) for _ in range(3)]
    found = paired_over_seeds(per_seed, binary=True, alternative="greater")
    bound = non_inferior(per_seed, 0.1, binary=True, alpha=0.025).bound
    assert found.low == pytest.approx(bound)
    assert found.test == "Tango's score test over 3 seeds and 80 prompts"
    assert found.p_value is not None
    assert found.p_value < 0.002


def test_one_seed_falls_back_on_items() -> None:
    pairs = pair_aligned([1, 1, 0, 1], [0, 1, 0, 0])
    assert paired_over_seeds([pairs], binary=True).test == "McNemar mid-p"
    assert paired_over_seeds([], binary=True).decision == "not measured"


@pytest.mark.parametrize("binary", [True, False])
def test_equal_seeds_are_one_seed(binary: bool) -> None:
    same = Differences(np.array([1.0, 0, 0, 1, 0, 1, 1, -1]), list("abcdefgg"))
    one, three = (paired_over_seeds([same] * n, binary=binary) for n in (1, 3))
    assert (three.low, three.high, three.p_value) == (one.low, one.high, one.p_value)
    assert (three.n_seeds, three.n_pairs, three.test) == (3, 24, f"{one.test}, 3 equal seeds")


@given(st.integers(0, 500), st.integers(2, 5), st.integers(0, 3), st.booleans())
@settings(max_examples=60)
def test_nearly_equal_seeds_are_hardly_surer_than_one(seed: int, n_seeds: int, n_other: int, binary: bool) -> None:
    """No cliff: an answer or two that came out otherwise in one seed change the interval by as much as they do."""
    rng = np.random.default_rng(seed)
    values = rng.choice([-1.0, 0.0, 0.0, 1.0], 60)
    other = values.copy()
    other[:n_other] = 0.0
    per_seed = [Differences(values)] * (n_seeds - 1) + [Differences(other)]
    found, alone = (paired_over_seeds(seeds, binary=binary) for seeds in (per_seed, per_seed[:1]))
    low, high = ends(found)
    assert -1 <= low < high <= 1
    assert high - low >= 0.9 * np.diff(ends(alone))


def test_nothing_that_differs_is_worth_the_prompts_and_not_the_answers() -> None:
    flat = np.zeros(200)
    once = flat.copy()
    once[7] = 1.0
    alone = paired_over_seeds([Differences(flat)], binary=True)
    found = paired_over_seeds([Differences(flat), Differences(flat), Differences(once)], binary=True)
    assert np.diff(ends(found)) > 0.85 * np.diff(ends(alone))


def test_one_cluster_gives_no_interval() -> None:
    per_seed = [Differences(np.array([1.0, bit]), ["a", "a"]) for bit in (0.0, 1.0)]
    found = paired_over_seeds(per_seed, binary=True)
    assert (found.difference, found.low, found.p_value, found.test) == (0.75, None, None, "none: one cluster")
    assert found.decision == "not measured"


def test_items_that_seeds_lost_stay_with_their_prompts() -> None:
    rng = np.random.default_rng(2)
    values = (rng.random((40, 1)) < 0.5) * 1.0 - (rng.random((40, 3)) < 0.2)
    names = [f"q{i}" for i in range(40)]
    gone = [{3, 4}, set(), set(range(20, 40))]
    kept = [[i for i in range(40) if i not in lost] for lost in gone]
    per_seed = [Differences(values[rows, s], [names[i] for i in rows], 40 - len(rows)) for s, rows in enumerate(kept)]
    found = paired_over_seeds([*per_seed, Differences(np.empty(0), [], 40)], binary=True)
    assert (found.n_seeds, found.n_pairs, found.n_unpaired) == (3, 98, 62)
    assert found.difference == pytest.approx(np.mean([values[rows, s].mean() for s, rows in enumerate(kept)]))
    assert found.test == "Tango's score test over 3 seeds and 40 prompts"


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
@settings(max_examples=15)
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
@settings(max_examples=60)
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
