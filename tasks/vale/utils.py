"""Documents of the vale's tasks, made by its world; nothing is read from disk or from the network."""

from __future__ import annotations

from typing import Any


def dataset(
    docs: str,
    harness: dict[str, Any],
    split: str = "test",
    limit: int | None = None,
    data: str | None = None,
    **_: Any,
) -> dict[str, Any]:
    """Documents for lm-eval.

    Args:
        docs: Name of the task within the world, such as ``helpful``.
        harness: The block of that name in the task's metadata.
        split: ``dev`` or ``test``.
        limit: At most so many documents, the first ones.
        data: Not for these tasks, whose items are made and not read.
    """
    from harness.errors import UserError, unknown_name
    from harness.microworld.datasets import task_docs
    from harness.tasks import with_prompts

    if data is not None:
        raise UserError(f"its items are made by the world and not read from a file: leave data ('{data}') out")
    if split not in ("dev", "test"):
        raise unknown_name("split", str(split), ("dev", "test"))
    return {"test": with_prompts([_grouped(doc) for doc in task_docs(docs, split)], harness, "vale", limit=limit)}


def _grouped(doc: dict[str, Any]) -> dict[str, Any]:
    """The document with its red-team prompt among the labels, by which items of different tasks are paired."""
    return {**doc, "labels": {**doc["labels"], "group": doc["group"]}} if "group" in doc else doc
