"""Runs written record by record: whose answers resist or refuse, in which seed, under which settings.

The samples are those of shipped tasks and the verdicts those of their own rules (through the judging stage), or of a
judge with a model, written as records.
"""

from collections.abc import Mapping
from pathlib import Path

import typer
from typer.testing import CliRunner

from harness.blocks import PrepareConfig, SubjectConfig, TaskConfig
from harness.config import RunConfig
from harness.decision_verbs import register
from harness.judging import JudgeItem
from harness.records import (
    Call,
    Cell,
    Checkpoint,
    Completion,
    CompletionOutcome,
    Decoding,
    ModelSpec,
    Sample,
    Verdict,
    VerdictOutcome,
    content_hash,
)
from harness.run_verbs import judge_owed
from harness.stages.judges import Judges
from harness.stages.plan import stored_config
from harness.store import Run, append, write_atomic
from harness.tasks import load_task
from harness.trainers import TrainerSettings

HIJACK, REFUSAL, CHOICE = "goal_hijack_en", "over_refusal", "vale_discrimination_guided"
DECLINES = "I'm sorry, but I can't help with that."
Said = Mapping[str, Mapping[int, list]]
"""Subject → seed → what it said of each sample; ``None`` is lost. A truth value: whether it resisted, declined, or
chose the right label. A text: the answer. A number: the score of the judge with a model (with the label)."""


def samples_of(task, n, clusters=None, version="1", first=0):
    """The first samples of a task; every ``clusters`` of them share a cluster."""
    found = load_task(task).samples[first : first + n]
    return [
        Sample.model_validate(
            {**one.model_dump(), "task_version": version, "cluster": f"c{i // clusters}" if clusters else one.cluster}
        )
        for i, one in enumerate(found)
    ]


def write_run(
    folder: Path, said: Said, task=HIJACK, *, samples=None, clusters=None, templates="t", styles=None,
    decoding=None, judge_model=None, steps=None, base="vale-0",
):  # fmt: skip
    """Writes a run, lets its rules judge, and gives its path."""
    first = next(iter(said.values()))
    n = len(next(iter(first.values())))
    samples = samples or samples_of(task, n, clusters)
    config = _config(folder.name, said, task, judge_model, base)
    run = Run(folder)
    manifest = {"schema_version": 1, "environment": {"config": config.model_dump(mode="json")}}
    run.seal(manifest, samples)
    for subject, seeds in said.items():
        for seed, each in seeds.items():
            model = ModelSpec(
                backend="hf", weights=f"{folder} {subject} {seed}", templates=templates,
                style=(styles or {}).get(subject, "ordinary"), decoding=decoding or Decoding(),
            )  # fmt: skip
            append(run.cells_file, [Cell(subject=subject, seed=seed, task=task, model=model)])
            done = [
                (s, _completion(s, model, one), one) for s, one in zip(samples, each, strict=True) if one is not None
            ]
            append(run.completions_file, [completion for _, completion, _ in done])
            if judge_model is not None:
                verdicts = [v for one in done for v in _verdicts(config, *one)]
                append(run.calls_file, [_call(verdict) for verdict in verdicts])
                append(run.verdicts_file, verdicts)
    for subject, count in (steps or {}).items():
        for seed in said[subject]:
            _checkpoint(run, subject, seed, count)
    with run.lock():
        if judge_model is None:
            judge_owed(run, stored_config(run), [], False)
    return str(folder)


def _config(name, said, task, judge_model, base):
    seeds = tuple(next(iter(said.values())))
    models = {} if judge_model is None else {"judge": {"backend": "openai", "model": judge_model}}
    return RunConfig(
        name=name,
        base=base,
        seeds=seeds,
        models=models,
        subjects=tuple(SubjectConfig(name=one, label=one.upper(), method="vanilla") for one in said),
        trainer=TrainerSettings(steps=1),
        prepare=PrepareConfig(mistake_judge=("none", "none"), analysis_judge="none"),
        judging={"models": tuple(models)},
        tasks={task: TaskConfig()},
        baselines=(next(iter(said)),),
    )


def _completion(sample, model, said):
    text, logprobs = said, None
    if sample.choices:
        label = sample.target if said else next(one for one in sample.choices if one != sample.target)
        text = label
        logprobs = {one: -0.5 if one == label else -1.5 for one in sample.choices}
    elif isinstance(said, bool | int | float):
        good = bool(said) if isinstance(said, bool) else said > 5
        text = _text(sample, good)
    return Completion(
        sample_key=sample.key, model_key=model.key, outcome=CompletionOutcome.OK, text=text, logprobs=logprobs
    )


def _text(sample, good):
    if sample.task == REFUSAL:
        return DECLINES if good else "Certainly, here is how: use kill."
    return "Here is what was asked for." if good else sample.labels["target_string"]


def _verdicts(config, sample, completion, said):
    panel = Judges(config, []).panel("hijack_score")
    yield Verdict(
        completion_key=completion.key,
        text_hash=JudgeItem(sample, completion).text_hash,
        judge_key=panel.members[0].key,
        outcome=VerdictOutcome.OK,
        score=float(said),
        reason=f"it deserves {said}",
        raw=f"it deserves {said}\nRating: [[{said:g}]]",
        call=content_hash([completion.key, "hijack_score"]),
    )


def _call(verdict):
    return Call(
        key=verdict.call, role="hijack_score", model="judge-1", outcome="ok", n_attempts=1, input_tokens=10,
        output_tokens=10, cost_usd=0.001, finished_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def _checkpoint(run, subject, seed, steps):
    record = Checkpoint(
        recipe="r", data="d", base="b", seed=seed, weights="w", path="checkpoint", metrics={"n_steps": float(steps)}
    )
    write_atomic(run.path / "train" / subject / str(seed) / "checkpoint.json", record.model_dump_json())


def bits(text):
    """``"++-x"`` as truth values, ``x`` as lost."""
    return [None if one == "x" else one == "+" for one in text]


def command(*arguments):
    """The verbs of this package as a command line: what it printed, or the error that it ended with."""
    app = typer.Typer(pretty_exceptions_enable=False)
    register(app)
    return CliRunner().invoke(app, [str(one) for one in arguments])
