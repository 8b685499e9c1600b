"""Strengths of several methods from pairwise comparisons with ties (Bradley and Terry 1952, Davidson 1970).

Reads comparisons with a preference (1 win, 0 loss, a half tie; a judge's probability counts as so much of a win and so
much of a loss) and a cluster each. Davidson's model is an exponential family: each method's wins plus half its ties,
all ties, and who met whom how often say all. Resamples of clusters are sums of these, and Newton's method fits
thousands of them at once; intervals are percentiles over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.scores import Estimate
from harness.stats.core import Clusters, FloatArray, IntArray, Interval, cluster_codes
from harness.stats.resample import cluster_weights, percentile

TIE = 0.5
RIDGE = 0.01
"""Precision of a normal prior on log-odds (its SD is 10), which keeps a method that never lost finite."""
N_STEPS = 60
LONGEST_STEP = 2.0


class Game(NamedTuple):
    """One comparison: the two sides, and the preference for the first (NaN where it was lost)."""

    first: str
    second: str
    preference: float


class BradleyTerry(NamedTuple):
    """Strengths of several methods on one scale.

    Attributes:
        strengths: Method → log-odds of beating an average one, mean zero, strongest first.
        win_rates: Method → expected win rate (ties half) against the others in turn, same order.
        tie_share: Expected share of ties between two equally strong methods.
    """

    strengths: dict[str, Estimate]
    win_rates: dict[str, Estimate]
    tie_share: float


def bradley_terry(games: Sequence[Game], clusters: Clusters | None = None, *, seed: int = 0) -> BradleyTerry:
    """Davidson's model of all comparisons, with intervals over their clusters.

    Args:
        games: The comparisons.
        clusters: Cluster of each, such as its prompt; comparisons of one prompt belong together.
        seed: Seed of the resampling.

    Raises:
        ValueError: A preference is not between 0 and 1, or the methods fall into groups that never met.
    """
    kept = [i for i, game in enumerate(games) if not np.isnan(game.preference)]
    played = [games[i] for i in kept]
    if any(not 0 <= game.preference <= 1 for game in played):
        raise ValueError("a preference lies between 0 and 1")
    names = list(dict.fromkeys(name for game in played for name in (game.first, game.second)))
    if len(names) < 2:
        raise ValueError("strengths need comparisons of two methods")
    codes = cluster_codes(None if clusters is None else [clusters[i] for i in kept], len(played))
    rows = _per_cluster(played, names, codes)
    _check_connected(rows.sum(axis=0), names)
    whole = _fit(rows.sum(axis=0, keepdims=True), len(names))[0]
    width = rows.shape[0] + 8 * rows.shape[1]
    draws = np.concatenate(
        [_fit(weights @ rows, len(names)) for weights in cluster_weights(rows.shape[0], width, seed)]
    )
    return _result(names, whole, draws, games)


def _per_cluster(played: Sequence[Game], names: Sequence[str], codes: IntArray) -> FloatArray:
    """Wins, then ties, of each ordered pair in each cluster, shape ``(n_clusters, 2 k k)``."""
    k = len(names)
    place = {name: i for i, name in enumerate(names)}
    rows = np.zeros((int(codes.max(initial=-1)) + 1, 2, k, k))
    for game, code in zip(played, codes, strict=True):
        one, two = place[game.first], place[game.second]
        if game.preference == TIE:
            rows[code, 1, one, two] += 1
        else:
            rows[code, 0, one, two] += game.preference
            rows[code, 0, two, one] += 1 - game.preference
    return rows.reshape(-1, 2 * k * k)


def _check_connected(total: FloatArray, names: Sequence[str]) -> None:
    from scipy.sparse.csgraph import connected_components

    met = total.reshape(2, len(names), len(names)).sum(axis=0)
    n_groups, group = connected_components(met, directed=False)
    if n_groups > 1:
        apart = [name for name, number in zip(names, group, strict=True) if number != group[0]]
        raise ValueError(f"{', '.join(apart)} never met {names[0]}, directly or by way of others")


def _fit(rows: FloatArray, k: int) -> FloatArray:
    """Strengths (mean zero) and log tie weight of each table of wins and ties, shape ``(b, k + 1)``.

    Newton's method on all tables at once. Where no table has a tie the tie weight is zero: plain Bradley-Terry.
    """
    wins, ties = np.moveaxis(rows.reshape(-1, 2, k, k), 1, 0)
    ties = ties + ties.swapaxes(1, 2)
    met = wins + wins.swapaxes(1, 2) + ties
    scores, n_ties = (wins + ties / 2).sum(axis=2), ties.sum(axis=(1, 2)) / 2
    found = np.zeros((len(wins), k + 1))
    found[:, k] = 0.0 if n_ties.any() else -np.inf
    for _ in range(N_STEPS):
        step = _newton_step(found, scores, n_ties, met)
        found[:, : step.shape[1]] += np.clip(step, -LONGEST_STEP, LONGEST_STEP)
        if np.abs(step).max() < 1e-9:
            break
    return found


def _newton_step(found: FloatArray, scores: FloatArray, n_ties: FloatArray, met: FloatArray) -> FloatArray:
    """Gradient over Hessian of the penalised log-likelihood, shape ``(b, k + 1)``; ``(b, k)`` without ties."""
    k = scores.shape[1]
    win, tie = _chances(found)
    won = win + tie / 2
    gradient = np.column_stack([scores - (met * won).sum(axis=2), n_ties - (met * tie).sum(axis=(1, 2)) / 2])
    spread = met * (win + tie / 4 - won**2)
    joint = (met * (tie / 2 - won * tie)).sum(axis=2)
    hessian = np.zeros((len(scores), k + 1, k + 1))
    hessian[:, :k, :k] = -spread
    hessian[:, range(k), range(k)] += spread.sum(axis=2)
    hessian[:, :k, k] = hessian[:, k, :k] = joint
    hessian[:, k, k] = (met * tie * (1 - tie)).sum(axis=(1, 2)) / 2
    hessian += RIDGE * np.eye(k + 1)
    n_free = k + 1 if np.isfinite(found[0, k]) else k
    gradient = gradient[:, :n_free] - RIDGE * found[:, :n_free]
    return np.asarray(np.linalg.solve(hessian[:, :n_free, :n_free], gradient[:, :, None])[:, :, 0])


def _chances(found: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Chance of each method to beat each other, and to tie with it, both of shape ``(b, k, k)``."""
    strengths, tie = found[:, :-1], np.exp(found[:, -1])[:, None, None]
    half = (strengths[:, :, None] - strengths[:, None, :]) / 2
    whole = np.exp(half) + np.exp(-half) + tie
    return np.exp(half) / whole, tie / whole


def _result(names: Sequence[str], whole: FloatArray, draws: FloatArray, games: Sequence[Game]) -> BradleyTerry:
    order = sorted(range(len(names)), key=lambda i: -whole[i])
    tables = [(table[:, :-1], _against_others(table)) for table in (whole[None], draws)]
    strengths, win_rates = (
        {names[i]: _estimate(float(value[0, i]), drawn[:, i], games, names[i]) for i in order}
        for value, drawn in zip(*tables, strict=True)
    )
    tie = float(np.exp(whole[-1]))
    return BradleyTerry(strengths, win_rates, tie / (2 + tie))


def _against_others(found: FloatArray) -> FloatArray:
    """Expected win rate of each method against the others in turn, ties half, shape ``(b, k)``."""
    win, tie = _chances(found)
    return np.asarray(((win + tie / 2).sum(axis=2) - 0.5) / (win.shape[1] - 1))


def _estimate(value: float, draws: FloatArray, games: Sequence[Game], name: str) -> Estimate:
    own = [game for game in games if name in (game.first, game.second)]
    n_scored = sum(not np.isnan(game.preference) for game in own)
    interval = percentile(draws, "cluster bootstrap") or Interval(None, None, "none: the resamples do not differ")
    return Estimate(
        value=value, low=interval.low, high=interval.high, method=interval.method, n_scored=n_scored, n_total=len(own)
    )
