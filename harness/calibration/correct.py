"""A judge's rate corrected for the errors that its calibration found; pure.

The correction holds where the judge errs on the answers at hand as it did on the labelled ones (of both kinds), which
no number here can prove. It is bound to the judge's key, and to the models that servers said they were under it:
verdicts of any other judge are left as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.calibration.records import Calibration
from harness.scores import Estimate
from harness.stats.prevalence import Share, effective_share, rogan_gladen

METHOD = "rogan-gladen, lang-reiczigel"


class Correction(NamedTuple):
    """A corrected rate, ``None`` where none can be given; ``note`` says why, or what to know about it."""

    estimate: Estimate | None
    note: str


def corrected_rate(
    estimate: Estimate, rate_label: str, judge: str, judge_key: str, calibrations: Mapping[str, Calibration],
    served: Sequence[str] = (),
) -> Correction:  # fmt: skip
    """The rate that people would have found, by the judge's rate and its calibration.

    Args:
        estimate: The share of a label among the judge's verdicts; its interval carries clusters and seeds over.
        rate_label: That label.
        judge: Name of the judge.
        judge_key: Its key (see `panel_key`).
        calibrations: Judge key → calibration.
        served: What servers called the models whose verdicts these are; nothing where they do not say.
    """
    found = calibrations.get(judge_key)
    if found is None:
        return Correction(None, _unknown(judge, judge_key, calibrations))
    if found.served and (others := [name for name in served if name not in found.served]):
        return Correction(None, _served_otherwise(judge, found.served, others))
    if found.counts is None:
        return Correction(None, f"the calibration of {judge} is of scores, which correct no rate")
    if rate_label not in (found.positive, found.negative):
        return Correction(None, f"the calibration of {judge} is about {found.positive}, not about {rate_label}")
    rate = effective_share(estimate)
    shares = [effective_share(found.measures[name]) for name in ("sensitivity", "specificity")]
    if rate is None or shares[0] is None or shares[1] is None:
        return Correction(None, "not identified: rate, sensitivity or specificity has no value or no interval")
    hit, spared = (shares[0], shares[1]) if rate_label == found.positive else (shares[1], shares[0])
    result = rogan_gladen(rate, hit, spared)
    if result.value is None:
        return Correction(None, result.note)
    corrected = Estimate(
        value=result.value,
        low=result.low,
        high=result.high,
        method=METHOD,
        n_scored=estimate.n_scored,
        n_total=estimate.n_total,
        worst=_at(estimate.worst, hit, spared),
        best=_at(estimate.best, hit, spared),
        n_seeds=estimate.n_seeds,
    )
    return Correction(corrected, result.note)


def of_no_use(calibration: Calibration) -> str | None:
    """Why a calibration can correct no rate, whatever the rate; ``None`` where it can."""
    if calibration.counts is None:
        return "it is of scores, not of labels"
    hit, spared = (effective_share(calibration.measures[name]) for name in ("sensitivity", "specificity"))
    if hit is None or spared is None:
        return "it lacks the judge's errors on one of the two kinds of items: label more of both"
    # A rate that the judge's errors fit exactly: only the judge itself can be what forbids a correction.
    even = Share((hit.value + 1 - spared.value) / 2, hit.n + spared.n)
    result = rogan_gladen(even, hit, spared)
    return None if result.value is not None else result.note.removeprefix("not identified: ")


def _at(bound: float | None, hit: Share, spared: Share) -> float | None:
    """What a bound of the coverage becomes."""
    return None if bound is None else rogan_gladen(Share(bound, 1.0), hit, spared).value


def _served_otherwise(judge: str, then: Sequence[str], others: Sequence[str]) -> str:
    return (
        f"the calibration of {judge} is of what its server calls {', '.join(then)}, verdicts here are by "
        f"{', '.join(others)} under the same name: it does not apply; calibrate the judge on what is served now"
    )


def _unknown(judge: str, judge_key: str, calibrations: Mapping[str, Calibration]) -> str:
    others = [one.judge_key[:12] for one in calibrations.values() if one.judge == judge]
    if not others:
        return f"{judge} has no calibration"
    return (
        f"the calibration of {judge} is of {', '.join(others)}, the verdicts are of {judge_key[:12]}: "
        "prompt, model or seats have changed since, so it does not apply"
    )
