"""A small run that is made once, for all tests of the engine."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from command_line import RECIPE, Said, harness, in_process


@pytest.fixture
def command(monkeypatch, capsys):
    """The command line in this process: arguments → what it said."""
    return lambda *arguments: in_process(monkeypatch, capsys, *arguments)


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
