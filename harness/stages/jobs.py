"""What a worker process does: make a seed's training data, train a subject, answer the tasks with it.

Reads the sealed run (manifest, samples, alignment rows), appends completions and cells, and writes below ``train/``:
``steps.jsonl`` (every question asked while making data), ``verdicts.jsonl`` (what judges that ask models said of the
answers), and for each subject and seed ``records.jsonl``, ``rows.jsonl`` (each row's way), ``counts.json``,
``checkpoint/`` and ``checkpoint.json``. Each job takes up what an earlier, interrupted one left.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from harness.blocks import ModelConfig, SamplingConfig, SubjectConfig
from harness.config import RunConfig
from harness.errors import UserError
from harness.methods import Workbench, method_objective, prepare
from harness.models.base import Model
from harness.models.remote import RemoteModel
from harness.models.weights import weights_hash
from harness.prompting import load_templates
from harness.records import Cell, Checkpoint, Completion, Decoding, ModelSpec, Sample, TrainingRecord, content_hash
from harness.sources import base_folder, open_checkpoint, open_model
from harness.stages.answering import answer
from harness.stages.judge_models import JudgeModels, identity
from harness.stages.judges import Judges
from harness.stages.plan import read_rows_of, trained_subjects
from harness.stages.preparing import labels
from harness.store import Run, append, latest, read, write_atomic
from harness.tasks import TaskSpec, load_spec


class Event(NamedTuple):
    """What a worker tells of its progress: so many more units of work of one kind are done."""

    kind: str
    done: int


Report = Callable[[Event], None]


class Answerer(NamedTuple):
    """What a subject answers with.

    Attributes:
        backend: What runs it.
        weights: Hash of its weights, or the name by which a server knows it.
        open: Opens it, once.
    """

    backend: str
    weights: str
    open: Callable[[], Model]


class Worker:
    """One process's view of a run.

    Args:
        run_path: The run's folder.
        config: The configuration, with the speed settings of this start.
        include_paths: Further content folders.
        report: Told of progress.
    """

    def __init__(self, run_path: Path, config: RunConfig, include_paths: Sequence[Path], report: Report) -> None:
        self.run = Run.open(run_path)
        self.config = config
        self.include_paths = tuple(include_paths)
        self.report = report
        self.templates = load_templates(config.templates)

    @cached_property
    def models(self) -> JudgeModels:
        """What analysts and judges of the preparation are asked through."""
        return JudgeModels(self.config, self.run, self.include_paths, joins=True)

    @cached_property
    def judges(self) -> Judges:
        """The judges of the preparation."""
        return Judges(self.config, self.include_paths, self.models)

    @cached_property
    def samples(self) -> dict[str, list[Sample]]:
        """Task → its samples."""
        found: dict[str, list[Sample]] = {}
        for sample in read(self.run.samples_file, Sample).records:
            found.setdefault(sample.task, []).append(sample)
        return found

    @cached_property
    def tasks(self) -> dict[str, TaskSpec]:
        """Task → its specification."""
        return {name: load_spec(name, self.include_paths) for name in self.config.tasks}

    # Making training data

    def make_data(self, seed: int, subjects: Sequence[str]) -> dict[str, int]:
        """Makes the training records of subjects of a seed; subject → optimiser steps to take on them."""
        known = latest(read(self.run.steps_file, Completion).records)
        models: dict[str, Model] = {}
        steps = {}
        for subject in map(self.config.subject, subjects):
            folder = self._folder(subject, seed)
            if not (folder / "counts.json").exists():
                self._make(subject, seed, known, models)
            records = read(folder / "records.jsonl", TrainingRecord).records
            steps[subject.name] = self._n_steps(subject, records)
            self.report(Event("data", 1))
        return steps

    def _n_steps(self, subject: SubjectConfig, records: Sequence[TrainingRecord]) -> int:
        kinds = Counter(record.kind for record in records)
        return self.config.trainer_of(subject).all_steps(method_objective(subject.method), kinds)

    def _make(self, subject: SubjectConfig, seed: int, known: dict[str, Completion], models: dict[str, Model]) -> None:
        judges = self.config.prepare

        def ask(who: str, samples: Sequence[Sample], draw: int) -> list[Completion]:
            spec = self._preparing_spec(who, seed, draw)
            found = answer(
                lambda: models.setdefault(who, self._open(who, seed)) if who not in models else models[who],
                spec, samples, self.templates, known, self.run.steps_file, self.config.throughput.batch_size,
            )  # fmt: skip
            if failed := [completion for completion in found if not completion.final]:
                raise UserError(
                    f"model '{who}': {len(failed)} of {len(found)} questions failed ({failed[0].detail}); what was "
                    "answered is kept: the same command asks the rest again"
                )
            return found

        def is_mistake(pairs: Sequence[tuple[Sample, Completion]]) -> list[str | None]:
            assert judges.mistake_judge is not None  # the configuration demands it where something is to be judged
            judge, mistake_label = judges.mistake_judge
            found = labels(self.run, self.judges, judge, pairs)
            return [label and ("mistake" if label == mistake_label else "fine") for label in found]

        def verdict(pairs: Sequence[tuple[Sample, Completion]]) -> list[str | None]:
            assert judges.analysis_judge is not None
            return labels(self.run, self.judges, judges.analysis_judge, pairs)

        rows = read_rows_of(self.run, subject.name)
        made = prepare(
            subject.method,
            Workbench(
                rows, self.templates, ask, is_mistake, verdict, subject.mistakes, subject.analyst,
                self.config.analyses_of(subject),
            ),
        )  # fmt: skip
        folder = self._folder(subject, seed)
        write_atomic(folder / "records.jsonl", "".join(record.to_line() for record in made.records))
        write_atomic(folder / "rows.jsonl", "".join(step.to_line() for step in made.steps))
        write_atomic(folder / "counts.json", json.dumps(made.counts, indent=2, sort_keys=True) + "\n")

    def _open(self, who: str, seed: int) -> Model:
        if who == "self":
            return self._checkpoint(base_folder(self.config.bases()[seed]))
        config = self.config
        if config.models[who].remote:
            return RemoteModel(self.models.front(who), who)
        return open_model(config.models[who], config.dtype, config.throughput.device, self.templates.chat)

    def _preparing_spec(self, who: str, seed: int, draw: int) -> ModelSpec:
        sampling = self.config.prepare.sampling
        sampling = sampling.model_copy(update={"seed": sampling.seed + draw})
        model = self.config.models.get(who)
        remote = identity(model).weights if model is not None and model.remote else who
        folder = base_folder(self.config.bases()[seed]) if model is None else model.path and base_folder(model.path)
        return ModelSpec(
            backend=self.config.backend if model is None else model.backend,
            weights=_weights(Path(folder)) if folder else remote,
            templates=self.templates.hash,
            decoding=_decoding(sampling, None, self.templates.stop),
        )

    # Training

    def train(self, subject: SubjectConfig, seed: int) -> Checkpoint:
        """The subject's checkpoint, trained now unless it is there."""
        from harness.trainers import get_trainer
        from harness.trainers.ledger import Meter, ledger_entry, write_ledger
        from harness.trainers.served import read_served

        folder = self._folder(subject, seed)
        records = read(folder / "records.jsonl", TrainingRecord).records
        settings = self.config.trainer_of(subject)
        base = base_folder(self.config.bases()[seed])
        identified: dict[str, Any] = {
            "recipe": content_hash([subject.method, settings.identity()]),
            "data": content_hash([record.to_line() for record in records]),
            "base": settings.openai.model if settings.openai else _weights(base),
        }
        done = self.run.checkpoint(subject.name, seed)
        wanted = content_hash([*identified.values(), seed])
        if done is not None and done.key == wanted and (self.run.path / done.path).is_dir():
            self.report(Event("steps", self._n_steps(subject, records)))
            return done
        out = folder / "checkpoint"
        with Meter(self.config.throughput.device) as meter:
            result = get_trainer(settings.name).train(
                base, records, settings, seed, out, objective=method_objective(subject.method),
                chat=self.templates.chat, device=self.config.throughput.device,
                progress=lambda: self.report(Event("steps", 1)),
            )  # fmt: skip
        entry = ledger_entry(out, settings, result.metrics, meter, result.peak_memory_bytes, result.resumed)
        write_ledger(folder, entry)
        served = read_served(out)
        weights = served.model if served else weights_hash(out)
        checkpoint = Checkpoint(
            **identified, seed=seed, weights=weights, path=str(out.relative_to(self.run.path)),
            metrics=result.metrics,
        )  # fmt: skip
        write_atomic(folder / "checkpoint.json", checkpoint.model_dump_json(indent=2) + "\n")
        return checkpoint

    # Answering

    def train_and_answer(self, name: str, seed: int) -> None:
        """Trains a subject and answers every task with it, and with the subjects that share its weights."""
        subject = self.config.subject(name)
        checkpoint = self.train(subject, seed) if subject in trained_subjects(self.config) else None
        answerer = self._answerer(subject, seed, checkpoint)
        known = latest(read(self.run.completions_file, Completion).records)
        for sharer in [subject, *(s for s in self.config.subjects if s.weights_of == name)]:
            for task, samples in self.samples.items():
                spec = self._answering_spec(sharer, task, answerer)
                key = checkpoint.key if checkpoint else None
                self._record_cell(Cell(subject=sharer.name, seed=seed, task=task, model=spec, checkpoint=key))
                answer(answerer.open, spec, samples, self.templates, known, self.run.completions_file,
                       self.config.throughput.batch_size, lambda n: self.report(Event("answers", n)))  # fmt: skip

    def _record_cell(self, cell: Cell) -> None:
        known = latest(read(self.run.cells_file, Cell).records)
        if known.get(cell.key) != cell:
            append(self.run.cells_file, [cell])

    def _answerer(self, subject: SubjectConfig, seed: int, checkpoint: Checkpoint | None) -> Answerer:
        served = self._served(subject, checkpoint)
        if served is not None:
            front = cache(lambda: RemoteModel(self.models.served(subject.name, served), subject.name))
            return Answerer(served.backend, identity(served).weights, front)
        folder = self.run.path / checkpoint.path if checkpoint else base_folder(self.config.base_of(subject, seed))
        weights = checkpoint.weights if checkpoint else _weights(folder)
        return Answerer(self.config.backend, weights, cache(lambda: self._checkpoint(folder)))

    def _served(self, subject: SubjectConfig, checkpoint: Checkpoint | None) -> ModelConfig | None:
        """The model on a server that a subject answers with, where it is none of ours."""
        from harness.trainers.served import read_served

        if checkpoint is None:
            return self.config.server_of(subject)
        found = read_served(self.run.path / checkpoint.path)
        if found is None:
            return None
        own = self.config.trainer_of(subject).openai
        key = own.api_key_env if own else found.api_key_env  # by the name that it has now
        return ModelConfig(backend="openai", model=found.model, base_url=found.base_url, api_key_env=key)

    def _answering_spec(self, subject: SubjectConfig, task: str, answerer: Answerer) -> ModelSpec:
        spec = self.tasks[task]
        style = spec.style or subject.answer_style
        stop = self.templates.stop
        if subject.method == "chain_of_hindsight" and spec.style is None:
            stop = (*stop, self.templates.hindsight_stop)
        length = self.config.tasks[task].max_new_tokens or spec.max_new_tokens
        return ModelSpec(
            backend=answerer.backend,
            weights=answerer.weights,
            templates=self.templates.hash,
            style=style,
            decoding=_decoding(self.config.sampling, length, stop),
        )

    def _checkpoint(self, folder: Path) -> Model:
        config = self.config
        return open_checkpoint(folder, config.backend, config.dtype, config.throughput.device, self.templates.chat)

    def _folder(self, subject: SubjectConfig, seed: int) -> Path:
        return self.run.path / "train" / subject.name / str(seed)


@cache
def _weights(folder: Path) -> str:
    return weights_hash(folder)


def _decoding(sampling: SamplingConfig, length: int | None, stop: tuple[str, ...]) -> Decoding:
    return Decoding(
        max_new_tokens=length or sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        stop=stop,
        seed=sampling.seed,
    )
