"""A rate corrected for a judge's errors (Rogan and Gladen 1978), with the uncertainty of all three measurements.

Reads the observed rate and the judge's sensitivity and specificity, each as a share with the number of independent
items behind it; writes nothing. The interval is Lang and Reiczigel's (2014, Preventive Veterinary Medicine 113, 13-22),
which shrinks each share a little before it propagates them. It holds its 95 % where the judge is clearly better than
chance; where sensitivity + specificity - 1 is not distinguishable from 0 nothing is known of the true rate: no value.
(Just beyond that edge, where luck decides whether there is a value, those that are given cover it 88 to 93 % of times.)
Nor is there one where the whole interval lies outside 0–1: the judge then errs otherwise here than on the labels.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

from harness.scores import Estimate
from harness.stats.core import CONFIDENCE, wilson


class Share(NamedTuple):
    """A share 0–1 and the independent items behind it, which need not be whole."""

    value: float
    n: float


class Corrected(NamedTuple):
    """A corrected rate; all ``None`` where none can be given, and ``note`` says why, or that it was clipped."""

    value: float | None
    low: float | None
    high: float | None
    note: str = ""


def rogan_gladen(rate: Share, sensitivity: Share, specificity: Share) -> Corrected:
    """The true rate behind a judge's rate: (rate + specificity - 1) / (sensitivity + specificity - 1).

    Args:
        rate: What the judge found.
        sensitivity: Share of the positive items that it calls positive.
        specificity: Share of the negative items that it calls negative.

    Raises:
        ValueError: A share is outside 0–1.
    """
    for share in (rate, sensitivity, specificity):
        if not 0 <= share.value <= 1:
            raise ValueError(f"a share lies between 0 and 1, not at {share.value:g}")
    if min(rate.n, sensitivity.n, specificity.n) <= 0:
        return Corrected(None, None, None, "not identified: rate, sensitivity or specificity was not measured")
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    seen = Share((rate.value * rate.n + z**2 / 2) / (rate.n + z**2), rate.n + z**2)
    hit, spared = (Share((one.value * one.n + 1) / (one.n + 2), one.n + 2) for one in (sensitivity, specificity))
    edge = hit.value + spared.value - 1
    if edge <= z * (_variance(hit) + _variance(spared)) ** 0.5 or sensitivity.value + specificity.value <= 1:
        reason = "the judge is not shown to be better than chance (sensitivity + specificity - 1 may be 0)"
        return Corrected(None, None, None, f"not identified: {reason}")
    raw = (rate.value + specificity.value - 1) / (sensitivity.value + specificity.value - 1)
    low, high = _limits(seen, hit, spared, z)
    if high < 0 or low > 1:
        reason = f"the judge should err more often than its whole rate of {rate.value:.3g} leaves room for"
        return Corrected(None, None, None, f"the calibration does not fit these answers: {reason}")
    value, low, high = _clipped(raw), _clipped(low), _clipped(high)
    note = "" if value == raw else f"clipped to {value:g}: the judge's error rates alone explain the observed rate"
    return Corrected(value, min(low, value), max(high, value), note)


def effective_share(estimate: Estimate) -> Share | None:
    """An estimated rate as a share of so many independent items that Wilson's interval is as wide as the estimate's.

    Carries clusters and training seeds over in one number. ``None`` where the estimate has no value or interval.
    """
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    value, width = min(max(estimate.value, 0.0), 1.0), estimate.high - estimate.low

    def excess(n: float) -> float:
        low, high = wilson(value, n)
        return (high - low) - width

    from scipy.optimize import brentq

    fewest, most = 1e-3, 1e9
    if excess(fewest) <= 0:
        return Share(value, fewest)
    return Share(value, most if excess(most) >= 0 else float(brentq(excess, fewest, most)))


def _limits(seen: Share, hit: Share, spared: Share, z: float) -> tuple[float, float]:
    edge = hit.value + spared.value - 1
    centre = (seen.value + spared.value - 1) / edge
    shift = 2 * z**2 * (centre * _variance(hit) - (1 - centre) * _variance(spared))
    variance = _variance(seen) + centre**2 * _variance(hit) + (1 - centre) ** 2 * _variance(spared)
    half = z * variance**0.5 / edge
    return centre + shift - half, centre + shift + half


def _variance(share: Share) -> float:
    return share.value * (1 - share.value) / share.n


def _clipped(value: float) -> float:
    return min(max(value, 0.0), 1.0)
