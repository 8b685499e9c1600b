"""The Pareto front and the correlation of errors: against scipy, by construction, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from harness.stats.front import Values, correlation, p_greater, standings

N = 200


def draws(*key: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(np.random.default_rng(key).normal(size=N))


def codes() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(N)


def test_of_one_seed_and_single_items_it_is_the_paired_t_test() -> None:
    first, second = draws(1), draws(2)
    expected = ttest_1samp(first - second, 0.0, alternative="greater").pvalue
    assert p_greater(first[None], second[None], codes()) == pytest.approx(expected, rel=1e-6)


def test_lost_items_and_empty_seeds_drop_out() -> None:
    first, second = np.stack([draws(1), np.full(N, np.nan)]), np.stack([draws(2), draws(3)])
    first[0, :50] = np.nan
    expected = ttest_1samp(first[0, 50:] - second[0, 50:], 0.0, alternative="greater").pvalue
    assert p_greater(first, second, codes()) == pytest.approx(expected, rel=1e-6)
    assert p_greater(first[1:], second[1:], codes()) == 1.0


def test_equal_differences_are_no_infinite_proof() -> None:
    ones, zeros = np.ones((1, 4)), np.zeros((1, 4))
    assert p_greater(ones, zeros, np.arange(4)) == 0.5**4
    assert p_greater(ones, zeros, np.zeros(4, dtype=np.int64)) >= 0.5, "one cluster shows nothing"
    assert p_greater(zeros, ones, np.arange(4)) == 1.0
    assert p_greater(ones, ones, np.arange(4)) == 1.0


def test_correlation_is_of_shared_units() -> None:
    units = [f"prompt {i}" for i in range(N)]
    one, two = Values(draws(1), units), Values(draws(2), units)
    assert correlation([one], [one]).value == pytest.approx(1.0)
    assert correlation([one], [Values(-one.values, units)]).value == pytest.approx(-1.0)
    assert correlation([one], [two]).value == pytest.approx(np.corrcoef(one.values, two.values)[0, 1])
    apart = correlation([one], [Values(two.values, [f"other {i}" for i in range(N)])])
    assert (apart.value, apart.level, apart.n) == (0.0, "units", 0)
    assert correlation([one], [Values(np.ones(N), units)]).value is None


def test_three_seeds_correlate_by_their_means() -> None:
    shifts = [0.0, 1.0, 3.0]
    first = [Values(draws(1) + shift, list(range(N))) for shift in shifts]
    second = [Values(draws(2) - 2 * shift, list(range(N))) for shift in shifts]
    found = correlation(first, second)
    assert found.value == pytest.approx(-1.0)
    assert (found.level, found.n) == ("seeds", 3)
    assert correlation(first[:2], second[:2]).level == "units"


def test_standings_need_both_measures_and_holm() -> None:
    points = {"best": (2.0, 2.0), "worse": (1.0, 1.0), "level": (2.0, 1.5), "trade": (3.0, 0.0)}
    asked: list[tuple[str, str]] = []

    def p_value(first: str, second: str) -> float:
        asked.append((first, second))
        return 0.02

    assert standings(points, p_value) == {"best": "front", "worse": "off", "level": "open", "trade": "front"}
    assert asked == [("best", "worse"), ("level", "worse")], "only pairs that are better in both"
    assert standings(points, lambda a, b: 0.03)["worse"] == "open", "0.06 after Holm over two pairs"


def test_equal_models_are_rarely_shown_to_be_off() -> None:
    """Of four equal models, some model is shown to be off in less than 5 % of simulated runs."""
    wrong = 0
    for run in range(200):
        values = {name: (draws(run, name, 0)[None], draws(run, name, 1)[None]) for name in range(4)}
        points = {str(name): (float(x.mean()), float(y.mean())) for name, (x, y) in values.items()}

        def p_value(first: str, second: str, of: dict[int, tuple[np.ndarray, np.ndarray]] = values) -> float:
            return max(p_greater(of[int(first)][k], of[int(second)][k], codes()) for k in (0, 1))

        wrong += "off" in standings(points, p_value).values()
    assert wrong / 200 < 0.05
