"""Judges at work while training data is made: many answers at once, and nothing paid twice.

A rule decides on the spot. What a judge that asks a model decides is appended to ``train/verdicts.jsonl`` as it comes
and never asked again; its calls pass the same cache, ledger and budget as all judging.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.errors import UserError
from harness.judging import Judge, JudgeItem, combine
from harness.judging.prompt_judge import in_groups
from harness.records import Completion, Sample, Verdict
from harness.stages.judge import asks, verdict_key
from harness.stages.judges import Judges
from harness.store import Run, append, latest, read


def labels(run: Run, judges: Judges, name: str, pairs: Sequence[tuple[Sample, Completion]]) -> list[str | None]:
    """What a judge says of answers, in their order; ``None`` where it gave no label.

    Args:
        run: The run, where verdicts that were paid for are kept.
        judges: Its judges, able to judge.
        name: The judge.
        pairs: What was asked and what was answered.

    Raises:
        UserError: Judgments failed, and are owed again by the same command.
    """
    items = {completion.key: JudgeItem(sample, completion) for sample, completion in pairs}
    verdicts: list[Verdict] = []
    for judge in judges.preparing(name):
        verdicts += _kept(run, judge, list(items.values())) if asks(judge) else judge.judge(items.values())
    given: dict[str, list[Verdict]] = {key: [] for key in items}
    for verdict in verdicts:
        given[verdict.completion_key].append(verdict)
    panel = judges.panel(name)
    found = {key: combine(sorted(each, key=lambda v: (v.judge_key, v.seat)), panel) for key, each in given.items()}
    return [one.label if (one := found[completion.key]) is not None else None for _, completion in pairs]


def _kept(run: Run, judge: Judge, items: Sequence[JudgeItem]) -> list[Verdict]:
    """The verdicts of a judge that asks a model: those that are on disk, and the others now."""
    file = run.path / "train" / "verdicts.jsonl"
    known = latest(read(file, Verdict).records)
    for group in in_groups(judge, _owed(judge, items, known)):
        append(file, group)
        known.update({verdict.key: verdict for verdict in group})
    found = [known[verdict_key(judge, item, seat)] for item in items for seat in range(judge.n_seats)]
    if failed := [verdict for verdict in found if not verdict.final]:
        raise UserError(
            f"judge '{judge.spec.name}': {len(failed)} of {len(found)} judgments for the training data failed "
            f"({failed[0].reason}); what was judged is kept: the same command asks the rest again"
        )
    return found


def _owed(judge: Judge, items: Sequence[JudgeItem], known: dict[str, Verdict]) -> Iterator[JudgeItem]:
    settled = {key for key, verdict in known.items() if verdict.final}
    for item in items:
        seats = tuple(seat for seat in range(judge.n_seats) if verdict_key(judge, item, seat) not in settled)
        if seats:
            yield item._replace(seats=seats)
