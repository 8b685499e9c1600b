"""One training with TRL, in this process or in one of several: from a base and records to a whole checkpoint.

The checkpoint holds safetensors, tokenizer and generation settings, its curves ``training_log.json`` (name → a value a
step; ``dev_loss`` a value a measurement), and with LoRA the adapter itself under ``adapter/``, but for ``sft_first``:
then it belongs to a base that the first stage made and nobody keeps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.errors import UserError
from harness.models.weights import weights_hash
from harness.records import TrainingRecord, content_hash
from harness.store import write_atomic
from harness.trainers.base import GOOD, Objective, TrainerSettings
from harness.trainers.trl_common import Session, Trained, load_tokenizer, save
from harness.trainers.trl_policy import rlhf
from harness.trainers.trl_preference import dpo, kto
from harness.trainers.trl_processes import Processes
from harness.trainers.trl_resume import WHOLE
from harness.trainers.trl_supervised import supervised

_OBJECTIVES: dict[Objective, Callable[[Session, Sequence[TrainingRecord]], Trained]] = {
    "sft": supervised,
    "dpo": dpo,
    "kto": kto,
    "rlhf": rlhf,
}


class Job(BaseModel):
    """What is trained; the arguments of `harness.trainers.base.Trainer` but for the records and where they lead."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    base: Path
    settings: TrainerSettings
    seed: int
    objective: Objective
    chat: bool
    device: str

    def key(self, records: Sequence[TrainingRecord]) -> str:
        """SHA-256 of everything that decides the training."""
        lines = [record.to_line() for record in records]
        base, decided = weights_hash(self.base), self.settings.identity()
        return content_hash([decided, lines, base, self.seed, self.objective, self.chat, self.device])

    def check(self) -> None:
        """Raises a `UserError` for settings that this objective does not know."""
        settings, launch = self.settings, self.settings.launch
        if self.objective != "sft":
            for name in ("early_stopping", "packing"):
                if getattr(settings, name):
                    raise UserError(f"trainer.{name} is for supervised methods; set it to null for {self.objective}")
        if self.objective == "rlhf" and settings.save_steps is not None:
            raise UserError("trainer.save_steps: RLHF does not go on from a checkpoint; set it to null for rlhf")
        if self.objective == "rlhf" and (wrong := settings.rlhf_problem()):
            raise UserError(f"trainer.{wrong}")
        if self.objective == "rlhf" and launch and launch.config is not None:
            raise UserError("trainer.launch.config: RLHF holds its models whole on every device; leave config out")
        if self.objective == "kto" and settings.micro_batch_size is not None:
            raise UserError("trainer.micro_batch_size: KTO estimates its KL from what is read at once; leave it out")


def fit(
    job: Job,
    records: Sequence[TrainingRecord],
    work: Path,
    out: Path,
    progress: Callable[[], None],
    processes: Processes | None = None,
) -> dict[str, float]:
    """Trains and leaves the checkpoint in ``out``; gives what was measured.

    Args:
        job: What is trained.
        records: On what, in order.
        work: Folder for what is not kept; what an interrupted training of the same job left there is gone on from.
        out: Folder of the checkpoint.
        progress: Called after each step.
        processes: Those that train it together.
    """
    job.check()
    settings = job.settings
    session = Session(
        job.base, load_tokenizer(job.base), settings, job.seed, job.chat, job.device, work / "trainer", progress,
        processes or Processes(),
    )  # fmt: skip
    first: dict[str, float] = {}
    if settings.sft_first and job.objective != "sft":
        first = _warmed(session._replace(scratch=work / "first"), records, work / "base")
        session = session._replace(base=work / "base", passing_base=True)
    trained = _OBJECTIVES[job.objective](session, records)
    save(trained, session, out)
    return {**first, **trained.counts}


def begun(work: Path, settings: TrainerSettings) -> bool:
    """Whether an earlier start left in a work folder what `fit` goes on from."""
    saved = settings.save_steps is not None and any(work.glob(f"*/checkpoint-*/{WHOLE}"))
    return saved or (work / "base.json").is_file()


def _warmed(session: Session, records: Sequence[TrainingRecord], out: Path) -> dict[str, float]:
    """Fine-tunes on the good records first, unless an earlier start has done it; what it measured stands beside it."""
    file = out.with_suffix(".json")
    if not file.is_file():
        warm = supervised(session, [record for record in records if record.kind in GOOD])
        save(warm, session, out)
        if session.processes.writes:
            write_atomic(file, json.dumps({f"sft_{name}": value for name, value in warm.counts.items()}))
        session.processes.wait()
        return {f"sft_{name}": value for name, value in warm.counts.items()}
    for _ in range(session.settings.n_steps(sum(record.kind in GOOD for record in records))):
        session.progress()
    found: dict[str, float] = json.loads(file.read_bytes())
    return found
