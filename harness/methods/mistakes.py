"""Mistakes and their analyses, the steps that the methods share.

Mistakes come from the data set (its bad responses) or from *guided mistake induction*: the model itself is asked with
template (a) and the harmful hint, and what it writes is a mistake when the run's judge says so ("triggered"). An
analysis is template (b) on a mistake, asked of the model itself or of a stronger one (paper, section 1). What is kept,
how often each is drawn, and whether good responses are analysed too is for `AnalysisSettings`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from harness.methods.base import Check, RowStep, StepName, Workbench, row_sample, unusable
from harness.records import Completion, CompletionOutcome, Sample, Style, content_hash
from harness.rows import AlignmentRow

BEYOND = "not asked for, the share is reached"


class Response(NamedTuple):
    """A response to a row's instruction, and what is to be analysed of it.

    Attributes:
        row: The row.
        text: The response.
        harmful: What is known of it; ``None`` where nothing is.
        draw: Which of the row's analyses it is for: 0, 1, …
    """

    row: AlignmentRow
    text: str
    harmful: bool | None = None
    draw: int = 0


class Analysis(NamedTuple):
    """A response and what a model wrote about it."""

    response: Response
    text: str


def mistakes(bench: Workbench, *, learned: bool = False) -> list[Response]:
    """The rows' mistakes, from the source that the recipe chose; rows without one are in the steps.

    Args:
        bench: The workbench.
        learned: The mistakes themselves will be trained on, so none that was cut off is kept.
    """
    rows = [row for row in bench.rows if row.kind != "benign"]
    draws = range(bench.settings.per_instruction)
    if bench.mistakes == "origin":
        given = _given(bench, rows)
        return [mistake._replace(draw=draw) for draw in draws for mistake in given]
    return [mistake for draw in draws for mistake in _induced(bench, rows, learned, draw)]


def _given(bench: Workbench, rows: list[AlignmentRow]) -> list[Response]:
    found = []
    for row in rows:
        kept = row.bad is not None
        outcome = "kept" if kept else "dropped, the data set has no bad response"
        bench.steps.append(RowStep(row=row.key, step="mistake", outcome=outcome, text=row.bad or ""))
        if row.bad is not None:
            found.append(Response(row, row.bad, _known(row, True)))
    return found


def _induced(bench: Workbench, rows: list[AlignmentRow], learned: bool, draw: int) -> list[Response]:
    settings = bench.settings

    def lost(completion: Completion) -> str | None:
        # A response that was cut off is a mistake all the same; only what is learned must be whole.
        cut_off = completion.outcome is CompletionOutcome.TRUNCATED and not learned
        return (None if cut_off else unusable(completion)) or settings.degenerate(completion)

    samples = [row_sample(row, "induce", "guided_harmful") for row in rows]
    found = []
    for row, written in zip(rows, _written(bench, "self", samples, bench.is_mistake, lost, draw), strict=True):
        triggered = written.label == "mistake" or settings.not_triggered == "keep"
        outcome = written.lost or ("kept" if triggered else "dropped, not triggered")
        bench.steps.append(_step(row, "mistake", outcome, written))
        if outcome == "kept":
            harmful = None if written.label is None else written.label == "mistake"
            found.append(Response(row, written.completion.text, _known(row, harmful), draw))
    return found


def _known(row: AlignmentRow, harmful: bool | None) -> bool | None:
    return None if row.kind == "hijack" else harmful


def good_answers(bench: Workbench) -> list[Response]:
    """The good responses of all rows as something to analyse, once a draw."""
    draws = range(bench.settings.per_instruction)
    return [Response(row, row.good, False, draw) for draw in draws for row in bench.rows if row.good]


def analyses(
    bench: Workbench, responses: Sequence[Response], most: int | None = None, step: StepName = "analysis"
) -> list[Analysis]:
    """An analysis of each response by the recipe's analyst; what is dropped stands in the steps with its reason.

    Args:
        bench: The workbench.
        responses: What to analyse.
        most: So many at most: those that come first by the hash of their content, so that fewer are part of more.
        step: What the steps are called.

    Returns:
        Those that were kept, in the order of the responses.
    """
    if most is None:
        return [analysis for analysis in _analysed(bench, responses, step, {}) if analysis is not None]
    waiting = sorted(range(len(responses)), key=lambda index: _place(responses[index]))
    found: dict[int, Analysis] = {}
    seen: dict[str, int] = {}
    while waiting and len(found) < most:
        asked, waiting = waiting[: most - len(found)], waiting[most - len(found) :]
        made = _analysed(bench, [responses[index] for index in asked], step, seen)
        found.update({index: one for index, one in zip(asked, made, strict=True) if one is not None})
    for index in waiting if step == "analysis" else ():  # good responses are taken as they are needed, none is dropped
        bench.steps.append(RowStep(row=responses[index].row.key, step=step, outcome=BEYOND, text=""))
    return [found[index] for index in sorted(found)]


def _place(response: Response) -> str:
    return content_hash([response.draw, response.row.key, response.text])


def _analysed(
    bench: Workbench, responses: Sequence[Response], step: StepName, seen: dict[str, int]
) -> list[Analysis | None]:
    """An analysis of each response, or ``None`` where it was dropped; ``seen`` tells analysis → draw, and learns."""
    style: Style = "guided_analysis" if bench.settings.guided else "unguided_analysis"
    found: dict[int, Analysis | None] = {}
    for draw in sorted({response.draw for response in responses}):
        indices = [index for index, response in enumerate(responses) if response.draw == draw]
        samples = [row_sample(r.row, "analyse", style, ("assistant", r.text)) for r in (responses[i] for i in indices)]
        written = _written(bench, bench.analyst or "self", samples, bench.verdict, _whole(bench), draw)
        for index, one in zip(indices, written, strict=True):
            response, text = responses[index], one.completion.text
            first = seen.setdefault(content_hash([response.row.key, response.text, text]), draw)
            outcome = one.lost or _dropped(bench, response, one.label, first != draw) or "kept"
            bench.steps.append(_step(response.row, step, outcome, one))
            found[index] = Analysis(response, text) if outcome == "kept" else None
    return [found[index] for index in range(len(responses))]


def _dropped(bench: Workbench, response: Response, verdict: str | None, again: bool) -> str | None:
    """Why an analysis that can be read is not learned from, if it is not."""
    if again:
        return "dropped, duplicate"
    if bench.settings.contradicting == "keep" or verdict is None or response.harmful is None:
        return None
    return None if (verdict == "harmful") is response.harmful else "dropped, contradicts the label"


def revisions(bench: Workbench, written: list[Analysis]) -> list[tuple[AlignmentRow, str]]:
    """The model's better answers, given its mistake and its own critique of it."""
    samples = [
        row_sample(a.response.row, "revise", "revision", ("assistant", a.response.text), ("critique", a.text))
        for a in written
    ]
    revised = []
    for analysis, better in zip(written, _written(bench, "self", samples, bench.is_mistake), strict=True):
        bench.steps.append(_step(analysis.response.row, "revision", better.lost or "kept", better))
        if better.lost is None:
            revised.append((analysis.response.row, better.completion.text))
    return revised


def analysis_sample(analysis: Analysis) -> Sample:
    """The unguided question that an analysis is trained to answer (template (c))."""
    return row_sample(analysis.response.row, "train", "unguided_analysis", ("assistant", analysis.response.text))


class _Written(NamedTuple):
    """What a model wrote, why it is of no use where it is not, and what a judge says of it where it is."""

    completion: Completion
    lost: str | None
    label: str | None


def _whole(bench: Workbench) -> Callable[[Completion], str | None]:
    return lambda completion: unusable(completion) or bench.settings.degenerate(completion)


def _written(
    bench: Workbench,
    who: str,
    samples: Sequence[Sample],
    check: Check,
    lost: Callable[[Completion], str | None] = unusable,
    draw: int = 0,
) -> list[_Written]:
    """What a model writes to each sample, all of it judged together."""
    found = [(sample, text, lost(text)) for sample, text in zip(samples, bench.ask(who, samples, draw), strict=True)]
    labels = iter(check([(sample, text) for sample, text, why in found if why is None]))
    return [_Written(text, why, next(labels) if why is None else None) for _, text, why in found]


def _step(row: AlignmentRow, step: StepName, outcome: str, written: _Written) -> RowStep:
    completion = written.completion
    return RowStep(
        row=row.key, step=step, outcome=outcome, text=completion.text, label=written.label, completion=completion.key
    )
