"""Preference pairs, the step that the methods share that learn from good against bad responses.

A benign row has no bad response; against its good one stands one that belongs to another, red-team row, most often a
refusal. Without such pairs a reward model learns that refusing is always better, and the policy refuses everything.
Safe RLHF's trainer knows these pairs by it: their rejected answer is good elsewhere, so they say nothing about harm.
"""

from __future__ import annotations

from itertools import cycle

from harness.methods.base import Workbench, response_record
from harness.methods.mistakes import mistakes
from harness.records import TrainingRecord


def preferences(bench: Workbench) -> list[TrainingRecord]:
    """A ``chosen`` and a ``rejected`` record for each row that has a good response and something worse.

    A row with a good response alone gives a ``response``.
    """
    bad = {mistake.row.key: mistake.text for mistake in mistakes(bench, learned=True)}
    red = [row.good for row in bench.rows if row.kind != "benign" and row.good]
    misplaced = cycle(red)
    records = []
    for row in bench.rows:
        if not row.good:
            continue
        worse = next(misplaced) if row.kind == "benign" and red else bad.get(row.key)
        kinds = [("response", row.good)] if worse is None else [("chosen", row.good), ("rejected", worse)]
        records += [response_record(row, bench.templates, "ordinary", text, kind) for kind, text in kinds]
    return records
