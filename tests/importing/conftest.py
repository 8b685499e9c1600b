"""Imports through the engine (no report) and through the command line."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.importing import Wanted, prepare_import, write_import
from harness.records import Cell, Completion, Sample, Verdict
from harness.run_verbs import judge_owed
from harness.stages.plan import stored_config
from harness.stages.rescore import rescore
from harness.store import Run, read

DATA = Path(os.environ.get("HARNESS_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


class Imported(NamedTuple):
    """A run after an import, what was said of it, and its scores."""

    run: Run
    summary: dict
    scores: object

    def estimate(self, subject, metric):
        (found,) = [
            row.estimate for row in self.scores.estimates
            if (row.subject, row.metric, row.seed) == (subject, metric, None)
        ]  # fmt: skip
        return found

    def records(self):
        return records(self.run)


def records(run):
    """Samples, cells, completions and verdicts of a run, as they stand in its files."""
    files = (
        (run.samples_file, Sample), (run.cells_file, Cell), (run.completions_file, Completion), (run.verdicts_file, Verdict)
    )  # fmt: skip
    found = [read(file, kind) for file, kind in files]
    assert [batch.n_torn for batch in found] == [0] * 4
    return [batch.records for batch in found]


@pytest.fixture
def bring(tmp_path):
    """Imports a file into ``tmp_path/run``, judges and scores it, without a report."""

    def bring(task, file, folder="run", **names):
        run = Run(tmp_path / folder)
        prepared = prepare_import(run, Wanted(task, Path(file), **names))
        with run.lock():
            summary = write_import(run, prepared)
            judge_owed(run, stored_config(run), [], False)
            return Imported(run, summary, rescore(run))

    return bring


@pytest.fixture
def write(tmp_path):
    """Writes rows as JSONL, or text as it is; gives the path."""

    def write(name, content):
        path = tmp_path / name
        text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def command(monkeypatch, capsys):
    """The command line in this process: arguments → exit code, standard output, standard error."""

    def command(*arguments):
        from harness import cli

        monkeypatch.setattr("sys.argv", ["harness", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return command
