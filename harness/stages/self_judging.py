"""Whether a judge asks the very model that is under test, which is refused unless the recipe allows it, or one of its
family, which is told.

Reads the configuration, and the manifest, cells and imports of a run. Two models are the same where their weights have
the same hash; where one side is only a name (a server's model, recorded answers), where the names are the same but for
provider, folder, case and date: ``openai/gpt-4o-2024-08-06`` is ``gpt-4o``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.blocks import SubjectConfig
from harness.config import RunConfig
from harness.errors import UserError
from harness.importing.log import imports_of
from harness.methods import method_trains
from harness.records import Cell
from harness.sources import WORLD_ORACLE, base_folder
from harness.stages.family import checkpoint_families, named_families
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
    """What tells a model from others: the hash of its weights where they lie here, names that it may have, families."""

    weights: str | None
    names: frozenset[str]
    families: frozenset[str] = frozenset()

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
    bound = _bound(config)
    if not bound:
        return []
    tested = _tested(config, manifest, run)
    judges = {name: _model(config, name) for name in bound}
    firsts = {
        name: next((whose for whose, model in tested if model.is_(judge)), None) for name, judge in judges.items()
    }
    return [SelfJudge(name, whose) for name, whose in firsts.items() if whose is not None]


def family_notes(config: RunConfig, manifest: Mapping[str, Any], run: Run | None = None) -> list[str]:
    """A caveat for each judge's and analyst's model that is of the family of a model under test; arguments as above.

    What judges itself is left out, for it is told or refused as that, and so is a model that analyses its own mistakes.
    """
    trained = [subject for subject in config.subjects if method_trains(subject.method)]
    analysts = dict.fromkeys(s.analyst for s in trained if s.analyst is not None and s.analyst in config.models)
    asked = [(name, "judges", "a judge may favour answers of its own family") for name in _bound(config)]
    asked += [(name, "analyses mistakes", "it may share the blind spots of its family") for name in analysts]
    if not asked:
        return []
    tested, notes = _tested(config, manifest, run), []
    for name, does, caveat in asked:
        model = _model(config, name)
        if any(other.is_(model) for _, other in tested):
            continue
        kin = [
            (whose, ", ".join(shared)) for whose, other in tested if (shared := sorted(model.families & other.families))
        ]
        if kin:
            whose, families = kin[0]
            notes.append(f"Same family ({families}): model '{name}', which {does}, and {whose}; {caveat}.")
    return notes


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
    """What a report says where a model judged itself, its answers or its own training data, or its kin."""
    manifest = stored_manifest(run)
    found = {one.model: one for one in self_judges(config, manifest, run)}
    notes = [f"Judged by itself: {one}; a model's judgments of itself may favour it." for one in found.values()]
    preparing = dict.fromkeys(config.prepare.judges)
    trains = any(method_trains(subject.method) for subject in config.subjects)
    own = [(judge, m) for judge in preparing for m in config.judging.of(judge).models or () if trains and m in found]
    notes += [f"Training data judged by itself: {judge} asks {found[model]}." for judge, model in own]
    return [*notes, *family_notes(config, manifest, run)]


def _bound(config: RunConfig) -> dict[str, None]:
    """The models that judges are put to, each once."""
    judging = config.judging
    return dict.fromkeys([*judging.models, *(m for judge in judging.judges.values() for m in judge.models or ())])


def _tested(config: RunConfig, manifest: Mapping[str, Any], run: Run | None) -> list[tuple[str, _Known]]:
    """The models under test: whose each is, and how it is known."""
    return [*_bases(config, manifest), *(_answered(run) if run is not None else ())]


def _model(config: RunConfig, name: str) -> _Known:
    """A model of the configuration."""
    model = config.models[name]
    if model.remote:
        return _named(model.model or "")
    if model.backend == WORLD_ORACLE or model.path is None:
        return _Known(None, frozenset())
    folder = _folder(model.path)
    weights = folder_hash(folder) if folder.is_dir() else None
    return _Known(weights, frozenset({_plain(model.path)}), checkpoint_families(folder))


def _named(*names: str) -> _Known:
    """A model that only names tell."""
    known = frozenset(alias for name in names if name for alias in (name, _plain(name)))
    return _Known(None, known, frozenset(family for name in known for family in named_families(name)))


def _bases(config: RunConfig, manifest: Mapping[str, Any]) -> Iterator[tuple[str, _Known]]:
    """The models that training begins from or that answer as they are: whose each is, and how it is known."""
    paths = dict(zip(config.seeds, config.base * (len(config.seeds) if len(config.base) == 1 else 1), strict=False))
    for seed, weights in manifest.get("bases", {}).items():
        yield f"the base of seed {seed}", _local(weights, paths.get(int(seed)))
    subjects: dict[str, SubjectConfig] = {subject.name: subject for subject in config.subjects}
    for name, weights in manifest.get("subject_bases", {}).items():
        base = subjects[name].base if name in subjects else None
        served = base is not None and base in config.models and config.models[base].remote
        yield f"the base of subject '{name}'", _model(config, base) if served and base else _local(weights, base)


def _local(weights: str, path: str | None) -> _Known:
    if path is None:
        return _Known(weights, frozenset())
    names = frozenset({_plain(path), str(Path(path).resolve())})
    return _Known(weights, names, checkpoint_families(_folder(path)))


def _folder(path: str) -> Path:
    """Where a checkpoint lies, or lay: the run may have outlived it."""
    try:
        return base_folder(path)
    except UserError:
        return Path(path)


def _answered(run: Run) -> Iterator[tuple[str, _Known]]:
    """The models that have answered."""
    for cell in latest(read(run.cells_file, Cell).records).values():
        whose = f"the model that answered as subject '{cell.subject}'"
        if cell.model.backend == "recorded":
            yield whose, _named(cell.model.weights)
        elif cell.model.backend == "openai":
            yield whose, _named(cell.model.weights.partition(" ")[0])  # a hash of further settings may follow the name
        else:
            folder = run.path / "train" / cell.subject / str(cell.seed) / "checkpoint"
            yield whose, _Known(cell.model.weights, frozenset({str(folder.resolve())}))
    for one in imports_of(run):
        whose = f"the model that answered as subject '{one.subject}'"
        yield whose, _named(one.generator, one.name, one.label or "")


def _plain(name: str) -> str:
    """A model's name without provider or folder, date and case."""
    return _DATE.sub("", name.rstrip("/").rpartition("/")[2].lower())
