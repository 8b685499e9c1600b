"""What a method works with, and what it gives back.

A `Workbench` holds the alignment rows, the template set and the means to ask a model; a method returns `Prepared`: the
training records in order, one `RowStep` for each row's way through each step, and the counts of both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from harness.methods.analysis_settings import AnalysisSettings
from harness.prompting import TemplateSet, render
from harness.records import Completion, CompletionOutcome, Message, Record, Sample, Style, TrainingRecord
from harness.rows import AlignmentRow

STEP_VERSION = "1"
StepName = Literal["mistake", "analysis", "harmless_analysis", "revision"]
Ask = Callable[[str, Sequence[Sample], int], list[Completion]]
Check = Callable[[Sequence[tuple[Sample, Completion]]], list[str | None]]


class RowStep(Record):
    """What one step made of one row.

    Attributes:
        row: Key of the alignment row.
        step: ``mistake``, ``analysis``, ``harmless_analysis`` (of a good response) or ``revision``.
        outcome: ``kept``, or why it was dropped or not asked for.
        text: What was written.
        label: What a judge said of it: of a mistake ``mistake`` or ``fine``, of an analysis its verdict.
        completion: Key of the completion it came from; ``None`` where the data set gave it.
    """

    row: str
    step: StepName
    outcome: str
    text: str
    label: str | None = None
    completion: str | None = None


class Prepared(NamedTuple):
    """A method's training data and how it came about."""

    records: list[TrainingRecord]
    steps: list[RowStep]
    counts: dict[str, int]


@dataclass
class Workbench:
    """Everything a method may use.

    Attributes:
        rows: The alignment rows.
        templates: How prompts are worded.
        ask: (who, samples, draw) → completions in the samples' order; ``who`` is ``self`` or the name of another model,
            ``draw`` 0, 1, … tells repeated draws of one question apart.
        is_mistake: Labels of responses, in order: ``mistake``, ``fine`` or ``None`` where it cannot be told.
        verdict: Labels that analyses state, in order: ``harmful``, ``harmless`` or ``None``.
        mistakes: Where mistakes come from: ``origin`` (the data set's bad responses) or ``self``.
        analyst: Who analyses: ``self`` or the name of another model.
        settings: Which mistakes and analyses are made and kept.
        steps: What has been done so far.
    """

    rows: Sequence[AlignmentRow]
    templates: TemplateSet
    ask: Ask
    is_mistake: Check
    verdict: Check
    mistakes: str | None = None
    analyst: str | None = None
    settings: AnalysisSettings = field(default_factory=AnalysisSettings)
    steps: list[RowStep] = field(default_factory=list)

    def finish(self, records: Iterable[TrainingRecord]) -> Prepared:
        """The training records with the counts of everything that was kept and dropped."""
        records = list(records)
        counts = Counter(f"{step.step}: {step.outcome}" for step in self.steps)
        counts.update(f"{s.step}: labelled {s.label or 'neither'}" for s in self.steps if s.completion is not None)
        counts.update(f"records: {record.kind}" for record in records)
        return Prepared(records, self.steps, dict(sorted(counts.items())))


def row_sample(row: AlignmentRow, step: str, style: Style, *turns: tuple[str, str]) -> Sample:
    """The question that a step asks a model about a row.

    Args:
        row: The row.
        step: Name of the step; part of the question's identity.
        style: The template that words it.
        turns: Further (role, text) after the instruction: the answer, its critique.
    """
    messages = [Message(role="user", content=row.instruction)]
    if row.input:
        messages.append(Message(role="input", content=row.input))
    for role, text in turns:
        messages.append(Message.model_validate({"role": role, "content": text}))
    return Sample(
        task=f"prepare.{step}", task_version=STEP_VERSION, messages=tuple(messages), style=style, labels=row.labels
    )


def response_record(row: AlignmentRow, templates: TemplateSet, style: Style, text: str, kind: str) -> TrainingRecord:
    """Instruction → response, in the given style."""
    prompt = render(row_sample(row, "train", style), templates, style)
    return TrainingRecord(prompt=prompt, completion=text, kind=kind, source=row.key)


def good_responses(bench: Workbench, style: Style = "ordinary", only: str | None = None) -> list[TrainingRecord]:
    """The rows' good responses as training pairs, all of them or those of one kind of row."""
    return [
        response_record(row, bench.templates, style, row.good, "response")
        for row in bench.rows
        if row.good and only in (None, row.kind)
    ]


def unusable(completion: Completion) -> str | None:
    """Why a completion cannot be trained on, or ``None`` where it can."""
    if completion.outcome is CompletionOutcome.OK:
        return None
    return f"dropped, {completion.outcome}"
