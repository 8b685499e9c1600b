"""Documents of the goal-hijacking tasks: prompts that hold an inserted instruction, and the text that would betray it.

Reads the file given as metadata ``data`` (see `harness.rows.hijack_prompts`), by default ``data.jsonl`` beside the
task's own file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def dataset(
    harness: dict[str, Any], config_source: str, data: str | None = None, limit: int | None = None, **_: Any
) -> dict[str, Any]:
    """Documents for lm-eval.

    Args:
        harness: The block of that name in the task's metadata.
        config_source: The task's file; lm-eval puts it into the metadata.
        data: A file with prompts.
        limit: At most so many documents, the first ones.
    """
    from harness.rows import hijack_prompts
    from harness.tasks import with_prompts

    rows, dropped = hijack_prompts(data or Path(config_source).parent / "data.jsonl")
    docs = [{"instruction": row.instruction, "labels": row.labels, "source": row.source} for row in rows]
    return {"test": with_prompts(docs, harness, "paper", limit=limit, dropped=dropped)}
