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


def complete(side: Side, metrics: Sequence[MetricInfo], tasks: Sequence[str]) -> RuleResult:
    """Counts what a side still owes.

    Args:
        side: The side. The subject that pairwise judges compare with has to have answered, too.
        metrics: Whose judges must have judged.
        tasks: Whose items must be answered, those of the metrics among them.
    """
    loaded, against = side.loaded, side.loaded.config.judging.against
    judges = {task: {one.judge for one in metrics if one.task == task} for task in tasks}
    pairwise = {name for name, panel in loaded.judges.items() if panel.pairwise}
    cells = {(side.subject, task) for task in tasks}
    cells |= {(against, task) for task in tasks if against is not None and judges[task] & pairwise}
    answers = [item for who, task in cells for seed in side.seeds for item in loaded.items.get((who, seed, task), ())]
    unanswered = sum(not (item.completion and item.completion.final) for item in answers)
    n_answers = 0 if imported(loaded.run) else unanswered  # what a file left out is lost, and owed by nobody
    n_verdicts = sum(
        len(item.owed & judges[task]) for task in tasks for seed in side.seeds for item in side.items(task, seed)
    )
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
