"""Drift: the same outputs, judged twice, by two judges or by one on two dates; compared in pairs, never by two rates.

Reads the answers and verdicts of one run or two; writes nothing. An output is the same where question and answer are
the same text; one that stands there several times counts once. What only one side has, or could not be judged on one
side, is counted and told. So is, and left out, what one side's ledger shows to be the other side's reply from the
cache: a reply agrees with itself, whatever the judge would say today.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.calibration.calls import asked, judged_anew
from harness.errors import UserError, unknown_name
from harness.judging import Panel, combine
from harness.records import Call, Completion, Finite, Record, Sample, Verdict, VerdictOutcome, content_hash
from harness.scores import Comparison, Estimate
from harness.stats.agreement import cohen_kappa, krippendorff_alpha
from harness.stats.paired import compare_items, pair_by_key
from harness.store import Run, latest, read

AGAIN = (
    "to judge anew, copy the run's folder without verdicts.jsonl, calls.jsonl and batches, and give the copy a cache "
    "of its own: harness judge COPY --set throughput.cache=FILE"
)


class Side(NamedTuple):
    """Whose verdicts they are.

    Attributes:
        name: For people.
        run: Holds them.
        panel: The judge or panel that gave them.
        offered: The labels that it may give; empty of scores, and where it does not say.
    """

    name: str
    run: Run
    panel: Panel
    offered: tuple[str, ...] = ()


class Output(NamedTuple):
    """One judged output: what was asked and answered, the verdict, and the requests to the judge behind it.

    Items of one cluster are not independent.
    """

    task: str
    prompt: str
    answer: str
    cluster: str
    verdict: Verdict
    calls: frozenset[str] = frozenset()


class Flip(Record):
    """An output on which the two sides differ."""

    key: str
    task: str
    prompt: str
    answer: str
    first: str | Finite
    second: str | Finite
    first_reason: str = ""
    second_reason: str = ""


class Drift(Record):
    """What changed from the first side to the second.

    Attributes:
        first: Name of the first side.
        second: Name of the second side.
        n_shared: Outputs that both sides have.
        n_paired: Those on which both have a usable verdict.
        n_cached: Further outputs, whose verdict on one side is the other's reply from the cache: not judged anew.
        only_first: Outputs that the second side lacks.
        only_second: Outputs that the first side lacks.
        lost_first: Shared outputs without a usable verdict on the first side, by outcome.
        lost_second: The same on the second.
        label: The label whose share is compared; ``None`` of scores.
        rate: Second minus first share of that label, paired.
        score: Second minus first score, paired; ``None`` where either side gives none.
        agreement: Kappa of labels, quadratic kappa of scores.
        alpha: Krippendorff's alpha, nominal or interval.
        flips: The outputs that differ, those of the largest difference first.
    """

    first: str
    second: str
    n_shared: int
    n_paired: int
    n_cached: int = 0
    only_first: int
    only_second: int
    lost_first: dict[str, int]
    lost_second: dict[str, int]
    label: str | None
    rate: Comparison | None
    score: Comparison | None
    agreement: Estimate
    alpha: Estimate
    flips: tuple[Flip, ...]


def drift_runs(first: Side, second: Side, *, label: str | None = None, seed: int = 0) -> Drift:
    """The drift between two sides, of one run or of two.

    Args:
        first: The earlier, or the one that is trusted.
        second: The other.
        label: The label whose share is compared; the most common one if not given.
        seed: Seed of the resampling.

    Raises:
        UserError: No answer was judged on both sides, or none anew; one side gives labels and the other scores, or
            neither knows the label.
    """
    one, two = outputs(first), outputs(second)
    if not one.keys() & two.keys():
        raise UserError(
            f"{first.name} ({len(one)} judged answers) and {second.name} ({len(two)}) have no judged answer in common: "
            "drift compares verdicts on the same questions with the same answers"
        )
    _refuse_two_kinds(first, second, one, two)
    if label is not None:
        _refuse_unknown(label, (first, second), (one, two))
    cached = _cached(first, second, one, two)
    if cached >= one.keys() & two.keys():
        raise UserError(
            f"{second.name} against {first.name}: all {len(cached)} verdicts that both have were answered from the "
            f"cache: no new judging happened; {AGAIN}"
        )
    left = [{key: output for key, output in side.items() if key not in cached} for side in (one, two)]
    found = drift(first.name, left[0], second.name, left[1], label=label, seed=seed)
    return found.model_copy(update={"n_cached": len(cached)})


def _refuse_two_kinds(first: Side, second: Side, one: Mapping[str, Output], two: Mapping[str, Output]) -> None:
    kinds = [_kinds(side, judged) for side, judged in ((first, one), (second, two))]
    if all(kinds) and not kinds[0] & kinds[1]:
        told = " and ".join(f"{side.name} gives {min(kind)}" for side, kind in zip((first, second), kinds, strict=True))
        raise UserError(f"{told}: drift compares labels with labels, or scores with scores")


def _kinds(side: Side, judged: Mapping[str, Output]) -> set[str]:
    """What a side gives; the number that a judge of labels gives beside its label is how sure it is, and no score."""
    usable = [output.verdict for output in judged.values() if output.verdict.outcome is VerdictOutcome.OK]
    labels = any(verdict.label is not None for verdict in usable)
    scores = not side.offered and any(verdict.score is not None for verdict in usable)
    return {kind for kind, given in (("labels", labels), ("scores", scores)) if given}


def _refuse_unknown(label: str, sides: Sequence[Side], judged: Sequence[Mapping[str, Output]]) -> None:
    said = {output.verdict.label for outputs in judged for output in outputs.values()} - {None}
    known = {*(label for side in sides for label in side.offered), *map(str, said)}
    if label not in known:
        raise unknown_name("label", label, known)


def _cached(first: Side, second: Side, one: Mapping[str, Output], two: Mapping[str, Output]) -> set[str]:
    """The outputs on which one side's verdict rests on a reply of the other's."""
    shared = {key: one[key].calls & two[key].calls for key in one.keys() & two.keys()}
    if not any(shared.values()):
        return set()
    was, now = (asked(read(side.run.calls_file, Call).records) for side in (first, second))
    return {key for key, calls in shared.items() if not all(judged_anew(was.get(c), now.get(c)) for c in calls)}


def outputs(side: Side) -> dict[str, Output]:
    """Question and answer (hashed) → what one side says of it; the verdict must be about the answer as it is now."""
    members = {spec.key for spec in side.panel.members}
    given: dict[str, list[Verdict]] = {}
    for verdict in latest(read(side.run.verdicts_file, Verdict).records).values():
        if verdict.judge_key in members and verdict.seat < side.panel.n_seats:
            given.setdefault(f"{verdict.completion_key} {verdict.text_hash}", []).append(verdict)
    samples = {sample.key: sample for sample in read(side.run.samples_file, Sample).records}
    completions = latest(read(side.run.completions_file, Completion).records)
    found: dict[str, Output] = {}
    for verdicts in given.values():
        completion = completions.get(verdicts[0].completion_key)
        sample = samples.get(completion.sample_key) if completion is not None else None
        verdict = combine(sorted(verdicts, key=lambda one: (one.judge_key, one.seat)), side.panel)
        if completion is None or sample is None or verdict is None:
            continue
        if side.panel.pairwise or verdict.text_hash == completion.text_hash:
            turns = [[message.role, message.content] for message in sample.messages]
            # Keyed by the verdict's hash, which of a pairwise judge covers the other answer too.
            calls = frozenset(one.call for one in verdicts if one.call is not None)
            found.setdefault(content_hash([turns, verdict.text_hash]), _output(sample, completion, verdict, calls))
    return found


def _output(sample: Sample, completion: Completion, verdict: Verdict, calls: frozenset[str]) -> Output:
    prompt = "\n\n".join(message.content for message in sample.messages)
    return Output(sample.task, prompt, completion.text, sample.cluster or content_hash(prompt), verdict, calls)


def drift(
    first_name: str,
    first: Mapping[str, Output],
    second_name: str,
    second: Mapping[str, Output],
    *,
    label: str | None = None,
    seed: int = 0,
) -> Drift:
    """The drift between two sets of verdicts (see `drift_runs`)."""
    shared = sorted(first.keys() & second.keys())
    paired = [key for key in shared if all(side[key].verdict.outcome is VerdictOutcome.OK for side in (first, second))]
    labelled = bool(paired) and all(side[key].verdict.label is not None for key in paired for side in (first, second))
    one, two = ({key: _value(side[key].verdict, labelled) for key in paired} for side in (first, second))
    clusters = {key: first[key].cluster for key in paired}
    groups = list(clusters.values())
    said = [[one[key], two[key]] for key in paired]
    counted = label or (_most_common(said) if labelled else None)
    kappa = cohen_kappa(
        list(one.values()),
        list(two.values()),
        weights="none" if labelled else "quadratic",
        clusters=groups,
        seed=seed,
    )
    return Drift(
        first=first_name,
        second=second_name,
        n_shared=len(shared),
        n_paired=len(paired),
        only_first=len(first) - len(shared),
        only_second=len(second) - len(shared),
        lost_first=_lost(first, shared),
        lost_second=_lost(second, shared),
        label=counted if labelled else None,
        rate=_rate(one, two, clusters, counted, seed) if labelled and counted is not None else None,
        score=_score(first, second, paired, clusters, seed),
        agreement=kappa,
        alpha=krippendorff_alpha(said, "nominal" if labelled else "interval", clusters=groups, seed=seed),
        flips=tuple(_flips(first, second, one, two)),
    )


def _value(verdict: Verdict, labelled: bool) -> str | float | None:
    return verdict.label if labelled else verdict.score


def _most_common(said: Sequence[Sequence[str | float | None]]) -> str:
    counts = Counter(str(label) for pair in said for label in pair)
    return min(counts, key=lambda label: (-counts[label], label))


def _lost(side: Mapping[str, Output], shared: Sequence[str]) -> dict[str, int]:
    outcomes = (side[key].verdict.outcome for key in shared)
    return dict(sorted(Counter(str(one) for one in outcomes if one is not VerdictOutcome.OK).items()))


def _rate(
    one: Mapping[str, str | float | None],
    two: Mapping[str, str | float | None],
    clusters: Mapping[str, str],
    label: str,
    seed: int,
) -> Comparison:
    first, second = ({key: float(value == label) for key, value in side.items()} for side in (one, two))
    return compare_items(pair_by_key(second, first, clusters), binary=True, seed=seed)


def _score(
    first: Mapping[str, Output],
    second: Mapping[str, Output],
    paired: Sequence[str],
    clusters: Mapping[str, str],
    seed: int,
) -> Comparison | None:
    one, two = (
        {key: score for key in paired if (score := side[key].verdict.score) is not None} for side in (first, second)
    )
    if not one or not two:
        return None
    values = [*one.values(), *two.values()]
    span = max(values) - min(values) or 1.0
    return compare_items(pair_by_key(two, one, clusters), binary=False, span=span, seed=seed)


def _flips(
    first: Mapping[str, Output],
    second: Mapping[str, Output],
    one: Mapping[str, str | float | None],
    two: Mapping[str, str | float | None],
) -> list[Flip]:
    found = []
    for key, value in one.items():
        other, output = two[key], first[key]
        if value is None or other is None or value == other:
            continue
        found.append(
            Flip(
                key=key,
                task=output.task,
                prompt=output.prompt,
                answer=output.answer,
                first=value,
                second=other,
                first_reason=output.verdict.reason,
                second_reason=second[key].verdict.reason,
            )
        )
    return sorted(found, key=lambda flip: -_distance(flip))


def _distance(flip: Flip) -> float:
    if isinstance(flip.first, float) and isinstance(flip.second, float):
        return abs(flip.first - flip.second)
    return 1.0
