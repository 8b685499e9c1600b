"""Mistakes and their analyses, the steps that the methods share.

Mistakes come from the data set (its bad responses) or from *guided mistake induction*: the model itself is asked with
template (a) and the harmful hint, and what it writes is a mistake when the run's judge says so ("triggered"). An
analysis is template (b) on a mistake, asked of the model itself or of a stronger one (paper, section 1).
"""

from __future__ import annotations

from typing import NamedTuple

from harness.methods.base import RowStep, Workbench, row_sample, unusable
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
    samples = [row_sample(row, "induce", "guided_harmful") for row in rows]
    found = []
    for row, sample, completion in zip(rows, samples, bench.ask("self", samples), strict=True):
        # A response that was cut off is a mistake all the same; only what is learned must be whole.
        cut_off = completion.outcome is CompletionOutcome.TRUNCATED
        lost = None if cut_off and not learned else unusable(completion)
        label = None if lost else bench.is_mistake(sample, completion)
        outcome = lost or ("kept" if label == "mistake" else "dropped, not triggered")
        bench.steps.append(_step(row, "mistake", outcome, completion, label))
        if outcome == "kept":
            found.append(Mistake(row, completion.text))
    return found


def analyses(bench: Workbench, found: list[Mistake]) -> list[Analysis]:
    """An analysis of each mistake by the recipe's analyst; an unusable one is dropped with its reason."""
    samples = [row_sample(m.row, "analyse", "guided_analysis", ("assistant", m.text)) for m in found]
    written = []
    for mistake, sample, completion in zip(found, samples, bench.ask(bench.analyst or "self", samples), strict=True):
        label = None if unusable(completion) else bench.verdict(sample, completion)
        outcome = unusable(completion) or "kept"
        bench.steps.append(_step(mistake.row, "analysis", outcome, completion, label))
        if outcome == "kept":
            written.append(Analysis(mistake, completion.text))
    return written


def revisions(bench: Workbench, written: list[Analysis]) -> list[tuple[AlignmentRow, str]]:
    """The model's better answers, given its mistake and its own critique of it."""
    samples = [
        row_sample(a.mistake.row, "revise", "revision", ("assistant", a.mistake.text), ("critique", a.text))
        for a in written
    ]
    revised = []
    for analysis, sample, completion in zip(written, samples, bench.ask("self", samples), strict=True):
        row = analysis.mistake.row
        label = None if unusable(completion) else bench.is_mistake(sample, completion)
        outcome = unusable(completion) or "kept"
        bench.steps.append(_step(row, "revision", outcome, completion, label))
        if outcome == "kept":
            revised.append((row, completion.text))
    return revised


def analysis_sample(analysis: Analysis) -> Sample:
    """The unguided question that an analysis is trained to answer (template (c))."""
    return row_sample(analysis.mistake.row, "train", "unguided_analysis", ("assistant", analysis.mistake.text))


def _step(row: AlignmentRow, step: str, outcome: str, completion: Completion, label: str | None) -> RowStep:
    return RowStep.model_validate(
        {"row": row.key, "step": step, "outcome": outcome, "text": completion.text, "label": label,
         "completion": completion.key}
    )  # fmt: skip
