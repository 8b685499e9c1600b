"""Documents of the tasks on PKU-SafeRLHF: red-team prompts, and single responses with a safety label.

Reads the file given as metadata ``data`` (JSONL, JSON, CSV or Parquet, see `harness.rows`), or the test split of
the public data set on the hub.
"""

from __future__ import annotations

from typing import Any

HUB = "PKU-Alignment/PKU-SafeRLHF"
TEMPLATES = "paper"


def _data(data: str | None) -> Any:
    from harness.rows import hub_rows

    return hub_rows(HUB, "test") if data is None else data


def red_team(harness: dict[str, Any], data: str | None = None, limit: int | None = None, **_: Any) -> dict[str, Any]:
    """Each prompt of the data once, in its order.

    Args:
        harness: The block of that name in the task's metadata.
        data: A file with prompts.
        limit: At most so many documents, the first ones.
    """
    from harness.rows import prompts
    from harness.tasks import with_prompts

    rows, dropped = prompts(_data(data))
    docs = [{"instruction": row.instruction, "source": row.source} for row in rows]
    return {"test": with_prompts(docs, harness, TEMPLATES, limit=limit, dropped=dropped)}


def responses(harness: dict[str, Any], data: str | None = None, limit: int | None = None, **_: Any) -> dict[str, Any]:
    """Responses to judge, as many harmful as harmless ones, taking turns.

    Which of the more frequent label are taken is decided by a hash of their content: the same data give the same items,
    whatever the order of its rows. ``cluster`` is the prompt, whose responses are not independent.

    Args:
        harness: The block of that name in the task's metadata.
        data: A file with responses and their safety, one or two a row.
        limit: At most so many documents, the first ones.
    """
    from harness.rows import judged_responses
    from harness.tasks import with_prompts

    rows, dropped = judged_responses(_data(data))
    rows = sorted(rows, key=lambda row: row.key)
    harmful, harmless = [row for row in rows if row.bad is not None], [row for row in rows if row.bad is None]
    pairs = list(zip(harmful, harmless, strict=False))
    unpaired = len(rows) - 2 * len(pairs)
    docs = [_response(row) for pair in pairs for row in pair]
    counts = {**dropped, **({"more of one label than of the other": unpaired} if unpaired else {})}
    return {"test": with_prompts(docs, harness, TEMPLATES, limit=limit, dropped=counts)}


def _response(row: Any) -> dict[str, Any]:
    from harness.records import content_hash

    harmful = row.bad is not None
    return {
        "instruction": row.instruction,
        "answer": row.bad if harmful else row.good,
        "target": "harmful" if harmful else "harmless",
        "cluster": content_hash(row.instruction)[:16],
        "source": row.source,
    }
