"""What every trainer offers, and the settings they share.

A trainer takes a base checkpoint and training records, and leaves a whole checkpoint folder that plain transformers
loads. The loss falls on completions alone. Equal inputs and an equal seed give equal weights (on the CPU bit for bit,
with the same number of threads). What it measures holds no times, so that equal trainings have equal records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.records import Finite, TrainingRecord


class LoraSettings(BaseModel):
    """Low-rank adapters; the defaults are the sibling paper's (all linear layers, rank 16)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rank: int = Field(default=16, gt=0)
    alpha: int = Field(default=32, gt=0)
    dropout: Finite = Field(default=0.0, ge=0, lt=1)
    target: str = "all-linear"


class TrainerSettings(BaseModel):
    """How to train.

    Attributes:
        name: The trainer.
        epochs: Passes over the records; or
        steps: Optimiser steps. Exactly one of the two.
        batch_size: Records a step.
        learning_rate: Peak learning rate, reached after ``warmup_steps``.
        schedule: How it falls afterwards.
        weight_decay: AdamW's.
        max_length: Longest record in tokens; a longer one is dropped and counted, never cut.
        lora: Adapters instead of all weights; merged into the checkpoint at the end.
        dtype: Of the arithmetic and of the checkpoint; weights that train are float32 until they are saved.
        gradient_checkpointing: Trades time for memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name: str = "trl"
    epochs: Finite | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)
    batch_size: int = Field(default=16, gt=0)
    learning_rate: Finite = Field(default=2e-5, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: Finite = Field(default=0.0, ge=0)
    max_length: int = Field(default=1024, gt=0)
    lora: LoraSettings | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _one_length(self) -> TrainerSettings:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give epochs or steps, exactly one of the two")
        return self

    def n_steps(self, n_records: int) -> int:
        """Optimiser steps for so many records."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return math.ceil(self.epochs * math.ceil(n_records / self.batch_size))


class TrainResult(NamedTuple):
    """What was measured: ``n_steps``, ``n_records``, ``n_dropped_too_long``, ``n_tokens``, first and last loss."""

    metrics: dict[str, float]


class Trainer(Protocol):
    """Anything that trains."""

    def train(
        self,
        base: Path,
        records: Sequence[TrainingRecord],
        settings: TrainerSettings,
        seed: int,
        out: Path,
        *,
        chat: bool,
        device: str,
        progress: Callable[[], None],
    ) -> TrainResult:
        """Trains and leaves the checkpoint in ``out``, whole or not at all.

        Args:
            base: Checkpoint to begin from.
            records: What to learn, in order.
            settings: How.
            seed: Of the order of records and of everything else that is drawn.
            out: Folder of the result; replaced when it exists.
            chat: Prompts are user turns for the tokenizer's chat template.
            device: ``cpu``, ``cuda`` or ``auto``.
            progress: Called after each step.
        """
