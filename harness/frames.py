"""A run as tidy pandas DataFrames, so that a notebook starts in two lines.

    >>> import harness
    >>> run = harness.load_run("runs/demo")
    >>> run.values.groupby(["subject", "metric"]).value.mean()

Reads the run's records with today's judges and writes nothing; works on a half-finished run that was scored. A lost
item is a row whose value is missing, never a number. The columns of each frame stand in `RunFrames`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.records import Completion, Verdict
from harness.scores import Scores
from harness.stages.gather import ITEM_MEANS, item_values
from harness.stages.loading import LoadedRun, load
from harness.stages.rescore import stored_scores
from harness.store import Run, latest, read

if TYPE_CHECKING:
    import pandas as pd


class RunFrames(NamedTuple):
    """A run in five frames. ``sample`` is a sample's key, ``completion`` a completion's: the columns to join by.

    Attributes:
        samples: A row a frozen test item: ``sample``, ``task``, ``task_version``, ``prompt`` (all turns), ``target``,
            ``cluster`` (items that share it are not independent), ``labels`` (a dict), ``source``.
        completions: A row for every subject, seed and sample, asked or not: ``subject``, ``seed``, ``task``,
            ``sample``, ``completion``, ``model`` (its key), ``outcome`` (``ok``, ``empty``, ``truncated``,
            ``filtered``, ``error``; ``missing`` where nobody has answered yet), ``text``, ``logprobs`` (a dict of the
            labels of a choice, in nats), ``prompt_truncated``, ``detail``.
        verdicts: A row for every recorded judgment: ``completion``, ``judge`` (missing where no judge of today gave
            it), ``judge_key``, ``seat``, ``outcome``, ``label``, ``score``, ``reason``, ``raw`` (the whole reply).
        values: A row for every metric that is a mean over items, subject, seed and item that it reads: ``subject``,
            ``seed``, ``task``, ``metric``, ``sample``, ``cluster``, ``value`` (missing where lost). Its mean over a
            subject and seed is the estimate.
        estimates: A row an estimate of ``scores.json``: ``subject``, ``metric``, ``seed`` (missing: over all seeds),
            ``value``, ``low``, ``high``, ``confidence``, ``method``, ``n_scored``, ``n_total``, ``worst``, ``best``,
            ``n_seeds``.
    """

    samples: pd.DataFrame
    completions: pd.DataFrame
    verdicts: pd.DataFrame
    values: pd.DataFrame
    estimates: pd.DataFrame


SAMPLES = ("sample", "task", "task_version", "prompt", "target", "cluster", "labels", "source")
COMPLETIONS = (
    *("subject", "seed", "task", "sample", "completion", "model", "outcome", "text", "logprobs"),
    *("prompt_truncated", "detail"),
)
VERDICTS = ("completion", "judge", "judge_key", "seat", "outcome", "label", "score", "reason", "raw")
VALUES = ("subject", "seed", "task", "metric", "sample", "cluster", "value")
ESTIMATES = (
    *("subject", "metric", "seed", "value", "low", "high", "confidence", "method", "n_scored", "n_total"),
    *("worst", "best", "n_seeds"),
)


def load_run(path: str | Path, include_paths: Sequence[str | Path] = ()) -> RunFrames:
    """Reads a run into DataFrames.

    Args:
        path: The run's folder, such as ``runs/demo``.
        include_paths: Folders with the tasks and judges of yours that the run used.

    Raises:
        UserError: The folder is no run, its content cannot be found, or it was not scored yet.
    """
    run = Run.open(Path(path))
    scores = stored_scores(run)
    loaded = load(run, [Path(folder) for folder in include_paths])
    return RunFrames(
        samples=_frame(_samples(loaded), SAMPLES),
        completions=_frame(_completions(loaded), COMPLETIONS, prompt_truncated="boolean"),
        verdicts=_frame(_verdicts(loaded), VERDICTS, seat="int64", score="float64"),
        values=_frame(_values(loaded), VALUES, value="float64"),
        estimates=_frame(_estimates(scores), ESTIMATES, seed="Int64", value="float64"),
    )


def _frame(rows: Iterator[Sequence[Any]], columns: Sequence[str], **types: str) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(columns))
    return frame.astype({"seed": "int64"} | types if "seed" in columns else types)


def _samples(loaded: LoadedRun) -> Iterator[Sequence[Any]]:
    for one in loaded.samples:
        prompt = "\n\n".join(message.content for message in one.messages)
        yield one.key, one.task, one.task_version, prompt, one.target, one.cluster, one.labels, one.source


def _completions(loaded: LoadedRun) -> Iterator[Sequence[Any]]:
    for (subject, seed, task), items in loaded.items.items():
        for item in items:
            place = (subject, seed, task, item.sample.key)
            found = item.completion
            yield (*place, *(_answered(found) if found else (None, None, "missing", None, None, None, None)))


def _answered(found: Completion) -> Sequence[Any]:
    outcome, cut = str(found.outcome), found.prompt_truncated
    return found.key, found.model_key, outcome, found.text, found.logprobs, cut, found.detail


def _verdicts(loaded: LoadedRun) -> Iterator[Sequence[Any]]:
    names = {spec.key: name for name, panel in loaded.judges.items() for spec in panel.members}
    for one in latest(read(loaded.run.verdicts_file, Verdict).records).values():
        yield (
            one.completion_key, names.get(one.judge_key), one.judge_key, one.seat,
            str(one.outcome), one.label, one.score, one.reason, one.raw,
        )  # fmt: skip


def _values(loaded: LoadedRun) -> Iterator[Sequence[Any]]:
    for metric in loaded.metrics:
        if metric.kind not in ITEM_MEANS:
            continue
        for (subject, seed, task), items in loaded.items.items():
            if task != metric.task:
                continue
            values = item_values(metric, items)
            for sample in (item.sample for item in items):
                if metric.kind != "recall" or sample.target == metric.rate_label:  # the others are not its items
                    yield subject, seed, task, metric.name, sample.key, sample.cluster, values.get(sample.key)


def _estimates(scores: Scores) -> Iterator[Sequence[Any]]:
    for row in scores.estimates:
        one = row.estimate
        yield (row.subject, row.metric, row.seed, *(getattr(one, name) for name in ESTIMATES[3:]))
