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
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.trainers.adapters import merge
from harness.trainers.base import TrainerSettings
from harness.trainers.trl_processes import Processes, share_out, whole_model
from harness.trainers.trl_resume import last_whole, mark_whole, train_on


class Session(NamedTuple):
    """What one training needs besides its data.

    Attributes:
        base: Checkpoint that it begins from.
        tokenizer: The base's.
        settings: How to train.
        seed: Of everything that is drawn.
        chat: Prompts are user turns for the tokenizer's chat template.
        device: ``cpu``, ``cuda`` or ``auto``.
        scratch: A folder for what is not kept; with ``save_steps`` it outlives an interrupted training.
        progress: Called after each optimiser step.
        processes: Those that train together.
        passing_base: The base is a stage of this very training and goes with it.
    """

    base: Path
    tokenizer: Any
    settings: TrainerSettings
    seed: int
    chat: bool
    device: str
    scratch: Path
    progress: Callable[[], None]
    processes: Processes = Processes()
    passing_base: bool = False

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
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    disable_progress_bar()
    set_verbosity_error()  # a reward model's new head is no fault
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    return AutoTokenizer.from_pretrained(base, trust_remote_code=False)


def load_model(base: Path, settings: TrainerSettings, **options: Any) -> Any:
    """A causal language model to train; ``options`` are those of ``from_pretrained``.

    Raises:
        UserError: It is to lie in four bits, and this machine cannot.
    """
    from transformers import AutoModelForCausalLM

    if settings.lora and settings.lora.quantize:
        options = {**options, **_in_four_bits(settings)}
    return AutoModelForCausalLM.from_pretrained(
        base, dtype=training_dtype(settings), use_safetensors=True, trust_remote_code=False, **options
    )


def _in_four_bits(settings: TrainerSettings) -> dict[str, Any]:
    """QLoRA's options (Dettmers 2023): normal floats of four bits, their scales quantised again."""
    import torch
    from transformers import BitsAndBytesConfig

    if not torch.cuda.is_available() or find_spec("bitsandbytes") is None:
        raise UserError(
            "trainer.lora.quantize: nf4 needs a GPU and the package bitsandbytes (pip install bitsandbytes); "
            "leave quantize out to train adapters on the base as it is"
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.lora.quantize if settings.lora else None,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, settings.dtype),
    )
    return {"quantization_config": config, "device_map": {"": int(os.environ.get("LOCAL_RANK", "0"))}}


def training_dtype(settings: TrainerSettings) -> Any:
    """Weights that train stay float32: in bfloat16 nearly all of a step of 2e-5 would be lost to rounding."""
    import torch

    return getattr(torch, settings.dtype) if settings.lora else torch.float32


def arguments(session: Session, **own: Any) -> dict[str, Any]:
    """The arguments that every TRL trainer is given; ``own`` adds to them or replaces them.

    ``per_device_train_batch_size`` in ``own`` is what all devices read in a step; each is given its part.
    """
    import torch

    settings = session.settings
    batch_size = own.pop("per_device_train_batch_size", settings.batch_size)
    at_once = _at_once(session, batch_size)
    if settings.save_steps is not None:
        own = {"save_strategy": "steps", "save_steps": settings.save_steps, "save_total_limit": 2, **own}
    return {
        "output_dir": str(session.scratch),
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": batch_size // (at_once * session.processes.n),
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": _schedule(settings),
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


def _schedule(settings: TrainerSettings) -> str:
    """What transformers calls it; its ``constant`` knows no warmup."""
    warmed = settings.schedule == "constant" and settings.warmup_steps > 0
    return "constant_with_warmup" if warmed else settings.schedule


def _at_once(session: Session, batch_size: int) -> int:
    """Records that a device reads at once.

    Raises:
        UserError: The batch cannot be shared out.
    """
    part, rest = divmod(batch_size, session.processes.n)
    if rest:
        raise UserError(f"a batch of {batch_size} cannot be shared out among {session.processes.n} processes")
    micro = session.settings.micro_batch_size or (1 if session.settings.packing else part)
    return micro if part % micro == 0 else part


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

    settings, processes = session.settings, session.processes
    trainer.add_callback(Progress())
    trainer.remove_callback(PrinterCallback)
    restored = None
    if settings.save_steps is not None:
        restored = last_whole(session.scratch, processes)
        trainer.add_callback(mark_whole(processes))
    if processes.n > 1 and not hasattr(trainer, "reward_funcs"):  # a policy's prompts are shared out by TRL
        share_out(trainer, trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps * processes.n,
                  session.seed, restored.step if restored else 0)  # fmt: skip
    train_on(trainer, restored, session.progress)
    trainer.model = whole_model(trainer, lambda: _fresh(session))
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    if not all(math.isfinite(entry["loss"]) for entry in log):
        raise UserError(f"{session.base}: the training loss is no longer a number; lower trainer.learning_rate")
    return log


def _fresh(session: Session) -> Any:
    """The model as training began, with adapters where they learn."""
    model, adapters = load_model(session.base, session.settings), lora(session.settings)
    if adapters is None:
        return model
    from peft import get_peft_model

    return get_peft_model(model, adapters)


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
    """Writes the checkpoint beside its place and moves it there whole; one process does, the others wait."""
    if session.processes.writes:
        _write(trained, session, out)
    session.processes.wait()


def _write(trained: Trained, session: Session, out: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings, model = session.settings, trained.model
    new = out.with_name(f".{out.name}.partial")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    if settings.lora is not None:
        model.save_pretrained(new / "adapter")
        if settings.lora.quantize:  # into the base as it was: what was rounded is rounded no further
            merge(session.base, new / "adapter", new / "merged")
            model = AutoModelForCausalLM.from_pretrained(new / "merged", use_safetensors=True, trust_remote_code=False)
            shutil.rmtree(new / "merged")
        else:
            model = model.merge_and_unload()
        if session.passing_base:  # on the base that the user knows they would make another model
            shutil.rmtree(new / "adapter")
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
