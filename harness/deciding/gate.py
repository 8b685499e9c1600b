"""May a candidate replace the baseline? A policy's rules, applied to what two sides measured.

Reads loaded runs and a policy, computes everything from the records and writes nothing. Fails closed: what is missing,
lost, not comparable or not what was scored never passes (see `harness.deciding.gate_result`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.deciding import gate_rules
from harness.deciding.compare import side_info
from harness.deciding.gate_complete import complete
from harness.deciding.gate_cost import cost
from harness.deciding.gate_derived import derive
from harness.deciding.gate_filled import planned_by
from harness.deciding.gate_items import turned_bad
from harness.deciding.gate_records import check_files, told
from harness.deciding.gate_required import enough, missing, required
from harness.deciding.gate_result import Decision, Gate, RuleResult, overall
from harness.deciding.gate_rules import Measured
from harness.deciding.mismatch import mismatches, other_style, remarks, seed_remarks
from harness.deciding.policy import LoadedPolicy, MetricRules
from harness.deciding.sides import Side
from harness.scores import ALPHA, MetricInfo
from harness.stages.loading import unknown_metric
from harness.stats.paired import holm
from harness.tasks import load_spec, task_names

QUANTITY = ("task", "kind", "rate_label", "bounds", "higher_is_better")


def gate(loaded: LoadedPolicy, candidate: Side, baseline: Side, include_paths: Sequence[Path] = ()) -> Gate:
    """Applies a policy.

    Args:
        loaded: The policy.
        candidate: What is to pass.
        baseline: What it is compared with.
        include_paths: Further content folders, for the judges that are asked again.

    Raises:
        UserError: The policy names a metric of no task, or a rule that cannot apply to its metric.
    """
    metrics = _metrics(loaded, candidate, baseline, include_paths)
    results = [_records(side, include_paths) for side in (candidate, baseline)]
    notes = [note for _, each in results for note in each]
    rules = [rule for rule, _ in results]
    further = _further(loaded, candidate)
    against = {one.name: _incomparable(loaded, one, candidate, baseline) for one in (*metrics.values(), *further)}
    rules.append(_comparable(against, candidate, baseline, [*metrics.values(), *further]))
    tasks = list(dict.fromkeys(metric.task for metric in (*metrics.values(), *further)))
    tasks += [task for task in loaded.policy.required.tasks if task not in tasks]
    rules += [complete(side, [*metrics.values(), *further], tasks) for side in (candidate, baseline)]
    rules += required(loaded, candidate, baseline)
    rules += enough(loaded, candidate, baseline, [*metrics.values(), *further])
    for name, metric in metrics.items():
        rules += _of_metric(loaded, metric, candidate, baseline, against[name])
    if loaded.policy.max_cost_usd is not None:
        rules.append(cost(candidate, loaded.policy.max_cost_usd))
    if loaded.policy.multiplicity == "holm":
        rules = _adjusted(rules)
    return Gate(
        decision=overall(rule.decision for rule in rules),
        policy=loaded.path.name if loaded.path.is_absolute() else loaded.path.as_posix(),
        policy_sha256=hashlib.sha256(loaded.path.read_bytes()).hexdigest(),
        description=loaded.policy.description,
        candidate=side_info(candidate),
        baseline=side_info(baseline),
        metrics=(*metrics.values(), *further),
        rules=tuple(rule.model_copy(update={"line": _line(loaded, rule)}) for rule in rules),
        notes=tuple(dict.fromkeys([*notes, *remarks(candidate, baseline, tasks), *seed_remarks(candidate, baseline)])),
    )


def _metrics(
    loaded: LoadedPolicy, candidate: Side, baseline: Side, include_paths: Sequence[Path]
) -> dict[str, MetricInfo]:
    """The policy's metrics, with the direction that it gives; each rule is checked against the metric's scale."""
    known = {one.name: one for side in (baseline, candidate) for one in side.loaded.metrics}
    if loaded.policy.metrics.keys() - known.keys():  # of a task that neither side has: a failure, unless misspelt
        specs = [load_spec(name, include_paths) for name in task_names(include_paths)]
        known = {**{one.name: one for spec in specs for one in spec.metrics}, **known}
    found = {}
    for name, rules in loaded.policy.metrics.items():
        if name not in known:
            raise loaded.fault(
                f"metrics.{name}", f"{unknown_metric(name, known)} (and neither side measures it)"
            )
        found[name] = _directed(loaded, known[name], rules)
        _check_scale(loaded, found[name], rules)
    return found


def _further(loaded: LoadedPolicy, candidate: Side) -> list[MetricInfo]:
    """The metrics that are only required."""
    names = [name for name in dict.fromkeys(loaded.policy.required.metrics) if name not in loaded.policy.metrics]
    return [metric for name in names if (metric := candidate.loaded.metric(name)) is not None]


def _directed(loaded: LoadedPolicy, metric: MetricInfo, rules: MetricRules) -> MetricInfo:
    own = {True: "higher", False: "lower", None: None}[metric.higher_is_better]
    if rules.better is not None and own not in (None, rules.better):
        raise loaded.fault(f"metrics.{metric.name}.better", f"of {metric.name} {own} is better")
    needs = [rule for rule in rules.rules if rule in gate_rules.DIRECTED]
    if own is None and rules.better is None and needs:
        raise loaded.fault(f"metrics.{metric.name}.{needs[0]}", "the metric has no direction; say 'better: lower'")
    higher = metric.higher_is_better if rules.better is None else rules.better == "higher"
    return metric.model_copy(update={"higher_is_better": higher})


def _check_scale(loaded: LoadedPolicy, metric: MetricInfo, rules: MetricRules) -> None:
    """A limit outside of what the metric can be would hold, or not, whatever was measured."""
    low, high = metric.bounds
    within = f"{metric.name} lies between {low:g} and {high:g}" + (", 0.05 is five points" if high == 1 else "")
    place = f"metrics.{metric.name}"
    for rule in ("non_inferior", "equivalent"):
        margin = getattr(rules, rule)
        if margin is not None and margin >= high - low:
            raise loaded.fault(f"{place}.{rule}", f"{margin:g} is the whole scale or more: {within}")
    if metric.higher_is_better is not None and (rules.floor is None) != (rules.ceiling is None):  # both make a band
        given, other = ("floor", "ceiling") if rules.ceiling is None else ("ceiling", "floor")
        better = "higher" if metric.higher_is_better else "lower"
        if (given == "floor") != metric.higher_is_better:
            raise loaded.fault(f"{place}.{given}", f"of {metric.name} {better} is better: did you mean '{other}'?")
    if rules.floor is not None and not low < rules.floor <= high:
        raise loaded.fault(f"{place}.floor", f"{rules.floor:g} is no limit: {within}")
    if rules.ceiling is not None and not low <= rules.ceiling < high:
        raise loaded.fault(f"{place}.ceiling", f"{rules.ceiling:g} is no limit: {within}")
    if rules.passing is not None and not low <= rules.passing <= high:
        raise loaded.fault(f"{place}.passing", f"{rules.passing:g} is no value: {within}")


def _records(side: Side, include_paths: Sequence[Path]) -> tuple[RuleResult, list[str]]:
    """Whether the records are what was scored, and agree with each other."""
    files, derived = check_files(side), derive(side, include_paths)
    faults = [*files.faults, *derived.faults, *files.changed]
    unknown = list(files.unknown)
    if derived.n_owing:
        unknown.append(f"none of its {derived.n_owing} verdicts could be derived again, though its judges are such")
    decision: Decision = "fail" if faults else "inconclusive" if unknown else "pass"
    again = (
        f"{derived.n_verdicts} verdicts came out the same again"
        if derived.n_verdicts
        else "no verdict could be derived again"
    )
    reason = f"as they were scored; {again}"
    if faults or unknown:
        reason = f"{side.loaded.run.path.name}: {told(faults) if faults else '; '.join(unknown)}"
    settles = f"harness score {side.loaded.run.path.name}" if decision == "inconclusive" else ""
    found = RuleResult(
        rule="records",
        about=side.label,
        decision=decision,
        reason=reason,
        n=derived.n_verdicts,
        settles=settles,
    )
    return found, files.notes


def _incomparable(loaded: LoadedPolicy, metric: MetricInfo, candidate: Side, baseline: Side) -> list[str]:
    """Why a metric of the two sides cannot be compared; nothing where one of them does not have it."""
    one, two = (side.loaded.metric(metric.name) for side in (candidate, baseline))
    if one is None or two is None:
        return []
    other = [what for what in QUANTITY if getattr(one, what) != getattr(two, what)]
    if other:
        return [f"{metric.name} is not one quantity in both: its {', '.join(other)} differ"]
    reasons = [found.reason for found in mismatches(candidate, baseline, one)]
    style = None if "style" in loaded.policy.allow else other_style(candidate, baseline, metric.task)
    return reasons if style is None else [*reasons, style]


def _comparable(
    against: dict[str, list[str]], candidate: Side, baseline: Side, metrics: list[MetricInfo]
) -> RuleResult:
    reasons = list(dict.fromkeys(reason for each in against.values() for reason in each))
    settles = f"{candidate.label} and {baseline.label} answered and judged in one way"
    if any(other_style(candidate, baseline, metric.task) in reasons for metric in metrics):
        settles += "; or 'allow: [style]' in the policy, where the style belongs to the method"
    return RuleResult(
        rule="comparable",
        decision="inconclusive" if reasons else "pass",
        reason="; ".join(reasons) or "nothing known stands against comparing them",
        settles=settles if reasons else "",
    )


def _of_metric(
    loaded: LoadedPolicy, metric: MetricInfo, candidate: Side, baseline: Side, against: Sequence[str]
) -> Iterator[RuleResult]:
    """What came of the rules about one metric."""
    rules = loaded.policy.metrics[metric.name]
    least = rules.coverage if rules.coverage is not None else loaded.policy.coverage
    wanted = [*rules.rules, *(["coverage"] if least is not None else [])]
    without = _without(metric, candidate, baseline)
    found = Measured(metric, candidate, baseline, planned_by((candidate, baseline), metric))
    for rule in wanted:
        blocked = without or (("inconclusive", f"cannot be compared: {against[0]}") if against else None)
        if blocked is not None and (rule in gate_rules.COMPARED or without is not None):
            decision, reason = blocked
            yield RuleResult(rule=rule, about=metric.name, metric=metric.name, decision=decision, reason=reason)
        elif rule == "non_inferior":
            assert rules.non_inferior is not None
            yield gate_rules.non_inferiority(found, rules.non_inferior)
        elif rule == "equivalent":
            assert rules.equivalent is not None
            yield gate_rules.equivalence(found, rules.equivalent)
        elif rule == "improves":
            yield gate_rules.improvement(found)
        elif rule == "floor":
            assert rules.floor is not None
            yield gate_rules.level(found, "floor", rules.floor)
        elif rule == "ceiling":
            assert rules.ceiling is not None
            yield gate_rules.level(found, "ceiling", rules.ceiling)
        elif rule == "must_not_turn_bad":
            yield turned_bad(found, rules, loaded)
        else:
            assert least is not None
            yield gate_rules.coverage(found, least)


def _without(metric: MetricInfo, candidate: Side, baseline: Side) -> tuple[Decision, str] | None:
    """What is to be said of every rule where a side does not measure the metric at all."""
    if candidate.loaded.metric(metric.name) is None:
        return "fail", missing(metric.name, candidate, baseline)
    if not any(candidate.items(metric.task, seed) for seed in candidate.seeds):
        return "fail", f"{candidate.label} has no item of {metric.task}"
    if baseline.loaded.metric(metric.name) is None:
        return "inconclusive", f"{baseline.label} does not measure it"
    return None


def _adjusted(rules: Sequence[RuleResult]) -> list[RuleResult]:
    """Holm over the comparisons; what held by itself and does not after it is inconclusive."""
    adjusted = holm([rule.p_value for rule in rules])
    n_tests = sum(p_value is not None for p_value in adjusted)
    found = []
    for rule, p_value in zip(rules, adjusted, strict=True):
        changes: dict[str, object] = {"p_adjusted": p_value}
        if rule.decision == "pass" and p_value is not None and p_value > ALPHA:
            changes |= {
                "decision": "inconclusive",
                "reason": f"it holds by itself, but not after Holm's correction over {n_tests} tests",
            }
        found.append(rule.model_copy(update=changes))
    return found


def _line(loaded: LoadedPolicy, rule: RuleResult) -> int | None:
    """Where a rule stands in the policy."""
    places = [f"metrics.{rule.metric}.{rule.rule}", f"metrics.{rule.metric}", rule.rule]
    if rule.rule == "required":
        part = "metrics" if rule.metric else {"seeds": "seeds", "items": "items"}.get(rule.about.split(" ")[0], "tasks")
        places = [f"required.{part}", "required"]
    elif rule.rule == "coverage":
        places = [places[0], "coverage"]
    return next((loaded.lines[place] for place in places if place in loaded.lines), None)
