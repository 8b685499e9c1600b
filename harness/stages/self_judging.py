"""Whether a judge asks the very model that is under test, which is refused unless the recipe allows it.

Reads the configuration, and the manifest, cells and imports of a run. Two models are the same where their weights have
the same hash; where one side is only a name (a server's model, recorded answers), where the names are the same but for
provider, folder, case and date: ``openai/gpt-4o-2024-08-06`` is ``gpt-4o``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.config import RunConfig, SubjectConfig
from harness.errors import UserError
from harness.importing.log import imports_of
from harness.methods import method_trains
from harness.records import Cell
from harness.sources import WORLD_ORACLE, base_folder
from harness.stages.judge_models import folder_hash
from harness.store import Run, latest, read

_DATE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|latest)$")


class SelfJudge(NamedTuple):
    """A judge's model, by its name under ``models``, and which model under test it is."""

    model: str
    whose: str

    def __str__(self) -> str:
        return f"model '{self.model}' is {self.whose}"


class _Known(NamedTuple):
    """What tells a model from others: the hash of its weights where they lie here, and names that it may have."""

    weights: str | None
    names: frozenset[str]

    def is_(self, other: _Known) -> bool:
        """Whether it is the same model."""
        if self.weights is not None and other.weights is not None:
            return self.weights == other.weights
        return bool(self.names & other.names)


def self_judges(config: RunConfig, manifest: Mapping[str, Any], run: Run | None = None) -> list[SelfJudge]:
    """The models that judge and are themselves under test, each once.

    Args:
        config: The configuration, whose ``judging`` block names the models that judge.
        manifest: The run's manifest, or the one that it will have.
        run: The run, where there is one, for the models that have answered.
    """
    judging = config.judging
    bound = dict.fromkeys([*judging.models, *(m for judge in judging.judges.values() for m in judge.models or ())])
    if not bound:
        return []
    tested = [*_bases(config, manifest), *(_answered(run) if run is not None else ())]
    judges = {name: _judge(config, name) for name in bound}
    firsts = {
        name: next((whose for whose, model in tested if model.is_(judge)), None) for name, judge in judges.items()
    }
    return [SelfJudge(name, whose) for name, whose in firsts.items() if whose is not None]


def refuse_self_judges(config: RunConfig, manifest: Mapping[str, Any], run: Run | None = None) -> None:
    """Raises a `UserError` where a judge's model is under test and the recipe does not allow that."""
    if not config.judging.allow_self and (found := self_judges(config, manifest, run)):
        raise UserError(
            f"judging: {found[0]} and would judge itself; name another model, or allow it with "
            "--set judging.allow_self=true (the report then says so)"
        )


def stored_manifest(run: Run) -> dict[str, Any]:
    """The manifest of a run; empty where it has none yet."""
    return run.manifest() if run.manifest_file.exists() else {}


def self_judging_notes(config: RunConfig, run: Run) -> list[str]:
    """What a report says where a model judged itself: its answers, or the mistakes in its own training data."""
    found = {one.model: one for one in self_judges(config, stored_manifest(run), run)}
    notes = [f"Judged by itself: {one}; a model's judgments of itself may favour it." for one in found.values()]
    preparing = dict.fromkeys((config.prepare.mistake_judge[0], config.prepare.analysis_judge))
    trains = any(method_trains(subject.method) for subject in config.subjects)
    own = [(judge, m) for judge in preparing for m in config.judging.of(judge).models or () if trains and m in found]
    return [*notes, *(f"Training data judged by itself: {judge} asks {found[model]}." for judge, model in own)]


def _judge(config: RunConfig, name: str) -> _Known:
    model = config.models[name]
    if model.remote:
        return _Known(None, frozenset({model.model, _plain(model.model)} if model.model else ()))
    if model.backend == WORLD_ORACLE or model.path is None:
        return _Known(None, frozenset())
    return _Known(folder_hash(base_folder(model.path)), frozenset({_plain(model.path)}))


def _bases(config: RunConfig, manifest: Mapping[str, Any]) -> Iterator[tuple[str, _Known]]:
    """The models that training begins from or that answer as they are: whose each is, and how it is known."""
    paths = dict(zip(config.seeds, config.base * (len(config.seeds) if len(config.base) == 1 else 1), strict=False))
    for seed, weights in manifest.get("bases", {}).items():
        yield f"the base of seed {seed}", _local(weights, paths.get(int(seed)))
    subjects: dict[str, SubjectConfig] = {subject.name: subject for subject in config.subjects}
    for name, weights in manifest.get("subject_bases", {}).items():
        yield f"the base of subject '{name}'", _local(weights, subjects[name].base if name in subjects else None)


def _local(weights: str, path: str | None) -> _Known:
    return _Known(weights, frozenset() if path is None else frozenset({_plain(path), str(Path(path).resolve())}))


def _answered(run: Run) -> Iterator[tuple[str, _Known]]:
    """The models that have answered."""
    for cell in latest(read(run.cells_file, Cell).records).values():
        whose = f"the model that answered as subject '{cell.subject}'"
        if cell.model.backend == "recorded":
            yield whose, _Known(None, frozenset({_plain(cell.model.weights)}))
        else:
            folder = run.path / "train" / cell.subject / str(cell.seed) / "checkpoint"
            yield whose, _Known(cell.model.weights, frozenset({str(folder.resolve())}))
    for one in imports_of(run):
        whose = f"the model that answered as subject '{one.subject}'"
        yield whose, _Known(None, frozenset(_plain(name) for name in (one.generator, one.name, one.label or "")))


def _plain(name: str) -> str:
    """A model's name without provider or folder, date and case."""
    return _DATE.sub("", name.rstrip("/").rpartition("/")[2].lower())
