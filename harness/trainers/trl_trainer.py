"""Training with TRL in this process: supervised, preferences (DPO, KTO) or RLHF; all weights, or LoRA through PEFT.

Reads a base checkpoint and records; writes the checkpoint (safetensors, tokenizer, generation settings), its curves
``training_log.json`` (name → a value a step), and with LoRA the adapter itself under ``adapter/``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.records import TrainingRecord
from harness.trainers.base import GOOD, Objective, TrainerSettings, TrainResult
from harness.trainers.trl_common import Session, Trained, load_tokenizer, save
from harness.trainers.trl_policy import rlhf
from harness.trainers.trl_preference import dpo, kto
from harness.trainers.trl_supervised import supervised

_OBJECTIVES: dict[Objective, Callable[[Session, Sequence[TrainingRecord]], Trained]] = {
    "sft": supervised,
    "dpo": dpo,
    "kto": kto,
    "rlhf": rlhf,
}


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
        tokenizer = load_tokenizer(base)
        with tempfile.TemporaryDirectory() as scratch:
            session = Session(base, tokenizer, settings, seed, chat, device, Path(scratch) / "trainer", progress)
            first: dict[str, float] = {}
            if settings.sft_first and objective != "sft":
                warm = supervised(session, [record for record in records if record.kind in GOOD])
                save(warm, session, Path(scratch) / "base")
                first = {f"sft_{name}": value for name, value in warm.counts.items()}
                session = session._replace(base=Path(scratch) / "base")
            trained = _OBJECTIVES[objective](session, records)
            save(trained, session, out)
        return TrainResult({**first, **trained.counts})
