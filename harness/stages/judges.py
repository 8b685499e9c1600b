"""The judges of a run: which of them can judge, on which models, and what is measured with them.

Reads the judge folders and the ``models`` and ``judging`` blocks of the configuration. A judge with a prompt needs a
model; where the recipe names none, its metrics are left out and `Judges.unbound` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from harness.config import RunConfig
from harness.errors import UserError
from harness.judging import Judge, Panel, load_judge
from harness.judging.folders import JudgeFile, load_judge_file
from harness.scores import MetricInfo
from harness.stages.judge_models import JudgeModels
from harness.stages.self_judging import refuse_self_judges, stored_manifest
from harness.tasks import TaskSpec

ALONE = ("rule", "fitted")
"""Kinds of judges that need no model."""


class Judges:
    """The judges of one configuration, each loaded once.

    Args:
        config: The configuration.
        include_paths: Further content folders.
        models: Opens what judges are put to; without it judges have an identity but cannot judge.

    Raises:
        UserError: A judge is unknown, or is to judge with the very model that is under test.
    """

    def __init__(self, config: RunConfig, include_paths: Sequence[Path], models: JudgeModels | None = None) -> None:
        self.config = config
        self.include_paths = tuple(include_paths)
        self.models = models or JudgeModels(config)
        self.file = cache(lambda name: load_judge_file(name, self.include_paths))
        self.members = cache(self._members)
        for name in [*config.judging.judges, *(name for task in config.tasks.values() for name in task.judges)]:
            self.file(name)  # an unknown name is an error, not a setting without effect
        if models is not None and models.run is not None:
            refuse_self_judges(config, stored_manifest(models.run), models.run)

    def _members(self, name: str) -> tuple[Judge, ...]:
        """A judge on each of its models; none where it needs a model and has none."""
        file = self.file(name)
        if file.kind in ALONE:
            return (load_judge(name, self.include_paths),)
        settings = self.config.judging.of(name)
        if file.kind == "classifier" and name not in self.config.judging.judges:
            return ()  # weights of its own, which the models of the other judges are not
        if file.kind == "pairwise" and self.config.judging.against is None and not self._added(name):
            return ()  # nothing to compare with
        chat = file.kind != "classifier"
        asked = [self.models.judge_model(model, settings, chat=chat) for model in settings.models or ()]
        return tuple(load_judge(name, self.include_paths, model) for model in asked)

    def _added(self, name: str) -> bool:
        """Whether the recipe asks for a judge by name, and so knows that the items hold references."""
        return any(name in task.judges for task in self.config.tasks.values())

    def preparing(self, name: str) -> tuple[Judge, ...]:
        """The members of a judge that is asked about single answers while training data is made.

        Raises:
            UserError: It needs a model and has none, or compares two answers.
        """
        if self.file(name).kind == "pairwise":
            raise UserError(f"judge '{name}' compares two answers, so it cannot say what one of them is: prepare")
        members = self.members(name)
        if not members:
            raise UserError(f"judge '{name}' needs a model: judging.judges.{name}.models, with models.NAME.…")
        return members

    def panel(self, name: str) -> Panel:
        """Who judges under a name; no members where it cannot judge."""
        members = self.members(name)
        n_seats = members[0].n_seats if members else 1
        return Panel(tuple(member.spec for member in members), n_seats, self.file(name).kind == "pairwise")

    def able(self, spec: TaskSpec) -> TaskSpec:
        """A task with the judges that can judge, those that the recipe adds included, and their metrics."""
        added = self.config.tasks[spec.name].judges if spec.name in self.config.tasks else ()
        names = [*spec.judges, *(name for name in added if name not in spec.judges)]
        able = tuple(name for name in names if self.members(name))
        metrics = [m for m in spec.metrics if m.judge is None or m.judge in able]
        metrics += [self._own_metric(name, spec.name) for name in added if name in able and name not in spec.judges]
        return spec.model_copy(update={"judges": able, "metrics": tuple(metrics)})

    def unbound(self, spec: TaskSpec) -> list[str]:
        """The metrics of a task that need a judge with a model, which the recipe does not give."""
        return [metric.name for metric in spec.metrics if metric.judge is not None and not self.members(metric.judge)]

    def _own_metric(self, name: str, task: str) -> MetricInfo:
        return own_metric(self.file(name), task)


def own_metric(file: JudgeFile, task: str) -> MetricInfo:
    """What a judge measures by itself: the mean of its scale, or the share of its first label."""
    if file.kind == "pairwise":
        found = {"kind": "score", "bounds": (0.0, 1.0)}
    elif file.scale is not None:
        found = {"kind": "score", "bounds": file.scale}
    elif file.first_label is not None:
        found = {"kind": "rate", "rate_label": file.first_label}
    else:
        raise UserError(f"judge '{file.name}' declares neither scale nor labels; name its metrics in a task of yours")
    label = f"{file.name}: {file.first_label}" if found["kind"] == "rate" else file.name
    return MetricInfo.model_validate(
        {"name": f"{task}_{file.name}", "label": label, "task": task, "judge": file.name, **found}
    )
