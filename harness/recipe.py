"""Reading a recipe: one YAML file, read strictly, with ``--set`` on top; or other judges for a run that stands."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.blocks import PrepareConfig
from harness.config import RunConfig
from harness.content import PACKAGE, read_yaml
from harness.errors import UserError, unknown_name
from harness.invalid import told
from harness.trainers import TrainerSettings


def with_budget(config: RunConfig, budget_usd: float | None) -> RunConfig:
    """The configuration with a budget for this start, where one is given."""
    if budget_usd is None:
        return config
    return config.model_copy(update={"throughput": config.throughput.model_copy(update={"budget_usd": budget_usd})})


def recipe_names() -> list[str]:
    """The built-in recipes."""
    return sorted(path.stem for path in (PACKAGE / "recipes").glob("*.yaml"))


def recipe_path(name_or_path: str) -> Path:
    """A built-in recipe by name, or a YAML file by path."""
    path = PACKAGE / "recipes" / f"{name_or_path}.yaml"
    if path.is_file():
        return path
    if Path(name_or_path).is_file():
        return Path(name_or_path)
    raise unknown_name("recipe", name_or_path, recipe_names())


def load_config(name_or_path: str, overrides: Sequence[str] = ()) -> RunConfig:
    """A recipe with the ``--set`` values on top.

    Args:
        name_or_path: A built-in recipe's name or a YAML file.
        overrides: ``path.to.field=value`` each; the value is read as YAML.

    Raises:
        UserError: Anything in it that is not as it should be.
    """
    path = recipe_path(name_or_path)
    data = _read(path, "name, subjects, trainer, prepare, tasks")
    for override in overrides:
        _apply(data, override)
    if isinstance(data.get("tasks"), dict):  # a task set to null is dropped
        data["tasks"] = {name: task for name, task in data["tasks"].items() if task is not None}
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: {told(error, RunConfig)}") from None
    if recorded := [subject.name for subject in config.subjects if subject.method == "recorded"]:
        raise UserError(f"{path}: subjects.{recorded[0]}: answers that exist already come in with: harness import")
    return config


def bare_config() -> RunConfig:
    """A configuration with models and judges alone, for judging what belongs to no run."""
    nothing = PrepareConfig(mistake_judge=("none", "none"), analysis_judge="none")
    return RunConfig(name="judging", subjects=(), trainer=TrainerSettings(steps=1), prepare=nothing, tasks={})


REJUDGED = ("models", "judging", "throughput")
"""The blocks that may change on a run whose answers stand."""


def rejudged(config: RunConfig, file: Path | None, overrides: Sequence[str]) -> RunConfig:
    """A run's configuration with other judges.

    Args:
        config: What the run has.
        file: YAML with any of the blocks ``models``, ``judging`` and ``throughput``, each replacing the run's.
        overrides: ``--set`` values within these blocks, or ``tasks.NAME.judges``.

    Raises:
        UserError: Anything that is not as it should be, or would change the answers.
    """
    data = config.model_dump(mode="json")
    given = _read(file, ", ".join(REJUDGED)) if file is not None else {}
    if foreign := [name for name in given if name not in REJUDGED]:
        near = get_close_matches(str(foreign[0]), REJUDGED, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise UserError(
            f"{file}: {foreign[0]}: only {', '.join(REJUDGED)} may change on a run whose answers stand{hint}"
        )
    data.update(given)
    for override in overrides:
        parts = override.partition("=")[0].split(".")
        if parts[0] not in REJUDGED and not (parts[0] == "tasks" and parts[2:] == ["judges"]):
            raise UserError(f"--set {override}: only {', '.join(REJUDGED)} and tasks.NAME.judges may change here")
        _apply(data, override)
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{file or '--set'}: {told(error, RunConfig)}") from None


def _read(path: Path, needed: str) -> dict[str, Any]:
    """A YAML file of the user's, which must hold something."""
    if path.is_file() and not any(line.partition(b"#")[0].strip() for line in path.read_bytes().splitlines()):
        raise UserError(f"{path}: is empty; a mapping of names to values is needed here ({needed})")
    return read_yaml(path)


def _apply(data: dict[str, Any], override: str) -> None:
    import yaml

    field, equals, value = override.partition("=")
    if not equals or not field:
        raise UserError(f"--set {override}: write it as field=value, such as base=DIR or tasks.vale_helpful.limit=50")
    *parents, last = field.split(".")
    block: Any = data
    for name in parents:
        block = block.setdefault(name, {}) if isinstance(block, dict) else _entry(block, name, field)
        if block is None:
            raise UserError(f"--set {field}: '{name}' holds no fields")
    if not isinstance(block, dict):
        raise UserError(f"--set {field}: '{parents[-1]}' holds no fields")
    try:
        block[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        block[last] = value


def _entry(block: Any, name: str, field: str) -> Any:
    """An entry of a list of named blocks, such as ``subjects.sft``."""
    named = {entry.get("name"): entry for entry in block if isinstance(entry, dict)} if isinstance(block, list) else {}
    if name not in named:
        raise UserError(f"--set {field}: {unknown_name('entry', name, (str(n) for n in named))}")
    return named[name]
