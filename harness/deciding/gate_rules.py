"""The rules about one metric: non-inferior, equivalent, improves, floor, ceiling, coverage.

Each is tested twice: on the items that have values, and with every lost item counted worst for the candidate and best
for the baseline. A rule passes only where both say so; it fails where the items that have values say the opposite.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from harness.deciding.compare import over_seeds
from harness.deciding.gate_filled import End, filled, n_lost
from harness.deciding.gate_result import Decision, RuleResult
from harness.deciding.gate_settle import for_difference, for_level
from harness.deciding.pairing import Pairs, difference, paired_values
from harness.deciding.sides import Side
from harness.records import Sample
from harness.scores import ALPHA, Comparison, Estimate, MetricInfo
from harness.stages.gather import ITEM_MEANS, item_values
from harness.stats.margins import MarginTest, equivalent, non_inferior
from harness.stats.paired import Differences, same_differences

DIRECTED = ("non_inferior", "improves", "must_not_turn_bad")
"""Rules that need to know which direction is better."""
COMPARED = (*DIRECTED, "equivalent")
"""Rules about both sides."""


class Measured(NamedTuple):
    """One metric of the two sides, as rules read it.

    Attributes:
        metric: The metric, with the direction that the policy gives it where it has none of its own.
        candidate: The candidate.
        baseline: The baseline.
        wanted: Content key → sample, of every item that either side planned.
    """

    metric: MetricInfo
    candidate: Side
    baseline: Side
    wanted: dict[str, Sample]

    @property
    def higher(self) -> bool:
        """Whether higher is better."""
        return self.metric.higher_is_better is not False

    @property
    def lost(self) -> tuple[int, int]:
        """Items without a value, of the candidate and of the baseline."""
        return n_lost(self.candidate, self.metric, self.wanted), n_lost(self.baseline, self.metric, self.wanted)

    def pairs(self, *, worst: bool) -> Pairs:
        """The values paired; ``worst`` with lost items counted against the candidate."""
        if worst:
            return self._filled(*_ends(self.higher))
        return paired_values(self.candidate, self.baseline, self.metric.name)

    def filled_pairs(self) -> list[Pairs]:
        """The values paired with lost items counted against the candidate, and for it."""
        return [self._filled("low", "high"), self._filled("high", "low")]

    def _filled(self, own: End, other: End) -> Pairs:
        """With the candidate's lost items at one end of the metric and the baseline's at the other."""
        one = filled(self.candidate, self.metric, self.wanted, own)
        two = filled(self.baseline, self.metric, self.wanted, other)
        return paired_values(one, two, self.metric.name)


def _ends(higher: bool) -> tuple[End, End]:
    return ("low", "high") if higher else ("high", "low")


def non_inferiority(found: Measured, margin: float) -> RuleResult:
    """Whether the candidate is worse by less than a margin, by the one-sided 95 % bound."""
    pairs = found.pairs(worst=False)
    test = _margin_test(pairs, margin, found.higher)
    lost = sum(found.lost)
    worst = _margin_test(found.pairs(worst=True), margin, found.higher) if lost else test
    sign = 1.0 if found.higher else -1.0
    distance = margin + sign * (test.difference or 0.0)
    limit = -sign * margin
    return _margin_result("non_inferior", found, pairs, (test, worst), limit, distance)


def equivalence(found: Measured, margin: float) -> RuleResult:
    """Whether the sides differ by less than a margin either way, by two one-sided tests at 5 % each.

    Lost items are counted worst for the candidate, and best.
    """
    pairs = found.pairs(worst=False)
    test = _equivalence_test(pairs, margin)
    others = [_equivalence_test(each, margin) for each in found.filled_pairs()] if sum(found.lost) else [test]
    worst = next((other for other in others if other.decision != "yes"), others[0])
    distance = margin - abs(test.difference or 0.0)
    return _margin_result("equivalent", found, pairs, (test, worst), margin, distance)


def _margin_result(
    rule: str, found: Measured, pairs: Pairs, tests: tuple[MarginTest, MarginTest], limit: float, distance: float
) -> RuleResult:
    """Of the test on the items that have values and the one with the lost items at their worst."""
    test, worst = tests
    lost = sum(found.lost)
    decision, reason = _margin_decision(rule, test, worst, lost)
    return RuleResult(
        rule=rule,
        about=found.metric.name,
        metric=found.metric.name,
        decision=decision,
        reason=reason,
        value=test.difference,
        bound=worst.bound,
        limit=limit,
        n=_n_pairs(pairs),
        n_lost=lost,
        p_value=worst.p_value,
        test=worst.test,
        settles=_settles(decision, test.decision == "yes", pairs, distance, 2 * ALPHA),
    )


def _margin_test(pairs: Pairs, margin: float, higher: bool) -> MarginTest:
    low, high = pairs.metric.bounds
    if pairs.metric.kind in ITEM_MEANS and pairs.seeds:
        binary = pairs.metric.kind != "score"
        test = non_inferior(_distinct(pairs), margin, binary=binary, higher_is_better=higher, span=high - low)
        return _named(test, pairs)
    return _margin_by_interval(difference(pairs), margin, higher)


def _equivalence_test(pairs: Pairs, margin: float) -> MarginTest:
    low, high = pairs.metric.bounds
    if pairs.metric.kind in ITEM_MEANS and pairs.seeds:
        test = equivalent(_distinct(pairs), margin, binary=pairs.metric.kind != "score", span=high - low)
        return _named(test, pairs)
    one, other = (_margin_by_interval(difference(pairs), margin, higher) for higher in (True, False))
    if {one.decision, other.decision} == {"yes"}:
        return max(one, other, key=lambda test: test.p_value or 0.0)
    return next(test for test in sorted((one, other), key=lambda test: test.decision) if test.decision != "yes")


def _distinct(pairs: Pairs) -> list[Differences]:
    """The differences of each seed, of one alone where all say the same of every item: that is no more knowledge."""
    filled = [each for each in pairs.per_seed if each.values.size]
    equal = all(same_differences(filled[0], other) for other in filled[1:])
    return filled[:1] if equal else filled


def _named(test: MarginTest, pairs: Pairs) -> MarginTest:
    """The test, saying so where equal seeds were taken for one."""
    n_seeds = sum(bool(each.values.size) for each in pairs.per_seed)
    return test._replace(test=f"{test.test}, {n_seeds} equal seeds") if n_seeds > len(_distinct(pairs)) else test


def _margin_by_interval(found: Comparison, margin: float, higher: bool) -> MarginTest:
    """By the two-sided 95 % interval, which is stricter; the p value from it (Altman and Bland, BMJ 343, 2011)."""
    from scipy.stats import norm

    if found.difference is None or found.low is None or found.high is None:
        return MarginTest(found.difference, None, margin, None, "unclear", found.test)
    sign = 1.0 if higher else -1.0
    worst, mildest = (found.low, found.high) if higher else (found.high, found.low)
    decision: Literal["yes", "no", "unclear"] = "unclear"
    if sign * worst > -margin:
        decision = "yes"
    elif sign * mildest < -margin:
        decision = "no"
    error = (found.high - found.low) / (2 * float(norm.ppf(1 - ALPHA / 2)))
    p_value = float(norm.sf((sign * found.difference + margin) / error)) if error > 0 else float(decision != "yes")
    return MarginTest(found.difference, worst, margin, p_value, decision, f"95% interval, {found.test}")


OUTSIDE = {
    "non_inferior": "it is worse than the baseline by more than the margin",
    "equivalent": "it differs from the baseline by more than the margin",
}
INSIDE = {
    "non_inferior": "it is not worse than the baseline by the margin",
    "equivalent": "it differs from the baseline by less than the margin",
}


def _margin_decision(rule: str, test: MarginTest, worst: MarginTest, lost: int) -> tuple[Decision, str]:
    if test.difference is None:
        return "inconclusive", "no item has a value on both sides"
    if test.decision == "no":
        return "fail", OUTSIDE[rule]
    if test.decision == "yes" and worst.decision == "yes":
        return "pass", INSIDE[rule]
    if test.decision == "yes":
        how = "worst" if rule == "non_inferior" else "all bad, or all good"
        return "inconclusive", f"it would pass, but not if the {lost} lost items had come out {how}"
    if test.bound is None:
        return "inconclusive", f"no bound can be given ({test.test})"
    return "inconclusive", "the interval reaches beyond the margin"


def improvement(found: Measured) -> RuleResult:
    """Whether the candidate is better, by the two-sided 95 % interval and the p value."""
    pairs = found.pairs(worst=False)
    test = difference(pairs)
    lost = sum(found.lost)
    worst = difference(found.pairs(worst=True)) if lost else test
    better, worse = ("higher", "lower") if found.higher else ("lower", "higher")
    sign = 1.0 if found.higher else -1.0
    decision: Decision = "inconclusive"
    if test.decision == "not measured":
        reason = "no item has a value on both sides" if test.difference is None else "no interval can be given"
    elif test.decision == worse:
        decision, reason = "fail", "it is worse than the baseline"
    elif test.decision != better or (test.p_value is not None and test.p_value > ALPHA):
        reason = "no difference is shown"
    elif worst.decision != better or (worst.p_value is not None and worst.p_value > ALPHA):
        reason = f"it would pass, but not if the {lost} lost items had come out worst"
    else:
        decision, reason = "pass", "it is better than the baseline"
    return RuleResult(
        rule="improves",
        about=found.metric.name,
        metric=found.metric.name,
        decision=decision,
        reason=reason,
        value=test.difference,
        bound=worst.low if found.higher else worst.high,
        limit=0.0,
        n=_n_pairs(pairs),
        n_lost=lost,
        p_value=worst.p_value,
        test=worst.test,
        settles=_settles(decision, test.decision == better, pairs, sign * (test.difference or 0.0), ALPHA),
    )


def level(found: Measured, rule: Literal["floor", "ceiling"], limit: float) -> RuleResult:
    """Whether the candidate's own value keeps to a limit, by the worse end of its interval, lost items worst."""
    sign = 1.0 if rule == "floor" else -1.0
    bad, good = _ends(rule == "floor")
    lost = found.lost[0]
    plain = over_seeds(found.candidate, found.metric)
    worst, best = (
        over_seeds(filled(found.candidate, found.metric, found.wanted, end), found.metric) if lost else plain
        for end in (bad, good)
    )
    bound, mildest = (_end(worst, rule == "floor"), _end(best, rule != "floor"))
    without = _end(plain, rule == "floor")
    decision: Decision = "inconclusive"
    if plain.value is None:
        reason = "nothing was scored"
    elif mildest is not None and sign * mildest < sign * limit:
        decision, reason = "fail", f"all of its interval lies {'below' if sign > 0 else 'above'} the {rule}"
    elif bound is None:
        reason = f"no interval can be given ({worst.method})"
    elif sign * bound >= sign * limit:
        decision, reason = "pass", f"its interval lies {'above' if sign > 0 else 'below'} the {rule}"
    elif without is not None and sign * without >= sign * limit:
        reason = f"it would pass, but not if the {lost} lost items had come out worst"
    else:
        reason = f"its interval reaches {'below' if sign > 0 else 'above'} the {rule}"
    return RuleResult(
        rule=rule,
        about=found.metric.name,
        metric=found.metric.name,
        decision=decision,
        reason=reason,
        value=plain.value,
        bound=bound,
        limit=limit,
        n=plain.n_scored,
        n_lost=lost,
        test=worst.method,
        settles=_settles_level(found, decision, without, plain.value, limit, sign),
    )


def _end(found: Estimate, low: bool) -> float | None:
    return found.low if low else found.high


def _settles_level(
    found: Measured, decision: Decision, without: float | None, value: float | None, limit: float, sign: float
) -> str:
    if decision != "inconclusive" or value is None:
        return ""
    if without is not None and sign * without >= sign * limit:
        return JUDGE
    side = found.candidate
    if len(side.seeds) > 1:
        return "more items, or more training seeds: the interval is taken over both"
    if found.metric.kind not in ITEM_MEANS:
        return ""
    (seed,) = side.seeds
    values = item_values(found.metric, side.items(found.metric.task, seed))
    clusters = [found.wanted[key].cluster for key in values]
    return for_level(np.array(list(values.values())), clusters, sign * (value - limit))


JUDGE = "verdicts on the lost items (harness show says why they are lost, harness judge asks again)"


def _settles(decision: Decision, holds: bool, pairs: Pairs, distance: float, alpha: float) -> str:
    if decision != "inconclusive":
        return ""
    if holds:
        return JUDGE
    if pairs.metric.kind not in ITEM_MEANS or not pairs.per_seed:
        return ""
    return for_difference(pairs.per_seed, distance, binary=pairs.metric.kind != "score", alpha=alpha)


def _n_pairs(pairs: Pairs) -> int:
    if pairs.metric.kind in ITEM_MEANS and pairs.seeds:
        return sum(each.values.size for each in pairs.per_seed)
    return len(pairs.clusters) * max(1, len(pairs.seeds))


def coverage(found: Measured, least: float) -> RuleResult:
    """Whether enough of the items that either side planned have a value, on the side that has fewer."""
    sides = found.candidate, found.baseline
    planned = [len(found.wanted) * len(side.seeds) for side in sides]
    shares = [1 - lost / n if n else 0.0 for lost, n in zip(found.lost, planned, strict=True)]
    lowest = min(range(2), key=lambda i: shares[i])
    lost, n = found.lost[lowest], planned[lowest]
    side = sides[lowest].label
    return RuleResult(
        rule="coverage",
        about=found.metric.name,
        metric=found.metric.name,
        decision="pass" if shares[lowest] >= least else "fail",
        reason=f"{side} has a value on {n - lost} of {n} items" if lost else "every planned item has a value",
        value=shares[lowest],
        limit=least,
        n=n - lost,
        n_lost=lost,
    )
