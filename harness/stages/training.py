"""Training alone: which jobs a user means, what they left, and their data in the formats of other trainers.

Reads a run's folder; `export_data` writes ``export/<subject>/<seed>/`` in it, or the folder that it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.config import RunConfig
from harness.errors import UserError, unknown_name
from harness.methods import METHODS, method_objective, method_trains
from harness.prompting import load_templates
from harness.records import TrainingRecord
from harness.sources import base_folder
from harness.stages.execute import Job
from harness.store import Run, read
from harness.trainers.export import FORMATS, format_of, special_tokens_of, write_dataset_info, write_export
from harness.trainers.external_settings import FormatName
from harness.trainers.ledger import read_ledger


class Training(NamedTuple):
    """A training that has ended.

    Attributes:
        subject: Name of the subject.
        seed: Its seed.
        checkpoint: Folder of the whole checkpoint, or of ``model.json`` where a server keeps the model.
        metrics: What the trainer measured.
        seconds: How long it took; ``None`` where that is not known.
    """

    subject: str
    seed: int
    checkpoint: Path
    metrics: dict[str, float]
    seconds: float | None


class Exported(NamedTuple):
    """Training data in a file: its rows, and the records that the format has no place for."""

    path: Path
    format: FormatName
    n_rows: int
    n_left_out: int


def wanted(config: RunConfig, subjects: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """The trainings that are asked for; all of the recipe's where nothing is named.

    Args:
        config: The configuration.
        subjects: Names of subjects or of methods.
        seeds: Seeds of the recipe.

    Raises:
        UserError: The recipe has no such subject or seed, or trains nothing.
    """
    trained = [s.name for s in config.subjects if method_trains(s.method) and s.weights_of is None]
    if not trained:
        raise UserError(f"recipe '{config.name}' trains nothing: all of its subjects answer as they are")
    if foreign := [seed for seed in seeds if seed not in config.seeds]:
        known = ", ".join(map(str, config.seeds))
        raise UserError(f"recipe '{config.name}' has no seed {foreign[0]}, only {known}: --set seeds=[…] changes them")
    named = [name for given in subjects for name in _subjects(config, trained, given)] or trained
    return [Job(name, seed) for seed in seeds or config.seeds for name in dict.fromkeys(named)]


def _subjects(config: RunConfig, trained: Sequence[str], given: str) -> list[str]:
    """The subjects that a name means: the one so called, or all of the method so called."""
    if given in trained:
        return [given]
    of_method = [name for name in trained if config.subject(name).method == given]
    if of_method:
        return of_method
    if given in METHODS:
        raise UserError(f"recipe '{config.name}' trains no subject by method '{given}'; it has {', '.join(trained)}")
    if any(subject.name == given for subject in config.subjects):
        raise UserError(f"subject '{given}' trains no weights of its own; those that do: {', '.join(trained)}")
    raise unknown_name("subject or method", given, {*trained, *(config.subject(name).method for name in trained)})


def trainings(run: Run, jobs: Sequence[Job]) -> list[Training]:
    """What trainings left, in the order of the jobs."""
    found = []
    for job in jobs:
        folder = _folder(run, job)
        checkpoint = run.checkpoint(job.subject, job.seed)
        assert checkpoint is not None, f"{folder} has been trained"
        ledger = read_ledger(folder)
        seconds = ledger.seconds if ledger else None
        found.append(Training(*job, run.path / checkpoint.path, checkpoint.metrics, seconds))
    return found


def has_data(run: Run, job: Job) -> bool:
    """Whether a job's training data are made."""
    return (_folder(run, job) / "counts.json").is_file()


def export_data(run: Run, config: RunConfig, job: Job, name: FormatName | None, out: Path | None) -> Exported:
    """Writes the training data of one job in a format that other trainers read.

    Args:
        run: The run, in which they are made.
        config: Its configuration.
        job: Whose data.
        name: The format; the one of TRL that suits the method where absent.
        out: Folder to write to.

    Raises:
        UserError: The format cannot carry these records, or needs the base's tokenizer and it is not there.
    """
    records = read(_folder(run, job) / "records.jsonl", TrainingRecord).records
    chosen = name or format_of(method_objective(config.subject(job.subject).method))
    folder = out or run.path / "export" / job.subject / str(job.seed)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; --out names a folder")
    path = folder / f"{chosen}{FORMATS[chosen].suffix}"
    chat = load_templates(config.templates).chat
    spelled = FORMATS[chosen].spelled(chat)
    special = special_tokens_of(base_folder(config.bases()[job.seed])) if spelled else None
    made = write_export(path, records, chosen, chat=chat, special=special)
    write_dataset_info(folder, path.name, chosen, f"harness_{chosen}")
    return Exported(path, chosen, len(made.rows), made.n_left_out)


def _folder(run: Run, job: Job) -> Path:
    return run.path / "train" / job.subject / str(job.seed)
