"""Corrected rates: the formula, coverage by simulation, and where nothing can be said."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.stats.intervals import mean, rate
from harness.stats.prevalence import Share, effective_share, rogan_gladen

shares = st.floats(0.02, 0.98)


def from_counts(n_positive, n_total, *, tp, fn, tn, fp):
    """Positives among all judged, and the judge's hits and errors on labelled items."""
    return rogan_gladen(
        *(Share(k / n if n else 0.0, n) for k, n in ((n_positive, n_total), (tp, tp + fn), (tn, tn + fp)))
    )


def test_the_formula_by_hand():
    found = from_counts(350, 1000, tp=900, fn=100, tn=800, fp=200)
    assert found.value == pytest.approx((0.35 + 0.8 - 1) / (0.9 + 0.8 - 1))
    assert found.low < found.value < found.high
    assert found.note == ""


def test_lang_and_reiczigel_s_limits_by_hand():
    """The published steps, written out once more for one case: 130 of 200, 98 of 100, 190 of 200."""
    z = 1.959963985
    p, se, sp = (130 + z * z / 2) / (200 + z * z), 99 / 102, 191 / 202
    var_p, var_se, var_sp = p * (1 - p) / (200 + z * z), se * (1 - se) / 102, sp * (1 - sp) / 202
    centre = (p + sp - 1) / (se + sp - 1)
    shift = 2 * z * z * (centre * var_se - (1 - centre) * var_sp)
    half = z * (var_p + centre**2 * var_se + (1 - centre) ** 2 * var_sp) ** 0.5 / (se + sp - 1)
    found = from_counts(130, 200, tp=98, fn=2, tn=190, fp=10)
    assert (found.low, found.high) == pytest.approx((centre + shift - half, centre + shift + half), abs=1e-7)


@settings(max_examples=80)
@given(shares, st.floats(0.75, 0.99), st.floats(0.75, 0.99), st.integers(60, 400))
def test_the_other_label_gives_the_other_share(share, hit, spared, n):
    one = rogan_gladen(Share(share, 500), Share(hit, n), Share(spared, n))
    other = rogan_gladen(Share(1 - share, 500), Share(spared, n), Share(hit, n))
    if one.value is None:
        assert other == one._replace(note=other.note)
        return
    assert one.value == pytest.approx(1 - other.value)
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))
    assert 0 <= one.low <= one.value <= one.high <= 1


def test_a_perfect_judge_of_many_labels_changes_nothing():
    found = from_counts(300, 1000, tp=10**6, fn=0, tn=10**6, fp=0)
    plain = rate([1] * 300 + [0] * 700, 1000)
    assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high), abs=2e-3)


def test_fewer_labels_widen_the_interval():
    widths = [
        found.high - found.low
        for found in (from_counts(300, 1000, tp=0.9 * n, fn=0.1 * n, tn=0.8 * n, fp=0.2 * n) for n in (50, 200, 5000))
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 2 * widths[-1]


@pytest.mark.parametrize("counts", [(50, 50, 50, 50), (52, 48, 55, 45), (5, 95, 5, 95), (0, 0, 80, 20), (9, 1, 0, 0)])
def test_a_judge_no_better_than_chance_identifies_nothing(counts):
    tp, fn, tn, fp = counts
    found = from_counts(40, 100, tp=tp, fn=fn, tn=tn, fp=fp)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.note.startswith("not identified")


def test_what_the_errors_alone_explain_is_clipped_and_told():
    found = from_counts(180, 1000, tp=90, fn=10, tn=80, fp=20)
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.note.startswith("clipped to 0")
    assert found.high is not None
    assert found.high > 0
    top = from_counts(920, 1000, tp=90, fn=10, tn=80, fp=20)
    assert (top.value, top.high) == (1.0, 1.0)
    assert top.note.startswith("clipped to 1")


@pytest.mark.parametrize("n_positive", [10, 995])
def test_a_rate_that_the_judge_s_errors_rule_out_is_never_a_sure_zero_or_one(n_positive):
    """A fifth of harmless items is called harmful, but here a hundredth of all: the labels are of other answers."""
    found = from_counts(n_positive, 1000, tp=170, fn=30, tn=160, fp=40)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.note.startswith("the calibration does not fit these answers")


def test_a_share_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        rogan_gladen(Share(1.2, 10), Share(0.9, 10), Share(0.9, 10))


# Coverage


def covered(truth, hit, spared, n, m, rng, n_times=400) -> float:
    """How often the interval holds the truth; "nothing can be said" is the interval from 0 to 1."""
    seen = rng.binomial(n, truth * hit + (1 - truth) * (1 - spared), n_times)
    hits, rights = rng.binomial(m, hit, n_times), rng.binomial(m, spared, n_times)
    found = [from_counts(x, n, tp=a, fn=m - a, tn=b, fp=m - b) for x, a, b in zip(seen, hits, rights, strict=True)]
    return float(np.mean([one.value is None or one.low <= truth <= one.high for one in found]))


def test_the_interval_covers_over_a_grid():
    rng = np.random.default_rng(0)
    grid = product((0.05, 0.3, 0.5, 0.9), ((0.95, 0.9), (0.9, 0.7), (0.7, 0.9), (0.65, 0.65)), ((200, 60), (1500, 300)))
    found = [covered(truth, hit, spared, n, m, rng) for truth, (hit, spared), (n, m) in grid]
    assert 0.93 <= np.mean(found) <= 0.975
    assert min(found) >= 0.92  # 400 draws: two standard errors below 95 % are 92.8 %


def test_at_the_ends_it_covers_at_least_as_often():
    rng = np.random.default_rng(1)
    assert min(covered(truth, 0.9, 0.8, 400, 100, rng) for truth in (0.0, 0.01, 1.0)) >= 0.93


def test_without_the_judge_s_uncertainty_it_would_not_cover():
    """The corrected rate with a plain interval misses the truth far too often: what is propagated is not small."""
    rng = np.random.default_rng(2)
    n, m, hit, spared, truth = 1500, 60, 0.9, 0.7, 0.3
    missed = 0
    for _ in range(300):
        x, a, b = (
            rng.binomial(n, truth * hit + (1 - truth) * (1 - spared)),
            rng.binomial(m, hit),
            rng.binomial(m, spared),
        )
        found = rogan_gladen(Share(x / n, n), Share(a / m, 1e9), Share(b / m, 1e9))
        missed += found.value is not None and not found.low <= truth <= found.high
    assert missed / 300 > 0.3


# Effective items


@settings(max_examples=60)
@given(st.integers(0, 200), st.integers(1, 200))
def test_independent_items_are_worth_themselves(k, n):
    assume(k <= n)
    found = effective_share(rate([1] * k + [0] * (n - k), n))
    assert found.n == pytest.approx(n, rel=1e-4)
    assert found.value == pytest.approx(k / n)


def test_clustered_items_are_worth_fewer():
    values = ([1] * 10 + [0] * 10) * 10
    alone, together = (
        effective_share(rate(values, 200, clusters)) for clusters in (None, [i // 10 for i in range(200)])
    )
    assert alone.n == pytest.approx(200, rel=1e-4)
    assert together.n < 40


def test_what_has_no_interval_has_no_effective_items():
    assert effective_share(rate([], 5)) is None
    assert effective_share(rate([1, 0], 2, ["a", "a"])) is None
    assert effective_share(mean([0.5], 1, (0, 1))) is None
