"""Documents of the two tasks on AlpacaEval's 805 instructions.

Reads the file given as metadata ``data`` (see `harness.rows.prompts`), by default the public data set on the hub.
"""

from __future__ import annotations

from typing import Any

# The hub's repository holds a loading script, which current versions of `datasets` do not run: read its file instead.
HUB_FILE = "hf://datasets/tatsu-lab/alpaca_eval/alpaca_eval.json"


def dataset(harness: dict[str, Any], data: str | None = None, limit: int | None = None, **_: Any) -> dict[str, Any]:
    """Documents for lm-eval.

    Args:
        harness: The block of that name in the task's metadata.
        data: A file with instructions.
        limit: At most so many documents, the first ones.
    """
    from harness.rows import hub_rows, prompts
    from harness.tasks import with_prompts

    rows, dropped = prompts(hub_rows("json", "train", data_files=HUB_FILE) if data is None else data, kind="benign")
    docs = [{"instruction": row.instruction, "input": row.input, "source": row.source} for row in rows]
    return {"test": with_prompts(docs, harness, "paper", limit=limit, dropped=dropped)}
