"""Win rates: with ties, and length-controlled, against references and on AlpacaEval's own data where it is present."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.stats.proportion import proportion_confint

from harness.stats.pairwise import Anchors, length_controlled_win_rate, win_rate

DATA = Path(os.environ.get("HARNESS_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data") / "alpaca_eval"
LEADERBOARD = DATA / "leaderboard_alpacaeval2.csv"
NEEDED = [DATA / "df_gamed.csv"]
"""The difficulties of the instructions and the baseline's comparisons with itself; AlpacaEval keeps them on the hub."""


def ends(found):
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


# Win rate


def test_without_ties_it_is_wilson_s():
    low, high = ends(win_rate([1.0] * 120 + [0.0] * 80))
    assert (low, high) == pytest.approx(proportion_confint(120, 200, method="wilson"), abs=2e-3)


def test_ties_are_halves_and_narrow_it():
    found = win_rate([1.0] * 20 + [0.5] * 60 + [0.0] * 20)
    low, high = ends(found)
    assert found.value == 0.5
    assert high - low < 0.7 * np.diff(proportion_confint(50, 100, method="wilson"))


def test_clusters_widen_it_and_lost_comparisons_are_coverage():
    nan = float("nan")
    values = [1.0, 0.5, 0.0, 1.0] * 10
    clusters = list(np.repeat(range(10), 4))
    clustered = win_rate(np.repeat([1.0, 0.0, 1.0, 0.5, 1.0], 8), list(np.repeat(range(5), 8)))
    assert clustered.method == "cluster wilson"
    assert np.diff(ends(clustered)) > 2 * np.diff(ends(win_rate(np.repeat([1.0, 0.0, 1.0, 0.5, 1.0], 8))))
    found = win_rate([*values, nan], [*clusters, "x"])
    assert (found.value, found.n_scored, found.n_total) == (0.625, 40, 41)
    assert found.worst == pytest.approx(25 / 41)
    assert win_rate([nan, nan]).value is None
    with pytest.raises(ValueError, match="scale"):
        win_rate([1.5])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
@settings(max_examples=60)
def test_the_other_side_s_win_rate_is_the_rest(values):
    there, back = win_rate(values), win_rate(1 - np.array(values))
    low, high = ends(there)
    assert 0 <= low <= there.value <= high <= 1
    assert back.value == pytest.approx(1 - there.value)
    assert ends(back) == pytest.approx((1 - high, 1 - low), abs=1e-6)


# Length-controlled


def made(seed: int, n: int = 600, skill: float = -0.5, effect: float = 1.5, spread: float = 1.0):
    """Comparisons by the model itself, and the win rate that it has at equal lengths."""
    rng = np.random.default_rng(seed)
    lengths, baseline = rng.gamma(4, 250, n) + 150, rng.gamma(4, 250, n)
    difference = lengths - baseline
    hard = rng.normal(0, spread, n)
    chance = expit(skill + effect * np.tanh(difference / difference.std(ddof=1)) + hard)
    return (rng.random(n) < chance).astype(float), lengths, baseline, hard


def equal_lengths(skill: float = -0.5, spread: float = 1.0) -> float:
    return float(expit(skill + spread * np.random.default_rng(0).normal(size=200_000)).mean())


@pytest.mark.parametrize("anchored", [False, True])
def test_it_is_a_generalised_linear_model_at_equal_lengths(anchored):
    """Against statsmodels, which takes fractional preferences and weights as they are."""
    rng = np.random.default_rng(1)
    preferences, lengths, baseline, hard = made(0)
    preferences = np.clip(preferences + rng.normal(0, 0.1, 600), 0, 1)
    terms = np.tanh((lengths - baseline) / (lengths - baseline).std(ddof=1))
    rows, weights, outcomes = np.column_stack([np.ones(600), terms, hard]), np.ones(600), preferences
    anchors = None
    if anchored:
        anchors = Anchors(rng.random(400), rng.normal(0, 1, 400), rng.normal(0, 1, 400))
        more = np.column_stack([np.zeros(400), np.tanh(anchors.lengths), anchors.difficulty])
        rows, weights = np.vstack([rows, more]), np.concatenate([weights, np.full(400, anchors.weight)])
        outcomes = np.concatenate([outcomes, anchors.preferences])
    fit = GLM(outcomes, rows, family=Binomial(), freq_weights=weights).fit()
    found = length_controlled_win_rate(preferences, lengths, baseline, hard, anchors=anchors)
    assert found.length_effect == pytest.approx(fit.params[1], abs=1e-3)
    assert found.win_rate.value == pytest.approx(expit(fit.params[0] + fit.params[2] * hard).mean(), abs=1e-4)
    assert found.raw == win_rate(preferences)


@pytest.mark.slow
def test_its_interval_covers_what_it_estimates():
    truth, hits, n_runs = equal_lengths(), 0, 200
    for seed in range(n_runs):
        low, high = ends(length_controlled_win_rate(*made(seed, n=300)).win_rate)
        hits += low <= truth <= high
    assert 0.92 <= hits / n_runs <= 0.98


def test_longer_answers_gain_nothing():
    preferences, lengths, baseline, _ = made(3, n=4000, skill=0.0, spread=0.0)
    found = length_controlled_win_rate(preferences, lengths * 1.0, baseline)
    assert found.raw.value > 0.54
    assert found.win_rate.value == pytest.approx(0.5, abs=0.03)


def test_lost_flat_and_clustered():
    preferences, lengths, baseline, hard = made(4, n=200)
    preferences[:20] = np.nan
    found = length_controlled_win_rate(preferences, lengths, baseline, hard)
    assert (found.win_rate.n_scored, found.win_rate.n_total, found.win_rate.worst) == (180, 200, None)
    twice = length_controlled_win_rate(
        *(np.repeat(values, 2) for values in (preferences, lengths, baseline, hard)), list(np.repeat(range(200), 2))
    )
    assert twice.win_rate.value == pytest.approx(found.win_rate.value, abs=1e-3)
    assert ends(twice.win_rate) == pytest.approx(ends(found.win_rate), abs=5e-3)
    flat = length_controlled_win_rate([1.0] * 9, range(9), [5] * 9)
    assert flat.win_rate == flat.raw == win_rate([1.0] * 9)
    with pytest.raises(ValueError, match="same length"):
        length_controlled_win_rate([1.0, 0.0], [1, 2], [3])


def test_the_longer_always_wins():
    """Perfectly separated: the coefficients have no finite best value, the win rate at equal lengths still has one."""
    difference = np.linspace(-100, 100, 80)
    found = length_controlled_win_rate((difference > 0).astype(float), 500 + difference, np.full(80, 500.0))
    low, high = ends(found.win_rate)
    assert 0 <= low <= found.win_rate.value <= high <= 1


# AlpacaEval 2


def recorded(model: str):
    if not LEADERBOARD.exists():
        pytest.skip("AlpacaEval's leaderboard and annotations are not here")
    lines = (DATA / f"ae2_{model}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    given = np.array([np.nan if row["preference"] is None else float(row["preference"]) for row in rows])
    lengths, baseline = ([len(row[side]) for row in rows] for side in ("output_2", "output_1"))
    with LEADERBOARD.open(encoding="utf-8") as file:
        board = {row[""]: row for row in csv.DictReader(file)}
    return np.where(given == 0, 0.5, given - 1), lengths, baseline, board[model]


@pytest.mark.parametrize("model", ["claude-2", "vicuna-13b"])
def test_raw_win_rates_are_the_leaderboard_s(model):
    preferences, lengths, _, row = recorded(model)
    found = win_rate(preferences)
    assert 100 * found.value == pytest.approx(float(row["win_rate"]), abs=1e-9)
    low, high = ends(found)
    assert 100 * (high - low) / 2 == pytest.approx(1.96 * float(row["standard_error"]), rel=0.05)
    assert np.mean(lengths) == pytest.approx(float(row["avg_length"]), abs=1)


@pytest.mark.parametrize("model", ["claude-2", "vicuna-13b"])
def test_length_controlled_win_rates_are_the_leaderboard_s(model):
    preferences, lengths, baseline, row = recorded(model)
    if not all(path.exists() for path in NEEDED):
        pytest.skip("AlpacaEval's instruction difficulties and anchors (df_gamed.csv) are not here")
    with NEEDED[0].open(encoding="utf-8") as file:
        gamed = list(csv.DictReader(file))
    difficulty = {int(one["index"]): float(one["instruction_difficulty"]) for one in gamed}
    columns = [
        [float(one[name]) for one in gamed] for name in ("preference", "std_delta_len", "instruction_difficulty")
    ]
    anchors = Anchors(columns[0], -np.array(columns[1]), columns[2])
    hard = [difficulty[i] for i in range(len(preferences))]
    found = length_controlled_win_rate(preferences, lengths, baseline, hard, anchors=anchors)
    assert 100 * found.win_rate.value == pytest.approx(float(row["length_controlled_winrate"]), abs=0.5)


@pytest.mark.parametrize(("model", "without"), [("claude-2", 36.8), ("vicuna-13b", 14.1)])
def test_without_difficulties_and_anchors_the_leaderboard_is_not_reproduced(model, without):
    """What the annotations alone give; the leaderboard says 28.2 and 9.2."""
    preferences, lengths, baseline, row = recorded(model)
    found = length_controlled_win_rate(preferences, lengths, baseline)
    assert 100 * found.win_rate.value == pytest.approx(without, abs=0.1)
    assert found.length_effect > 0
    assert found.win_rate.value > found.raw.value, "both models write less than the baseline"
    assert abs(without - float(row["length_controlled_winrate"])) > 0.5
