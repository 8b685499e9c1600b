"""What there is of each kind (recipes, methods, tasks, judges, layouts, …), each with a line about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.content import find, named, read_yaml
from harness.errors import unknown_name

KINDS = ("recipes", "methods", "tasks", "judges", "layouts", "templates", "trainers", "formats", "policies")


def catalogue(kind: str, include_paths: Sequence[Path] = ()) -> dict[str, str]:
    """Name → one line, of one kind.

    Raises:
        UserError: There is no such kind.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    if kind == "methods":
        from harness.methods import METHODS

        return dict(METHODS)
    if kind == "trainers":
        from harness.trainers import TRAINERS

        return dict(TRAINERS)
    if kind == "formats":
        from harness.trainers.export import FORMATS

        return {name: form.about for name, form in FORMATS.items()}
    if kind == "recipes":
        from harness.recipe import recipe_names, recipe_path

        return {name: str(read_yaml(recipe_path(name)).get("description", "")) for name in recipe_names()}
    if kind == "policies":
        from harness.deciding.policy import load_policy, policy_names

        return {name: load_policy(name).policy.description for name in policy_names()}
    if kind == "templates":
        from harness.prompting import FOLDER

        return {path.stem: _first_comment(path) for path in sorted(FOLDER.glob("*.yaml"))}
    if kind == "layouts":
        return {
            name: str(read_yaml(path).get("title", ""))
            for name, path in sorted(find("reports", "layouts/*.yaml", include_paths).items())
        }
    if kind == "judges":
        return {
            name: str(read_yaml(path).get("description", ""))
            for name, path in sorted(find("judges", "*/judge.yaml", include_paths).items())
        }
    return {name: _readme(name, include_paths) for name in sorted(find("tasks", "*/task.yaml", include_paths))}


def _readme(task: str, include_paths: Sequence[Path]) -> str:
    path = named("tasks", "task", task, "*/task.yaml", include_paths).parent / "README.md"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.strip() for line in lines if line.strip() and not line.startswith("#")), "")


def _first_comment(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip()
