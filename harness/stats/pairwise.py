"""Pairwise preferences against a baseline: win rate with ties, and length-controlled win rate.

Reads preferences for the first side: 1 a win, 0 a loss, a half a tie (or a judge's probability in between), NaN where
none could be had. Intervals are over comparisons or their clusters. There is no Bradley-Terry model: every comparison
is with the one baseline, a star, in which a subject's strength over the baseline is the logit of its win rate and no
other comparison says more of it. Strengths would add something if subjects were compared with each other too.
Source: Dubois et al. 2024 ("Length-Controlled AlpacaEval").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from harness.scores import Estimate
from harness.stats import intervals
from harness.stats.core import (
    FLAT,
    Clusters,
    FloatArray,
    Spread,
    as_floats,
    cluster_codes,
    robust_spread,
    t_quantile,
    wilson,
)


class Anchors(NamedTuple):
    """Comparisons of the baseline with itself told to write more or less: they hold the length effect in place.

    Attributes:
        preferences: For the longer or shorter answer over the baseline's, NaN where lost, shape ``(n,)``.
        lengths: Its characters less the baseline's, in standard deviations of that difference.
        difficulty: Difficulty of the instruction.
        weight: Weight of one of them beside a comparison (AlpacaEval: 0.2 over two such sets).
    """

    preferences: ArrayLike
    lengths: ArrayLike
    difficulty: ArrayLike
    weight: float = 0.1


class LengthControlled(NamedTuple):
    """A win rate as if both answers were equally long.

    Attributes:
        win_rate: The length-controlled win rate.
        raw: The win rate as it is.
        length_effect: Coefficient of the length term, in log-odds.
        effects: What each scored comparison adds, shape ``(n_scored,)``: their mean is the win rate, their spread that
            of its error.
    """

    win_rate: Estimate
    raw: Estimate
    length_effect: float
    effects: FloatArray


def win_rate(preferences: ArrayLike, clusters: Clusters | None = None) -> Estimate:
    """Mean preference with Wilson's interval on as many decided comparisons as have its cluster-robust error.

    Ties narrow the interval: they vary less than wins and losses do.

    Args:
        preferences: 1 win, 0 loss, a half tie, or in between; shape ``(n,)``, NaN where lost.
        clusters: Cluster of each comparison.

    Raises:
        ValueError: A preference is not between 0 and 1.
    """
    array = as_floats(preferences)
    scored = ~np.isnan(array)
    kept = None if clusters is None else [clusters[int(i)] for i in np.flatnonzero(scored)]
    values = array[scored]
    plain = intervals.mean(values, array.size, intervals.UNIT, kept)
    if plain.low is None or plain.value is None:
        return plain
    spread = robust_spread(values, cluster_codes(kept, values.size))
    if spread.error <= FLAT:
        return plain
    low, high = _wilson_of(plain.value, spread)
    name = "cluster wilson" if spread.clustered else "wilson with ties"
    return plain.model_copy(update={"low": low, "high": high, "method": name})


def length_controlled_win_rate(
    preferences: ArrayLike,
    lengths: ArrayLike,
    baseline_lengths: ArrayLike,
    difficulty: ArrayLike | None = None,
    clusters: Clusters | None = None,
    *,
    anchors: Anchors | None = None,
) -> LengthControlled:
    """Win rate as if both answers were equally long, after AlpacaEval 2.

    A logistic regression of the preference on the method, tanh of the standardised length difference and the
    instruction's difficulty; then its predictions with the length difference set to zero. AlpacaEval's own numbers rest
    on difficulties estimated from its whole leaderboard and on anchors; without these two they are not reproduced.

    Args:
        preferences: For the method over the baseline, shape ``(n,)``, NaN where lost.
        lengths: Characters of the method's answers, shape ``(n,)``.
        baseline_lengths: Characters of the baseline's answers, shape ``(n,)``.
        difficulty: Log-odds by which an instruction favours any method over the baseline, shape ``(n,)``.
        clusters: Cluster of each comparison.
        anchors: Comparisons of the baseline with itself at other lengths.

    Raises:
        ValueError: The arrays differ in length, or a preference is not between 0 and 1.
    """
    raw = win_rate(preferences, clusters)
    array = as_floats(preferences)
    own, other = as_floats(lengths), as_floats(baseline_lengths)
    hard = np.zeros_like(array) if difficulty is None else as_floats(difficulty)
    if not array.size == own.size == other.size == hard.size:
        raise ValueError("preferences, lengths and difficulties must have the same length")
    difference = own - other
    scored = ~np.isnan(array)
    values = array[scored]
    if raw.value is None or np.ptp(values) == 0 or np.ptp(difference) == 0:
        return LengthControlled(raw, raw, 0.0, values)
    terms = np.tanh(difference / difference.std(ddof=1))[scored]
    design = np.column_stack([np.ones_like(values), terms, hard[scored]])
    fitted, pulls = _logistic(design, values, anchors)
    equal = design * (1.0, 0.0, 1.0)
    predicted = _sigmoid(equal @ fitted)
    slope = (equal * (predicted * (1 - predicted))[:, None]).mean(axis=0)
    effects = predicted + pulls @ slope * values.size
    kept = None if clusters is None else [clusters[int(i)] for i in np.flatnonzero(scored)]
    value = float(predicted.mean())
    low, high = _wilson_of(value, robust_spread(effects, cluster_codes(kept, values.size)))
    update = {"value": value, "low": low, "high": high, "method": "length-controlled", "worst": None, "best": None}
    return LengthControlled(raw.model_copy(update=update), raw, float(fitted[1]), effects)


def _logistic(design: FloatArray, values: FloatArray, anchors: Anchors | None) -> tuple[FloatArray, FloatArray]:
    """Coefficients of a logistic regression on fractional outcomes, and each item's pull on them, shape ``(n, k)``."""
    from sklearn.linear_model import LogisticRegression

    rows, outcomes, weights = design, values, np.ones_like(values)
    if anchors is not None:
        known = ~np.isnan(as_floats(anchors.preferences))
        columns = [np.zeros(known.size), np.tanh(as_floats(anchors.lengths)), as_floats(anchors.difficulty)]
        rows = np.vstack([design, np.column_stack(columns)[known]])
        outcomes = np.concatenate([values, as_floats(anchors.preferences)[known]])
        weights = np.concatenate([weights, np.full(int(known.sum()), anchors.weight)])
    model = LogisticRegression(C=1e4, fit_intercept=False, tol=1e-8, max_iter=1000)
    both = np.concatenate([weights * outcomes, weights * (1 - outcomes)])
    model.fit(np.vstack([rows, rows]), np.repeat([1, 0], outcomes.size), sample_weight=both)
    fitted = np.asarray(model.coef_[0], dtype=np.float64)
    chance = _sigmoid(rows @ fitted)
    information = (rows * (weights * chance * (1 - chance))[:, None]).T @ rows
    residuals = (values - chance[: values.size])[:, None] * design
    return fitted, residuals @ np.linalg.pinv(information)


def _sigmoid(log_odds: FloatArray) -> FloatArray:
    from scipy.special import expit

    return np.asarray(expit(log_odds))


def _wilson_of(share: float, spread: Spread) -> tuple[float | None, float | None]:
    """Wilson's interval on as many independent decided comparisons as have this error."""
    if spread.n_clusters < 2:
        return None, None
    n_effective = max(share * (1 - share), FLAT) / max(spread.error, FLAT) ** 2
    return wilson(share, n_effective, t_quantile(spread.n_clusters))
