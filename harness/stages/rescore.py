"""Score a run from its folder alone: the stored configuration, the sealed samples, today's judges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.judging import load_judge
from harness.records import Sample, Scores
from harness.stages.plan import stored_config
from harness.stages.score import score
from harness.store import Run, read
from harness.tasks import load_spec


def rescore(run: Run, include_paths: Sequence[Path] = ()) -> Scores:
    """Computes and writes the scores of a run, finished or not."""
    config = stored_config(run)
    specs = [load_spec(name, include_paths) for name in config.tasks]
    judges = {name: load_judge(name, include_paths).spec for spec in specs for name in spec.judges}
    metrics = [metric for spec in specs for metric in spec.metrics]
    return score(run, config, read(run.samples_file, Sample).records, metrics, judges)
