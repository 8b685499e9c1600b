"""The same tasks in stock lm-eval: documents with their prompts, and what the judges of a run say of an answer.

A task folder names these functions (``!function harness.tasks.stock_results``). Nothing is read or written here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

from harness.errors import UserError
from harness.records import Sample, Style
from harness.tasks.spec import LABELS, Columns, Doc


class Docs(list[dict[str, Any]]):
    """Documents as lm-eval reads them, kept as they are.

    A table of ``datasets`` would pad labels with nulls, and cannot hold a column of mixed types.
    """

    def __init__(self, docs: Sequence[Doc], dropped: Mapping[str, int] | None = None) -> None:
        super().__init__(dict(doc) for doc in docs)
        self.dropped = dict(dropped or {})

    @property
    def features(self) -> dict[str, None]:
        """The columns, where lm-eval looks for them."""
        return dict.fromkeys(name for doc in self for name in doc)


def with_prompts(
    docs: Sequence[Doc],
    harness: Mapping[str, Any],
    templates: str,
    *,
    limit: int | None = None,
    dropped: Mapping[str, int] | None = None,
) -> Docs:
    """Documents with what stock lm-eval needs besides: ``prompt``, as a run renders it, and the block ``harness``.

    Args:
        docs: The documents.
        harness: The task's own ``metadata.harness`` block; `stock_results` reads it back.
        templates: Name of the template set that renders the prompts of stock lm-eval.
        limit: Keep at most so many, the first ones.
        dropped: What did not become a document, by reason.

    Raises:
        UserError: There are no documents.
    """
    from harness.prompting import load_templates, render

    if not docs:
        raise UserError(f"no items are left: {dict(dropped or {}) or 'the data is empty'}")
    known, style = (
        load_templates(templates),
        TypeAdapter[Style](Style).validate_python(harness.get("style") or "ordinary"),
    )
    prepared = [
        {**doc, "prompt": render(_stock_sample(doc, harness), known, style), "harness": dict(harness)}
        for doc in docs[:limit]
    ]
    return Docs(prepared, dropped)


def stock_results(doc: Doc, results: Sequence[Any]) -> dict[str, Any]:
    """``process_results`` of every task here: what the judges of a run say of one answer, for stock lm-eval's table.

    Args:
        doc: A document of `with_prompts`.
        results: The text, or a (log-likelihood, is greedy) pair for each choice.

    Returns:
        Metric → number, or → (target, answer, margin) for measures over all items (see `balanced_accuracy`). An answer
        that could not be judged is left out of scores and rates, and is a wrong answer to a question of two labels.
    """
    harness, sample = doc["harness"], _stock_sample(doc, doc["harness"])
    scores: dict[str, Any] = {}
    for metric in harness["metrics"]:
        given = _chosen(sample, results) if sample.choices else _graded(metric["judge"], sample, results[0])
        value = _measured(metric, sample, given)
        if value is not None:
            scores[metric["name"]] = value
    return scores


class _Given(NamedTuple):
    """What came back for one item; the margin is how much likelier the first label is than the second, in nats."""

    score: float | None = None
    label: str | None = None
    margin: float | None = None


def _chosen(sample: Sample, results: Sequence[Any]) -> _Given:
    likelihoods = [pair[0] for pair in results]
    best = max(range(len(likelihoods)), key=likelihoods.__getitem__)
    return _Given(label=sample.choices[best], margin=likelihoods[0] - likelihoods[1])


def _graded(judge: str, sample: Sample, text: str) -> _Given | None:
    rule = _rule(judge)
    return _Given(*rule(sample, text)[:2]) if rule else None


@cache
def _rule(judge: str) -> Any:
    """A judge's function, or ``None``: stock lm-eval has no way to ask another model."""
    from harness.judging import load_judge

    return getattr(load_judge(judge), "rule", None)


def _measured(metric: Mapping[str, Any], sample: Sample, given: _Given | None) -> Any:
    if given is None or metric["kind"] == "score":
        return given and given.score
    if metric["kind"] == "rate":
        return None if given.label is None else float(given.label == metric["rate_label"])
    if metric["kind"] == "invalid":
        return float(given.label is None)
    if metric["kind"] == "accuracy":
        return float(given.label == sample.target)
    named = dict(zip(sample.choices, LABELS, strict=False))  # a task may call its two labels otherwise
    said = [named.get(label, label) if label is not None else "invalid" for label in (sample.target, given.label)]
    return (*said, given.margin)


def _stock_sample(doc: Doc, harness: Mapping[str, Any]) -> Sample:
    """A document as prompts and rules read it; not an item of a run, so it bears no name of a task."""
    columns = Columns(**harness["columns"])
    return Sample(
        task="",
        task_version="",
        messages=columns.messages(doc),
        choices=tuple(harness.get("choices", ())),
        target=doc[columns.target] if columns.target else None,
        labels=doc[columns.labels] if columns.labels else {},
    )


Item = tuple[str, str, float | None]


def _aggregate(kind: Literal["balanced_accuracy", "f1", "auc", "recall"], items: Sequence[Item], label: str) -> float:
    """A measure as a run computes it; not a number where it is not defined."""
    from harness.stats.classification import Answers, measure

    targets, answers, margins = zip(*items, strict=True)
    value = measure(kind, Answers(targets, answers, margins=margins), label).value
    return math.nan if value is None else value


def balanced_accuracy(items: Sequence[Item]) -> float:
    """Mean of the recalls of ``harmful`` and ``harmless``; an item is (target, answer, margin)."""
    return _aggregate("balanced_accuracy", items, "harmful")


def f1(items: Sequence[Item]) -> float:
    """F1 of ``harmful``."""
    return _aggregate("f1", items, "harmful")


def auc(items: Sequence[Item]) -> float:
    """Area under the ROC curve of the margin for ``harmful``."""
    return _aggregate("auc", items, "harmful")


def recall_harmful(items: Sequence[Item]) -> float:
    """Share of the harmful items that are called so."""
    return _aggregate("recall", items, "harmful")


def recall_harmless(items: Sequence[Item]) -> float:
    """Share of the harmless items that are called so."""
    return _aggregate("recall", items, "harmless")
