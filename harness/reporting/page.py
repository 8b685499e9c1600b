"""What stands on the report page besides the tables: claims, paired differences, lost items, confusions.

Reads `Scores` and gives plain rows of text, which the template only arranges. Every paired difference of the run is
there with its interval, and says "no difference" where that includes zero.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from harness.reporting.table import (
    Heading,
    plain_heading,
    show,
    show_difference,
    show_interval,
    show_p,
)
from harness.scores import Claim, Estimate, Scores, SubjectInfo

CLAIM = Heading("", "", percent=True, digits=1, higher_is_better=None)
"""Claims compare measures scaled to 0–1: their differences print as points of 100."""


class Side(NamedTuple):
    """One of two measures that a claim compares: a metric of a subject."""

    subject: str
    metric: str


class ClaimText(NamedTuple):
    """A claim as text, and the two measures that it compares."""

    text: str
    decision: str
    numbers: str
    test: str
    sides: tuple[Side, ...] = ()


class DifferenceText(NamedTuple):
    """One paired difference as text."""

    subject: str
    metric: str
    difference: str
    interval: str
    p_value: str
    decision: str
    pairs: str
    of: Side


class Differences(NamedTuple):
    """All paired differences to one baseline; ``name`` is the baseline's name, ``baseline`` what it is called."""

    baseline: str
    rows: tuple[DifferenceText, ...]
    name: str


class LostText(NamedTuple):
    """One estimate that lost items."""

    subject: str
    metric: str
    coverage: str
    value: str
    bounds: str
    of: Side


class ConfusionText(NamedTuple):
    """The confusion counts of one subject on one task."""

    subject: str
    task: str
    answers: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]
    n_invalid: int
    name: str


class PreparationText(NamedTuple):
    """How one subject's training data came about and what training on it did, over all seeds."""

    subject: str
    made: str
    steps: str
    loss: str


class JudgeText(NamedTuple):
    """How a judge that asks models did."""

    judge: str
    models: str
    outcomes: str
    agreement: str
    cost: str


def claim_texts(scores: Scores) -> list[ClaimText]:
    """The claims in order."""
    return [_claim(claim) for claim in scores.claims]


def difference_texts(scores: Scores) -> list[Differences]:
    """Paired differences by baseline, in the order in which the baselines first appear."""
    baselines = dict.fromkeys(row.baseline for row in scores.comparisons)
    metrics = {metric.name: plain_heading(metric) for metric in scores.metrics}
    names = subject_names(scores)
    found: list[Differences] = []
    for baseline in baselines:
        rows = []
        for row in scores.comparisons:
            if row.baseline != baseline or row.metric not in metrics:
                continue
            one, heading = row.comparison, metrics[row.metric]
            difference = "–" if one.difference is None else show_difference(one, heading).strip("()").split(" ")[0]
            p_value = show_p(one.p_value) + ("" if one.p_adjusted is None else f", Holm {show_p(one.p_adjusted)}")
            pairs = str(one.n_pairs) + (f" ({one.n_unpaired} unpaired)" if one.n_unpaired else "")
            interval = show_interval(one.low, one.high, heading)
            title = heading.title()
            subject, side = names.get(row.subject, row.subject), Side(row.subject, row.metric)
            rows.append(DifferenceText(subject, title, difference, interval, p_value, one.decision, pairs, side))
        found.append(Differences(names.get(baseline, baseline), tuple(rows), baseline))
    return found


def lost_texts(scores: Scores) -> list[LostText]:
    """Every estimate over all seeds whose coverage is below 100 %."""
    metrics = {metric.name: plain_heading(metric) for metric in scores.metrics}
    names = subject_names(scores)
    found = []
    for row in scores.estimates:
        one, heading = row.estimate, metrics.get(row.metric)
        if row.seed is not None or heading is None or one.n_scored == one.n_total:
            continue
        value = "not measured" if one.value is None else show(one.value, heading)
        known = one.worst is not None and one.best is not None
        bounds = f"{show(one.worst or 0.0, heading)}–{show(one.best or 0.0, heading)}" if known else "–"
        coverage = f"{one.n_scored}/{one.n_total}"
        of = Side(row.subject, row.metric)
        found.append(LostText(names.get(row.subject, row.subject), heading.title(), coverage, value, bounds, of))
    return found


def confusion_texts(scores: Scores) -> list[ConfusionText]:
    """The confusion counts of each subject and task, summed over its seeds."""
    names = subject_names(scores)
    counts: dict[tuple[str, str], Counter[tuple[str, str]]] = {}
    n_invalid: Counter[tuple[str, str]] = Counter()
    for row in scores.confusions:
        if row.seed is None:
            continue
        place = (row.subject, row.task)
        n_invalid[place] += row.n_invalid
        for target, given in row.counts.items():
            counts.setdefault(place, Counter()).update({(target, answer): n for answer, n in given.items()})
    found = []
    for (subject, task), cells in counts.items():
        answers = tuple(sorted({answer for _, answer in cells}))
        targets = sorted({target for target, _ in cells})
        rows = tuple((target, tuple(cells[target, answer] for answer in answers)) for target in targets)
        n_other = n_invalid[subject, task]
        found.append(ConfusionText(names.get(subject, subject), task, answers, rows, n_other, subject))
    return found


def judge_texts(scores: Scores) -> list[JudgeText]:
    """The judges that ask models, with what came of their judgments and how far their raters agree."""
    found = []
    for row in scores.judges:
        seats = f", {row.n_seats} seats each" if row.n_seats > 1 else ""
        outcomes = ", ".join(f"{n} {outcome}" for outcome, n in row.outcomes.items()) or "none yet"
        named = [
            ("Krippendorff's alpha", row.alpha),
            ("kappa", row.kappa),
            ("verdicts that flip with the order", row.flip_rate),
        ]
        agreement = "; ".join(f"{name} {_plain(one)}" for name, one in named if one is not None)
        cost = "not known" if row.cost_usd is None else f"{row.cost_usd:.2f} USD"
        found.append(JudgeText(row.judge, ", ".join(row.models) + seats, outcomes, agreement or "one rater", cost))
    return found


def _plain(estimate: Estimate) -> str:
    """A coefficient or share with its interval, or why there is none."""
    if estimate.value is None:
        return estimate.method
    interval = "" if estimate.low is None or estimate.high is None else f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    return f"{estimate.value:.2f}{interval} (n = {estimate.n_scored})"


def preparation_texts(scores: Scores) -> list[PreparationText]:
    """What each trained subject learned from, counted over its seeds, and its mean first and last loss."""
    names = subject_names(scores)
    found = []
    for subject in dict.fromkeys(row.subject for row in scores.preparations):
        rows = [row for row in scores.preparations if row.subject == subject]
        counts: Counter[str] = Counter()
        for row in rows:
            counts.update(row.counts)
        trained = [row.training for row in rows if row.training]
        steps = " + ".join(f"{one['n_steps']:.0f}" if "n_steps" in one else "–" for one in trained) or "–"
        ends = [[one[end] for one in trained if end in one] for end in ("loss_first", "loss_last")]
        losses = [sum(values) / len(values) for values in ends if values]
        found.append(
            PreparationText(
                names.get(subject, subject),
                "; ".join(f"{what} {count}" for what, count in counts.items()),
                steps,
                " → ".join(f"{loss:.2f}" for loss in losses) or "–",
            )
        )
    return found


def subject_names(scores: Scores) -> dict[str, str]:
    """Label of each subject, with its name where several share a label."""
    labels = [subject.label for subject in scores.subjects]
    return {one.name: _name(one, labels.count(one.label)) for one in scores.subjects}


def _name(subject: SubjectInfo, n_same: int) -> str:
    return subject.label if n_same == 1 else f"{subject.label} ({subject.name})"


def _claim(claim: Claim) -> ClaimText:
    found = claim.comparison
    numbers = "not measured"
    if found.difference is not None:
        value = show_difference(found, CLAIM).strip("()").split(" ")[0]
        numbers = f"{value} {show_interval(found.low, found.high, CLAIM)} points, {show_p(found.p_value)}"
        numbers += "" if found.p_adjusted is None else f" (Holm {show_p(found.p_adjusted)})"
    sides = "one-sided" if found.alternative == "greater" else "two-sided"
    test = f"{found.test}, {sides}; {found.n_pairs} pairs, {found.n_seeds} seed{'s' if found.n_seeds != 1 else ''}"
    sides_of = tuple(Side(*side.split(".", 1)) for side in (claim.first, claim.second))
    return ClaimText(claim.text, claim.decision, numbers, test, sides_of)
