"""Mistakes and their analyses, the steps that the methods share.

Mistakes come from the data set (its bad responses) or from *guided mistake induction*: the model itself is asked with
template (a) and the harmful hint, and what it writes is a mistake when the run's judge says so ("triggered"). An
analysis is template (b) on a mistake, asked of the model itself or of a stronger one (paper, section 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from harness.methods.base import Check, RowStep, Workbench, row_sample, unusable
from harness.records import Completion, CompletionOutcome, Sample
from harness.rows import AlignmentRow


class Mistake(NamedTuple):
    """A bad response to a row's instruction."""

    row: AlignmentRow
    text: str


class Analysis(NamedTuple):
    """A mistake and what a model wrote about it."""

    mistake: Mistake
    text: str


def mistakes(bench: Workbench, *, learned: bool = False) -> list[Mistake]:
    """The rows' mistakes, from the source that the recipe chose; rows without one are in the steps.

    Args:
        bench: The workbench.
        learned: The mistakes themselves will be trained on, so none that was cut off is kept.
    """
    rows = [row for row in bench.rows if row.kind != "benign"]
    return _given(bench, rows) if bench.mistakes == "origin" else _induced(bench, rows, learned)


def _given(bench: Workbench, rows: list[AlignmentRow]) -> list[Mistake]:
    found = []
    for row in rows:
        kept = row.bad is not None
        outcome = "kept" if kept else "dropped, the data set has no bad response"
        bench.steps.append(RowStep(row=row.key, step="mistake", outcome=outcome, text=row.bad or ""))
        if row.bad is not None:
            found.append(Mistake(row, row.bad))
    return found


def _induced(bench: Workbench, rows: list[AlignmentRow], learned: bool) -> list[Mistake]:
    def lost(completion: Completion) -> str | None:
        # A response that was cut off is a mistake all the same; only what is learned must be whole.
        cut_off = completion.outcome is CompletionOutcome.TRUNCATED
        return None if cut_off and not learned else unusable(completion)

    samples = [row_sample(row, "induce", "guided_harmful") for row in rows]
    found = []
    for row, written in zip(rows, _written(bench, "self", samples, bench.is_mistake, lost), strict=True):
        outcome = written.lost or ("kept" if written.label == "mistake" else "dropped, not triggered")
        bench.steps.append(_step(row, "mistake", outcome, written))
        if outcome == "kept":
            found.append(Mistake(row, written.completion.text))
    return found


def analyses(bench: Workbench, found: list[Mistake]) -> list[Analysis]:
    """An analysis of each mistake by the recipe's analyst; an unusable one is dropped with its reason."""
    samples = [row_sample(m.row, "analyse", "guided_analysis", ("assistant", m.text)) for m in found]
    kept = []
    for mistake, written in zip(found, _written(bench, bench.analyst or "self", samples, bench.verdict), strict=True):
        bench.steps.append(_step(mistake.row, "analysis", written.lost or "kept", written))
        if written.lost is None:
            kept.append(Analysis(mistake, written.completion.text))
    return kept


def revisions(bench: Workbench, written: list[Analysis]) -> list[tuple[AlignmentRow, str]]:
    """The model's better answers, given its mistake and its own critique of it."""
    samples = [
        row_sample(a.mistake.row, "revise", "revision", ("assistant", a.mistake.text), ("critique", a.text))
        for a in written
    ]
    revised = []
    for analysis, better in zip(written, _written(bench, "self", samples, bench.is_mistake), strict=True):
        bench.steps.append(_step(analysis.mistake.row, "revision", better.lost or "kept", better))
        if better.lost is None:
            revised.append((analysis.mistake.row, better.completion.text))
    return revised


def analysis_sample(analysis: Analysis) -> Sample:
    """The unguided question that an analysis is trained to answer (template (c))."""
    return row_sample(analysis.mistake.row, "train", "unguided_analysis", ("assistant", analysis.mistake.text))


class _Written(NamedTuple):
    """What a model wrote, why it is of no use where it is not, and what a judge says of it where it is."""

    completion: Completion
    lost: str | None
    label: str | None


def _written(
    bench: Workbench,
    who: str,
    samples: Sequence[Sample],
    check: Check,
    lost: Callable[[Completion], str | None] = unusable,
) -> list[_Written]:
    """What a model writes to each sample, all of it judged together."""
    found = [(sample, text, lost(text)) for sample, text in zip(samples, bench.ask(who, samples), strict=True)]
    labels = iter(check([(sample, text) for sample, text, why in found if why is None]))
    return [_Written(text, why, next(labels) if why is None else None) for _, text, why in found]


def _step(row: AlignmentRow, step: str, outcome: str, written: _Written) -> RowStep:
    completion = written.completion
    return RowStep.model_validate(
        {"row": row.key, "step": step, "outcome": outcome, "text": completion.text, "label": written.label,
         "completion": completion.key}
    )  # fmt: skip
