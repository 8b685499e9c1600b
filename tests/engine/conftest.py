"""What the engine's tests share: the command line as a process, and a small run that is made once."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.records import Cell, Completion, Sample, Verdict
from harness.store import Run, read

HERE = Path(__file__).parent
RECIPE = HERE / "small.yaml"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
COMMAND = [sys.executable, "-c", "from harness.cli import main; main()"]


class Said(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


def harness(*arguments, cwd=None, env=None, timeout=300):
    """Runs the command line in a process of its own."""
    command = [*COMMAND, *map(str, arguments)]
    found = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={**ENVIRONMENT, **(env or {})}, timeout=timeout, check=False
    )
    return Said(found.returncode, found.stdout, found.stderr)


def one_error(said):
    """The one line that a command said about bad input."""
    assert said.code == 1, said
    assert said.out == ""
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("harness: ")
    return lines[0]


def contents(folder):
    """Every file of a folder but locks, with its bytes."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name not in (".lock", ".workers")}


class Records(NamedTuple):
    """All records of a run, as they stand in its files."""

    samples: list
    cells: list
    completions: list
    verdicts: list
    steps: list


def records(path):
    """Reads a run's records; none of them may be torn."""
    run = Run(Path(path))
    files = (
        (run.samples_file, Sample),
        (run.cells_file, Cell),
        (run.completions_file, Completion),
        (run.verdicts_file, Verdict),
        (run.steps_file, Completion),
    )
    return Records(*(read(file, kind).records for file, kind in files))


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """Copies of two shipped bases, so that a test does not depend on whoever works on those."""
    from harness.microworld import base_path

    folder = tmp_path_factory.mktemp("bases")
    for name in ("vale-0", "vale-1"):
        shutil.copytree(base_path(name), folder / name)
    return folder


@pytest.fixture(scope="session")
def small(bases):
    """The arguments of the small run: its recipe on those copies."""
    return (RECIPE, "--set", f"base=[{bases / 'vale-0'}, {bases / 'vale-1'}]")


class SmallRun(NamedTuple):
    """A finished small run."""

    path: Path
    arguments: tuple
    said: Said
    scores: dict


@pytest.fixture(scope="session")
def small_run(small, tmp_path_factory):
    """The small run, run once, never to be changed by a test."""
    path = tmp_path_factory.mktemp("small") / "run"
    said = harness("run", *small, "--out", path)
    assert said.code == 0, said.err
    return SmallRun(path, small, said, json.loads((path / "scores.json").read_text()))
