"""The blocks that take a training from one device to many, and that end it by a held-out share.

Pure settings: what they ask for is done in `harness.trainers.launch` and `harness.trainers.trl_stopping`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.errors import UserError
from harness.records import Finite

SHIPPED = ("fsdp", "zero2")
CONFIGURATIONS = Path(__file__).with_name("launch_configs")


class LaunchSettings(BaseModel):
    """The same training in several processes through ``accelerate launch``, one for each device.

    Attributes:
        processes: In all; on GPUs one for each.
        machines: How many they lie on, in equal parts. The run starts on the first; each further one takes part with
            ``python -m harness.trainers.launch_join RUN RANK``, on a file system that all share.
        main_address: The first machine's, as the others reach it.
        main_port: A free port there.
        config: How the model lies in memory: whole on every device (absent), ``fsdp`` (sharded, PyTorch), ``zero2``
            (DeepSpeed), or a configuration file of ``accelerate config``, of which the text decides the weights too.
            Shards need GPUs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    processes: int = Field(gt=1)
    machines: int = Field(default=1, gt=0)
    main_address: str | None = None
    main_port: int = Field(default=29500, gt=0, lt=65536)
    config: str | None = None

    @field_validator("config")
    @classmethod
    def _known(cls, config: str | None) -> str | None:
        if config is not None and config not in SHIPPED and not config.endswith((".yaml", ".yml", ".json")):
            raise ValueError(f"config is one of {', '.join(SHIPPED)} or a file that ends in .yaml")
        return config

    @model_validator(mode="after")
    def _consistent(self) -> LaunchSettings:
        if self.processes % self.machines:
            raise ValueError(f"{self.processes} processes do not lie on {self.machines} machines in equal parts")
        if (self.machines > 1) != (self.main_address is not None):
            raise ValueError("main_address and several machines belong together: give both or neither")
        return self

    @property
    def config_file(self) -> Path | None:
        """Accelerate's configuration; ``None`` where the model lies whole on every device."""
        if self.config in SHIPPED:
            return CONFIGURATIONS / f"{self.config}.yaml"
        return Path(self.config) if self.config is not None else None


def config_hash(config: str | None) -> str | None:
    """SHA-256, hex, of a user's own configuration of accelerate; ``None`` for those that the harness brings.

    Raises:
        UserError: It cannot be read.
    """
    if config is None or config in SHIPPED:
        return None
    try:
        return hashlib.sha256(Path(config).read_bytes()).hexdigest()
    except OSError as error:
        mend = "`accelerate config --config_file` writes one"
        raise UserError(f"trainer.launch.config: {config} cannot be read ({error.strerror}); {mend}") from None


class EarlyStoppingSettings(BaseModel):
    """Ends a supervised training when a held-out share of its records is no longer learnt better.

    Attributes:
        share: Of the records, held out with all records of the same source.
        patience: Measurements in a row that are no better than the best, after which training ends.
        every: Steps from one measurement to the next.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    share: Finite = Field(default=0.1, gt=0, lt=1)
    patience: int = Field(default=3, gt=0)
    every: int = Field(gt=0)


def scaling_problem(settings: Any) -> str | None:
    """What does not fit together in a trainer's settings (`harness.trainers.base.TrainerSettings`)."""
    launch, micro = settings.launch, settings.micro_batch_size
    asked = ("micro_batch_size", "save_steps", "early_stopping", "packing", "launch")
    named = [name for name in asked if getattr(settings, name)]
    if settings.name in ("command", "openai") and named:
        return f"{named[0]} is a setting of trainer trl; give it to the program or service that trains instead"
    processes = launch.processes if launch else 1
    if settings.batch_size % (processes * (micro or 1)):
        at_once = f" of {micro} records (micro_batch_size)" if micro else ""
        return (
            f"batch_size {settings.batch_size} is no multiple of {processes} process{'es' * (processes > 1)}{at_once}"
        )
    stopping = settings.early_stopping
    if stopping and settings.save_steps not in (None, stopping.every):
        return (
            "with early_stopping, checkpoints are made at each measurement: leave save_steps out or set it to 'every'"
        )
    if launch and launch.config is not None and settings.lora and settings.lora.quantize:
        return "launch.config shards weights, lora.quantize needs them whole on every device: leave one of them out"
    if launch and launch.config == "zero2" and settings.dtype != "bfloat16":
        return "launch.config zero2 computes in bfloat16: set dtype to bfloat16"
    return None
