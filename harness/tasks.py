"""Tasks: what a task folder says, and its items as frozen samples.

Reads: ``tasks/<name>/task.yaml`` (built in, or below an ``--include-path``), an lm-eval task whose ``metadata.harness``
block says how its documents become samples, which judges grade them and which metrics sum them up; the documents come
through lm-eval's own TaskManager, so that stock ``lm_eval`` runs the same folder on the same items. Writes nothing.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, model_validator

from harness.content import content_root, find, named
from harness.errors import UserError, unknown_name
from harness.records import Message, Role, Sample, Style
from harness.scores import MetricInfo

Doc = Mapping[str, Any]

_PATTERN = "*/task.yaml"
_ROLES: dict[str, Role] = {"instruction": "user", "input": "input", "answer": "assistant"}


class TaskSpec(BaseModel):
    """What a task is, without its items.

    Attributes:
        name: Name of its folder.
        version: Version that it declares; changes when its items or their wording do.
        style: How its items become prompts; ``None`` leaves it to the model that is asked.
        choices: Labels whose likelihood is compared; empty where the model writes freely.
        max_new_tokens: Longest answer; ``None`` where a label is chosen.
        judges: Names of the judges that grade its answers.
        metrics: What is summed up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    version: str
    style: Style | None = None
    choices: tuple[str, ...] = ()
    max_new_tokens: int | None = Field(default=None, gt=0)
    judges: tuple[str, ...] = ()
    metrics: tuple[MetricInfo, ...]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.max_new_tokens is None) != bool(self.choices):
            raise ValueError("give max_new_tokens or choices, one of the two")
        names = [metric.name for metric in self.metrics]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"the metric '{twice[0]}' is there twice")
        for metric in self.metrics:
            if metric.judge is not None and metric.judge not in self.judges:
                raise ValueError(f"metric '{metric.name}': its judge '{metric.judge}' is not among the judges")
            if metric.kind in ("score", "rate") and metric.judge is None:
                raise ValueError(f"metric '{metric.name}': a {metric.kind} needs a judge")
            if metric.kind in ("rate", "recall") and metric.rate_label is None:
                raise ValueError(f"metric '{metric.name}': a {metric.kind} needs a rate_label")
        return self


class Columns(BaseModel):
    """Which column of a document holds what."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    instruction: str
    input: str | None = None
    answer: str | None = None
    target: str | None = None
    labels: str | None = None
    cluster: str | None = None

    def named(self) -> dict[str, str]:
        """Role → column, for the columns that there are."""
        return self.model_dump(exclude_none=True)


class LoadedTask(NamedTuple):
    """A task with its items; ``dropped`` counts, by reason, the rows of its data that became none."""

    spec: TaskSpec
    samples: list[Sample]
    dropped: dict[str, int]


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


def task_names(include_paths: Sequence[Path] = ()) -> list[str]:
    """Names of all tasks, built in and the user's."""
    return sorted(find("tasks", _PATTERN, include_paths))


def load_spec(name: str, include_paths: Sequence[Path] = ()) -> TaskSpec:
    """A task without its items.

    Raises:
        UserError: The task is unknown, or its file is broken or lacks its harness block.
    """
    return _spec(named("tasks", "task", name, _PATTERN, include_paths), name)[0]


def load_task(name: str, include_paths: Sequence[Path] = (), metadata: Mapping[str, Any] | None = None) -> LoadedTask:
    """A task with its items; equal items count once.

    Args:
        name: Name of the task's folder.
        include_paths: Folders of the user's, each with a folder ``tasks``.
        metadata: What reaches the task at run time, such as ``{"data": "prompts.jsonl", "limit": 100}``.

    Raises:
        UserError: The task is unknown, its file is broken or lacks its harness block, or its data cannot be read.
    """
    path = named("tasks", "task", name, _PATTERN, include_paths)
    spec, columns = _spec(path, name)
    docs = _docs(path, name, metadata or {})
    dropped = Counter(getattr(docs, "dropped", {}))
    samples: dict[str, Sample] = {}
    for index, doc in enumerate(docs):
        sample = _sample(doc, index, spec, columns, path)
        if samples.setdefault(sample.key, sample) is not sample:
            dropped["duplicate"] += 1
    return LoadedTask(spec, list(samples.values()), dict(dropped))


def _config(path: Path, name: str) -> dict[str, Any]:
    """The task's file with its includes, functions unresolved."""
    import yaml
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        config: dict[str, Any] = load_yaml(path, resolve_func=False)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not valid YAML ({getattr(error, 'problem', None) or error})") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: {error}") from None
    if config.get("task") != name:
        raise UserError(f"{path}: `task: {config.get('task')}` must be the name of the folder, '{name}'")
    return config


def _spec(path: Path, name: str) -> tuple[TaskSpec, Columns]:
    metadata = _config(path, name).get("metadata")
    block = metadata.get("harness") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(block, dict):
        example = content_root("tasks") / "alpaca_farm" / "task.yaml"
        raise UserError(
            f"{path}: no metadata.harness block, so only stock lm_eval can run this task: say there which columns to "
            f"read and what to measure (example: {example})"
        )
    fields = {key: value for key, value in block.items() if key != "columns"}
    try:
        fields["metrics"] = [{**metric, "task": name} for metric in block.get("metrics", [])]
        columns = Columns(**block.get("columns", {}))
        spec = TaskSpec(name=name, version=str(metadata.get("version", "")), **fields)
    except (ValidationError, TypeError) as error:
        raise UserError(f"{path}: metadata.harness: {_first(error)}") from None
    judged_by_target = any(metric.kind not in ("score", "rate") for metric in spec.metrics)
    if (judged_by_target or spec.choices) and columns.target is None:
        raise UserError(f"{path}: metadata.harness: columns.target is needed to tell right answers from wrong ones")
    return spec, columns


def _first(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}".removeprefix(": ")


def _docs(path: Path, name: str, metadata: Mapping[str, Any]) -> Sequence[Doc]:
    """The task's test documents, as lm-eval sees them."""
    from lm_eval.tasks import TaskManager

    with _quiet("lm_eval"):
        try:
            manager = TaskManager(include_path=str(path.parent), include_defaults=False, metadata=dict(metadata))
            docs: Sequence[Doc] = manager.load(name)["tasks"][name].eval_docs
        except UserError as error:
            raise UserError(f"task '{name}': {error}") from error
        except Exception as error:  # a task folder is the user's code: whatever it raises is about the task
            raise UserError(f"{path}: lm-eval cannot load this task ({type(error).__name__}: {error})") from error
    return docs


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Silences warnings about options that a task folder leaves to their defaults."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _messages(doc: Doc, columns: Columns) -> tuple[Message, ...]:
    """What is asked; an empty input is no message, an empty answer is one."""
    given = [(key, doc[column]) for key, column in columns.named().items() if key in _ROLES]
    return tuple(Message(role=_ROLES[key], content=content) for key, content in given if content or key != "input")


def _sample(doc: Doc, index: int, spec: TaskSpec, columns: Columns, path: Path) -> Sample:
    for column in columns.named().values():
        if column not in doc:
            problem = unknown_name("column", column, doc)
            raise UserError(f"{path}: metadata.harness.columns: document {index} has no such column; {problem}")
    target = str(doc[columns.target]) if columns.target else None
    if spec.choices and target not in spec.choices:
        raise UserError(f"{path}: document {index}: the target '{target}' is none of {', '.join(spec.choices)}")
    labels: dict[str, JsonValue] = doc[columns.labels] if columns.labels else {}
    try:
        return Sample(
            task=spec.name,
            task_version=spec.version,
            messages=_messages(doc, columns),
            style=spec.style,
            choices=spec.choices,
            target=target,
            labels=labels,
            cluster=str(doc[columns.cluster]) if columns.cluster else None,
            source=str(doc.get("source") or f"{spec.name}:{index + 1}"),
        )
    except ValidationError as error:
        raise UserError(f"{path}: document {index}: {_first(error)}") from None


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
        value = _measured(metric, sample.target, given)
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


def _measured(metric: Mapping[str, Any], target: str | None, given: _Given | None) -> Any:
    if given is None or metric["kind"] == "score":
        return given and given.score
    if metric["kind"] == "rate":
        return None if given.label is None else float(given.label == metric["rate_label"])
    if metric["kind"] == "invalid":
        return float(given.label is None)
    if metric["kind"] == "accuracy":
        return float(given.label == target)
    return (target, given.label or "invalid", given.margin)


def _stock_sample(doc: Doc, harness: Mapping[str, Any]) -> Sample:
    """A document as prompts and rules read it; not an item of a run, so it bears no name of a task."""
    columns = Columns(**harness["columns"])
    return Sample(
        task="",
        task_version="",
        messages=_messages(doc, columns),
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
