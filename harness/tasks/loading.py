"""A task's items as frozen samples.

Reads ``tasks/<name>/task.yaml`` (built in, or below an ``--include-path``); the documents come through lm-eval's own
TaskManager. Writes nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue, ValidationError

from harness.content import content_root, find, named
from harness.errors import UserError, unknown_name
from harness.records import Sample
from harness.tasks.spec import Columns, Doc, TaskSpec

_PATTERN = "*/task.yaml"


class LoadedTask(NamedTuple):
    """A task with its items; ``dropped`` counts, by reason, the rows of its data that became none."""

    spec: TaskSpec
    samples: list[Sample]
    dropped: dict[str, int]


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
    if spec.labels and columns.target is None:
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


def _sample(doc: Doc, index: int, spec: TaskSpec, columns: Columns, path: Path) -> Sample:
    for column in columns.named().values():
        if column not in doc:
            problem = unknown_name("column", column, doc)
            raise UserError(f"{path}: metadata.harness.columns: document {index} has no such column; {problem}")
    target = str(doc[columns.target]) if columns.target else None
    if spec.labels and target not in spec.labels:
        where = doc.get("source") or f"{path}: document {index}"
        raise UserError(
            f"{where}: the target '{target}' is none of {', '.join(spec.labels)}, the labels of {spec.name}"
        )
    labels: dict[str, JsonValue] = doc[columns.labels] if columns.labels else {}
    try:
        return Sample(
            task=spec.name,
            task_version=spec.version,
            messages=columns.messages(doc),
            style=spec.style,
            choices=spec.choices,
            target=target,
            labels=labels,
            cluster=str(doc[columns.cluster]) if columns.cluster else None,
            source=str(doc.get("source") or f"{spec.name}:{index + 1}"),
        )
    except ValidationError as error:
        raise UserError(f"{path}: document {index}: {_first(error)}") from None
