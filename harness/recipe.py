"""Reading a recipe: one YAML file, read strictly, with ``--set`` on top; or other judges for a run that stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config import ALIGNMENT_DATA, RunConfig
from harness.content import PACKAGE, read_yaml
from harness.errors import UserError, unknown_name
from harness.invalid import all_told, told
from harness.trainers import TrainerSettings

RECIPES = PACKAGE / "recipes"
REJUDGED = ("models", "judging", "throughput")
"""The blocks that may change on a run whose answers stand."""
UNDECIDING = {*REJUDGED, "baselines", "claims", "description", "layouts", "name", "notes", "overlap"}
"""The blocks that change no answer."""
_NO_NAME = re.compile(r"[/\\\x00-\x1f\x7f]")


def with_budget(config: RunConfig, budget_usd: float | None) -> RunConfig:
    """The configuration with a budget for this start, where one is given."""
    if budget_usd is None:
        return config
    return config.model_copy(update={"throughput": config.throughput.model_copy(update={"budget_usd": budget_usd})})


def recipe_names() -> list[str]:
    """The built-in recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipe_path(name_or_path: str) -> Path:
    """A built-in recipe by name, or a YAML file by path."""
    built_in, path = RECIPES / f"{name_or_path}.yaml", Path(name_or_path)
    if built_in.is_file():
        return built_in
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError(f"{name_or_path}: is a folder; a recipe is a YAML file or one of {', '.join(recipe_names())}")
    if path.suffix in (".yaml", ".yml") or "/" in name_or_path:
        hint = f"; the built-in recipe is called '{path.stem}'" if path.stem in recipe_names() else ""
        raise UserError(f"{name_or_path}: no such file{hint}")
    raise unknown_name("recipe", name_or_path, recipe_names())


def load_config(name_or_path: str, overrides: Sequence[str] = ()) -> RunConfig:
    """A recipe with the ``--set`` values on top.

    A built-in recipe that they change says so in front of its notes, which describe it as it ships.

    Args:
        name_or_path: A built-in recipe's name or a YAML file.
        overrides: ``path.to.field=value`` each; the value is read as YAML.

    Raises:
        UserError: Anything in it that is not as it should be, with the file or the ``--set`` that says it.
    """
    path = recipe_path(name_or_path)
    recipe = _read(path, "name, subjects, trainer, tasks")
    data = _overridden(recipe, overrides)
    if faults := _faults(recipe, data):
        raise UserError(_placed(faults[0], path, recipe, overrides))
    config = RunConfig.model_validate(data)
    built_in = path.resolve().parent == RECIPES.resolve()
    if not built_in or not config.notes or (changed := _changed(config, recipe, overrides)) == []:
        return config
    note = f"Changed from the recipe as it ships, which the notes below describe: {', '.join(changed)}."
    return config.model_copy(update={"notes": (note, *config.notes)})


def _overridden(recipe: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A recipe's data with ``--set`` values on top; a task that is null is dropped."""
    data = deepcopy(recipe)
    for override in overrides:
        _apply(data, override)
    if isinstance(data.get("tasks"), dict):
        data["tasks"] = {name: task for name, task in data["tasks"].items() if task is not None}
    return data


def _faults(recipe: dict[str, Any], data: dict[str, Any]) -> list[str]:
    """What is wrong with a recipe's data, the most telling first, each beginning with its field."""
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        return all_told(error, RunConfig)
    found = [
        f"subjects.{subject.name}: answers that exist already come in with: harness import"
        for subject in config.subjects
        if subject.method == "recorded"
    ]
    if not config.name or config.name[0] == "." or config.name.strip() != config.name or _NO_NAME.search(config.name):
        found.append(
            f"name: {config.name!r} names the run's folder, so it may not be empty, hold '/', '\\' or a line end, "
            "begin with a dot, or begin or end with a blank"
        )
    return [*found, *_unread(config, recipe)]


def _unread(config: RunConfig, recipe: dict[str, Any]) -> Iterator[str]:
    """Entries of ``data`` that nothing reads; those of a task that was dropped may stay where they are."""
    written = recipe.get("tasks")
    tasks = [task for task in written.values() if isinstance(task, dict)] if isinstance(written, dict) else []
    named = [*(task.data for task in config.tasks.values()), *(task.get("data") for task in tasks)]
    known = [*ALIGNMENT_DATA, *(name for name in dict.fromkeys(map(str, filter(None, named))) if name in config.data)]
    for name, value in config.data.items():
        if value is not None and name not in known:
            yield f"data.{name}: neither training nor a task of this run reads it: {_hint(name, known)}"
    for subject in config.subjects:
        for name, value in subject.data.items():
            if value is not None and name not in ALIGNMENT_DATA:
                where = f"subjects.{subject.name}.data.{name}"
                yield f"{where}: training does not read it: {_hint(name, ALIGNMENT_DATA)}"


def _hint(name: str, known: Sequence[str]) -> str:
    return str(unknown_name("entry", name, known)).partition(": ")[2]


def _placed(fault: str, path: Path, recipe: dict[str, Any], overrides: Sequence[str]) -> str:
    """A fault with where it stands: the ``--set`` without which it would not be there, or else the file."""
    blamed = []
    for index, override in enumerate(overrides):
        others = [*overrides[:index], *overrides[index + 1 :]]
        with suppress(UserError):  # the others cannot be followed without it
            if fault not in _faults(recipe, _overridden(recipe, others)):
                blamed.append(override.partition("=")[0])
    if not blamed:
        return f"{path}: {fault}"
    where = " and ".join(f"--set {field}" for field in dict.fromkeys(blamed))
    return f"{where}: {fault.removeprefix(f'{blamed[-1]}: ')}"


def _changed(config: RunConfig, recipe: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """The fields that decide results in which a configuration differs from its recipe.

    What the recipe leaves empty is for the user to fill; notes that the user wrote describe what is there.
    """
    fields = list(dict.fromkeys(override.partition("=")[0] for override in overrides))
    if "notes" in fields:
        return []
    before, now = (RunConfig.model_validate(_overridden(recipe, ())).model_dump(), config.model_dump())
    return [
        field
        for field in fields
        if field.split(".")[0] not in UNDECIDING
        and not (field.startswith("tasks.") and field.endswith(".judges"))
        and not _left_empty(_at(recipe, field, "absent"))
        and _at(before, field) != _at(now, field)
    ]


def _left_empty(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(map(_left_empty, value.values()))
    return value is None or value == []


def _at(block: Any, field: str, absent: Any = None) -> Any:
    """What a field such as ``subjects.sft.label`` holds; ``absent`` where there is none."""
    for name in field.split("."):
        named = block if isinstance(block, dict) else _by_name(block)
        if name not in named:
            return absent
        block = named[name]
    return block


def bare_config() -> RunConfig:
    """A configuration with models and judges alone, for judging what belongs to no run."""
    return RunConfig(name="judging", subjects=(), trainer=TrainerSettings(steps=1), tasks={})


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
    named = _by_name(block)
    if name not in named:
        raise UserError(f"--set {field}: {unknown_name('entry', name, (str(n) for n in named))}")
    return named[name]


def _by_name(block: Any) -> dict[Any, Any]:
    """The entries of a list of named blocks; none of anything else."""
    entries = block if isinstance(block, list | tuple) else ()
    return {entry.get("name"): entry for entry in entries if isinstance(entry, dict)}
