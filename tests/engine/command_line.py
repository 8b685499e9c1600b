"""The command line, as a process of its own or in this one, and the records of a run."""

import io
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pytest

from harness.records import Cell, Completion, Sample, Verdict
from harness.store import Run, read

RECIPE = Path(__file__).parent / "small.yaml"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
COMMAND = [sys.executable, "-m", "harness"]


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


def in_process(monkeypatch, capsys, *arguments):
    """Runs the command line in this process, which has loaded everything already."""
    from harness import cli

    monkeypatch.setattr("sys.argv", ["harness", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr()
    return Said(int(left.value.code or 0), said.out, said.err)


def in_this_process(*arguments, cwd, env=None):
    """The same without pytest's fixtures: in a folder, with an environment."""
    from harness import cli

    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["harness", *map(str, arguments)]), patch.dict(os.environ, env or {}), chdir(cwd),
        redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left,
    ):  # fmt: skip
        cli.main()
    return Said(int(left.value.code or 0), out.getvalue(), err.getvalue())


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
