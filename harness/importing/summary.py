"""What came of an import, as plain data and as a few lines of text.

Reads a run after an import was written to it. An item is lost where the file answers it not at all, or where its
verdict is missing or could not be read.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from harness.importing.items import samples_of
from harness.importing.log import Import
from harness.importing.matching import OTHER_ANSWER
from harness.records import Completion, JudgeSpec, ModelSpec, Verdict, VerdictOutcome, content_hash
from harness.store import Run, latest, read

FURTHER_ANSWER = "further answer in the same row"
KINDS = {"samples": "items", "completions": "answers", "verdicts": "verdicts"}


class Done(NamedTuple):
    """A written import: ``new`` counts the records that were not there, by kind."""

    record: Import
    file: Path
    n_rows: int
    n_matched: int
    new: dict[str, int]
    notice: str | None


def summary_of(run: Run, done: Done, model: ModelSpec) -> dict[str, Any]:
    """An import as plain data: rows by fate, new records by kind, lost items by reason."""
    record = done.record
    return {
        "run": str(run.path),
        "file": str(done.file),
        "format": record.format,
        "task": record.task,
        "subject": record.subject,
        "judge": record.judge.name if record.judge else None,
        "items_from": record.items,
        "rows": done.n_rows,
        "matched": done.n_matched,
        "duplicates": record.dropped.get("duplicate", 0),
        "dropped": record.dropped,
        "further_answers": sum(record.dropped.get(reason, 0) for reason in (OTHER_ANSWER, FURTHER_ANSWER)),
        "imported": done.new,
        "items": len(samples_of(run, record.task)),
        "lost": lost(run, record.task, model, record.judge),
        "notice": done.notice,
        "warnings": list(record.warnings),
    }


def lost(run: Run, task: str, model: ModelSpec, judge: JudgeSpec | None) -> dict[str, int]:
    """Items of a task without an answer of the model, or without a usable verdict of the recorded judge, by reason."""
    answers = latest(read(run.completions_file, Completion).records)
    recorded = (one for one in read(run.verdicts_file, Verdict).records if judge and one.judge_key == judge.key)
    verdicts = {verdict.completion_key: verdict for verdict in recorded}
    counts: Counter[str] = Counter()
    for sample in samples_of(run, task):
        key = content_hash([sample.key, model.key, 0])
        if key not in answers:
            counts["no answer"] += 1
        elif judge is not None and key not in verdicts:
            counts["no verdict"] += 1
        elif judge is not None and verdicts[key].outcome is not VerdictOutcome.OK:
            counts[f"verdict {verdicts[key].outcome}"] += 1
    return dict(sorted(counts.items()))


def told(summary: dict[str, Any]) -> str:
    """A summary for people."""
    new = {word: count for name, word in KINDS.items() if (count := summary["imported"][name])}
    lines = [
        f"{summary['file']} ({summary['format']}): {summary['matched']} of {summary['rows']} rows are answers of "
        f"{summary['subject']} to {summary['task']}; new: {_counts(new) or 'nothing'}"
    ]
    if summary["dropped"]:
        lines.append(f"not used: {_counts(summary['dropped'])}")
    if summary["further_answers"]:
        lines.append(
            f"{summary['further_answers']} further answers were not taken: only the first one to an item counts"
        )
    if summary["lost"]:
        lines.append(f"lost of {summary['items']} items: {_counts(summary['lost'])}")
    if summary["notice"]:
        lines.append(
            "the items are the file's own rows, so what it left out cannot be seen; to have the task's, give "
            f"--data FILE ({summary['notice']})"
        )
    return "\n".join([*lines, *summary["warnings"]])


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
