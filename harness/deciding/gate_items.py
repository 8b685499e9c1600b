"""The rule about items that must not turn bad: named ones, or all that the baseline passes.

An item is good in the baseline when no seed of it is bad there, and has turned bad when any seed of the candidate is.
A lost item may have turned bad; one that the candidate did not plan is a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.deciding.flips import excerpt
from harness.deciding.gate_result import Decision, RuleResult, Turned
from harness.deciding.gate_rules import JUDGE, Measured
from harness.deciding.policy import LoadedPolicy, MetricRules
from harness.deciding.sides import Side
from harness.records import Sample
from harness.scores import MetricInfo
from harness.stages.gather import Item, item_values
from harness.stages.score import ITEM_MEANS

Values = list[dict[str, float]]
"""Of each seed in order, content key → value."""
MOST_TOLD = 100
"""Items that turned bad that are told with their texts; all of them are counted."""
SHORTEST = 8
"""Characters of a key by which an item may be named."""


class _Chosen(NamedTuple):
    """The keys that a rule is about, and names that are no item of the candidate."""

    keys: list[str]
    missing: list[str]


class _Counts(NamedTuple):
    """What became of the chosen items."""

    turned: list[str]
    unknown: list[str]
    bad_before: list[str]


def turned_bad(found: Measured, rules: MetricRules, loaded: LoadedPolicy) -> RuleResult:
    """Whether at most so many items that are good in the baseline are bad in the candidate.

    Raises:
        UserError: The metric belongs to no item, is a score without ``passing``, or a name fits several items.
    """
    named, metric = rules.must_not_turn_bad, found.metric
    assert named is not None
    place = f"metrics.{metric.name}.must_not_turn_bad"
    if metric.kind not in ITEM_MEANS:
        raise loaded.fault(place, f"{metric.name} is no mean over items, so no item of it can turn bad")
    if metric.kind == "score" and rules.passing is None:
        raise loaded.fault(place, f"{metric.name} is a score: 'passing' has to say from which value an item is good")
    chosen = _Chosen(list(found.wanted), [])
    if named.all_passing_in is None:
        chosen = _named(found, loaded.named[metric.name], loaded, place)
    ours, theirs = (_values(side, metric) for side in (found.candidate, found.baseline))
    counts = _count(ours, theirs, chosen.keys, _limit(metric, rules), found.higher)
    n_good = len(chosen.keys) - len(counts.bad_before)
    decision, reason = _decide(chosen, counts, n_good, named.at_most, len(ours))
    return RuleResult(
        rule="must_not_turn_bad",
        about=metric.name,
        metric=metric.name,
        decision=decision,
        reason=reason,
        value=len(counts.turned),
        bound=len(counts.turned) + len(counts.unknown),
        limit=named.at_most,
        n=n_good,
        n_lost=len(counts.unknown),
        settles=JUDGE if decision == "inconclusive" and counts.unknown else "",
        items=_told(found, ours, counts.turned[:MOST_TOLD], _limit(metric, rules)),
    )


def _decide(chosen: _Chosen, counts: _Counts, n_good: int, at_most: int, n_seeds: int) -> tuple[Decision, str]:
    where = f" in at least one of {n_seeds} seeds" if n_seeds > 1 else ""
    allowed = f"{at_most} may" if at_most else "none may"
    before = f"; {len(counts.bad_before)} were bad in the baseline already" if counts.bad_before else ""
    if len(counts.turned) > at_most:
        return "fail", f"{len(counts.turned)} of {n_good} items turned bad{where}, {allowed}"
    if chosen.missing:
        shown = ", ".join(chosen.missing[:3]) + (", …" if len(chosen.missing) > 3 else "")
        return "fail", f"{len(chosen.missing)} named items are no items of the candidate ({shown})"
    if len(counts.turned) + len(counts.unknown) > at_most:
        return "inconclusive", f"{len(counts.turned)} turned bad{where} and {len(counts.unknown)} are lost, {allowed}"
    if not n_good:
        return "inconclusive", f"no item is good in the baseline, so nothing could turn bad{before}"
    return "pass", f"{len(counts.turned)} of {n_good} items turned bad{where}, {allowed}{before}"


def _limit(metric: MetricInfo, rules: MetricRules) -> float:
    """The value from which an item is good, in the metric's direction."""
    if rules.passing is not None:
        return rules.passing
    return metric.bounds[0] if metric.higher_is_better is False else metric.bounds[1]


def _good(value: float, limit: float, higher: bool) -> bool:
    return value >= limit if higher else value <= limit


def _count(ours: Values, theirs: Values, keys: Sequence[str], limit: float, higher: bool) -> _Counts:
    """A lost item of the baseline counts as good there."""
    counts = _Counts([], [], [])
    for key in keys:
        if any(key in each and not _good(each[key], limit, higher) for each in theirs):
            counts.bad_before.append(key)
        elif any(key in each and not _good(each[key], limit, higher) for each in ours):
            counts.turned.append(key)
        elif any(key not in each for each in ours):
            counts.unknown.append(key)
    return counts


def _values(side: Side, metric: MetricInfo) -> Values:
    return [item_values(metric, side.items(metric.task, seed)) for seed in side.seeds]


def _named(found: Measured, names: Sequence[str], loaded: LoadedPolicy, place: str) -> _Chosen:
    keys: dict[str, None] = {}
    missing = []
    own = {item.sample.key for seed in found.candidate.seeds for item in found.candidate.items(found.metric.task, seed)}
    for name in names:
        fits = [key for key, sample in found.wanted.items() if _is(name, key, sample)]
        if len(fits) > 1:
            raise loaded.fault(place, f"'{name}' fits {len(fits)} items; give more of the key")
        if not fits or fits[0] not in own:
            missing.append(name)
        else:
            keys[fits[0]] = None
    return _Chosen(list(keys), missing)


def _is(name: str, key: str, sample: Sample) -> bool:
    return name == sample.source or (len(name) >= SHORTEST and key.startswith(name))


def _told(found: Measured, ours: Values, keys: Sequence[str], limit: float) -> tuple[Turned, ...]:
    """The items as the first seed in which each is bad has them."""
    side, metric = found.candidate, found.metric
    by_seed = [{item.sample.key: item for item in side.items(metric.task, seed)} for seed in side.seeds]
    told = []
    for key in keys:
        bad = (key in values and not _good(values[key], limit, found.higher) for values in ours)
        first = next(items[key] for items, is_bad in zip(by_seed, bad, strict=True) if is_bad)
        told.append(_turned(first, metric))
    return tuple(told)


def _turned(item: Item, metric: MetricInfo) -> Turned:
    sample, verdict = item.sample, item.verdicts.get(metric.judge or "")
    said = [] if verdict is None else [verdict.label, None if verdict.score is None else f"{verdict.score:g}"]
    return Turned(
        key=sample.key,
        source=sample.source or "",
        prompt=excerpt("\n\n".join(message.content for message in sample.messages)),
        answer=excerpt(item.completion.text if item.completion is not None else ""),
        verdict=" ".join(part for part in said if part),
        reason=excerpt(verdict.reason if verdict is not None else ""),
    )
