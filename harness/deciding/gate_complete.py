"""Whether a side is whole: its planned items are answered for good, and its answers judged in every seat.

An answer that went wrong for good, or a reply that no verdict could be read from, is a result, and the coverage rule
counts it. An answer or a verdict that nobody has given yet, or that is gone from the records, is owed: how it would
have come out is not known, so no share of coverage lets it pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.deciding.gate_result import RuleResult
from harness.deciding.sides import Side
from harness.importing import imported
from harness.scores import MetricInfo
from harness.stages.references import References
from harness.stages.status import Owed


def complete(side: Side, metrics: Sequence[MetricInfo], tasks: Sequence[str]) -> RuleResult:
    """Counts what a side still owes.

    Args:
        side: The side.
        metrics: Whose judges must have judged.
        tasks: Whose items must be answered, those of the metrics among them.
    """
    run = side.loaded.run
    items = {task: [item for seed in side.seeds for item in side.items(task, seed)] for task in tasks}
    n_answers = sum(
        item.completion is None or not item.completion.final for each in items.values() for item in each
    )  # fmt: skip
    if imported(run):  # what an imported file left out is lost, and nobody will give it
        n_answers = 0
    owed = Owed(run, References(run, side.loaded.config.judging.against))
    n_verdicts = 0
    for task in tasks:
        judges = {one.judge for one in metrics if one.task == task and one.judge is not None}
        panels = {name: side.loaded.judges[name] for name in judges if name in side.loaded.judges}
        n_verdicts += owed.count(items[task], panels)
    reason = f"{n_answers} answers and {n_verdicts} verdicts are owed"
    whole = not n_answers + n_verdicts
    return RuleResult(
        rule="complete",
        about=side.label,
        decision="pass" if whole else "inconclusive",
        reason="every item is answered and judged" if whole else reason,
        n_lost=n_answers + n_verdicts,
        settles="" if whole else "harness run, or harness judge where only verdicts are owed, gives them",
    )
