"""Selection: the ties are those that paired tests leave, and what is picked on dev is reported on test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats.paired import holm, paired_difference
from harness.stats.selection import Items, ranked, select, tied_sets, tied_with_best


def rates(seed: int, n: int = 400, **shares: float) -> dict[str, np.ndarray]:
    """Candidates whose answers are right where a shared difficulty of the item is below their share."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    return {name: ((hard + rng.normal(0, 0.1, n)) < share).astype(float) for name, share in shares.items()}


def test_the_best_its_ties_and_the_rest():
    values = rates(0, a=0.70, b=0.69, c=0.4, d=0.39)
    assert set(tied_with_best(values, binary=True)) == {"a", "b"}
    assert [set(group) for group in tied_sets(values, binary=True)] == [{"a", "b"}, {"c", "d"}]
    assert set(tied_with_best(values, binary=True, higher_is_better=False)) == {"c", "d"}
    assert [set(group) for group in tied_sets(values, binary=True, higher_is_better=False)] == [{"c", "d"}, {"a", "b"}]


def test_ties_are_those_of_the_paired_tests_after_holm():
    rng = np.random.default_rng(1)
    base = rng.normal(5, 2, 60)
    values = {f"m{i}": base + 0.15 * i + rng.normal(0, 1, 60) for i in range(6)}
    best, *others = ranked(values)
    adjusted = holm([paired_difference(values[best], values[o], binary=False).p_value for o in others])
    expected = [best] + [o for o, p in zip(others, adjusted, strict=True) if p > 0.05]
    assert tied_with_best(values, binary=False) == expected
    assert 1 < len(expected) < 6


def test_a_chain_overlaps():
    """a is tied with b and b with c, but a and c differ: two groups, with b in both."""
    noise = np.random.default_rng(5).normal(0, 1, (2, 100))
    one, two = (noise - noise.mean(axis=1, keepdims=True)) / noise.std(axis=1, keepdims=True)
    values = {"a": one + 0.16, "b": np.zeros(100), "c": 0.5 * one + 0.87 * two - 0.16}
    assert tied_sets(values, binary=False) == [["a", "b"], ["b", "c"]]
    assert tied_with_best(values, binary=False) == ["a", "b"]


def test_clusters_make_more_ties():
    values = {name: np.repeat(v, 10) for name, v in rates(2, 30, a=0.7, b=0.5).items()}
    assert len(tied_with_best(values, binary=True)) == 1
    assert len(tied_with_best(values, list(np.repeat(range(30), 10)), binary=True)) == 2


@given(st.integers(0, 300), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_every_candidate_is_in_a_group_and_none_lies_in_another(seed, n_candidates):
    shares = np.random.default_rng(seed).uniform(0.3, 0.9, n_candidates)
    values = rates(seed, 60, **{f"m{i}": share for i, share in enumerate(shares)})
    groups = tied_sets(values, binary=True)
    assert {name for group in groups for name in group} == set(values)
    assert not any(set(one) < set(two) for one in groups for two in groups)
    assert tied_with_best(values, binary=True)[0] == groups[0][0] == ranked(values)[0]
    assert all(group == sorted(group, key=ranked(values).index) for group in groups)


def test_what_is_picked_on_dev_is_reported_on_test():
    shares = {f"m{i}": 0.5 for i in range(12)}
    dev, test = rates(3, 60, **shares), rates(4, 60, **shares)
    found = select(Items(dev), Items(test, list(range(60))), binary=True)
    assert found.dev.value == max(v.mean() for v in dev.values())
    assert found.test.value == test[found.name].mean() < found.dev.value
    assert found.tied[0] == found.name
    scores = select(
        Items({"a": [1.0, 9.0], "b": [2.0, 3.0]}), Items({"a": [4.0, float("nan"), 6.0]}), binary=False, bounds=(1, 10)
    )
    assert (scores.name, scores.test.value, scores.test.n_scored, scores.test.n_total) == ("a", 5.0, 2, 3)


def test_the_picked_one_is_not_too_good_on_test():
    """Eight equal candidates: the best dev value is biased up, the test value is not."""
    gains = []
    for seed in range(40):
        dev, test = (
            {n: np.random.default_rng([seed, i, j]).random(50) for i, n in enumerate("abcdefgh")} for j in (0, 1)
        )
        found = select(Items(dev), Items(test), binary=False)
        gains.append((found.dev.value - 0.5, found.test.value - 0.5))
    dev_gain, test_gain = np.mean(gains, axis=0)
    assert dev_gain > 0.04
    assert abs(test_gain) < 0.015


def test_edges():
    nan = float("nan")
    assert tied_with_best({}, binary=True) == tied_sets({}, binary=True) == []
    assert tied_with_best({"a": [1.0, 0.0], "lost": [nan, nan]}, binary=True) == ["a"]
    assert tied_with_best({"a": [1.0, nan], "b": [nan, 0.0]}, binary=True) == ["a", "b"], "never on the same item"
    with pytest.raises(ValueError, match="no candidate"):
        select(Items({}), Items({}), binary=True)
    with pytest.raises(ValueError, match="no test items"):
        select(Items({"a": [1.0]}), Items({}), binary=True)
