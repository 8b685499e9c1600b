"""What a run would do and what it could detect, before it is run. Reads a plan, writes nothing."""

from __future__ import annotations

from typing import Any

from harness.stages.plan import Plan, trained_subjects
from harness.stats.power import detectable_rate_difference, detectable_score_difference


def forecast(plan: Plan) -> dict[str, Any]:
    """Upper bounds of the work by role, and the smallest differences that one seed's items can show."""
    config = plan.config
    seeds, subjects = len(config.seeds), len(config.subjects)
    answers = {name: len(task.samples) * subjects * seeds for name, task in plan.tasks.items()}
    verdicts = {name: answers[name] * len(task.spec.judges) for name, task in plan.tasks.items()}
    return {
        "run": config.name,
        "seeds": list(config.seeds),
        "subjects": [subject.name for subject in config.subjects],
        "calls": {
            "preparing": sum(_preparing(plan, s.name) for s in trained_subjects(config)) * seeds,
            "answers": sum(answers.values()),
            "verdicts": sum(verdicts.values()),
        },
        "training_steps": sum(_steps(plan, s.name) for s in trained_subjects(config)) * seeds,
        "cost_usd": 0.0,
        "tasks": [_task(plan, name) for name in plan.tasks],
        "dropped": {name: data.dropped for name, data in plan.rows.items() if data.dropped},
    }


def _preparing(plan: Plan, name: str) -> int:
    """Questions to make a subject's data, if every row triggers; shared ones are asked once but counted here twice."""
    subject = plan.config.subject(name)
    rows = sum(row.kind != "benign" for row in plan.rows[name].rows)
    own = {"critique_revise": 2, "mistake_analysis": 1}.get(subject.method, 0)
    return rows * (own + (subject.mistakes == "self"))


def _steps(plan: Plan, name: str) -> int:
    subject = plan.config.subject(name)
    rows = plan.rows[name].rows
    mistakes = sum(row.kind != "benign" for row in rows)
    n_records = len(rows) + (mistakes if subject.method == "mistake_analysis" else 0)
    return plan.config.trainer_of(subject).n_steps(n_records)


def _task(plan: Plan, name: str) -> dict[str, Any]:
    task = plan.tasks[name]
    n_items = len(task.samples)
    n_clusters = len({sample.cluster or sample.key for sample in task.samples})
    return {
        "task": name,
        "n_items": n_items,
        "n_clusters": n_clusters,
        "metrics": [metric.name for metric in task.spec.metrics],
        "detectable_rate_difference": round(detectable_rate_difference(n_items), 4),
        "detectable_score_difference": round(detectable_score_difference(n_items, sd=3.0), 3),
        "dropped": task.dropped,
    }
