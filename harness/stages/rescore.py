"""Score a run from its folder alone, and lay out the tables of an imported one's metrics besides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from harness.errors import UserError
from harness.importing import imported, write_layouts
from harness.scores import Scores
from harness.stages.loading import LoadedRun, load
from harness.stages.score import score
from harness.store import Run


def rescore(run: Run, include_paths: Sequence[Path] = (), loaded: LoadedRun | None = None) -> Scores:
    """Computes and writes the scores of a run, finished or not; ``loaded`` spares reading it again."""
    loaded = loaded or load(run, include_paths)
    if imported(run):
        write_layouts(run, loaded.metrics)
    return score(loaded, include_paths)


def stored_scores(run: Run) -> Scores:
    """The scores of a run as they were last computed.

    Raises:
        UserError: It was not scored yet.
    """
    if not run.scores_file.exists():
        raise UserError(f"{run.path}: was not scored yet; harness score {run.path}")
    try:
        return Scores.model_validate_json(run.scores_file.read_text("utf-8"))
    except ValidationError:
        raise UserError(
            f"{run.scores_file}: cannot be read as scores; make them again: harness score {run.path}"
        ) from None
