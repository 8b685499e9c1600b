"""What every trainer offers, and the settings they share.

A trainer takes a base checkpoint and training records, and leaves a whole checkpoint folder that plain transformers
loads. The loss falls on completions alone. Equal inputs and an equal seed give equal weights (on the CPU bit for bit,
with the same number of threads). What it measures holds no times, so that equal trainings have equal records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from harness.records import Finite, TrainingRecord
from harness.trainers.external_settings import CommandSettings, OpenAISettings, problem, with_named_files
from harness.trainers.lagrangian import LagrangianSettings
from harness.trainers.launch_settings import EarlyStoppingSettings, LaunchSettings, config_hash, scaling_problem

Objective = Literal["sft", "dpo", "kto", "rlhf"]
"""What training minimises: the likelihood of completions, a preference loss, or minus a learnt reward."""
GOOD = frozenset({"response", "chosen"})
"""Kinds of records that a model may learn to write as they are."""


LENGTHS = frozenset({"epochs", "steps", "tokens"})
"""Settings that say how long to train; exactly one is given."""
UNDECIDED = {
    "launch": {"main_address", "main_port"},
    "command": {"manifest", "env", "timeout_seconds", "resume"},
    "openai": {"api_key_env", "price"},
}
"""Block → what in it decides no weights: where machines meet, how a program is run, what a service costs."""


def _absent(value: object) -> bool:
    """Whether a setting is left out of what is hashed: a recipe without it stays the recipe that it was."""
    return not value


class LoraSettings(BaseModel):
    """Low-rank adapters; the defaults are the sibling paper's (all linear layers, rank 16).

    Attributes:
        rank: Of the adapters.
        alpha: Their scale times the rank.
        dropout: Before them, while they train.
        target: The layers that get one.
        quantize: ``nf4`` holds the base in four bits while the adapters learn (QLoRA; needs bitsandbytes and a GPU).
            The adapters are merged into the base as it was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    rank: int = Field(default=16, gt=0)
    alpha: int = Field(default=32, gt=0)
    dropout: Finite = Field(default=0.0, ge=0, lt=1)
    target: str = "all-linear"
    quantize: Literal["nf4"] | None = Field(default=None, exclude_if=_absent)


class RlhfSettings(BaseModel):
    """Policy optimisation against a reward model that was fitted to preference pairs.

    Attributes:
        optimiser: ``rloo`` or ``grpo``.
        steps: Optimiser steps of the policy, whatever ``epochs``, ``steps`` or ``tokens`` of the trainer say.
        generations: Answers to each prompt of a step; ``batch_size`` counts answers and is a multiple of it.
        kl: Weight of the KL divergence from the base; 0 only measures it.
        temperature: Of the policy's answers while it learns.
        max_new_tokens: Their length. A prompt that leaves no room for it within ``max_length`` and the model's context
            is dropped and counted.
        reward_epochs: Passes of the reward model over the pairs.
        reward_batch_size: Pairs a step.
        reward_learning_rate: Peak learning rate of the reward model.
        lagrangian: Keeps harm, as a cost model sees it, within a limit (Safe RLHF); plain RLHF without it. The cost
            model trains as the reward model does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    optimiser: Literal["rloo", "grpo"] = "rloo"
    steps: int = Field(default=100, gt=0)
    generations: int = Field(default=4, gt=1)
    kl: Finite = Field(default=0.05, ge=0)
    temperature: Finite = Field(default=1.0, gt=0)
    max_new_tokens: int = Field(default=256, gt=0)
    reward_epochs: Finite = Field(default=1.0, gt=0)
    reward_batch_size: int = Field(default=16, gt=0)
    reward_learning_rate: Finite = Field(default=1e-5, gt=0)
    lagrangian: LagrangianSettings | None = Field(default=None, exclude_if=lambda block: block is None)

    def reward_steps(self, n_pairs: int) -> int:
        """Optimiser steps of the reward model and of the cost model, where there is one."""
        return self.scorer_steps(n_pairs) * (1 if self.lagrangian is None else 2)

    def scorer_steps(self, n_pairs: int) -> int:
        """Optimiser steps of either: passes over all pairs, whichever of them teach it."""
        return math.ceil(self.reward_epochs * math.ceil(n_pairs / self.reward_batch_size))


class TrainerSettings(BaseModel):
    """How to train.

    Attributes:
        name: The trainer.
        epochs: Passes over the records; or
        steps: Optimiser steps; or
        tokens: Tokens to read, prompts and all passes counted, to the nearest whole step. Exactly one of the three;
            none of them says how long RLHF takes (``rlhf.steps``), so that equal budgets leave it out and the report
            says how many tokens it read; ``tokens`` does not go with ``sft_first``, of which two objectives would each
            read them all.
        batch_size: Records a step, over all processes.
        micro_batch_size: Records that a device reads at once; gradients of several make up a step. All its records of
            a step where absent (with ``packing`` one block).
        learning_rate: Peak learning rate, reached after ``warmup_steps``.
        schedule: How it falls afterwards, if it does.
        weight_decay: AdamW's.
        max_length: Longest record in tokens; a longer one is dropped and counted, never cut.
        lora: Adapters instead of all weights; merged into the checkpoint at the end, and kept beside it where the base
            is one that lasts (not with ``sft_first``).
        dtype: Of the arithmetic and of the checkpoint; weights that train are float32 until they are saved.
        gradient_checkpointing: Trades time for memory.
        packing: Supervised: records that do not see one another share blocks of ``max_length`` tokens; ``batch_size``
            then counts blocks. Refused where the model's attention would let them see one another.
        save_steps: Steps from one checkpoint of the training itself to the next; an interrupted training goes on from
            the last one. They lie beside the result until it is whole. Not for RLHF.
        early_stopping: Supervised: ends by a held-out share of the records and keeps the best checkpoint.
        launch: Trains in several processes or on several machines.
        beta: How strongly DPO and KTO hold on to the base.
        sft_first: Fine-tunes on the good responses, with these settings, before preferences are learned.
        rlhf: How a policy is optimised, for the method that does.
        command: The program, for the trainer of that name.
        openai: The fine-tuning API, for the trainer of that name.
        options: Settings of a trainer that an installed package adds; the harness only hands them on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name: str = "trl"
    epochs: Finite | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0, exclude_if=_absent)
    batch_size: int = Field(default=16, gt=0)
    micro_batch_size: int | None = Field(default=None, gt=0, exclude_if=_absent)
    learning_rate: Finite = Field(default=2e-5, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: Finite = Field(default=0.0, ge=0)
    max_length: int = Field(default=1024, gt=0)
    lora: LoraSettings | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    packing: bool = Field(default=False, exclude_if=_absent)
    save_steps: int | None = Field(default=None, gt=0, exclude_if=_absent)
    early_stopping: EarlyStoppingSettings | None = Field(default=None, exclude_if=_absent)
    launch: LaunchSettings | None = Field(default=None, exclude_if=_absent)
    beta: Finite = Field(default=0.1, gt=0)
    sft_first: bool = False
    rlhf: RlhfSettings = RlhfSettings()
    command: CommandSettings | None = Field(default=None, exclude_if=_absent)
    openai: OpenAISettings | None = Field(default=None, exclude_if=_absent)
    options: dict[str, JsonValue] = Field(default={}, exclude_if=_absent)

    @model_validator(mode="after")
    def _consistent(self) -> TrainerSettings:
        if sum(length is not None for length in (self.epochs, self.steps, self.tokens)) != 1:
            raise ValueError("give epochs, steps or tokens, exactly one of the three")
        if self.tokens is not None and self.sft_first:
            raise ValueError("tokens is the length of one objective, sft_first trains for two: give epochs or steps")
        if wrong := problem(self.name, self.command, self.openai, self.epochs, self.steps):
            raise ValueError(wrong)
        if wrong := scaling_problem(self):
            raise ValueError(wrong)
        return self

    def identity(self) -> dict[str, Any]:
        """What decides the weights, for a hash. What is absent leaves no trace, so that a new setting changes none.

        Raises:
            UserError: ``launch.config`` names a file that cannot be read.
        """
        return deciding(self.model_dump(mode="json"))

    def n_steps(self, n_records: int, n_tokens: int | None = None) -> int:
        """Optimiser steps of one objective.

        Args:
            n_records: So many there are; pairs count one.
            n_tokens: In all of them. A budget of tokens is 0 steps as long as they are not known.
        """
        if self.steps is not None:
            return self.steps
        steps_a_pass = math.ceil(n_records / self.batch_size)
        if self.epochs is None:
            assert self.tokens is not None
            return max(1, round(self.tokens / n_tokens * steps_a_pass)) if n_tokens else 0
        return math.ceil(self.epochs * steps_a_pass)

    def n_passes(self, n_records: int, n_steps: int) -> float:
        """Passes over the records that so many steps are; the last one may be part of one."""
        return n_steps / math.ceil(n_records / self.batch_size)

    def rlhf_problem(self) -> str | None:
        """What keeps a policy from training with these settings, as one line that begins with the field's name."""
        if self.batch_size % self.rlhf.generations == 0:
            return None
        return (
            f"batch_size {self.batch_size} counts the answers of a step and is no multiple of rlhf.generations "
            f"{self.rlhf.generations}, the answers to each prompt: set it to a multiple of {self.rlhf.generations}"
        )

    def all_steps(self, objective: Objective, kinds: Mapping[str, int]) -> int:
        """Optimiser steps of a whole training, a reward model's and a first supervised stage's included.

        Args:
            objective: What is trained for.
            kinds: Kind of record → how many there are.
        """
        n_records, n_pairs = sum(kinds.values()), kinds.get("rejected", 0)
        steps = {
            "sft": self.n_steps(n_records),
            "dpo": self.n_steps(n_pairs),
            "kto": self.n_steps(n_records),
            "rlhf": self.rlhf.steps + self.rlhf.reward_steps(n_pairs),
        }[objective]
        first = self.sft_first and objective != "sft"
        return steps + (self.n_steps(sum(kinds.get(kind, 0) for kind in GOOD)) if first else 0)


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the weights, of trainer settings or of some that replace others.

    How often a training is saved does not, nor does `UNDECIDED`. A user's own configuration file does by its text,
    wherever it lies, and so do the text files that ``command.arguments`` name.

    Raises:
        UserError: ``launch.config`` names a file that cannot be read.
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        left_out = UNDECIDED.get(name, set())
        if isinstance(value, Mapping) and left_out & value.keys():
            value = {field: one for field, one in value.items() if field not in left_out}
            if not value:
                continue
        if name == "launch" and isinstance(value, Mapping) and (text := config_hash(value.get("config"))) is not None:
            value = {**value, "config": text}
        if name == "command" and isinstance(value, Mapping):
            value = with_named_files(value)
        if name != "save_steps":
            found[name] = value
    return found


class TrainResult(NamedTuple):
    """What a training tells.

    Attributes:
        metrics: What was measured: ``n_steps``, ``n_dropped_too_long``, first and last loss, and the objective's own.
        peak_memory_bytes: The most that the processes which it started held, all together; ``None`` where it was done
            in this one.
        resumed: It went on from what an earlier start left, so that this one's time is not the training's.
    """

    metrics: dict[str, float]
    peak_memory_bytes: int | None = None
    resumed: bool = False


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
        objective: Objective,
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
            objective: What for; ``chosen`` and ``rejected`` records of the same source and prompt are a pair.
            chat: Prompts are user turns for the tokenizer's chat template.
            device: ``cpu``, ``cuda`` or ``auto``.
            progress: Called after each step.
        """
