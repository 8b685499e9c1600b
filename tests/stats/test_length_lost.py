"""Length-controlled win rates where answers failed or a seed was not compared: lost, never an answer of no length."""

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

TASK, N = "talk", 120
METRIC = MetricInfo(name="preferred", label="Preferred", task=TASK, judge="preference", kind="score", bounds=(0, 1))
SPEC = JudgeSpec(name="preference", version="1", content="c")


def item(number: int, failed: bool = False, other: int | None = 900) -> Item:
    rng = np.random.default_rng(number)
    sample = Sample(task=TASK, task_version="1", source=f"{number}", messages=(Message(role="user", content="?"),))
    if failed:
        done = Completion(sample_key=sample.key, model_key="m", outcome=CompletionOutcome.ERROR)
        return Item(sample, done, {}, other)
    more = int(rng.normal(30, 40))
    done = Completion(sample_key=sample.key, model_key="m", outcome=CompletionOutcome.OK, text="x" * (900 + more))
    score = float(rng.random() < 1 / (1 + np.exp(-more / 30)))
    verdict = Verdict(
        completion_key=done.key, text_hash="h", judge_key=SPEC.key, outcome=VerdictOutcome.OK, score=score
    )
    return Item(sample, done, {"preference": verdict}, other)


def estimates(seeds: dict[int, list[Item]]):
    config = RunConfig(
        name="r", base="vale-0", seeds=tuple(seeds), trainer=TrainerSettings(steps=1), tasks={TASK: TaskConfig()},
        subjects=(SubjectConfig(name="new", label="new", method="vanilla"),), baselines=("new",),
        prepare=PrepareConfig(mistake_judge=("none", "none"), analysis_judge="none"),
    )  # fmt: skip
    items = {("new", seed, TASK): each for seed, each in seeds.items()}
    found = length_controlled(config, {"preference": Panel((SPEC,), 2, True)}, [METRIC], items)
    return {row.seed: row.estimate for row in found.estimates}


def test_a_failed_answer_has_no_length():
    whole = estimates({0: [item(i) for i in range(N)]})[None]
    some = estimates({0: [*(item(i) for i in range(N)), *(item(i, failed=True) for i in range(N, N + 6))]})[None]
    assert some.value == pytest.approx(whole.value, abs=1e-9)
    assert (some.n_scored, some.n_total) == (N, N + 6)


def test_a_seed_that_was_not_compared_counts_as_lost():
    found = estimates({0: [item(i) for i in range(N)], 1: [item(i, other=None) for i in range(N)]})
    assert (found[1].value, found[1].n_scored, found[1].n_total) == (None, 0, N)
    assert (found[None].n_scored, found[None].n_total, found[None].n_seeds) == (N, 2 * N, 1)
