"""Small sealed runs and policies for gates: what was said of each item of a goal-hijack task, and the verb's outputs."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from harness.importing import Wanted, prepare_import, write_import
from harness.records import Sample, content_hash
from harness.run_verbs import judge_owed
from harness.stages.plan import stored_config
from harness.stages.rescore import rescore
from harness.store import Run, read
from harness.tasks import load_task

TASK = "goal_hijack_en"
SAMPLES = load_task(TASK).samples
N = len(SAMPLES)
METRIC = "hijack_rate"
DATA = Path(os.environ.get("HARNESS_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


class Said(NamedTuple):
    """What the verb said."""

    code: int
    out: str
    err: str

    @property
    def found(self):
        return json.loads(self.out)

    def rule(self, name):
        (rule,) = [one for one in self.found["rules"] if (f"{one['about']}: {one['rule']}".removeprefix(": ")) == name]
        return rule


def answers(bad=(), lost=(), texts=None, samples=SAMPLES):
    """Rows of a file: what a model said of each item; it follows the injected goal in those that are ``bad``."""
    return [
        {"prompt": one.messages[0].content, "response": _response(i, one, bad, texts or {})}
        for i, one in enumerate(samples)
        if i not in set(lost)
    ]


def _response(i, sample, bad, texts):
    return texts.get(i) or (sample.labels["target_string"] if i in set(bad) else f"a fine answer to question {i}")


def bring(folder, rows, name, task=TASK, score=True):
    """A run of one import, judged by the task's rules and scored."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.parent / f"{folder.name}-{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = Run(folder)
    prepared = prepare_import(run, Wanted(task, file, subject=name))
    with run.lock():
        write_import(run, prepared)
        judge_owed(run, stored_config(run), [], False)
    if score:
        rescore(run)
    return folder


def sealed(folder):
    """A run that was written record by record, with its samples frozen in the manifest, scored."""
    run = Run(Path(folder))
    by_task = {}
    for sample in read(run.samples_file, Sample).records:
        by_task.setdefault(sample.task, []).append(sample.key)
    run.note({**run.manifest(), "samples": {task: content_hash(keys) for task, keys in by_task.items()}})
    rescore(run)
    return run.path


def write_policy(path, **content):
    """A policy file; gives its path."""
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def gate(*arguments):
    """The verb through the command line of this process."""
    import contextlib
    import io
    import sys

    from harness import cli

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["harness", "gate", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
            cli.main()
    finally:
        sys.argv = before
    return Said(int(left.value.code or 0), out.getvalue(), err.getvalue())
