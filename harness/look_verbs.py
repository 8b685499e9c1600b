"""The verbs that look, and ask no model for an answer: report, show, plan, check, list. Registered by `harness.cli`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UserError
from harness.options import Include, Json, Judging, RunDir, Set

_YES = {True: "yes", False: "no", None: "not to be told"}


def report(
    path: RunDir,
    card: Annotated[bool, typer.Option("--card", help="Also a model card for every subject.")] = False,
    redact: Annotated[bool, typer.Option("--redact", help="Leave out all that a prompt, model or judge says.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the report [default: report/ in the run].")] = None,
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Write a scored run's report again: the page with its sample browser, tables, figures, claims.json, cards."""
    from harness.reporting.card import write_cards
    from harness.reporting.report import report_run
    from harness.stages.rescore import stored_scores
    from harness.store import Run

    target, includes = Run.open(path), include_path or []
    scores = stored_scores(target)
    folder = out or target.report_dir
    with target.lock():
        files = report_run(target, scores, includes, redact=redact, out=folder)
        files += write_cards(target, scores, folder, includes) if card else []
    if as_json:
        print(json.dumps({"report": str(folder / "index.html"), "files": [str(file) for file in files]}, indent=1))
    else:
        print(f"{len(files)} files; open {folder / 'index.html'}")


def show(path: RunDir, include_path: Include = None, as_json: Json = False) -> None:
    """Say where a run stands: what is done, what is missing and why."""
    from harness.stages.status import status
    from harness.store import Run

    state = status(Run.open(path), include_path or [])
    if as_json:
        print(json.dumps(state, indent=1))
        return
    from harness.terminal import print_status

    print_status(state)


def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe, or the folder of a run whose answers are to be judged.")],
    judging: Judging = None,
    set_: Set = None,
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Say what a run would do, cost and detect, or what judging a run's answers would cost, before anything is done."""
    from harness.recipe import load_config
    from harness.stages.forecast import forecast
    from harness.stages.plan import make_plan
    from harness.store import Run
    from harness.terminal import print_forecast, show_bill

    includes = include_path or []
    if (Path(recipe) / "manifest.json").is_file():
        return show_bill(Run.open(Path(recipe)), judging, set_, includes, as_json)
    if judging is not None:
        raise UserError(f"--judging goes with the folder of a run; in the recipe '{recipe}' say it with --set")
    found = forecast(make_plan(load_config(recipe, set_ or []), includes), includes)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    print_forecast(found)


def check(
    recipe: Annotated[str | None, typer.Argument(help="A recipe to check besides the content folders.")] = None,
    set_: Set = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask the recipe's servers what they can; costs pennies.")
    ] = False,
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Check recipes, tasks, judges (gold cases) and layouts without any model; with --probe, what servers can do."""
    from harness.check import check_all, probe_servers

    if probe and recipe is None:
        raise UserError("--probe asks the servers of a recipe: name one, such as: harness check pku_saferlhf --probe")
    problems, n_checked = check_all(recipe, set_ or [], include_path or [])
    servers = probe_servers(recipe, set_ or []) if probe and recipe is not None else {}
    if as_json:
        print(json.dumps({"checked": n_checked, "problems": problems, "servers": servers}, indent=1))
    else:
        for name, features in servers.items():
            told = ", ".join(f"{feature} {_YES[works]}" for feature, works in features.items())
            print(f"{name}: {told}")
        for problem in problems:
            print(problem)
        print(f"{sum(n_checked.values())} checked ({_counts(n_checked)}), {len(problems)} problems")
    raise typer.Exit(1 if problems else 0)


def list_(
    kind: Annotated[
        str, typer.Argument(help="recipes, methods, tasks, judges, layouts, templates, trainers, formats, policies.")
    ],
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """List what there is of one kind, with a line on each."""
    from harness.catalogue import catalogue

    found = catalogue(kind, include_path or [])
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    width = max(map(len, found), default=0)
    for name, text in found.items():
        print(f"{name:<{width}}  {text}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items())


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    for verb in (report, show, plan, check):
        app.command()(verb)
    app.command("list")(list_)
