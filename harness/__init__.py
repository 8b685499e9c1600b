"""Train aligned language models, score them, and print the tables of a paper with their error bars.

The package is the engine; the content it works on (tasks, judges, report layouts) lives in folders beside it.
Importing it needs no network, no GPU and no key, and loads nothing heavy. `load_run` is what notebooks begin with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.frames import RunFrames

__version__ = "0.1.0"


def load_run(path: str | Path, include_paths: Sequence[str | Path] = ()) -> RunFrames:
    """A run as tidy pandas DataFrames: samples, completions, verdicts, values, estimates (see `harness.frames`)."""
    from harness.frames import load_run as load

    return load(path, include_paths)
