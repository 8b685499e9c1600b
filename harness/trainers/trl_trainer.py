"""Training with TRL: supervised, preferences (DPO, KTO) or RLHF; all weights, or LoRA through PEFT.

In this process, or with ``launch`` in several. Reads a base checkpoint and records; writes the checkpoint that
`harness.trainers.trl_fit` describes. With ``save_steps`` or ``launch`` it works in ``.<out>.trl/`` beside the
checkpoint, named by a key of everything that decides the training, until the checkpoint is whole; what another training
left there is deleted.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.records import TrainingRecord
from harness.trainers.base import Objective, TrainerSettings, TrainResult
from harness.trainers.launch import launched
from harness.trainers.trl_fit import Job, begun, fit


class TrlTrainer:
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
        """See `harness.trainers.base.Trainer`."""
        job = Job(base=base, settings=settings, seed=seed, objective=objective, chat=chat, device=device)
        job.check()
        if settings.launch is None and settings.save_steps is None:
            with tempfile.TemporaryDirectory() as scratch:
                result = TrainResult(fit(job, records, Path(scratch), out, progress))
            shutil.rmtree(_home(out), ignore_errors=True)  # of an earlier start that had them
            return result
        with _kept(out, job.key(records)) as work:
            resumed = begun(work, settings)
            if settings.launch is not None:
                return launched(job, records, work, out, progress)._replace(resumed=resumed)
            return TrainResult(fit(job, records, work, out, progress), resumed=resumed)


def _home(out: Path) -> Path:
    return out.with_name(f".{out.name}.trl")


@contextmanager
def _kept(out: Path, key: str) -> Iterator[Path]:
    """A work folder that lasts until the training has ended well."""
    home = _home(out)
    work = home / key[:16]
    for other in home.glob("*"):
        if other != work:
            shutil.rmtree(other)
    work.mkdir(parents=True, exist_ok=True)
    yield work
    shutil.rmtree(home, ignore_errors=True)
