"""What all trainings with TRL share: loading a base, the arguments, saving a checkpoint whole.

TRL's defaults that would change the result unasked (bfloat16, gradient checkpointing, its learning rates) are all set
here, and its trainers are kept from reporting to anybody. Weights are read and written as safetensors alone, and no
code that a checkpoint brings is run.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.trainers.base import TrainerSettings


class Session(NamedTuple):
    """What one training needs besides its data.

    Attributes:
        base: Checkpoint that it begins from.
        tokenizer: The base's.
        settings: How to train.
        seed: Of everything that is drawn.
        chat: Prompts are user turns for the tokenizer's chat template.
        device: ``cpu``, ``cuda`` or ``auto``.
        scratch: A folder for what is not kept.
        progress: Called after each optimiser step.
    """

    base: Path
    tokenizer: Any
    settings: TrainerSettings
    seed: int
    chat: bool
    device: str
    scratch: Path
    progress: Callable[[], None]

    @property
    def context(self) -> int:
        """Tokens that the model reads at most."""
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.base, trust_remote_code=False)
        return int(getattr(config, "max_position_embeddings", self.settings.max_length))

    @property
    def longest(self) -> int:
        """Most tokens of a prompt with its completion."""
        return min(self.settings.max_length, self.context)


class Trained(NamedTuple):
    """A trained model, its curves (name → a value a step) and what else was counted."""

    model: Any
    curves: dict[str, list[float]]
    counts: dict[str, float]


def load_tokenizer(base: Path) -> Any:
    """The tokenizer of a checkpoint."""
    from transformers import AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    return AutoTokenizer.from_pretrained(base, trust_remote_code=False)


def load_model(base: Path, settings: TrainerSettings) -> Any:
    """A causal language model to train."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        base, dtype=training_dtype(settings), use_safetensors=True, trust_remote_code=False
    )


def training_dtype(settings: TrainerSettings) -> Any:
    """Weights that train stay float32: in bfloat16 nearly all of a step of 2e-5 would be lost to rounding."""
    import torch

    return getattr(torch, settings.dtype) if settings.lora else torch.float32


def arguments(session: Session, **own: Any) -> dict[str, Any]:
    """The arguments that every TRL trainer is given; ``own`` adds to them or replaces them."""
    import torch

    settings = session.settings
    return {
        "output_dir": str(session.scratch),
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        "bf16": settings.dtype == "bfloat16",
        "gradient_checkpointing": settings.gradient_checkpointing,
        "use_cpu": session.device == "cpu" or not torch.cuda.is_available(),
        "seed": session.seed,
        "data_seed": session.seed,
        "dataloader_pin_memory": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # else a loss that is no number is logged as the last one that was
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        **own,
    }


def one_device(made: Any) -> Any:
    """Arguments for one device: else every further GPU would multiply the batch."""
    made._n_gpu = min(made.n_gpu, 1)
    return made


def silent(trainer: type[Any], **methods: Any) -> type[Any]:
    """A trainer class that tells its makers nothing, also where the Hub may be reached; ``methods`` replace its own."""
    return type(trainer.__name__, (trainer,), {"_send_telemetry": lambda self: None, **methods})


def as_it_is(self: Any, dataset: Any, *_: Any) -> Any:
    """In place of a trainer's own preparation: the rows are tokens already, as at inference."""
    return dataset


def run(trainer: Any, session: Session) -> list[dict[str, float]]:
    """Trains, tells every step, and gives the log of each.

    Raises:
        UserError: The loss is no longer a number.
    """
    from transformers import PrinterCallback, TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]
        """Passes each step on."""

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            session.progress()

    trainer.add_callback(Progress())
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    if not all(math.isfinite(entry["loss"]) for entry in log):
        raise UserError(f"{session.base}: the training loss is no longer a number; lower trainer.learning_rate")
    return log


def curve(log: Sequence[Mapping[str, float]], name: str) -> list[float]:
    """One quantity of a log, a value a step; empty where it was not logged."""
    return [float(entry[name]) for entry in log if name in entry]


def tokens_read(log: Sequence[Mapping[str, float]]) -> float:
    """Tokens that all steps of a log read."""
    return float(log[-1]["num_tokens"])


def lora(settings: TrainerSettings, task: str = "CAUSAL_LM") -> Any:
    """PEFT's configuration of the adapters, or ``None`` where all weights train."""
    if settings.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        target_modules=settings.lora.target,
        task_type=task,
    )


def save(trained: Trained, session: Session, out: Path) -> None:
    """Writes the checkpoint beside its place and moves it there whole."""
    import torch
    from transformers import AutoConfig

    settings, model = session.settings, trained.model
    new = out.with_name(f".{out.name}.partial")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    if settings.lora is not None:
        model.save_pretrained(new / "adapter")
        model = model.merge_and_unload()
    base = AutoConfig.from_pretrained(session.base, trust_remote_code=False)
    model.config.use_cache = bool(getattr(base, "use_cache", True))  # else it is saved off and the model writes slowly
    model.to(getattr(torch, settings.dtype)).save_pretrained(new)
    session.tokenizer.save_pretrained(new)
    generation = new / "generation_config.json"  # the base's own: trainers leave their sampling in it
    if (session.base / generation.name).is_file():
        shutil.copyfile(session.base / generation.name, generation)
    (new / "training_log.json").write_text(json.dumps(trained.curves, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(new, out)
