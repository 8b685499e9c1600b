"""The verbs of training alone: train what a recipe says, or hand its training data to another trainer.

Both work in a run's folder, so that nothing is made twice: ``harness run`` with the same recipe goes on from there.
Registered by `harness.cli`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import UserError, unknown_name
from harness.options import Include, Json, Out, Recipe, Set

if TYPE_CHECKING:
    from harness.stages.execute import Job
    from harness.stages.plan import Plan
    from harness.stages.training import Training
    from harness.store import Run
    from harness.trainers.external_settings import FormatName

Seeds = Annotated[list[int] | None, typer.Option("--seed", help="Only this seed; repeatable.")]


def train(
    recipe: Recipe,
    subject: Annotated[list[str] | None, typer.Option(help="Only this subject or method; repeatable.")] = None,
    seed: Seeds = None,
    set_: Set = None,
    out: Out = None,
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Train what a recipe says and score nothing; `harness run` with the same recipe goes on from there. Resumes."""
    from harness.progress import progress
    from harness.stages.execute import train as train_jobs
    from harness.stages.feasible import refuse_missing_programs
    from harness.stages.plan import seal
    from harness.stages.training import trainings, wanted

    includes = include_path or []
    target, plan = _plan(recipe, set_, out, includes)
    jobs = wanted(plan.config, subject or [], seed or [])
    refuse_missing_programs(plan.config, target, jobs)
    with target.lock():
        seal(target, plan)
        with progress() as display:
            train_jobs(target, plan, jobs, includes, display.tell)
        done = trainings(target, jobs)
    if as_json:
        print(json.dumps([_told(one) for one in done], indent=1))
    else:
        print("\n".join(map(_line, done)))


def export_data(
    method: Annotated[str, typer.Argument(help="A method, or a subject of the recipe, such as ma-self-self.")],
    recipe: Annotated[str, typer.Argument(help="The recipe that says how its data are made, or a run's folder.")],
    format_: Annotated[
        str | None, typer.Option("--format", help="See: harness list formats [default: TRL's for the method].")
    ] = None,
    seed: Seeds = None,
    set_: Set = None,
    run: Annotated[Path | None, typer.Option(help="Where data are made [default: runs/<recipe name>].")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the file [default: export/ in the run].")] = None,
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Make a method's training data and write them in a format that another trainer reads."""
    from harness.stages.plan import stored_config
    from harness.stages.training import export_data as export
    from harness.stages.training import has_data, wanted
    from harness.store import Run

    name, includes = _format(format_), include_path or []
    stored = (Path(recipe) / "manifest.json").is_file()
    if stored and (set_ or run):
        raise UserError(f"{recipe} is a run, which is as it is: --set and --run go with a recipe")
    target, plan = (Run.open(Path(recipe)), None) if stored else _plan(recipe, set_, run, includes)
    config = plan.config if plan else stored_config(target)
    jobs = wanted(config, [method], seed or [])
    if len({job.subject for job in jobs}) > 1:
        names = ", ".join(dict.fromkeys(job.subject for job in jobs))
        raise UserError(f"several subjects of the recipe are made by {method}: name one of {names}")
    if out is not None and len(jobs) > 1:
        raise UserError(f"--out is for one file, and there are {len(jobs)} seeds: say which with --seed")
    with target.lock():
        if plan is not None:
            _make_data(target, plan, jobs, includes)
        if missing := [job for job in jobs if not has_data(target, job)]:
            raise UserError(f"{target.path}: the data of {missing[0].subject}, seed {missing[0].seed} are not made yet")
        found = [export(target, config, job, name, out) for job in jobs]
    if as_json:
        print(json.dumps([{**one._asdict(), "path": str(one.path)} for one in found], indent=1))
        return
    for one in found:
        left_out = f", {one.n_left_out} records left out (in no pair)" if one.n_left_out else ""
        print(f"{one.path}: {one.n_rows} rows, {one.format}{left_out}")


def _plan(recipe: str, set_: list[str] | None, out: Path | None, includes: list[Path]) -> tuple[Run, Plan]:
    from harness.recipe import load_config
    from harness.stages.plan import make_plan
    from harness.store import Run

    config = load_config(recipe, set_ or [])
    return Run(out or Path("runs") / config.name), make_plan(config, includes)


def _make_data(target: Run, plan: Plan, jobs: list[Job], includes: list[Path]) -> None:
    from harness.progress import progress
    from harness.stages.execute import make_data
    from harness.stages.plan import seal
    from harness.stages.training import has_data

    seal(target, plan)
    owed = [job for job in jobs if not has_data(target, job)]
    if owed:
        with progress() as display:
            make_data(target, plan, owed, includes, display.tell)


def _format(name: str | None) -> FormatName | None:
    from harness.trainers.export import FORMATS

    if name is None:
        return None
    for known in FORMATS:
        if known == name:
            return known
    raise unknown_name("format", name, list(FORMATS))


def _told(one: Training) -> dict[str, object]:
    return {**one._asdict(), "checkpoint": str(one.checkpoint)}


def _line(one: Training) -> str:
    parts = [f"{one.metrics['n_steps']:.0f} steps"] if "n_steps" in one.metrics else []
    told = "reward" if "reward_first" in one.metrics else "loss"  # a policy's loss is zero by its construction
    if {f"{told}_first", f"{told}_last"} <= one.metrics.keys():
        parts.append(f"{told} {one.metrics[f'{told}_first']:.3g} to {one.metrics[f'{told}_last']:.3g}")
    if one.seconds is not None:
        parts.append(f"{one.seconds:.0f} s")
    if "cost_usd" in one.metrics:
        parts.append(f"{one.metrics['cost_usd']:.2f} USD")
    return f"{one.checkpoint}: {', '.join(parts) or 'trained'}"


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    app.command()(train)
    app.command("export-data")(export_data)
