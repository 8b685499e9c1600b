"""Length-controlled win rates of a run: what length alone won is taken out, over seeds and prompts."""

from __future__ import annotations

import numpy as np
import pytest

from harness.blocks import PrepareConfig, SubjectConfig, TaskConfig
from harness.config import RunConfig
from harness.judging import Panel
from harness.records import Completion, CompletionOutcome, JudgeSpec, Message, Sample, Verdict, VerdictOutcome
from harness.scores import MetricInfo
from harness.stages.gather import Item
from harness.stages.length_control import length_controlled
from harness.trainers import TrainerSettings

N, SEEDS, TASK = 400, (0, 1, 2), "talk"
METRIC = MetricInfo(name="preferred", label="Preferred", task=TASK, judge="preference", kind="score", bounds=(0, 1))
RATED = METRIC.model_copy(update={"name": "helpful", "judge": "helpfulness", "bounds": (1.0, 10.0)})
SPEC = JudgeSpec(name="preference", version="1", content="c")
JUDGES = {"preference": Panel((SPEC,), 2, True), "helpfulness": Panel((SPEC,))}


def config(*subjects: str) -> RunConfig:
    return RunConfig(
        name="r", base="vale-0", seeds=SEEDS, trainer=TrainerSettings(steps=1), tasks={TASK: TaskConfig()},
        subjects=tuple(SubjectConfig(name=one, label=one, method="vanilla") for one in subjects), baselines=subjects[:1],
        prepare=PrepareConfig(mistake_judge=("none", "none"), analysis_judge="none"),
    )  # fmt: skip


def item(number: int, seed: int, letters: int, preference: float | None, other: int | None) -> Item:
    sample = Sample(
        task=TASK, task_version="1", source=f"{number}", messages=(Message(role="user", content=f"Question {number}?"),)
    )
    done = Completion(sample_key=sample.key, model_key=f"m{seed}", outcome=CompletionOutcome.OK, text="x" * letters)
    if preference is None:
        return Item(sample, done, {}, other)
    verdict = Verdict(
        completion_key=done.key, text_hash="h", judge_key=SPEC.key, outcome=VerdictOutcome.OK, score=preference
    )
    return Item(sample, done, {"preference": verdict}, other)


def compared(seed: int, quality: float = 0.0) -> list[Item]:
    """Answers mostly longer than the other side's, of which the judge likes the longer one; every tenth verdict lost."""
    rng = np.random.default_rng([seed, 1])
    more = np.random.default_rng(0).normal(60, 80, N).astype(int)
    chance = 1 / (1 + np.exp(-(quality + 2 * np.tanh(more / more.std()))))
    wins = np.where(rng.random(N) < 0.1, 0.5, (rng.random(N) < chance).astype(float))
    return [item(i, seed, 300 + more[i], None if i % 10 == 9 else float(wins[i]), 300) for i in range(N)]


def test_what_length_won_is_taken_out():
    items = {("new", seed, TASK): compared(seed) for seed in SEEDS}
    items |= {("old", seed, TASK): [item(i, seed, 300, None, None) for i in range(N)] for seed in SEEDS}
    found = length_controlled(config("new", "old"), JUDGES, [RATED, METRIC], items)
    (twin,) = found.metrics
    assert (twin.name, twin.label) == ("preferred_length_controlled", "Preferred, length-controlled")
    assert {row.subject for row in found.estimates} == {"new"}, "the other side is compared with nothing"
    rows = {row.seed: row.estimate for row in found.estimates}
    assert set(rows) == {*SEEDS, None}
    whole, raw = rows[None], np.mean([v.verdicts["preference"].score for v in items["new", 0, TASK] if v.verdicts])
    assert raw > 0.6
    assert whole.value == pytest.approx(0.5, abs=0.07)
    assert whole.low < 0.5 < whole.high
    assert whole.high - whole.low < 0.3
    assert (whole.n_seeds, whole.n_scored, whole.n_total) == (3, 3 * 360, 3 * N)
    assert whole.method == "wilson over 3 seeds and 360 prompts"


def test_a_better_answer_still_wins():
    items = {("new", seed, TASK): compared(seed, quality=1.5) for seed in SEEDS}
    found = length_controlled(config("new"), JUDGES, [METRIC], items)
    assert all(row.estimate.low > 0.55 for row in found.estimates if row.seed is None)


def test_without_a_verdict_it_is_not_measured_and_without_a_comparison_it_is_not_there():
    lost = {("new", seed, TASK): [item(i, seed, 300, None, 200) for i in range(3)] for seed in SEEDS}
    found = length_controlled(config("new"), JUDGES, [METRIC], lost)
    assert {row.estimate.value for row in found.estimates} == {None}
    alone = {("new", seed, TASK): [item(i, seed, 300, None, None) for i in range(3)] for seed in SEEDS}
    assert length_controlled(config("new"), JUDGES, [METRIC], alone).metrics == []
