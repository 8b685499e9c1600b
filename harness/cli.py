"""The command line: one verb a job, each a few lines over the stages.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 bad input (one line says
what and how to mend it), 3 and 4 a gate that fails or cannot tell, 5 judgments are still owed (a budget was used up, or
calls failed), 130 interrupted. ``--json`` prints one JSON document instead of text, of an error too. Heavy libraries
are imported inside the verbs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from harness import __version__, decision_verbs, gate_verb, judge_verbs, train_verbs
from harness.errors import UserError

INTERRUPTED = 130
INCOMPLETE = 5
"""Exit code of a start that ended well but leaves judgments owed: a budget, or failed calls."""

_YES = {True: "yes", False: "no", None: "not to be told"}

app = typer.Typer(
    name="harness",
    help="Train aligned models, score them, and print the tables of a paper with their error bars.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
microworld_app = typer.Typer(help="The embedded world: rebuild its models.", no_args_is_help=True)
app.add_typer(microworld_app, name="microworld")

Recipe = Annotated[str, typer.Argument(help="A built-in recipe (see: harness list recipes) or a YAML file.")]
RunDir = Annotated[Path, typer.Argument(help="The run's folder, such as runs/demo.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="field=value on top of the recipe; repeatable.")]
Judging = Annotated[Path | None, typer.Option(help="YAML with the blocks models and judging.")]
Include = Annotated[
    list[Path] | None,
    typer.Option("--include-path", help="Folder with tasks/, judges/, reports/ of yours; its code is run. Repeatable."),
]
Budget = Annotated[
    float | None, typer.Option("--budget-usd", min=0, help="Stop cleanly before the run's calls cost more than this.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command()
def run(
    recipe: Recipe,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder [default: runs/<recipe name>].")] = None,
    budget_usd: Budget = None,
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Do everything a recipe says: train, answer, judge, score, report. The same command resumes."""
    from harness.progress import progress
    from harness.recipe import load_config, with_budget
    from harness.scores import Scores
    from harness.stages.execute import execute
    from harness.stages.judge_models import JudgeModels
    from harness.stages.judges import Judges
    from harness.stages.plan import make_plan, seal
    from harness.stages.score import check_claims
    from harness.store import Run

    config = with_budget(load_config(recipe, set_ or []), budget_usd)
    includes = include_path or []
    plan = make_plan(config, includes)
    check_claims(config, [metric for task in plan.tasks.values() for metric in task.spec.metrics])
    target = Run(out or Path("runs") / config.name)
    with target.lock():
        changed = seal(target, plan)
        judges = Judges(config, includes, JudgeModels(config, target, includes))
        with progress() as display, _owing(target, includes, as_json):
            done = execute(target, plan, judges, includes, display.tell)
        if not (done.worked or changed) and target.scores_file.exists() and (target.report_dir / "index.html").exists():
            print(f"nothing owed; the scores stand (make them again: harness score {target.path})", file=sys.stderr)
            _show_scores(target, Scores.model_validate_json(target.scores_file.read_text("utf-8")), includes, as_json)
        else:
            _score_and_report(target, includes, as_json)
        _leave(done.n_failed)


@app.command()
def judge(
    path: RunDir,
    judging: Judging = None,
    set_: Set = None,
    budget_usd: Budget = None,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Say what it would cost; ask nobody, write nothing.")
    ] = False,
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Judge a run's stored answers where a judge is new or has changed, without asking any model again; then score.

    With --judging or --set the run is judged that way from now on: by other models, more seats, a panel.
    """
    from harness.recipe import rejudged, with_budget
    from harness.stages.plan import keep_judging, stored_config
    from harness.store import Run

    target, includes = Run.open(path), include_path or []
    if only_plan:
        return _bill(target, judging, set_, includes, as_json)
    with target.lock():
        config = rejudged(stored_config(target, includes), judging, set_ or [])
        if judging is not None or set_:
            keep_judging(target, config, includes)  # first: a start that is cut short goes on in the same way
        n_new, n_failed = _judge(target, with_budget(config, budget_usd), includes, as_json)
        print(f"{n_new} new verdicts", file=sys.stderr)
        _score_and_report(target, includes, as_json)
        _leave(n_failed)


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="The run's folder, new or of earlier imports.")],
    task: Annotated[str, typer.Option(help="The task that was answered (see: harness list tasks).")],
    from_: Annotated[Path, typer.Option("--from", help="JSONL, JSON, CSV or Parquet; one file, one model.")],
    format_: Annotated[str, typer.Option("--format", help="auto, rows, lm-eval or alpaca-eval.")] = "auto",
    subject: Annotated[str | None, typer.Option(help="Name of the row, or which model of several to take.")] = None,
    label: Annotated[str | None, typer.Option(help="What the tables call it [default: the model's name].")] = None,
    judge: Annotated[str | None, typer.Option(help="Who gave the file's verdicts, or which judge to take.")] = None,
    data: Annotated[str | None, typer.Option(help="File with the items of a task that ships none.")] = None,
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Bring in answers and verdicts that exist already, judge and score them like our own. Repeat for more models."""
    from harness.importing import Wanted, prepare_import, write_import
    from harness.stages.plan import stored_config
    from harness.store import Run

    target, includes = Run(path), include_path or []
    wanted = Wanted(task, from_, format_, subject, label, judge, data)
    prepared = prepare_import(target, wanted, includes)
    with target.lock():
        summary = write_import(target, prepared)
        _, n_failed = _judge(target, stored_config(target), includes, as_json)
        _score_and_report(target, includes, as_json, summary)
        _leave(n_failed)


@app.command()
def score(path: RunDir, include_path: Include = None, as_json: Json = False) -> None:
    """Compute a run's scores and report again from its records, finished or not."""
    from harness.store import Run

    target = Run.open(path)
    with target.lock():
        _score_and_report(target, include_path or [], as_json)


@app.command()
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


@app.command()
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


@app.command()
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

    includes = include_path or []
    if (Path(recipe) / "manifest.json").is_file():
        return _bill(Run.open(Path(recipe)), judging, set_, includes, as_json)
    if judging is not None:
        raise UserError(f"--judging goes with the folder of a run; in the recipe '{recipe}' say it with --set")
    found = forecast(make_plan(load_config(recipe, set_ or []), includes), includes)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    from harness.terminal import print_forecast

    print_forecast(found)


@app.command()
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


@app.command("list")
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


@microworld_app.command()
def pretrain(
    seed: Annotated[int, typer.Argument(help="Of initialisation and corpus; 0 to 4 rebuild the shipped bases.")],
    out: Annotated[Path, typer.Option(help="Folder of the new base.")],
    steps: Annotated[int | None, typer.Option(help="Optimiser steps [default: the shipped bases' number].")] = None,
    threads: Annotated[int, typer.Option(help="Threads; the result is bit-identical for the same number.")] = 1,
) -> None:
    """Pretrain a base of the vale from nothing, and say whether it passes its gate."""
    from harness.microworld import pretrain as module

    total = steps or module.DEFAULT_STEPS

    def tell(step: int, loss: float) -> None:
        if step % 50 == 0 or step == total:
            print(f"step {step}/{total}, loss {loss:.3f}", file=sys.stderr, flush=True)

    report = module.pretrain(seed, out, total, threads=threads, progress=tell)
    print(report.text())


def _bill(
    target: Any, judging: Path | None, set_: list[str] | None, includes: list[Path], as_json: bool
) -> None:  # fmt: skip
    """Says what judging a run's stored answers would cost."""
    from harness.recipe import rejudged
    from harness.stages.bill import forecast_judging
    from harness.stages.plan import stored_config
    from harness.terminal import print_bill

    found = forecast_judging(target, rejudged(stored_config(target, includes), judging, set_ or []), includes)
    print(json.dumps(found, indent=1)) if as_json else print_bill(found)


def _judge(target: Any, config: Any, includes: list[Path], as_json: bool) -> tuple[int, int]:
    """Lets the judges of a run judge what they have not judged; how many verdicts are new, and how many failed."""
    from harness.importing import own_judges
    from harness.progress import progress
    from harness.records import Sample
    from harness.stages.judge import JudgeStage
    from harness.stages.judge_models import JudgeModels
    from harness.stages.judges import Judges
    from harness.stages.references import References
    from harness.store import read
    from harness.tasks import load_spec

    judges = Judges(config, includes, JudgeModels(config, target, includes))
    names = {task: own_judges(judges.able(load_spec(task, includes))) for task in config.tasks}
    members = {task: [member for name in each for member in judges.members(name)] for task, each in names.items()}
    samples = read(target.samples_file, Sample).records
    stage = JudgeStage(target, samples, members, References(target, config.judging.against))
    with progress() as display, _owing(target, includes, as_json), stage:
        n_new = stage.finish(lambda: display.tell({"verdicts": stage.progress()}))
    for line in stage.unreadable():
        print(f"harness: {line}", file=sys.stderr)
    return n_new, stage.n_failed


@contextmanager
def _owing(target: Any, includes: list[Path], as_json: bool) -> Iterator[None]:
    """Where a budget ends the judging, what was judged is scored all the same, and the exit code says it is not all."""
    from harness.clients.budget import BudgetReached

    try:
        yield
    except BudgetReached as reached:
        print(f"harness: {reached}", file=sys.stderr)
        _score_and_report(target, includes, as_json)
        raise typer.Exit(INCOMPLETE) from None


def _leave(n_failed: int) -> None:
    """Ends with the exit code of an incomplete run where judgments failed."""
    if n_failed:
        print(f"harness: {n_failed} judgments failed; the same command asks again (why: harness show)", file=sys.stderr)
        raise typer.Exit(INCOMPLETE)


def _score_and_report(target: Any, includes: list[Path], as_json: bool, summary: dict[str, Any] | None = None) -> None:
    from harness.reporting.report import report_run
    from harness.stages.loading import load
    from harness.stages.rescore import rescore

    loaded = load(target, includes)
    scores = rescore(target, includes, loaded)
    report_run(target, scores, includes, loaded)
    _show_scores(target, scores, includes, as_json, summary)


def _show_scores(
    target: Any, scores: Any, includes: list[Path], as_json: bool, summary: dict[str, Any] | None = None
) -> None:
    from harness.importing import told
    from harness.terminal import print_report

    if summary is not None:
        print(told(summary), file=sys.stderr)
    if as_json:
        found = {"scores": scores.model_dump(mode="json"), "report": str(target.report_dir / "index.html")}
        print(json.dumps(found if summary is None else {"import": summary, **found}, indent=1))
    else:
        print_report(target, scores, includes)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items())


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit()


decision_verbs.register(app)
gate_verb.register(app)
judge_verbs.register(app)
train_verbs.register(app)


def main() -> None:
    """The entry point: user errors in one line and exit code 1."""
    try:
        app()
    except UserError as error:
        print(f"harness: {error}", file=sys.stderr)
        if "--json" in sys.argv:
            print(json.dumps({"error": str(error)}))
        sys.exit(1)
    except SystemExit as left:
        if left.code == INTERRUPTED:  # typer turns Ctrl-C into it
            print("harness: interrupted; the same command resumes", file=sys.stderr)
        raise
