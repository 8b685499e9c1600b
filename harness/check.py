"""Check everything that can be checked without a model: recipes, tasks, judges by their gold cases, layouts, templates.

Reads content and configuration, writes nothing. A problem is a line of text; none means that a run can start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from harness.clients.probe import probe
from harness.content import find
from harness.deciding.policy import load_policy, policy_names
from harness.errors import UserError
from harness.judging import check_cases
from harness.judging.folders import judge_names
from harness.prompting import FOLDER, load_templates
from harness.recipe import load_config, recipe_names
from harness.stages.feasible import missing_programs
from harness.stages.judge_models import server_of
from harness.stages.plan import make_plan
from harness.stages.score import check_claims
from harness.tasks import load_spec, task_names


def check_all(
    recipe: str | None, overrides: Sequence[str], include_paths: Sequence[Path]
) -> tuple[list[str], dict[str, int]]:
    """All problems, and how many things of each kind were checked.

    Args:
        recipe: A recipe whose whole plan (data, base, tasks) is checked; without one, recipes are only read.
        overrides: ``--set`` values for it.
        include_paths: Further content folders.
    """
    problems: list[str] = []
    counts: dict[str, int] = {}

    def each(kind: str, names: Iterable[str], look: Callable[[str], Iterable[str]]) -> None:
        for name in names:
            counts[kind] = counts.get(kind, 0) + 1
            try:
                problems.extend(look(name))
            except UserError as error:
                problems.append(str(error))

    each("recipes", recipe_names(), lambda name: (load_config(name), ())[1])
    each("template sets", sorted(p.stem for p in FOLDER.glob("*.yaml")), lambda name: (load_templates(name), ())[1])
    each("tasks", task_names(include_paths), lambda name: (load_spec(name, include_paths), ())[1])
    each("judges", judge_names(include_paths), lambda name: check_cases(name, include_paths))
    each("layouts", sorted(find("reports", "layouts/*.yaml", include_paths)), lambda name: _layout(name, include_paths))
    each("policies", policy_names(), lambda name: (load_policy(name), ())[1])
    if recipe is not None:
        each("plans", [recipe], lambda name: _plan(name, overrides, include_paths))
    return problems, counts


def probe_servers(recipe: str, overrides: Sequence[str]) -> dict[str, dict[str, bool | None]]:
    """Asks every server that a recipe names a few tiny questions: model → feature → whether it works.

    Raises:
        UserError: A server cannot be asked.
    """
    models = load_config(recipe, overrides).models
    return {name: probe(server_of(model)) for name, model in models.items() if model.remote}


def _layout(name: str, include_paths: Sequence[Path]) -> Iterable[str]:
    from harness.reporting.layout import load_layout

    load_layout(name, include_paths)
    return ()


def _plan(name: str, overrides: Sequence[str], include_paths: Sequence[Path]) -> Iterable[str]:
    plan = make_plan(load_config(name, overrides), include_paths)
    check_claims(plan.config, [metric for task in plan.tasks.values() for metric in task.spec.metrics])
    return missing_programs(plan.config)
