"""Score a run from its folder alone, and lay out the tables of an imported one's metrics besides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.importing import imported, write_layouts
from harness.scores import Scores
from harness.stages.loading import load
from harness.stages.score import score
from harness.store import Run


def rescore(run: Run, include_paths: Sequence[Path] = ()) -> Scores:
    """Computes and writes the scores of a run, finished or not."""
    loaded = load(run, include_paths)
    if imported(run):
        write_layouts(run, loaded.metrics)
    return score(loaded, include_paths)
