"""What a policy requires to have been measured: tasks, metrics, training seeds and items.

Counted over what either side planned. Nothing at all is a failure, too little is inconclusive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from harness.deciding import gate_rules
from harness.deciding.compare import over_seeds
from harness.deciding.gate_filled import measured, n_lost, planned_by
from harness.deciding.gate_result import Decision, RuleResult
from harness.deciding.policy import LoadedPolicy
from harness.deciding.sides import Side
from harness.errors import unknown_name
from harness.records import JUDGED
from harness.scores import MetricInfo
from harness.stages.gather import Item
from harness.stages.loading import unknown_metric


def required(loaded: LoadedPolicy, candidate: Side, baseline: Side) -> Iterator[RuleResult]:
    """Whether the candidate measured what it must, counted over all items that either side planned."""
    wanted, least = loaded.policy.required, loaded.policy.coverage or 1.0
    known = {sample.task for side in (candidate, baseline) for sample in side.loaded.samples}
    for task in wanted.tasks:
        yield _task(task, least, candidate, baseline, known)
    for name in wanted.metrics:
        yield _metric(name, least, candidate, baseline)


def _task(task: str, least: float, candidate: Side, baseline: Side, known: set[str]) -> RuleResult:
    own, other = _items(candidate, task), _items(baseline, task)
    wanted = {item.sample.key for item in (*own, *other)}
    n_answered = sum(item.completion is not None and item.completion.outcome in JUDGED for item in own)
    n_planned = len(wanted) * len(candidate.seeds)
    decision = _enough(n_answered, n_planned, least)
    reason = f"{n_answered} of {n_planned} items are answered"
    if not own:
        reason = "the candidate has no item of it" if task in known else str(unknown_name("task", task, known))
    found = RuleResult(
        rule="required",
        about=f"task {task}",
        decision=decision,
        reason=reason,
        n=n_answered,
        n_lost=n_planned - n_answered,
        settles="answers to the others: harness run resumes" if decision == "inconclusive" else "",
    )
    return _unplanned(found, wanted - {item.sample.key for item in own}, candidate)


def _items(side: Side, task: str) -> list[Item]:
    return [item for seed in side.seeds for item in side.items(task, seed)]


def _enough(n: int, n_planned: int, least: float) -> Decision:
    """Nothing at all is a failure, too little is inconclusive."""
    return "fail" if not n else "pass" if n >= least * n_planned else "inconclusive"


def _unplanned(found: RuleResult, absent: Collection[str], candidate: Side) -> RuleResult:
    """The result, saying so where the baseline planned items that the candidate did not."""
    if not absent or not found.n:
        return found
    told = f"{found.reason}; {len(absent)} items of the baseline are not in {candidate.label}"
    settles = f"a run of {candidate.label} on the baseline's items" if found.settles else ""
    return found.model_copy(update={"reason": told, "settles": settles})


def _metric(name: str, least: float, candidate: Side, baseline: Side) -> RuleResult:
    metric = candidate.loaded.metric(name)
    if metric is None:
        return RuleResult(rule="required", about=name, decision="fail", reason=missing(name, candidate, baseline))
    wanted, value = planned_by((candidate, baseline), metric), over_seeds(candidate, metric).value
    n_planned = len(wanted) * len(candidate.seeds)
    n_scored = n_planned - n_lost(candidate, metric, wanted)
    decision = "fail" if value is None else _enough(n_scored, n_planned, least)
    found = RuleResult(
        rule="required",
        about=name,
        metric=name,
        decision=decision,
        reason=f"{n_scored} of {n_planned} items have a value",
        value=value,
        n=n_scored,
        n_lost=n_planned - n_scored,
        settles=gate_rules.JUDGE if decision == "inconclusive" else "",
    )
    return _unplanned(found, wanted.keys() - planned_by((candidate,), metric).keys(), candidate)


def missing(name: str, candidate: Side, baseline: Side) -> str:
    """Why a metric that the candidate does not measure has no value."""
    known = {one.name for side in (candidate, baseline) for one in side.loaded.metrics}
    if name in known:
        return f"{candidate.label} does not measure it, {baseline.label} does"
    return f"neither side measures it: {unknown_metric(name, known)} of these runs"


def enough(
    loaded: LoadedPolicy, candidate: Side, baseline: Side, metrics: Sequence[MetricInfo]
) -> Iterator[RuleResult]:
    """Whether enough training seeds and items stand behind the candidate's numbers."""
    wanted = loaded.policy.required
    if wanted.seeds is not None:
        yield _least("seeds", "training seeds with weights of their own", len(_weights(candidate)), wanted.seeds)
    for metric in metrics if wanted.items is not None else ():
        assert wanted.items is not None
        rules = loaded.policy.metrics.get(metric.name)
        compared = rules is not None and any(rule in gate_rules.COMPARED for rule in rules.rules)
        sides = (candidate, baseline) if compared else (candidate,)
        yield _least(
            f"items of {metric.name}", "items with a value in every seed", _n_items(sides, metric), wanted.items
        )


def _least(about: str, what: str, n: int, least: int) -> RuleResult:
    few = n < least
    return RuleResult(
        rule="required",
        about=about,
        decision="inconclusive" if few else "pass",
        reason=f"{n} {what}, {least} are required",
        value=n,
        limit=least,
        settles=f"{least - n} more {what}" if few else "",
    )


def _weights(side: Side) -> set[tuple[str, str]]:
    """The models that answered for a side: one that answered for several seeds counts once."""
    found = set()
    for cell in side.loaded.cells.values():
        items = side.items(cell.task, cell.seed) if cell.subject == side.subject else ()
        if any(item.completion is not None and item.completion.outcome in JUDGED for item in items):
            found.add((cell.model.backend, cell.model.weights))
    return found


def _n_items(sides: Sequence[Side], metric: MetricInfo) -> int:
    """Items that have a value in every seed of every side."""
    found = [measured(metric, side.items(metric.task, seed)) for side in sides for seed in side.seeds]
    return len(set.intersection(*found))
