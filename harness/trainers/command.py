"""Training by any program: LLaMA-Factory, axolotl, torchtune, a shell script.

Gives the program a file of records and an empty folder, and takes back what it left there: a checkpoint in safetensors
(an adapter of PEFT is merged into the base) and its ``manifest.json``. A program that writes one says in it at least
``seed`` and ``data`` (SHA-256, hex, of the file it read), and in ``metrics`` what it measured. The checkpoint is the
files at the top of the folder but pickles, moved to its place whole, with our `Manifest` in the place of its own. Works
in ``.<out>.command/`` beside ``out``: an exit status of 0 there is never trained for again, and output that cannot be
taken stays until it is mended or deleted. Appends what the program prints to ``<out>.log``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from harness.errors import UserError
from harness.invalid import told
from harness.models.weights import check_checkpoint, weights_hash
from harness.records import Finite, Record, TrainingRecord, content_hash
from harness.store import write_atomic
from harness.trainers.adapters import is_adapter, merge
from harness.trainers.base import Objective, TrainerSettings, TrainResult
from harness.trainers.command_output import check_trained, check_weights
from harness.trainers.export import FORMATS, format_of, special_tokens_of, write_dataset_info, write_export
from harness.trainers.external_settings import CommandSettings, FormatName, filled, named_files
from harness.trainers.program import exit_status, run_program

MANIFEST = "manifest.json"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


class Manifest(Record):
    """What a taken checkpoint is.

    Attributes:
        key: SHA-256 of settings, files, objective, data, base and seed.
        arguments: The program and its arguments, with their placeholders.
        files: SHA-256 of the text files that they name; a script that was edited trains anew.
        objective: What was trained for.
        format: Of the records.
        data: SHA-256 of their file.
        n_rows: How many there were.
        n_left_out: Records that the format does not hold.
        base: Weights hash of what training began from.
        seed: Training seed.
        weights: Weights hash of the checkpoint.
        metrics: What the program says that it measured.
        program: All else that it says; ``None`` where it writes no manifest.
    """

    key: str
    arguments: tuple[str, ...]
    files: dict[str, str] = Field(default_factory=dict)
    objective: Objective
    format: FormatName
    data: str
    n_rows: int
    n_left_out: int
    base: str
    seed: int
    weights: str
    metrics: dict[str, Finite] = Field(default_factory=dict)
    program: dict[str, JsonValue] | None = None


class ProgramManifest(BaseModel):
    """What a program says that it did; further fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    seed: int
    data: str
    metrics: dict[str, Finite] = {}


class CommandTrainer:
    """See the module."""

    def train(
        self,
        base: Path,
        records: Sequence[TrainingRecord],
        settings: TrainerSettings,
        seed: int,
        out: Path,
        *,
        objective: Objective,
        chat: bool,
        device: str,
        progress: Callable[[], None],
    ) -> TrainResult:
        """See `harness.trainers.base.Trainer`. Steps are told when the program has ended."""
        n_steps = settings.all_steps(objective, Counter(record.kind for record in records))
        training = _training(base, records, settings, seed, out, objective, chat)
        taken = _taken(out, training.asked.key)
        resumed = taken is not None or training.begun()
        if taken is None:
            if exit_status(training.work) != 0:
                training.run(settings, n_steps, device)
            taken = training.take()
        shutil.rmtree(training.work, ignore_errors=True)
        for _ in range(n_steps):
            progress()
        return TrainResult({"n_records": float(taken.n_rows), **taken.metrics}, resumed=resumed)


class _Training(NamedTuple):
    """One training: what is asked (a manifest still without weights), from which base, and where."""

    asked: Manifest
    command: CommandSettings
    base: Path
    out: Path
    work: Path

    @property
    def data(self) -> Path:
        return self.work / "data" / f"{self.asked.format}{FORMATS[self.asked.format].suffix}"

    @property
    def output(self) -> Path:
        return self.work / "output"

    @property
    def merged(self) -> Path:
        return self.work / "merged"

    def begun(self) -> bool:
        """Whether an earlier start left what this one goes on from."""
        left = self.command.resume and self.output.is_dir() and any(self.output.iterdir())
        return left or exit_status(self.work) == 0

    def run(self, settings: TrainerSettings, n_steps: int, device: str) -> None:
        """Runs the program, on an empty folder unless it goes on from what it left there."""
        if not self.command.resume:
            shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir(parents=True, exist_ok=True)
        (self.work / "status").unlink(missing_ok=True)
        values = {
            "base": str(self.base.resolve()), "data": str(self.data.resolve()),
            "data_dir": str(self.data.parent.resolve()), "out": str(self.output.resolve()),
            "seed": str(self.asked.seed), "steps": str(n_steps), "epochs": _number(settings.epochs),
            "batch_size": str(settings.batch_size), "learning_rate": _number(settings.learning_rate),
            "max_length": str(settings.max_length), "objective": self.asked.objective, "device": device,
        }  # fmt: skip
        arguments = [filled(argument, values) for argument in self.command.arguments]
        log = self.out.with_name(f"{self.out.name}.log")
        run_program(arguments, self.work, log, self.command.env, self.command.timeout_seconds)

    def take(self) -> Manifest:
        """Checks what the program left and moves it to its place."""
        try:
            for folder in (self.output, self.merged):
                if taken := _taken(folder, self.asked.key):  # killed a moment before it was moved
                    return self._moved(folder, taken)
            said = self._said()
            folder = self._whole()
        except UserError as error:
            mend = f"mend it there, or delete {self.work} to train again"
            raise UserError(f"{self.command.arguments[0]} ended well, but {error}; {mend}") from None
        taken = self.asked.model_copy(
            update={
                "weights": weights_hash(folder),
                "metrics": said.metrics if said else {},
                "program": said.model_extra if said else None,
            }
        )
        write_atomic(folder / MANIFEST, taken.model_dump_json(indent=2) + "\n")
        return self._moved(folder, taken)

    def _moved(self, folder: Path, taken: Manifest) -> Manifest:
        shutil.rmtree(self.out, ignore_errors=True)
        os.replace(folder, self.out)
        return taken

    def _said(self) -> ProgramManifest | None:
        """The program's manifest, held against what it was asked."""
        file = self.output / MANIFEST
        if self.command.manifest == "harness":
            return None
        if not file.is_file():
            hint = "programs that write none need trainer.command.manifest: harness"
            raise UserError(f"{file} is missing ({hint})")
        try:
            said = ProgramManifest.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise UserError(f"{file} is no manifest: {told(error, ProgramManifest)}") from None
        for name in ("seed", "data"):
            if getattr(said, name) != getattr(self.asked, name):
                pair = f"{getattr(said, name)!r} and not {getattr(self.asked, name)!r}"
                raise UserError(f"{file} says that it trained with {name} {pair}, so this is another training")
        return said

    def _whole(self) -> Path:
        """The folder of the whole checkpoint: the program's, or where its adapter has been merged."""
        if not self.output.is_dir() or not any(path.name != MANIFEST for path in self.output.iterdir()):
            raise UserError(f"it left nothing in {self.output}")
        if is_adapter(self.output):
            merge(self.base, self.output, self.merged)
            check_trained(self.base, self.merged)
            return self.merged
        check_checkpoint(self.output)
        check_weights(self.output)
        check_trained(self.base, self.output)
        _keep_files(self.output)
        return self.output


def _training(
    base: Path,
    records: Sequence[TrainingRecord],
    settings: TrainerSettings,
    seed: int,
    out: Path,
    objective: Objective,
    chat: bool,
) -> _Training:
    """Writes the records out and tells what is asked, keeping what an earlier start of the same training left."""
    command = settings.command
    if command is None:
        raise UserError("trainer command needs a block trainer.command with its 'arguments'")
    name = command.format or format_of(objective)
    work = out.with_name(f".{out.name}.command")
    new = work.with_name(f"{work.name}.data")
    shutil.rmtree(new, ignore_errors=True)
    file = new / f"{name}{FORMATS[name].suffix}"
    special = special_tokens_of(base) if FORMATS[name].spelled(chat) else None
    made = write_export(file, records, name, chat=chat, special=special)
    write_dataset_info(new, file.name, name)
    data, base_hash = hashlib.sha256(file.read_bytes()).hexdigest(), weights_hash(base)
    files = named_files(command.arguments)
    key = content_hash([settings.identity(), objective, name, data, base_hash, seed])
    if not (work / "key").is_file() or (work / "key").read_text(encoding="ascii") != key:
        shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(work / "data", ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    os.replace(new, work / "data")
    write_atomic(work / "key", key)
    asked = Manifest(
        key=key, arguments=command.arguments, files=files, objective=objective, format=name, data=data,
        n_rows=len(made.rows), n_left_out=made.n_left_out, base=base_hash, seed=seed, weights="",
    )  # fmt: skip
    return _Training(asked, command, base, out, work)


def _taken(out: Path, key: str) -> Manifest | None:
    """The manifest of a checkpoint that was taken already, for this very training and unchanged since."""
    try:
        found = Manifest.model_validate_json((out / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.key == key and found.weights == weights_hash(out) else None


def _keep_files(folder: Path) -> None:
    """Leaves the files at the top, pickles removed, links replaced by what they point to."""
    for path in folder.iterdir():
        if path.is_symlink() and path.is_file():
            real = path.resolve()
            path.unlink()
            shutil.copyfile(real, path)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.suffix in _PICKLES or not path.is_file():
            path.unlink()


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if value == int(value) else repr(value)
