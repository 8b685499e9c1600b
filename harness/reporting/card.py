"""A model card for every row of the tables: one Markdown page, with the metadata that model hubs read at its head.

Reads `Scores`, the run's manifest and its checkpoints; writes ``cards/<subject>.md``. Only what was measured is on it,
each value with its interval, its coverage and its paired difference to the run's baselines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.content import roots
from harness.reporting.files import also_written, write_whole
from harness.reporting.page import claim_texts, judge_texts, subject_names
from harness.reporting.render.markdown import code, escape
from harness.reporting.table import plain_heading, show, show_difference, show_interval
from harness.scores import Estimate, MetricInfo, Scores, SubjectInfo
from harness.store import Run


class ResultText(NamedTuple):
    """One metric as text."""

    metric: str
    value: str
    coverage: str
    differences: tuple[str, ...]


class CheckpointText(NamedTuple):
    """The weights of one training seed."""

    seed: int
    weights: str
    base: str
    training: str


def write_cards(run: Run, scores: Scores, out: Path, include_paths: Sequence[Path] = ()) -> list[Path]:
    """Writes the card of every subject into ``out/cards``.

    Args:
        run: The run.
        scores: What was measured.
        out: Folder of the report.
        include_paths: The user's content folders, whose ``templates/card.md`` comes first.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader([root / "templates" for root in roots("reports", include_paths)])
    environment = Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        finalize=_plain, autoescape=False,  # noqa: S701 (Markdown; every value goes through `_plain`)
    )  # fmt: skip
    environment.filters["code"] = lambda text: _Whole(code(text))
    template = environment.get_template("card.md")
    manifest = json.loads(run.manifest_file.read_text("utf-8")) if run.manifest_file.exists() else {}
    also_written(out, [f"cards/{one.name}.md" for one in scores.subjects])
    return [
        write_whole(out / "cards" / f"{one.name}.md", template.render(_content(run, scores, one, manifest)))
        for one in scores.subjects
    ]


def _content(run: Run, scores: Scores, subject: SubjectInfo, manifest: dict[str, Any]) -> dict[str, Any]:
    baselines = [name for name in dict.fromkeys(row.baseline for row in scores.comparisons) if name != subject.name]
    names = subject_names(scores)
    checkpoints = _checkpoints(run, subject, manifest)
    claims = [
        text for claim, text in zip(scores.claims, claim_texts(scores), strict=True)
        if subject.name in (claim.first.partition(".")[0], claim.second.partition(".")[0])
    ]  # fmt: skip
    return {
        "front": _Whole(_front(scores, subject)),
        "label": names[subject.name],
        "run": scores.run,
        "what": f"The method {_words(subject.method)}, asked with the {_words(subject.style)} prompt.",
        "facts": _facts(subject, manifest),
        "checkpoints": checkpoints,
        "untrained": "it answers with weights that the run did not train for it.",
        "baselines": [names[name] for name in baselines],
        "results": _results(scores, subject, baselines),
        "claims": claims,
        "judges": judge_texts(scores),
        "notes": scores.notes,
        "versions": _versions(manifest.get("environment", {})),
    }


def _facts(subject: SubjectInfo, manifest: dict[str, Any]) -> list[tuple[str, Any]]:
    rows = manifest.get("alignment_rows", {}).get(subject.name)
    known = [
        ("method", subject.method),
        ("mistakes from", subject.mistakes),
        ("analysed by", subject.analysis),
        ("training seeds", ", ".join(map(str, subject.seeds))),
        ("alignment data (SHA-256)", rows),
        ("prompt templates (SHA-256)", manifest.get("templates")),
    ]
    return [(name, value) for name, value in known if value]


def _checkpoints(run: Run, subject: SubjectInfo, manifest: dict[str, Any]) -> list[CheckpointText]:
    of = {one["name"]: one.get("weights_of") for one in manifest.get("config", {}).get("subjects", ())}
    owner = of.get(subject.name) or subject.name
    found = []
    for seed in subject.seeds:
        if (one := run.checkpoint(owner, seed)) is not None:
            training = ", ".join(f"{_words(name)} {value:.4g}" for name, value in one.metrics.items())
            found.append(CheckpointText(seed, one.weights, one.base, training))
    return found


def _results(scores: Scores, subject: SubjectInfo, baselines: Sequence[str]) -> list[ResultText]:
    comparisons = {(r.subject, r.baseline, r.metric): r.comparison for r in scores.comparisons}
    found = []
    for metric, estimate in _measured(scores, subject):
        heading = plain_heading(metric)
        given = [comparisons.get((subject.name, base, metric.name)) for base in baselines]
        value = f"{show(estimate.value or 0.0, heading)} {show_interval(estimate.low, estimate.high, heading)}"
        differences = tuple("–" if one is None else show_difference(one, heading) or "–" for one in given)
        found.append(ResultText(heading.title(), _Whole(value), f"{estimate.n_scored}/{estimate.n_total}", differences))
    return found


def _measured(scores: Scores, subject: SubjectInfo) -> list[tuple[MetricInfo, Estimate]]:
    metrics = {metric.name: metric for metric in scores.metrics}
    return [
        (metrics[row.metric], row.estimate) for row in scores.estimates
        if row.subject == subject.name and row.seed is None and row.estimate.value is not None
    ]  # fmt: skip


def _front(scores: Scores, subject: SubjectInfo) -> str:
    """The metadata block in the hub's own form (``model-index``)."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation", dataset_type=metric.task, dataset_name=metric.task,
            metric_type=metric.name, metric_name=metric.label, metric_value=round(estimate.value or 0.0, 6),
        )
        for metric, estimate in _measured(scores, subject)
    ]  # fmt: skip
    data = ModelCardData(
        model_name=f"{scores.run}/{subject.name}", tags=["alignment", subject.method], eval_results=results or None
    )
    return str(data.to_yaml()).strip()


def _versions(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """Of the harness, of Python and of the libraries that decide the results."""
    known = {name: environment.get(name) for name in ("harness", "python")} | environment.get("libraries", {})
    return [(name, str(version)) for name, version in known.items() if version]


def _words(name: str) -> str:
    return name.replace("_", " ")


class _Whole(str):
    """Text that is Markdown or YAML already."""


def _plain(value: object) -> object:
    """Text that can neither end a table cell nor become markup; `_Whole` and numbers as they are."""
    if isinstance(value, _Whole) or not isinstance(value, str):
        return value
    return escape(value)
