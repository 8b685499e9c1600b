"""Gather what a run measured: for each subject, seed and task, every planned sample with its completion and verdicts.

Reads samples, cells, completions and verdicts; writes nothing. What is missing stays visible as ``None``: a sample
without a completion, a completion without a usable verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from harness.errors import UserError
from harness.importing.measures import IMPORTED
from harness.judging import JudgeItem, Panel, combine
from harness.records import JUDGED, Cell, Completion, Sample, Verdict, VerdictOutcome
from harness.scores import MetricInfo
from harness.stages.answering import completion_key
from harness.stages.references import References
from harness.stats.classification import Answers
from harness.store import Run, latest, read
from harness.tasks import LABELS

ITEM_MEANS = ("score", "rate", "accuracy", "recall", "invalid")
"""Kinds of metrics that are a mean over items; balanced accuracy, F1 and AUC are not."""


class Item(NamedTuple):
    """A planned sample and what became of it.

    Attributes:
        sample: The sample.
        completion: The answer to it.
        verdicts: By the judge's name.
        reference_length: Characters of the answer that pairwise judges compare it with; ``None`` where there is none.
        owed: Judges that have yet to judge the answer, in one of their seats at least.
    """

    sample: Sample
    completion: Completion | None
    verdicts: dict[str, Verdict]
    reference_length: int | None = None
    owed: frozenset[str] = frozenset()

    @property
    def prompt(self) -> str:
        """The instruction that it belongs to; items of different tasks with the same one are paired."""
        group = self.sample.labels.get("group")
        return group if isinstance(group, str) else self.sample.messages[0].content


CellId = tuple[str, int, str]


def gather(
    run: Run,
    samples: Iterable[Sample],
    judges: Mapping[str, Panel],
    references: References | None = None,
    metrics: Sequence[MetricInfo] = (),
) -> dict[CellId, list[Item]]:
    """(subject, seed, task) → its items, in the samples' order.

    Args:
        run: The run.
        samples: Its frozen samples.
        judges: Name → whose verdicts count.
        references: What pairwise judges compared with.
        metrics: Whose scales the verdicts' scores must keep to.

    Raises:
        UserError: A verdict's score lies outside the scale of a metric that sums it up.
    """
    by_task: dict[str, list[Sample]] = {}
    for sample in samples:
        by_task.setdefault(sample.task, []).append(sample)
    completions = latest(read(run.completions_file, Completion).records)
    known = _Known(run, judges, references or References(run), metrics)
    found = {}
    for cell in latest(read(run.cells_file, Cell).records).values():
        keys = [(s, completion_key(s, cell.model)) for s in by_task.get(cell.task, ())]
        found[cell.subject, cell.seed, cell.task] = [
            known.item(s, completions.get(key), completions) for s, key in keys
        ]
    return found


class _Known:
    """The verdicts of a run, by what was judged, whose they are and which text was judged."""

    def __init__(
        self, run: Run, judges: Mapping[str, Panel], references: References, metrics: Sequence[MetricInfo]
    ) -> None:
        self.judges, self.references = judges, references
        names = {spec.key: name for name, panel in judges.items() for spec in panel.members}
        scales: dict[str, list[MetricInfo]] = {}
        for metric in metrics:
            if metric.kind == "score" and metric.judge is not None:
                scales.setdefault(metric.judge, []).append(metric)
        self.found: dict[tuple[str, str, str], list[Verdict]] = {}
        for verdict in latest(read(run.verdicts_file, Verdict).records).values():
            name = names.get(verdict.judge_key)
            if name is not None and verdict.seat < judges[name].n_seats:
                _check_scale(verdict, scales.get(name, ()), run)
                place = (verdict.completion_key, name, verdict.text_hash)
                self.found.setdefault(place, []).append(verdict)

    def item(self, sample: Sample, completion: Completion | None, completions: Mapping[str, Completion]) -> Item:
        """A sample with its completion, and with each judge's verdict where it has given one on this very text."""
        if completion is None:
            return Item(sample, None, {})
        pairwise = any(panel.pairwise for panel in self.judges.values())
        other = self.references.of(sample, completion.model_key, completions) if pairwise else None
        found, owed = {}, []
        for name, panel in self.judges.items():
            reference = other if panel.pairwise else None
            text_hash = JudgeItem(sample, completion, reference=reference).text_hash
            given = self.found.get((completion.key, name, text_hash))
            verdict = given and combine(sorted(given, key=lambda v: (v.judge_key, v.seat)), panel)
            if verdict:
                found[name] = verdict
            if completion.final and _owes(panel, given or (), other):
                owed.append(name)
        length = len(other.text) if other is not None and other.outcome in JUDGED else None
        return Item(sample, completion, found, length, frozenset(owed))


def _owes(panel: Panel, given: Sequence[Verdict], reference: Completion | None) -> bool:
    """Whether a judge of ours has yet to judge an answer that stands; recorded judges owe nothing."""
    if panel.pairwise and (reference is None or not reference.final):  # nothing to compare with, or not yet
        return False
    own = all(spec.version != IMPORTED for spec in panel.members)
    return own and sum(verdict.final for verdict in given) < len(panel.members) * panel.n_seats


def _check_scale(verdict: Verdict, metrics: Sequence[MetricInfo], run: Run) -> None:
    for metric in metrics:
        low, high = metric.bounds
        if verdict.score is not None and not low <= verdict.score <= high:
            raise UserError(
                f"{run.verdicts_file}: the verdict with key {verdict.key} has the score {verdict.score:g}, outside the "
                f"scale {low:g} to {high:g} of {metric.name}: take its line (completion_key {verdict.completion_key}, "
                f"seat {verdict.seat}) out and let harness judge give it again, or mend the scale where the task or "
                f"judge declares it"
            )


def item_values(metric: MetricInfo, items: Sequence[Item]) -> dict[str, float]:
    """Sample key → value of a metric that is a mean over items; lost items are absent."""
    if metric.kind in ("score", "rate"):
        found = ((item, _judged(metric, item)) for item in items)
    else:
        found = ((item, _right(metric, item)) for item in items)
    return {item.sample.key: value for item, value in found if value is not None}


def _judged(metric: MetricInfo, item: Item) -> float | None:
    verdict = item.verdicts.get(metric.judge or "")
    if verdict is None or verdict.outcome is not VerdictOutcome.OK:
        return None
    if metric.kind == "score":
        return verdict.score
    return None if verdict.label is None else float(verdict.label == metric.rate_label)


def _right(metric: MetricInfo, item: Item) -> float | None:
    if metric.kind == "recall" and item.sample.target != metric.rate_label:
        return None
    said = _answer(metric, item)
    if said is None:
        return None
    if metric.kind == "invalid":
        return float(said not in (item.sample.choices or LABELS))
    return float(said == item.sample.target)


def _answer(metric: MetricInfo, item: Item) -> str | None:
    """The label that was given, some other text for an invalid answer, ``None`` for a lost one."""
    if item.completion is None or item.completion.outcome not in JUDGED:
        return None
    if metric.judge is None:
        return item.completion.text
    verdict = item.verdicts.get(metric.judge)
    if verdict is None or verdict.outcome in (VerdictOutcome.ERROR, VerdictOutcome.SKIPPED, VerdictOutcome.FILTERED):
        return None
    return verdict.label or f"invalid ({verdict.outcome})"


def answers(metric: MetricInfo, items: Sequence[Item]) -> Answers:
    """A classification task's items as `harness.stats.classification` reads them."""
    choices = next((item.sample.choices for item in items if item.sample.choices), ())
    positive, negative = choices or LABELS
    margins = None
    if choices:
        logprobs = [item.completion.logprobs if item.completion else None for item in items]
        margins = [None if found is None else found[positive] - found[negative] for found in logprobs]
    return Answers(
        targets=[item.sample.target or "" for item in items],
        answers=[_answer(metric, item) for item in items],
        positive=positive,
        negative=negative,
        clusters=clusters(items),
        margins=margins,
    )


def clusters(items: Sequence[Item]) -> list[str | None]:
    """The cluster of each item."""
    return [item.sample.cluster for item in items]
