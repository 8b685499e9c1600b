"""Ties: those that paired tests leave after Holm, and the largest groups of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.stats.paired import holm, paired_difference
from harness.stats.selection import tied_sets, told_apart

NAMES = st.sampled_from("abcdef")


def test_ties_are_those_of_the_paired_tests_after_holm():
    rng = np.random.default_rng(1)
    base = rng.normal(5, 2, 60)
    values = {f"m{i}": base + 0.15 * i + rng.normal(0, 1, 60) for i in range(6)}
    p_values = {name: paired_difference(values["m5"], values[name], binary=False).p_value for name in list(values)[:5]}
    found = told_apart(p_values)
    expected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    assert found.adjusted == expected
    assert found.apart == {name for name, p in expected.items() if p <= 0.05}
    assert 0 < len(found.apart) < 5
    raw = {name for name, p in p_values.items() if p <= 0.05}
    assert found.apart <= raw


def test_what_was_not_tested_is_tied_and_does_not_count():
    assert told_apart({"a": 0.04, "b": None}).apart == {"a"}
    assert told_apart({"a": 0.04, "b": 0.9}).apart == set()
    assert told_apart({}).apart == set()


def test_a_chain_overlaps():
    """a is tied with b and b with c, but a and c differ: two groups, with b in both."""
    assert tied_sets("abc", {frozenset("ac")}) == [["a", "b"], ["b", "c"]]
    assert tied_sets("cba", {frozenset("ac")}) == [["c", "b"], ["b", "a"]]
    assert tied_sets("", set()) == []


@given(st.sets(st.tuples(NAMES, NAMES).filter(lambda pair: pair[0] < pair[1])))
def test_tied_sets_are_all_the_largest_groups(pairs):
    apart = {frozenset(pair) for pair in pairs}

    def tied(group):
        return not any(frozenset(pair) in apart for pair in combinations(group, 2))

    every = [set(group) for size in range(1, 7) for group in combinations("abcdef", size) if tied(group)]
    largest = [group for group in every if not any(group < other for other in every)]
    found = tied_sets("abcdef", apart)
    assert sorted(map(sorted, found)) == sorted(map(sorted, largest))
    assert all(group == sorted(group) for group in found)
