"""Bradley-Terry and Davidson: against statsmodels, the likelihood itself and a known truth."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from statsmodels.discrete.discrete_model import Logit

from harness.stats.bradley_terry import Game, bradley_terry

NAMES = "abcd"
TRUTH = dict(zip(NAMES, (0.9, 0.3, -0.2, -1.0), strict=True))


def play(rng, n_rounds: int, tie: float = 0.5, truth=TRUTH) -> list[Game]:
    """Every pair in every round, by Davidson's model."""
    games = []
    for _ in range(n_rounds):
        for one, two in combinations(truth, 2):
            half = (truth[one] - truth[two]) / 2
            weights = np.array([np.exp(half), tie, np.exp(-half)])
            games.append(Game(one, two, float(rng.choice([1.0, 0.5, 0.0], p=weights / weights.sum()))))
    return games


def strengths(found) -> dict[str, float]:
    return {name: estimate.value for name, estimate in found.strengths.items()}


def test_without_ties_it_is_a_logistic_regression():
    games = play(np.random.default_rng(0), 60, tie=0.0)
    design = np.array([[(name == g.first) - (name == g.second) for name in NAMES[1:]] for g in games], dtype=float)
    fit = Logit([g.preference for g in games], design).fit(disp=0)
    expected = np.array([0.0, *fit.params])
    found = bradley_terry(games)
    assert [strengths(found)[name] for name in NAMES] == pytest.approx(list(expected - expected.mean()), abs=2e-3)
    assert found.tie_share == 0


def test_with_ties_it_is_the_likeliest_of_davidson_s_model():
    games = play(np.random.default_rng(1), 40)

    def minus_log(parameters):
        found = dict(zip(NAMES, [0.0, *parameters[:3]], strict=True))
        total = 0.0
        for game in games:
            half = (found[game.first] - found[game.second]) / 2
            logs = {1.0: half, 0.5: parameters[3], 0.0: -half}
            total -= logs[game.preference] - np.log(np.exp(half) + np.exp(-half) + np.exp(parameters[3]))
        return total

    best = minimize(minus_log, np.zeros(4)).x
    expected = np.array([0.0, *best[:3]])
    found = bradley_terry(games)
    assert [strengths(found)[name] for name in NAMES] == pytest.approx(list(expected - expected.mean()), abs=2e-3)
    assert found.tie_share == pytest.approx(np.exp(best[3]) / (2 + np.exp(best[3])), abs=1e-3)


def test_everyone_met_everyone_so_win_rates_are_what_was_seen():
    """Of a balanced tournament the model gives back each method's wins and half its ties."""
    games = play(np.random.default_rng(2), 200)
    found = bradley_terry(games)
    for name, estimate in found.win_rates.items():
        seen = [g.preference if g.first == name else 1 - g.preference for g in games if name in (g.first, g.second)]
        assert estimate.value == pytest.approx(np.mean(seen), abs=1e-3)
        assert estimate.low < estimate.value < estimate.high
        assert (estimate.n_scored, estimate.n_total) == (600, 600)
    assert list(found.strengths) == list(found.win_rates) == sorted(NAMES, key=lambda n: -strengths(found)[n])


@pytest.mark.slow
def test_its_intervals_cover():
    hits = []
    for seed in range(120):
        found = bradley_terry(play(np.random.default_rng(seed), 50), list(np.arange(300) // 6), seed=seed)
        hits += [e.low <= TRUTH[name] <= e.high for name, e in found.strengths.items()]
    assert 0.91 <= np.mean(hits) <= 0.98  # percentiles over 50 rounds


@given(st.integers(0, 100), st.randoms())
@settings(max_examples=15, deadline=None)
def test_order_and_sides_do_not_matter(seed, random):
    games = play(np.random.default_rng(seed), 5)
    turned = [Game(g.second, g.first, 1 - g.preference) if random.random() < 0.5 else g for g in games]
    random.shuffle(turned)
    there, back = strengths(bradley_terry(games)), strengths(bradley_terry(turned))
    assert there == pytest.approx(back, abs=1e-6)
    assert sum(there.values()) == pytest.approx(0, abs=1e-6)


def test_a_judge_s_probabilities_count_in_parts():
    rng = np.random.default_rng(3)
    games = play(rng, 50, tie=0.0)
    soft = [game._replace(preference=0.9 * game.preference + 0.05) for game in games]
    whole = [g._replace(preference=v) for g in games for v in [g.preference] * 19 + [1 - g.preference]]
    assert strengths(bradley_terry(soft)) == pytest.approx(strengths(bradley_terry(whole)), abs=0.02)


def test_one_that_never_lost_is_finite_and_repeats_with_its_seed():
    games = [Game("a", "b", 1.0)] * 30 + [Game("b", "c", 1.0), Game("b", "c", 0.0)] * 10
    found = bradley_terry(games, seed=3)
    assert found == bradley_terry(games, seed=3)
    top = found.strengths["a"]
    assert np.isfinite([top.value, top.low, top.high]).all()
    assert found.win_rates["a"].value > 0.99


def test_clusters_widen_and_lost_games_are_coverage():
    games = play(np.random.default_rng(4), 20)
    many = [game for game in games for _ in range(10)]
    alone = bradley_terry(many).strengths["a"]
    together = bradley_terry(many, [i // 10 for i in range(len(many))]).strengths["a"]
    assert together.high - together.low > 2.5 * (alone.high - alone.low)
    lost = bradley_terry([*games, Game("a", "b", float("nan"))])
    assert (lost.strengths["a"].n_scored, lost.strengths["a"].n_total) == (60, 61)
    assert bradley_terry(games, ["x"] * len(games)).strengths["a"].low is None


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ValueError, match="c, d never met a"):
        bradley_terry([Game("a", "b", 1.0), Game("c", "d", 1.0)])
    with pytest.raises(ValueError, match="two methods"):
        bradley_terry([])
    with pytest.raises(ValueError, match="between 0 and 1"):
        bradley_terry([Game("a", "b", 2.0)])
