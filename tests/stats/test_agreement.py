"""Agreement: against published examples, scikit-learn, statsmodels and the definitions; the edges; the intervals."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from harness.scores import Estimate
from harness.stats.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha, spearman

_ = None
# Krippendorff (2011), "Computing Krippendorff's alpha-reliability", example C: four observers, twelve units.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3),
    (_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _),
)
UNITS = list(zip(*OBSERVERS, strict=True))
# Fleiss (1971), ten subjects rated by fourteen raters, as counts of five categories; kappa 0.210.
FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def value(estimate: Estimate) -> float:
    assert estimate.value is not None
    return estimate.value


def width(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high - estimate.low


def by_definition(rows, level) -> float | None:
    """Alpha as Krippendorff writes it: every pair within units against every pair of all values."""
    units = [[value for value in row if value is not None] for row in rows]
    units = [unit for unit in units if len(unit) > 1]
    values = sorted(value for unit in units for value in unit)
    n = len(values)
    count = {one: values.count(one) for one in values}

    def apart(a, b):
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return (a - b) ** 2
        low, high = min(a, b), max(a, b)
        return (sum(m for one, m in count.items() if low <= one <= high) - (count[a] + count[b]) / 2) ** 2

    observed = sum(sum(apart(a, b) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units) / n
    expected = sum(apart(a, b) for a, b in permutations(values, 2)) / (n * (n - 1))
    return 1 - observed / expected if expected else None


# Values


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_s_own_example(level, published):
    found = krippendorff_alpha(UNITS, level)
    assert value(found) == pytest.approx(published, abs=5e-4)
    assert (found.n_scored, found.n_total) == (11, 12)


def test_krippendorff_s_binary_example():
    """The same paper's example A: two observers, ten units; alpha 0.095."""
    first = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    second = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert value(krippendorff_alpha(list(zip(first, second, strict=True)), "nominal")) == pytest.approx(0.095, abs=5e-4)


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.one_of(st.none(), st.integers(1, 6)), min_size=3, max_size=3), min_size=2, max_size=12),
    st.sampled_from(["nominal", "ordinal", "interval"]),
)
def test_alpha_is_what_its_definition_says(rows, level):
    known = [row for row in rows if sum(value is not None for value in row) > 1]
    found = krippendorff_alpha(rows, level)
    wanted = by_definition(rows, level) if known else None
    assert (found.value is None) == (wanted is None)
    if wanted is not None:
        assert found.value == pytest.approx(wanted, abs=1e-9)
        assert krippendorff_alpha([row[::-1] for row in rows], level).value == pytest.approx(wanted, abs=1e-9)


def test_fleiss_s_own_example():
    rows = [[str(category) for category, n in enumerate(counts) for _ in range(n)] for counts in FLEISS]
    assert value(fleiss_kappa(rows)) == pytest.approx(0.210, abs=5e-4)


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=4, max_size=4), min_size=2, max_size=20))
def test_fleiss_is_statsmodels(rows):
    found = fleiss_kappa(rows)
    if len({label for row in rows for label in row}) == 1:
        assert found.value is None
    else:
        codes = np.array([["abc".index(label) for label in row] for row in rows])
        assert found.value == pytest.approx(statsmodels_fleiss(aggregate_raters(codes, n_cat=3)[0]), abs=1e-9)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 10), st.integers(1, 10)), min_size=2, max_size=40))
def test_cohen_is_scikit_learn(pairs):
    first, second = zip(*pairs, strict=True)
    for weights, theirs in (("none", None), ("quadratic", "quadratic")):
        found = cohen_kappa(first, second, weights=weights)
        if len({*first, *second}) == 1:
            assert found.value is None
        else:
            # All ten labels are given: scikit-learn weighs by place among them, and a gap would shift the places.
            wanted = cohen_kappa_score(first, second, labels=list(range(1, 11)), weights=theirs)
            assert found.value == pytest.approx(wanted, abs=1e-9)


def test_spearman_is_scipy():
    rng = np.random.default_rng(0)
    first = rng.integers(1, 11, 80).astype(float)
    second = np.clip(first + rng.integers(-3, 4, 80), 1, 10)
    assert value(spearman(first, second)) == pytest.approx(spearmanr(first, second).statistic)
    assert value(spearman(first, -first)) == pytest.approx(-1)


# Edges


def test_one_label_alone_is_undefined_and_says_why():
    for found in (
        cohen_kappa(["safe"] * 9, ["safe"] * 9),
        cohen_kappa([5.0] * 9, [5.0] * 9, weights="quadratic"),
        fleiss_kappa([["safe"] * 3] * 9),
        krippendorff_alpha([["safe"] * 3] * 9, "nominal"),
        krippendorff_alpha([[4, 4]] * 9, "ordinal"),
        krippendorff_alpha([[4.5, 4.5]] * 9, "interval"),
        spearman([1.0] * 9, list(range(9))),
    ):
        assert (found.value, found.low, found.high) == (None, None, None)
        assert found.method == "undefined: every rating is the same"


def test_nothing_rated_twice_is_undefined_and_says_why():
    assert krippendorff_alpha([["a", None], [None, "b"]], "nominal").method == "undefined: no item has two ratings"
    assert cohen_kappa(["a", None], [None, "b"]).method == "undefined: no item has both ratings"
    assert fleiss_kappa([["a", None, "a"]]).method == "undefined: no item has a rating of every rater"
    assert cohen_kappa([], []).n_total == 0


def test_perfect_agreement_has_an_interval_too():
    few, many = (cohen_kappa(["a", "b"] * n, ["a", "b"] * n) for n in (5, 50))
    assert few.value == many.value == few.high == 1.0
    assert few.low is not None
    assert many.low is not None
    assert few.low < many.low < 1


def test_lost_ratings_are_coverage():
    found = cohen_kappa(["a", "b", None, "a"], ["a", "b", "b", None])
    assert (found.n_scored, found.n_total, found.value) == (2, 4, 1.0)


def test_ordinal_alpha_refuses_a_continuous_scale():
    with pytest.raises(ValueError, match="take interval"):
        krippendorff_alpha([[i + 0.1, i + 0.2] for i in range(60)], "ordinal")


# Intervals


def noisy(rng: np.random.Generator, n: int, flip: float) -> tuple[list[str], list[str]]:
    truth = rng.random(n) < 0.4
    return [["a", "b"][int(t)] for t in truth], [
        ["a", "b"][int(t ^ f)] for t, f in zip(truth, rng.random(n) < flip, strict=True)
    ]


def test_clusters_widen_and_seeds_repeat():
    rng = np.random.default_rng(3)
    first, second = noisy(rng, 40, 0.2)
    alone = cohen_kappa(first * 5, second * 5)
    together = cohen_kappa(first * 5, second * 5, clusters=list(range(40)) * 5)
    assert alone.method == "bootstrap"
    assert together.method == "cluster bootstrap"
    assert alone.value == pytest.approx(together.value)
    assert width(together) > 1.7 * width(alone)
    assert cohen_kappa(first, second, seed=1) == cohen_kappa(first, second, seed=1)
    assert cohen_kappa(first, second, seed=1) != cohen_kappa(first, second, seed=2)


def test_the_interval_covers():
    """Kappa's true value here is 1 - flip / ((1-p)q + p(1-q)); 95 % intervals cover it about that often."""
    rng = np.random.default_rng(4)
    flip, share = 0.15, 0.4
    said = share * (1 - flip) + (1 - share) * flip
    truth = 1 - flip / ((1 - share) * said + share * (1 - said))
    found = [cohen_kappa(*noisy(rng, 80, flip)) for _ in range(150)]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.89 <= covered <= 0.99
