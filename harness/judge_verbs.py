"""The verbs about judges: fit one, calibrate one, see it drift, label answers for one. Registered by `harness.cli`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.options import INCOMPLETE, Budget, Include, Json, Judging

Set = Annotated[list[str] | None, typer.Option("--set", help="models.… and judging.… values; repeatable.")]
Columns = Annotated[str, typer.Option(help="The file's columns: prompt=…,response=…,label=…[,cluster=…].")]
LabelValues = Annotated[str, typer.Option("--labels", help="What the file's values mean: harmful=1,harmless=0.")]


def calibrate(
    judge: Annotated[str, typer.Argument(help="A judge (see: harness list judges), or a name for recorded verdicts.")],
    labels: Annotated[Path, typer.Argument(help="Human labels: JSONL, JSON, CSV or Parquet.")],
    columns: Columns = "",
    label_values: LabelValues = "",
    positive: Annotated[str | None, typer.Option(help="The label that sensitivity is about.")] = None,
    by: Annotated[list[str] | None, typer.Option(help="A further column to slice by; repeatable.")] = None,
    verdict_column: Annotated[
        str | None, typer.Option(help="A column with recorded verdicts; nothing is asked.")
    ] = None,
    verdict_values: Annotated[str, typer.Option(help="What they mean: harmful=10,harmless=*.")] = "",
    judging: Judging = None,
    set_: Set = None,
    budget_usd: Budget = None,
    out: Annotated[Path, typer.Option(help="Where calibrations are kept.")] = Path("calibrations"),
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Measure a judge against human labels: confusion, kappa, sensitivity, specificity, by slice. Resumes."""
    from harness.calibration.calibrate import calibrate_recorded
    from harness.calibration.labels import Reading, pairs_of, read_labels
    from harness.calibration.told import told
    from harness.recipe import bare_config, rejudged, with_budget

    reading = Reading(
        columns=dict(pairs_of("--columns", columns)),
        labels={value: name for name, value in pairs_of("--labels", label_values)},
        positive=positive,
        parts=tuple(by or ()),
        verdict=verdict_column,
        verdicts={value: name for name, value in pairs_of("--verdict-values", verdict_values)},
    )
    read = read_labels(labels, reading)
    for note in read.notes:
        print(note, file=sys.stderr)
    if verdict_column is not None:
        return _tell(calibrate_recorded(judge, read), told, as_json)
    config = with_budget(rejudged(bare_config(), judging, set_ or []), budget_usd)
    _calibrate(judge, read, out, config, include_path or [], as_json)


def _calibrate(
    judge: str, labels: Any, out: Path, config: Any, includes: list[Path], as_json: bool,
    known: Any = (), known_calls: Any = (),
) -> None:  # fmt: skip
    """Calibrates a judge that is asked now, and tells how far it can be believed; or what is owed, and exits so."""
    from harness.calibration.calibrate import calibrate, calibration_folder
    from harness.calibration.told import line, told
    from harness.errors import UserError
    from harness.fitting import mark_seen
    from harness.judging.fitted import FittedJudge
    from harness.progress import progress
    from harness.stages.judge_models import JudgeModels
    from harness.stages.judges import Judges
    from harness.store import Run

    judges = Judges(config, includes)
    _refuse_pairs(judge, judges)
    named = judges.members(judge)
    if not named:
        raise UserError(f"judge '{judge}' asks a model: --set judging.judges.{judge}.models=NAME, with models.NAME.…")
    folder = calibration_folder(out, named)
    if isinstance(named[0], FittedJudge):
        labels = mark_seen(labels, named[0])
    with progress() as display:
        found = calibrate(
            named, labels, folder, known=known, known_calls=known_calls,
            opened=lambda: Judges(config, includes, JudgeModels(config, Run(folder), includes)).members(judge),
            progress=lambda *count: display.tell({"verdicts": count}),
        )  # fmt: skip
    _tell(found, told, as_json)
    if found.unfinished is not None:
        print(f"harness: {line(found.unfinished)}", file=sys.stderr)
        raise typer.Exit(INCOMPLETE)
    _tell_use(found, folder)


def _refuse_pairs(judge: str, judges: Any) -> None:
    from harness.calibration.calibrate import of_pairs

    if judges.file(judge).kind == "pairwise":
        raise of_pairs(judge)


def _tell_use(found: Any, folder: Path) -> None:
    """Where a calibration stands, and what it is good for."""
    from harness.calibration.correct import of_no_use

    why = of_no_use(found)
    use = f"corrects no rate: {why}" if why else "use it: judging.calibrations in the recipe"
    print(f"calibration: {folder / 'calibration.json'} ({use})", file=sys.stderr)


def _tell(found: Any, told: Any, as_json: bool) -> None:
    print(json.dumps(found.model_dump(mode="json"), indent=1, ensure_ascii=False) if as_json else told(found))


def drift(
    run: Annotated[Path, typer.Argument(help="A run.")],
    judge: Annotated[str, typer.Option(help="The judge whose verdicts are compared.")],
    other: Annotated[
        Path | None, typer.Argument(help="Another run with the same answers, such as of another day.")
    ] = None,
    other_judge: Annotated[str | None, typer.Option(help="Another judge, of the same run or the other one.")] = None,
    label: Annotated[str | None, typer.Option(help="The label whose share is compared.")] = None,
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Compare two judges, or one on two dates, on the same answers: what changed, and which verdicts flipped."""
    from harness.calibration.drift import Side, drift_runs
    from harness.calibration.told import told_drift
    from harness.errors import UserError
    from harness.stages.judges import Judges
    from harness.stages.plan import stored_config
    from harness.store import Run

    if other is None and other_judge in (None, judge):
        raise UserError("nothing to compare with: give a second run, or another judge with --other-judge")
    sides = []
    for path, name in ((run, judge), (other or run, other_judge or judge)):
        target = Run.open(path)
        judges = Judges(stored_config(target, include_path or []), include_path or [])
        panel = judges.panel(name)
        if not panel.members:
            raise UserError(f"{path}: judge '{name}' has no model in this run, so it has judged nothing")
        offered = () if panel.pairwise else tuple(judges.file(name).labels)
        sides.append(Side(f"{path}: {name}", target, panel, offered))
    _tell(drift_runs(sides[0], sides[1], label=label), told_drift, as_json)


def label(
    run: Annotated[Path, typer.Argument(help="The run whose answers people label.")],
    judge: Annotated[str, typer.Option(help="The judge that they are to be compared with; its labels are offered.")],
    out: Annotated[Path, typer.Option(help="Where to, without an ending: OUT.csv, OUT.html and OUT.key.json.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Answers a person.")] = 100,
    task: Annotated[list[str] | None, typer.Option(help="Only answers to this task; repeatable.")] = None,
    raters: Annotated[int, typer.Option(min=1, help="People.")] = 1,
    shared: Annotated[int | None, typer.Option(min=0, help="Answers that all of them get [default: all].")] = None,
    seed: Annotated[int, typer.Option(help="Of draw and order.")] = 0,
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Write blind labelling sheets: a spreadsheet and a form, without a word of who answered or how it was judged."""
    from harness.calibration.sheets import Asked, make_sheet
    from harness.errors import UserError
    from harness.stages.judges import Judges
    from harness.stages.plan import stored_config
    from harness.store import Run

    target = Run.open(run)
    judges = Judges(stored_config(target, include_path or []), include_path or [])
    file = judges.file(judge)
    _refuse_pairs(judge, judges)
    if file.scale is None and not file.labels:
        raise UserError(f"judge '{judge}' declares neither scale nor labels in its judge.yaml: nothing to offer")
    scale = None if file.scale is None else (int(file.scale[0]), int(file.scale[1]))
    asked = Asked(file.description, tuple(file.labels) if scale is None else (), scale)
    panel = judges.panel(judge)
    files = make_sheet(
        target, out, asked, n=n, seed=seed, panel=panel if panel.members else None, tasks=task or (),
        n_raters=raters, n_shared=shared,
    )  # fmt: skip
    print(json.dumps({"files": [str(one) for one in files]}, indent=1) if as_json else "\n".join(map(str, files)))
    print("the key stays with you: it says which answer is whose", file=sys.stderr)


def label_import(
    run: Annotated[Path, typer.Argument(help="The run that the sheets were made from.")],
    sheets: Annotated[list[str], typer.Argument(help="NAME=FILE: who labelled, and the filled-in CSV or saved JSON.")],
    key: Annotated[Path, typer.Option(help="The sheets' key file.")],
    judge: Annotated[str | None, typer.Option(help="Calibrate this judge of the run by the labels.")] = None,
    judging: Judging = None,
    set_: Set = None,
    budget_usd: Budget = None,
    out: Annotated[Path, typer.Option(help="Where calibrations are kept.")] = Path("calibrations"),
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Bring people's labels into a run as verdicts; say how far they agree; calibrate a judge by them."""
    from harness.calibration.labels import pairs_of
    from harness.calibration.people import clusters_of, labels_of_people, read_key, read_sheet
    from harness.calibration.raters import agreement, votes_of
    from harness.calibration.told import told_agreement
    from harness.errors import UserError
    from harness.recipe import rejudged, with_budget
    from harness.records import Call, Completion, Verdict
    from harness.stages.judges import Judges
    from harness.stages.plan import stored_config
    from harness.store import Run, append, latest, read

    target, sheet_key, includes = Run.open(run), read_key(key), include_path or []
    config = with_budget(rejudged(stored_config(target), judging, set_ or []), budget_usd)
    if judge is not None:
        _refuse_pairs(judge, Judges(config, includes))
    people = [read_sheet(Path(file), sheet_key, name) for one in sheets for name, file in pairs_of("NAME=FILE", one)]
    answers = {completion.key for completion in read(target.completions_file, Completion).records}
    if not answers & {item.completion_key for item in sheet_key.items.values()}:
        raise UserError(f"{run}: holds none of the answers of {key}; that sheet is of run '{sheet_key.run}'")
    with target.lock():
        known = latest(read(target.verdicts_file, Verdict).records)
        new = [v for filled in people for v in filled.verdicts if known.get(v.key) != v]
        append(target.verdicts_file, new)
    print(f"{len(new)} new labels; {sum(filled.n_unlabelled for filled in people)} left blank", file=sys.stderr)
    if len(people) > 1:
        names = {filled.judge.key: filled.judge.name for filled in people}
        votes = votes_of((v for filled in people for v in filled.verdicts), names)
        _tell(agreement(votes, clusters_of(target, votes)), told_agreement, as_json)
    if judge is not None:
        labels = labels_of_people(target, people)
        verdicts = read(target.verdicts_file, Verdict).records
        calls = read(target.calls_file, Call).records
        _calibrate(judge, labels, out, config, includes, as_json, verdicts, calls)


def judge_fit(
    name: Annotated[str, typer.Argument(help="What the judge is called.")],
    from_: Annotated[list[Path], typer.Option("--from", help="Labelled responses; repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder for judges/NAME; give it as --include-path from then on.")],
    columns: Columns = "",
    label_values: LabelValues = "",
    as_json: Json = False,
) -> None:
    """Fit a judge of harm on labelled responses; it runs here, without a model, and is measured on held-out ones."""
    from harness.calibration.labels import Reading, pairs_of
    from harness.fitting import fit_judge
    from harness.fitting.report import told

    reading = Reading(
        columns=dict(pairs_of("--columns", columns)),
        labels={value: name for name, value in pairs_of("--labels", label_values)},
    )
    _tell(fit_judge(name, from_, out, reading=reading), told, as_json)


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    for verb in (calibrate, drift, label):
        app.command()(verb)
    app.command("label-import")(label_import)
    app.command("judge-fit")(judge_fit)
