"""Where a run stands: what is done, what is missing, and why. Works on a half-finished run; writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.clients.ledger import spent as spent_by_role
from harness.importing import imported
from harness.importing.measures import IMPORTED
from harness.judging import JudgeItem, Panel
from harness.records import Call, Cell, Checkpoint, Completion, Record, Sample, Verdict, VerdictOutcome
from harness.stages.gather import Item, gather
from harness.stages.loading import measures
from harness.stages.plan import stored_config, trained_subjects
from harness.stages.references import References
from harness.store import Run, latest, read
from harness.tasks import load_spec

N_REASONS = 8
REASON_LENGTH = 160


def status(run: Run, include_paths: Sequence[Path] = ()) -> dict[str, Any]:
    """The state of a run as plain data.

    Returns:
        ``training``: subject → seeds trained of seeds planned, and counts of how its data came about;
        ``answers``: subject and task → planned, answered and judged for good, and all by outcome;
        ``reasons``: why judgments are no verdicts, the most frequent first, by judge and outcome;
        ``spent``: role → calls, tokens and cost of what was asked of servers;
        ``torn_lines``: record file → lines that a dying process left torn.
    """
    config = stored_config(run, include_paths)
    samples = read(run.samples_file, Sample).records
    specs = {name: load_spec(name, include_paths) for name in config.tasks}
    found = measures(run, config, list(specs.values()), include_paths)
    references = References(run, config.judging.against)
    cells = gather(run, samples, found.by_name(), references)
    owed = Owed(run, references)
    planned = Counter(sample.task for sample in samples)
    rows: list[dict[str, Any]] = []
    for subject in config.subjects:
        for task in specs:
            items = [item for seed in config.seeds for item in cells.get((subject.name, seed, task), [])]
            verdicts = [v for item in items for v in item.verdicts.values()]
            replies = [item.completion for item in items if item.completion is not None]
            rows.append(
                {
                    "subject": subject.name,
                    "task": task,
                    "planned": planned[task] * len(config.seeds),
                    "answered": sum(reply.final for reply in replies),
                    "outcomes": dict(sorted(Counter(str(reply.outcome) for reply in replies).items())),
                    "prompts_truncated": sum(reply.prompt_truncated for reply in replies),
                    "verdicts_planned": planned[task] * len(config.seeds) * len(found.judges[task]),
                    "verdicts_owed": owed.count(items, found.judges[task]),
                    "judged": sum(verdict.final for verdict in verdicts),
                    "verdicts": dict(sorted(Counter(str(v.outcome) for v in verdicts).items())),
                }
            )
    return {
        "run": config.name,
        "path": str(run.path),
        "training": [_training(run, subject.name, config.seeds) for subject in trained_subjects(config)],
        "answers": rows,
        "reasons": _reasons(run, found.by_name()),
        "spent": {role: spent._asdict() for role, spent in spent_by_role(read(run.calls_file, Call).records).items()},
        "torn_lines": _torn(run),
        "complete": all(  # an answer that an imported file left out is lost, and owed by nobody
            (imported(run) or row["answered"] == row["planned"]) and not row["verdicts_owed"] for row in rows
        ),
    }


class Owed:
    """What judging would still be asked for, seat by seat, as `harness.stages.judge` counts it."""

    def __init__(self, run: Run, references: References) -> None:
        self.references = references
        self.completions = latest(read(run.completions_file, Completion).records)
        verdicts = latest(read(run.verdicts_file, Verdict).records)
        self.settled = {key for key, verdict in verdicts.items() if verdict.final}

    def count(self, items: Sequence[Item], judges: Mapping[str, Panel]) -> int:
        """Answers that a judge of ours has yet to judge in any of its seats; recorded judges owe nothing."""
        own = [panel for panel in judges.values() if all(spec.version != IMPORTED for spec in panel.members)]
        return sum(self._owes(panel, item) for item in items for panel in own)

    def _owes(self, panel: Panel, item: Item) -> bool:
        if item.completion is None or not item.completion.final:
            return False
        asked = JudgeItem(item.sample, item.completion)
        if panel.pairwise:
            reference = self.references.of(item.sample, item.completion.model_key, self.completions)
            if reference is None or not reference.final:  # nothing to compare with, or not yet
                return False
            asked = asked._replace(reference=reference)
        seats = ((spec.key, seat) for spec in panel.members for seat in range(panel.n_seats))
        return any(asked.verdict_key(*seat) not in self.settled for seat in seats)


def _reasons(run: Run, judges: Mapping[str, Panel]) -> list[dict[str, Any]]:
    names = {spec.key: name for name, panel in judges.items() for spec in panel.members}
    verdicts = latest(read(run.verdicts_file, Verdict).records).values()
    lost = [v for v in verdicts if v.outcome is not VerdictOutcome.OK and v.judge_key in names]
    counts = Counter((names[v.judge_key], str(v.outcome), v.reason[:REASON_LENGTH]) for v in lost)
    return [
        {"judge": judge, "outcome": outcome, "reason": reason, "count": count}
        for (judge, outcome, reason), count in counts.most_common(N_REASONS)
    ]


def _training(run: Run, subject: str, seeds: tuple[int, ...]) -> dict[str, Any]:
    folders = [run.path / "train" / subject / str(seed) for seed in seeds]
    done = [folder / "checkpoint.json" for folder in folders if (folder / "checkpoint.json").exists()]
    checkpoints = [Checkpoint.model_validate_json(path.read_text(encoding="utf-8")) for path in done]
    return {
        "subject": subject,
        "planned": len(seeds),
        "trained": len(checkpoints),
        "data_made": sum((folder / "counts.json").exists() for folder in folders),
        "steps": sum(int(checkpoint.metrics.get("n_steps", 0)) for checkpoint in checkpoints),
    }


def _torn(run: Run) -> dict[str, int]:
    files: dict[Path, type[Record]] = {
        run.completions_file: Completion, run.verdicts_file: Verdict, run.cells_file: Cell, run.steps_file: Completion
    }  # fmt: skip
    counts = {path.name if path.parent == run.path else f"train/{path.name}": read(path, kind).n_torn
              for path, kind in files.items()}  # fmt: skip
    return {name: count for name, count in counts.items() if count}
