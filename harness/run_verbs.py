"""The verbs that do a run's work: run, judge, import, score. Registered by `harness.cli`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.options import INCOMPLETE, Budget, Include, Json, Judging, Out, Recipe, RunDir, Set


def run(
    recipe: Recipe,
    set_: Set = None,
    out: Out = None,
    budget_usd: Budget = None,
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Do everything a recipe says: train, answer, judge, score, report. The same command resumes."""
    from harness.progress import progress
    from harness.recipe import load_config, with_budget
    from harness.scores import Scores
    from harness.stages.execute import execute
    from harness.stages.feasible import refuse_missing_programs
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
    refuse_missing_programs(config, target, ((one.name, seed) for one in config.subjects for seed in config.seeds))
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
    from harness.terminal import show_bill

    target, includes = Run.open(path), include_path or []
    if only_plan:
        return show_bill(target, judging, set_, includes, as_json)
    with target.lock():
        config = rejudged(stored_config(target, includes), judging, set_ or [])
        _require_keys(config)
        if judging is not None or set_:
            keep_judging(target, config, includes)  # first: a start that is cut short goes on in the same way
        n_new, n_failed = judge_owed(target, with_budget(config, budget_usd), includes, as_json)
        print(f"{n_new} new verdicts", file=sys.stderr)
        _score_and_report(target, includes, as_json)
        _leave(n_failed)


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
        _, n_failed = judge_owed(target, stored_config(target), includes, as_json)
        _score_and_report(target, includes, as_json, summary)
        _leave(n_failed)


def score(path: RunDir, include_path: Include = None, as_json: Json = False) -> None:
    """Compute a run's scores and report again from its records, finished or not."""
    from harness.store import Run

    target = Run.open(path)
    with target.lock():
        _score_and_report(target, include_path or [], as_json)


def _require_keys(config: Any) -> None:
    """Refuses judges whose servers' keys are not set, before anything is written."""
    from harness.clients.wire import api_key
    from harness.stages.judge_models import server_of

    named = [judge.models or () for judge in (config.judging, *config.judging.judges.values())]
    for name in dict.fromkeys(name for names in named for name in names):
        if config.models[name].remote:
            api_key(server_of(config.models[name]))


def judge_owed(target: Any, config: Any, includes: list[Path], as_json: bool) -> tuple[int, int]:
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


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    for verb in (run, judge, score):
        app.command()(verb)
    app.command("import")(import_)
