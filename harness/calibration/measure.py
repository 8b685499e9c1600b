"""From labels and a judge's verdicts on the same items to a `Calibration`; pure.

A verdict that is no label (unparsed, refused, filtered, error, skipped, missing, or a label that people did not use)
counts on neither side: it is coverage, told beside the rest. Intervals keep items of one cluster together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from harness.calibration.labels import LENGTH, Labelled, Labels
from harness.calibration.records import Calibration, Counts, Slice
from harness.errors import UserError
from harness.records import Verdict, VerdictOutcome
from harness.scores import Estimate
from harness.stats import classification, intervals
from harness.stats.agreement import cohen_kappa, spearman
from harness.stats.classification import Answers

MOST_PARTS = 40
"""Parts of one column that are told; the rest is in the file."""
WHOLE_ONLY = ("balanced_accuracy", "precision", "f1", "quadratic_kappa")
"""Measures that are not told by part."""
OTHER_LABEL = "another label"
NO_VERDICT = "no verdict"
Maker = Callable[[], Estimate]


class Judged(NamedTuple):
    """A labelled item and what the judge said: a label, a score, or ``None`` with the reason in ``lost``."""

    row: Labelled
    said: str | float | None
    lost: str = ""


def measure(name: str, key: str, labels: Labels, verdicts: Sequence[Verdict | None]) -> Calibration:
    """A judge's calibration.

    Args:
        name: The judge's name.
        key: Its key.
        labels: What people say.
        verdicts: What the judge says of the same rows, in their order; ``None`` where it said nothing.

    Raises:
        UserError: Labels and verdicts have no word in common.
    """
    judged = [_judged(row, verdict, labels) for row, verdict in zip(labels.rows, verdicts, strict=True)]
    _refuse_other_words(name, labels, judged, verdicts)
    return Calibration(
        judge=name,
        judge_key=key,
        labels=labels.name,
        labels_sha256=labels.sha256,
        positive=labels.positive,
        negative=labels.negative,
        n=len(judged),
        n_scored=sum(one.said is not None for one in judged),
        n_clusters=len(set(_clusters(judged))),
        lost=dict(sorted(Counter(one.lost for one in judged if one.said is None).items())),
        counts=_counts(labels, judged),
        measures=_measures(labels, judged),
        slices=tuple(_slices(labels, judged)),
        notes=labels.notes,
    )


def _judged(row: Labelled, verdict: Verdict | None, labels: Labels) -> Judged:
    if verdict is None:
        return Judged(row, None, NO_VERDICT)
    if verdict.outcome is not VerdictOutcome.OK:
        return Judged(row, None, str(verdict.outcome))
    if labels.positive is None or verdict.label is None:
        return Judged(row, verdict.score, "a label where people gave scores")
    known = verdict.label in (labels.positive, labels.negative)
    return Judged(row, verdict.label if known else None, OTHER_LABEL)


def _refuse_other_words(
    name: str, labels: Labels, judged: Sequence[Judged], verdicts: Sequence[Verdict | None]
) -> None:
    said = dict.fromkeys(str(v.label) for v in verdicts if v is not None and v.label is not None)
    if labels.positive is None and said and not any(one.said is not None for one in judged):
        raise UserError(f"{labels.name}: holds scores, but {name} gives labels ({', '.join(said)})")
    if labels.positive is not None and said and not any(one.said is not None for one in judged):
        raise UserError(
            f"{labels.name}: its labels are {labels.positive}, {labels.negative}, but {name} says {', '.join(said)}; "
            f"say which is which with --labels {','.join(f'{label}=VALUE' for label in list(said)[:2])}"
        )


def _clusters(judged: Sequence[Judged]) -> list[str]:
    """The cluster of every item; answers to one prompt are of one."""
    samples = [one.row.item.sample for one in judged]
    return [sample.cluster or sample.key for sample in samples]


def _answers(labels: Labels, judged: Sequence[Judged]) -> Answers:
    assert labels.positive is not None
    assert labels.negative is not None
    return Answers(
        targets=[str(one.row.truth) for one in judged],
        answers=[None if one.said is None else str(one.said) for one in judged],
        positive=labels.positive,
        negative=labels.negative,
        clusters=_clusters(judged),
    )


def _by_score(judged: Sequence[Judged]) -> bool:
    return any(isinstance(one.said, float) for one in judged)


def _counts(labels: Labels, judged: Sequence[Judged]) -> Counts | None:
    if labels.positive is None or _by_score(judged):
        return None
    pairs = Counter((one.row.truth == labels.positive, one.said == labels.positive)
                    for one in judged if one.said is not None)  # fmt: skip
    return Counts(tp=pairs[True, True], fn=pairs[True, False], tn=pairs[False, False], fp=pairs[False, True])


def _measures(labels: Labels, judged: Sequence[Judged], leave_out: Sequence[str] = ()) -> dict[str, Estimate]:
    if labels.positive is None:
        makers = _score_measures(judged)
    elif _by_score(judged):
        makers = {"auc": lambda: _auc(labels, judged)}
    else:
        makers = _label_measures(_answers(labels, judged))
    return {name: make() for name, make in makers.items() if name not in leave_out}


def _label_measures(items: Answers) -> dict[str, Maker]:
    return {
        "accuracy": lambda: classification.accuracy(items),
        "balanced_accuracy": lambda: classification.balanced_accuracy(items),
        "sensitivity": lambda: classification.recall(items, items.positive),
        "specificity": lambda: classification.recall(items, items.negative),
        "precision": lambda: _precision(items),
        "f1": lambda: classification.f1(items),
        "kappa": lambda: cohen_kappa(items.targets, items.answers, clusters=items.clusters),
    }


def _precision(items: Answers) -> Estimate:
    """Share of positive items among those called positive; a lost item is not among them."""
    called = [i for i, answer in enumerate(items.answers) if answer == items.positive]
    clusters = [items.clusters[i] for i in called] if items.clusters is not None else None
    return intervals.rate([float(items.targets[i] == items.positive) for i in called], len(called), clusters)


def _auc(labels: Labels, judged: Sequence[Judged]) -> Estimate:
    """Probability that a positive item scores higher than a negative one; below one half where scores run down."""
    items = _answers(labels, judged)
    return classification.auc(items._replace(margins=[None if one.said is None else float(one.said) for one in judged]))


def _score_measures(judged: Sequence[Judged]) -> dict[str, Maker]:
    people = [float(one.row.truth) for one in judged]
    judge = [None if one.said is None else float(one.said) for one in judged]
    clusters = _clusters(judged)
    known = [(one, two, cluster) for one, two, cluster in zip(people, judge, clusters, strict=True) if two is not None]
    span = max([*people, *(two for _, two, _ in known)]) - min([*people, *(two for _, two, _ in known)])
    errors = [abs(one - two) for one, two, _ in known]
    kept = [cluster for _, _, cluster in known]
    return {
        "spearman": lambda: spearman(people, judge, clusters=clusters),
        "quadratic_kappa": lambda: cohen_kappa(people, judge, weights="quadratic", clusters=clusters),
        "mae": lambda: intervals.mean(errors, len(judged), (0.0, span), kept, higher_is_better=False),
    }


def _slices(labels: Labels, judged: Sequence[Judged]) -> list[Slice]:
    """Every part of every column that has at least two, the larger parts first."""
    found = []
    for column in dict.fromkeys(name for one in judged for name in one.row.parts):
        members: dict[str, list[Judged]] = {}
        for one in judged:
            for part in one.row.parts.get(column, ()):
                members.setdefault(part, []).append(one)
        by_size = sorted(members, key=lambda part: (-len(members[part]) if column != LENGTH else 0, part))
        if len(members) > 1:
            found += [_slice(column, part, labels, members[part]) for part in by_size[:MOST_PARTS]]
    return found


def _slice(column: str, part: str, labels: Labels, judged: Sequence[Judged]) -> Slice:
    measures = _measures(labels, judged, WHOLE_ONLY)
    return Slice(column=column, value=part, n=len(judged), counts=_counts(labels, judged), measures=measures)
