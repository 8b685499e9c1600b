"""Plan a run: everything that decides its results, gathered and checked before anything is written.

Reads the configuration, the content folders, the data files and the base models' hashes. `make_plan` writes nothing;
`seal` freezes the samples, the alignment rows and the manifest, or confirms that the folder holds this very run.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

import harness
from harness.blocks import SubjectConfig, TaskConfig
from harness.calibration.records import panel_key
from harness.config import RunConfig
from harness.content import Kind, find, named
from harness.errors import UserError, unknown_name
from harness.importing import imported, imported_config
from harness.methods import method_trains
from harness.models.weights import check_checkpoint, weights_hash
from harness.prompting import TemplateSet, load_templates
from harness.recipe import REJUDGED
from harness.records import Sample, content_hash
from harness.rows import AlignmentRow
from harness.rows.overlap import TaskOverlap, find_overlap, refuse_overlap
from harness.sources import AlignmentData, alignment_data, base_folder, check_models
from harness.stages.feasible import refuse_infeasible
from harness.stages.judge_models import identity
from harness.stages.judges import Judges
from harness.stages.self_judging import refuse_self_judges, stored_manifest
from harness.store import Run, write_atomic
from harness.tasks import LoadedTask, load_task
from harness.trainers.base import deciding

IDENTIFIED_OTHERWISE = {"base", "data", "models"}
"""Fields that name files; the manifest holds the hashes of what is in them instead."""
REPORTED = {"baselines", "claims", "description", "judging", "layouts", "notes", "overlap"}
"""Fields that only decide what is judged and computed; they may change on a finished run."""
SPEED = {"throughput"}
LIBRARIES = ("torch", "transformers", "trl", "peft", "lm_eval", "numpy")


class Plan(NamedTuple):
    """What a run will do.

    Attributes:
        config: The configuration.
        tasks: Name → specification and frozen samples.
        judges: The judges of all tasks and of the preparation.
        rows: Subject → alignment data of those subjects that train.
        templates: How prompts are worded.
        bases: Seed → folder of its base.
        manifest: What decides the results, as it stands in ``manifest.json``.
        overlap: What of each task stands among the alignment rows; empty where nothing trains.
    """

    config: RunConfig
    tasks: dict[str, LoadedTask]
    judges: Judges
    rows: dict[str, AlignmentData]
    templates: TemplateSet
    bases: dict[int, Path]
    manifest: dict[str, Any]
    overlap: Sequence[TaskOverlap] = ()

    def samples(self) -> list[Sample]:
        """All samples, task by task."""
        return [sample for task in self.tasks.values() for sample in task.samples]


def trained_subjects(config: RunConfig) -> list[SubjectConfig]:
    """The subjects that train weights of their own."""
    return [s for s in config.subjects if method_trains(s.method) and s.weights_of is None]


def make_plan(config: RunConfig, include_paths: Sequence[Path] = ()) -> Plan:
    """Gathers and checks everything that a run needs.

    Raises:
        UserError: Anything that is missing or not as it should be.
    """
    templates = load_templates(config.templates)
    bases = {seed: base_folder(name) for seed, name in config.bases().items()}
    check_models(config)
    for subject in config.subjects:
        if subject.base is not None and config.server_of(subject) is None:
            check_checkpoint(base_folder(subject.base))
    rows = _alignment_rows(config)  # before the tasks, whose data may have to come from the network
    for layout in config.layouts:
        named("reports", "layout", layout, "layouts/*.yaml", include_paths)
    judges = Judges(config, include_paths)
    tasks = {name: _task(config, name, task, include_paths) for name, task in config.tasks.items()}
    tasks = {name: task._replace(spec=judges.able(task.spec)) for name, task in tasks.items()}
    refuse_infeasible(config, tasks)
    plan = Plan(config, tasks, judges, rows, templates, bases, {})
    plan = plan._replace(manifest=_manifest(plan), overlap=_overlap(plan))
    refuse_self_judges(config, plan.manifest)
    _refuse_likelihoods(plan)
    return plan


def _refuse_likelihoods(plan: Plan) -> None:
    """Servers give no likelihoods of labels: better told now than when training has been paid for."""
    compared = [name for name, task in plan.tasks.items() if any(sample.choices for sample in task.samples)]
    for subject in plan.config.subjects:
        owner = plan.config.subject(subject.weights_of or subject.name)
        trained = owner in trained_subjects(plan.config) and plan.config.trainer_of(owner).name == "openai"
        if compared and (trained or plan.config.server_of(owner) is not None):
            raise UserError(
                f"subject '{subject.name}' is answered by a server, which gives no likelihoods of labels, and task "
                f"'{compared[0]}' compares them: leave it out (--set tasks.{compared[0]}=null); tasks of written "
                "verdicts can stay"
            )


def _task(config: RunConfig, name: str, task: TaskConfig, include_paths: Sequence[Path]) -> LoadedTask:
    metadata: dict[str, Any] = {}
    data = None if task.data is None else config.data.get(task.data, task.data)
    if data is not None:
        metadata["data"] = data
    if task.split is not None:
        metadata["split"] = task.split
    loaded = load_task(name, include_paths, metadata)
    samples = loaded.samples[: task.limit]
    if not samples:
        raise UserError(f"task '{name}' has no samples{f' in {data}' if data else ''}")
    return loaded._replace(samples=samples)


def _alignment_rows(config: RunConfig) -> dict[str, AlignmentData]:
    known: dict[str, AlignmentData] = {}
    found: dict[str, AlignmentData] = {}
    for subject in trained_subjects(config):
        data = {**config.data, **subject.data}
        identity = content_hash(data)
        if identity not in known:
            known[identity] = alignment_data(data, config.data_limit)
        found[subject.name] = known[identity]
    return found


def _overlap(plan: Plan) -> list[TaskOverlap]:
    rows = {row.key: row for data in plan.rows.values() for row in data.rows}
    if not rows:
        return []
    found = find_overlap(rows.values(), plan.samples(), plan.config.overlap.near)
    refuse_overlap(found, plan.config.overlap.max_share)
    return found


def _manifest(plan: Plan) -> dict[str, Any]:
    config = plan.config.model_dump(mode="json")
    analysts = {subject.analyst for subject in plan.config.subjects}
    decides = {name: value for name, value in config.items() if name not in IDENTIFIED_OTHERWISE | REPORTED | SPEED}
    decides["tasks"] = {
        name: {**{k: v for k, v in task.items() if k not in ("data", "judges")}, "spec": _answered(plan.tasks[name])}
        for name, task in config["tasks"].items()
    }
    decides["trainer"] = deciding(config["trainer"])
    decides["subjects"] = [
        {**{k: v for k, v in subject.items() if k != "base"}, "trainer": deciding(subject["trainer"])}
        for subject in config["subjects"]
    ]
    return {
        "schema_version": 1,
        "config": decides,
        "subject_bases": {s.name: _own_base(plan.config, s) for s in plan.config.subjects if s.base},
        "bases": {str(seed): weights_hash(folder) for seed, folder in plan.bases.items()},
        "models": {
            name: [m.backend, weights_hash(base_folder(m.path)) if m.path else None]
            for name, m in plan.config.models.items()
            if name in analysts
        },
        "templates": plan.templates.hash,
        "preparing_judges": {
            name: _preparing_key(plan.judges, name) for name in plan.config.prepare.judges
        },
        "samples": {name: content_hash([s.key for s in task.samples]) for name, task in plan.tasks.items()},
        "alignment_rows": {name: content_hash([r.key for r in data.rows]) for name, data in plan.rows.items()},
        "environment": {"harness": harness.__version__, "python": platform.python_version(), "config": config,
                        "libraries": _versions()},
    }  # fmt: skip


def _own_base(config: RunConfig, subject: SubjectConfig) -> str:
    """What identifies the model of its own that a subject answers with."""
    served = config.server_of(subject)
    return identity(served).weights if served else weights_hash(base_folder(subject.base or ""))


def _preparing_key(judges: Judges, name: str) -> str:
    """The identity of a judge of the preparation, its seats and models included."""
    judges.preparing(name)
    return panel_key(judges.panel(name))


def _answered(task: LoadedTask) -> dict[str, Any]:
    """What of a task's specification decides how its samples are answered."""
    return task.spec.model_dump(mode="json", include={"version", "style", "choices", "max_new_tokens"})


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = None
    return found


def seal(run: Run, plan: Plan) -> bool:
    """Starts the run in its folder, or confirms that the folder holds this very run.

    Returns:
        Whether the scores have to be made again because claims, layouts or notes are others than last time.

    Raises:
        UserError: The folder holds another run, or something else.
    """
    if imported(run):
        raise UserError(f"{run.path}: holds imported answers, which no model continues; choose another --out")
    _refuse_another(run, plan.config)
    run.seal(plan.manifest, plan.samples())
    before, now = run.manifest()["environment"]["config"], plan.manifest["environment"]["config"]
    changed = run.judging_file.exists() or any(before.get(name) != now[name] for name in REPORTED | {"models", "tasks"})
    if changed:
        run.note(plan.manifest)
    run.judging_file.unlink(missing_ok=True)  # the recipe says again who judges
    if plan.overlap:
        write_atomic(overlap_file(run), "".join(task.to_line() for task in plan.overlap))
    for subject, data in plan.rows.items():
        path = rows_file(run, subject)
        if not path.exists():
            write_atomic(path, "".join(row.to_line() for row in data.rows))
    return changed


def _refuse_another(run: Run, config: RunConfig) -> None:
    """Another recipe differs in more than anybody wants to read."""
    stored = run.manifest().get("config") if run.manifest_file.exists() else None
    name = stored.get("name", config.name) if isinstance(stored, dict) else config.name
    if name != config.name:
        raise UserError(f"{run.path}: holds a run of recipe '{name}', not '{config.name}'; choose another --out")


def overlap_file(run: Run) -> Path:
    """Where it stands which test items are among the alignment rows; absent where nothing trains."""
    return run.path / "train" / "overlap.jsonl"


def rows_file(run: Run, subject: str) -> Path:
    """Where a subject's frozen alignment rows stand."""
    return run.path / "train" / subject / "rows.jsonl"


def stored_config(run: Run, include_paths: Sequence[Path] | None = None) -> RunConfig:
    """The configuration that a run was started with, or that follows from what was imported into it.

    Args:
        run: The run.
        include_paths: Further content folders; where they are given, all of the run's tasks and judges must be found.

    Raises:
        UserError: The manifest does not hold one, or a task or judge of it cannot be found.
    """
    config = _stored_config(run)
    if include_paths is not None:
        _refuse_unknown(run, config, include_paths)
    return config


def _refuse_unknown(run: Run, config: RunConfig, include_paths: Sequence[Path]) -> None:
    """A name that is nowhere now was the user's own when the run was made."""
    added = [name for task in config.tasks.values() for name in task.judges]
    wanted: tuple[tuple[Kind, str, list[str]], ...] = (
        ("tasks", "*/task.yaml", list(config.tasks)),
        ("judges", "*/judge.yaml", [*config.judging.judges, *added]),
    )
    for kind, pattern, names in wanted:
        known = find(kind, pattern, include_paths)
        for name in names:
            if name not in known:
                raise UserError(
                    f"{run.path}: {unknown_name(kind.removesuffix('s'), name, known)}; "
                    f"if '{name}' is your own, give the --include-path DIR that the run was made with"
                )


def _stored_config(run: Run) -> RunConfig:
    try:
        config = imported_config(run) if imported(run) else _sealed_config(run)
        if not run.judging_file.exists():
            return config
        changes = json.loads(run.judging_file.read_text(encoding="utf-8"))
        tasks = {**config.model_dump()["tasks"], **changes.pop("tasks")}
        return RunConfig.model_validate({**config.model_dump(), **changes, "tasks": tasks})
    except (KeyError, TypeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{run.manifest_file}: holds no configuration of this version ({reason})") from None


def _sealed_config(run: Run) -> RunConfig:
    return RunConfig.model_validate(run.manifest()["environment"]["config"])


def keep_judging(run: Run, config: RunConfig, include_paths: Sequence[Path] | None = None) -> None:
    """Lets a run be judged as a configuration says from now on, whatever it was started with.

    Args:
        run: The run.
        config: Its configuration with other judges.
        include_paths: Further content folders; where they are given, all judges must be found.

    Raises:
        UserError: A judge is unknown, or it would be judged by a model that is under test itself.
    """
    if include_paths is not None:
        _refuse_unknown(run, config, include_paths)
    refuse_self_judges(config, stored_manifest(run), run)
    changes = config.model_dump(mode="json", include={*REJUDGED, "tasks"})
    write_atomic(run.judging_file, json.dumps(changes, indent=1, sort_keys=True) + "\n")


def read_rows_of(run: Run, subject: str) -> list[AlignmentRow]:
    """A subject's frozen alignment rows."""
    from harness.store import read

    return list(read(rows_file(run, subject), AlignmentRow).records)
