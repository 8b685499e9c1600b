"""Training with TRL's SFTTrainer: all weights, or LoRA adapters through PEFT.

Reads a base checkpoint and records; writes the checkpoint (safetensors, tokenizer, generation settings), the loss curve
``training_log.json``, and with LoRA the adapter itself under ``adapter/``. TRL's defaults that would change the result
unasked (bfloat16, gradient checkpointing, its learning rate) are all set here, and it reports to nobody.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records import TrainingRecord
from harness.tokens import NO_LOSS, TokenRows, token_rows
from harness.trainers.base import TrainerSettings, TrainResult


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
        chat: bool,
        device: str,
        progress: Callable[[], None],
    ) -> TrainResult:
        """See `harness.trainers.base.Trainer`."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        config = AutoConfig.from_pretrained(base, trust_remote_code=False)
        context = getattr(config, "max_position_embeddings", settings.max_length)
        longest = min(settings.max_length, context)
        tokens = token_rows(tokenizer, records, longest, chat)
        if not tokens.rows:
            raise UserError(
                f"{base}: no record can be trained on ({len(records)} made, {tokens.n_too_long} longer than "
                f"{longest} tokens: max_length {settings.max_length}, context {context})"
            )
        set_seed(seed)
        # Weights that train stay float32: in bfloat16 nearly all of a step of 2e-5 would be lost to rounding.
        loaded = getattr(torch, settings.dtype) if settings.lora else torch.float32
        model = AutoModelForCausalLM.from_pretrained(base, dtype=loaded, use_safetensors=True, trust_remote_code=False)
        with tempfile.TemporaryDirectory() as scratch:
            trainer = _trainer(model, tokenizer, tokens, settings, seed, Path(scratch), device, progress)
            trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        if not all(map(math.isfinite, losses)):
            raise UserError(f"{base}: the training loss is no longer a number; lower trainer.learning_rate")
        _save(trainer.model, base, tokenizer, losses, settings, out)
        return TrainResult(_metrics(tokens, losses))


def _trainer(
    model: Any,
    tokenizer: Any,
    tokens: TokenRows,
    settings: TrainerSettings,
    seed: int,
    scratch: Path,
    device: str,
    progress: Callable[[], None],
) -> Any:
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Progress(TrainerCallback):  # type: ignore[misc]
        """Passes each step on."""

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            progress()

    class Silent(SFTTrainer):  # type: ignore[misc]
        """Tells its makers nothing, also where the Hub may be reached."""

        def _send_telemetry(self) -> None:
            pass

    arguments = SFTConfig(
        output_dir=str(scratch),
        max_steps=settings.n_steps(len(tokens.rows)),
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        bf16=settings.dtype == "bfloat16",
        gradient_checkpointing=settings.gradient_checkpointing,
        use_cache=bool(model.config.use_cache),  # else the checkpoint is saved with use_cache off and writes slowly
        use_cpu=device == "cpu" or not torch.cuda.is_available(),
        seed=seed,
        data_seed=seed,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=False,
        logging_steps=1,
        logging_nan_inf_filter=False,  # else a loss that is no number is logged as the last one that was
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # else every further GPU would multiply the batch
    trainer = Silent(
        model,
        arguments,
        train_dataset=Dataset.from_list(tokens.rows),
        processing_class=tokenizer,
        peft_config=_lora(settings),
        callbacks=[Progress()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _lora(settings: TrainerSettings) -> Any:
    if settings.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        target_modules=settings.lora.target,
        task_type="CAUSAL_LM",
    )


def _save(
    model: Any, base: Path, tokenizer: Any, losses: Sequence[float], settings: TrainerSettings, out: Path
) -> None:
    """Writes the checkpoint beside its place and moves it there whole."""
    import torch

    new = out.with_name(f".{out.name}.partial")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    if settings.lora is not None:
        model.save_pretrained(new / "adapter")
        model = model.merge_and_unload()
    model.to(getattr(torch, settings.dtype)).save_pretrained(new)
    tokenizer.save_pretrained(new)
    if (base / "generation_config.json").is_file():
        shutil.copyfile(base / "generation_config.json", new / "generation_config.json")
    (new / "training_log.json").write_text(json.dumps({"loss": losses}, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(new, out)


def _metrics(tokens: TokenRows, losses: Sequence[float]) -> dict[str, float]:
    return {
        "n_steps": float(len(losses)),
        "n_records": float(len(tokens.rows)),
        "n_dropped_too_long": float(tokens.n_too_long),
        "n_loss_tokens": float(sum(label != NO_LOSS for row in tokens.rows for label in row["labels"])),
        "loss_first": losses[0],
        "loss_last": losses[-1],
    }
