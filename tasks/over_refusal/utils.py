"""Documents of the over-refusal task: harmless questions whose wording may sound alarming.

Reads the file given as metadata ``data`` (see `harness.rows.prompts`), by default ``data.jsonl`` beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def dataset(harness: dict[str, Any], data: str | None = None, limit: int | None = None, **_: Any) -> dict[str, Any]:
    """Documents for lm-eval.

    Args:
        harness: The block of that name in the task's metadata.
        data: A file with prompts.
        limit: At most so many documents, the first ones.
    """
    from harness.rows import prompts
    from harness.tasks import with_prompts

    rows, dropped = prompts(data or Path(__file__).with_name("data.jsonl"), kind="benign")
    docs = [{"instruction": row.instruction, "source": row.source} for row in rows]
    return {"test": with_prompts(docs, harness, "paper", limit=limit, dropped=dropped)}
