"""Where a run stands: what is done, what is missing, and why. Works on a half-finished run; writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.clients.ledger import spent as spent_by_role
from harness.importing import imported
from harness.judging import Panel
from harness.records import Call, Cell, Completion, Record, Sample, Verdict, VerdictOutcome
from harness.stages.gather import gather
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
                    "verdicts_owed": sum(len(item.owed & found.judges[task].keys()) for item in items),
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
    checkpoints = [one for seed in seeds if (one := run.checkpoint(subject, seed)) is not None]
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
