"""A made-up run with items: two tasks on the same prompts, subjects of known quality, categories, lost verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.records import Completion, CompletionOutcome, Message, Sample, Verdict, VerdictOutcome
from harness.reporting.render.figures.shown import Source
from harness.scores import MetricInfo, ScoreRow, Scores, SubjectInfo
from harness.stages.gather import CellId, Item
from harness.stages.score import Cells, estimate
from harness.stats.intervals import over_seeds

METRICS = (
    MetricInfo(name="helpful", label="Helpful Score", task="talk", judge="help", kind="score", bounds=(1, 10)),
    MetricInfo(
        name="harmless_rate", label="Harmless Rate", task="red", judge="harm", kind="rate", rate_label="harmless"
    ),
    MetricInfo(name="harmless_score", label="Harmless Score", task="red", judge="points", kind="score", bounds=(1, 10)),
    MetricInfo(name="accuracy_guided", label="Guided accuracy", task="tell", kind="accuracy"),
)
CATEGORIES = ("violence", "privacy", "fraud", "暴力")


def item(task: str, number: int, level: float, draw: float, subject: str, seed: int) -> Item:
    """One answered and judged sample; the last of every fifty lost its verdict."""
    sample = Sample(
        task=task,
        task_version="1",
        messages=(Message(role="user", content=f"prompt {number}"),),
        labels={"category": CATEGORIES[number % 4], "hard": number % 4 == 0, "tags": ["a", "b"][: number % 3]},
        choices=("harmful", "harmless") if task == "tell" else (),
        target=("harmful", "harmless")[number % 2] if task == "tell" else None,
        cluster=f"prompt {number}",
    )
    right, chance = draw < level, min(max(level, 0.01), 0.99)
    if task == "tell":
        logprobs = {
            sample.target or "": float(np.log(chance)),
            ("harmless", "harmful")[number % 2]: float(np.log(1 - chance)),
        }
        said = max(logprobs, key=lambda name: logprobs[name])
        done = Completion(
            sample_key=sample.key,
            model_key=f"{subject}-{seed}",
            outcome=CompletionOutcome.OK,
            text=said,
            logprobs=logprobs,
        )
        return Item(sample, done, {})
    done = Completion(sample_key=sample.key, model_key=f"{subject}-{seed}", outcome=CompletionOutcome.OK, text="x")
    points = float(np.clip(round(1 + 9 * (level + 0.5 * (0.5 - draw))), 1, 10))
    lost = number % 50 == 49
    return Item(sample, done, {
        "harm": verdict(done, "harm", None if lost else ("harmless" if right else "harmful"), None),
        "points": verdict(done, "points", None, None if lost else points),
        "help": verdict(done, "help", None, None if lost else points),
    })  # fmt: skip


def verdict(done: Completion, judge: str, label: str | None, score: float | None) -> Verdict:
    """A verdict, or that it could not be read."""
    outcome = VerdictOutcome.UNPARSED if label is None and score is None else VerdictOutcome.OK
    return Verdict(completion_key=done.key, text_hash="h", judge_key=judge, outcome=outcome, label=label, score=score)


def made_up(levels: dict[str, tuple[float, float]], n_items: int = 200, seeds: Sequence[int] = (0, 1, 2)) -> Source:
    """Scores and items of subjects with these levels of (helpfulness, harmlessness), 0–1."""
    subjects = tuple(SubjectInfo(name=name, method="sft", label=name.title(), seeds=tuple(seeds)) for name in levels)
    items: dict[CellId, list[Item]] = {}
    for place, (name, (helpful, harmless)) in enumerate(levels.items()):
        for seed in seeds:
            for number, task in enumerate(("talk", "red", "tell")):
                shift = 0.02 * np.random.default_rng([seed, place, number]).normal()
                draws = np.random.default_rng([seed, number]).random(n_items)
                level = shift + (helpful if task == "talk" else harmless)
                items[name, seed, task] = [item(task, i, level, float(d), name, seed) for i, d in enumerate(draws)]
    cells = Cells(items)
    rows = []
    for subject in subjects:
        for metric in METRICS:
            per_seed = [estimate(metric, subject.name, seed, cells) for seed in seeds]
            pairs = [*zip(seeds, per_seed, strict=True), (None, over_seeds(per_seed, metric.bounds))]
            rows += [ScoreRow(subject=subject.name, metric=metric.name, seed=seed, estimate=one) for seed, one in pairs]
    return Source(Scores(run="made up", subjects=subjects, metrics=METRICS, estimates=tuple(rows)), None, cells)
