"""A real headless browser for tests, and small runs made of real records to look at.

`look` gives pages that note every console error, dialog and request; `made_run` makes a run of any size whose answers
are given by a function and judged by real rules.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from harness.records import Cell, Completion, Message, ModelSpec, Sample
from harness.scores import Scores
from harness.stages.loading import LoadedRun, load
from harness.stages.score import score
from harness.store import Run, append

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
)  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SUBJECTS = {"vanilla": "Vanilla", "sft": "SFT", "ma": "Mistake Analysis"}
SEEDS = (0, 1)


def browser_path() -> str:
    """The browser of this machine; skips the test where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser on this machine (looked for {', '.join(NAMES)})")
    return found


class Looked(NamedTuple):
    """A page and what it did besides: console errors, dialogs, addresses asked for."""

    page: object
    errors: list[str]
    dialogs: list[str]
    requests: list[str]

    def harmless(self, folder: Path) -> None:
        """No error, no dialog, no request to anywhere but the files of the report."""
        assert self.errors == []
        assert self.dialogs == []
        assert [one for one in self.requests if not one.startswith(folder.as_uri())] == []


@pytest.fixture(scope="module")
def browser():
    """One browser for the tests of a module."""
    path = browser_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, headless=True, args=[*FLAGS])
        yield started
        started.close()


@pytest.fixture
def look(browser):
    """Opens an address in a fresh page (of a fresh profile) and notes what it does."""
    contexts = []

    def look(address: str, **options) -> Looked:
        contexts.append(browser.new_context(viewport={"width": 1400, "height": 900}, **options))
        looked = Looked(contexts[-1].new_page(), [], [], [])
        looked.page.set_default_timeout(10_000)
        looked.page.on("console", lambda one: looked.errors.append(one.text) if one.type == "error" else None)
        looked.page.on("pageerror", lambda error: looked.errors.append(str(error)))
        looked.page.on("dialog", lambda one: (looked.dialogs.append(one.message), one.dismiss()))
        looked.page.on("request", lambda one: looked.requests.append(one.url))
        looked.page.goto(address)
        return looked

    yield look
    for context in contexts:
        context.close()


class Question(NamedTuple):
    """A sample without its task."""

    turns: tuple[str, ...]
    labels: Mapping = MappingProxyType({})
    target: str | None = None
    style: str | None = None


class MadeRun(NamedTuple):
    """A run with its scores."""

    loaded: LoadedRun
    scores: Scores
    include: Path


JUDGE = 'name: words\nversion: "1"\ndescription: "How long an answer is, 1 to 10."\nscale: [1, 10]\n'
RULE = '''"""One point a word, ten at most."""
from harness.judging.base import Grade


def grade(sample, text):
    return Grade(float(min(10, max(1, len(text.split())))), None, f"counts the words of: {text[:40]}")
'''


def made_run(folder: Path, questions: dict[str, list[Question]], answer, subjects=SUBJECTS, seeds=SEEDS, **config):
    """A run of built-in tasks with rule judges, and a judge of its own that scores.

    Args:
        folder: Where it goes.
        questions: Task → what is asked.
        answer: (task, number of the sample, subject, seed) → the answer, or ``None`` for a failed one.
        subjects: Name → label.
        seeds: Training seeds.
        config: Further fields of the configuration.
    """
    run, include = Run(folder / "run"), folder / "include"
    (include / "judges" / "words").mkdir(parents=True)
    (include / "judges" / "words" / "judge.yaml").write_text(JUDGE)
    (include / "judges" / "words" / "rule.py").write_text(RULE)
    samples = {task: [_sample(task, one) for one in asked] for task, asked in questions.items()}
    run.seal(_manifest(questions, subjects, seeds, config), [one for each in samples.values() for one in each])
    for subject in subjects:
        for seed in seeds:
            model = ModelSpec(backend="scripted", weights=f"{subject} {seed}", templates="t")
            append(run.cells_file, [Cell(subject=subject, seed=seed, task=task, model=model) for task in samples])
            append(
                run.completions_file,
                [
                    _completion(sample, model, answer(task, number, subject, seed))
                    for task, each in samples.items()
                    for number, sample in enumerate(each)
                ],
            )
    return judged(run, include)


def judged(run: Run, include: Path) -> MadeRun:
    """The run judged by its rules and scored."""
    from harness.importing import own_judges
    from harness.stages.judge import JudgeStage
    from harness.stages.judges import Judges
    from harness.stages.plan import stored_config
    from harness.stages.references import References
    from harness.store import read
    from harness.tasks import load_spec

    config = stored_config(run)
    bench = Judges(config, [include])
    members = {
        task: [one for name in own_judges(bench.able(load_spec(task, [include]))) for one in bench.members(name)]
        for task in config.tasks
    }
    with JudgeStage(run, read(run.samples_file, Sample).records, members, References(run, None)) as stage:
        stage.finish()
    loaded = load(run, [include])
    return MadeRun(loaded, score(loaded, [include]), include)


def _sample(task: str, one: Question) -> Sample:
    roles = ("user", "assistant")
    messages = tuple(Message(role=role, content=text) for role, text in zip(roles, one.turns, strict=False))
    return Sample(
        task=task, task_version="1", messages=messages, style=one.style, target=one.target, labels=dict(one.labels),
        source=f"{task}.jsonl",
    )  # fmt: skip


def _completion(sample: Sample, model: ModelSpec, text: str | None) -> Completion:
    outcome = {"outcome": "error", "detail": "the server hung up"} if text is None else {"outcome": "ok", "text": text}
    return Completion(sample_key=sample.key, model_key=model.key, **outcome)


def _manifest(questions, subjects, seeds, config) -> dict:
    from harness.config import RunConfig

    config = RunConfig.model_validate(
        {
            "name": "made for tests",
            "seeds": list(seeds),
            "subjects": [{"name": name, "label": label, "method": "vanilla"} for name, label in subjects.items()],
            "trainer": {"steps": 1},
            "prepare": {"mistake_judge": ["none", "none"], "analysis_judge": "none"},
            "tasks": {task: {"judges": ["words"]} if task == "saferlhf_harmless" else {} for task in questions},
            "baselines": [next(iter(subjects))],
            **config,
        }
    )
    environment = {
        "harness": "0",
        "python": "3",
        "config": config.model_dump(mode="json"),
        "libraries": {"lib": "1.2.3"},
    }
    return {"schema_version": 1, "environment": environment, "bases": {"0": "b" * 64}, "templates": "f" * 64}
