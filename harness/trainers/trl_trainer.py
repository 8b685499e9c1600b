"""Training with TRL's SFTTrainer: all weights, or LoRA adapters through PEFT.

Reads a base checkpoint and records; writes the checkpoint (safetensors, tokenizer, generation settings), the loss curve
``training_log.json``, and with LoRA the adapter itself under ``adapter/``. TRL's defaults that would change the result
unasked (bfloat16, gradient checkpointing, its learning rate) are all set here.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records import TrainingRecord
from harness.trainers.base import TrainerSettings, TrainResult
from harness.tokens import NO_LOSS, TokenRows, token_rows


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
        from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        tokenizer = AutoTokenizer.from_pretrained(base)
        tokens = token_rows(tokenizer, records, settings.max_length, chat)
        if not tokens.rows:
            raise UserError(
                f"{base}: no record can be trained on ({len(records)} made, {tokens.n_too_long} longer than "
                f"max_length {settings.max_length} tokens)"
            )
        set_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=getattr(torch, settings.dtype), use_safetensors=True, trust_remote_code=False
        )
        with tempfile.TemporaryDirectory() as scratch:
            trainer = _trainer(model, tokenizer, tokens, settings, seed, Path(scratch), device, progress)
            trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
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

    arguments = SFTConfig(
        output_dir=str(scratch),
        max_steps=settings.n_steps(len(tokens.rows)),
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        bf16=settings.dtype == "bfloat16" and torch.cuda.is_available() and device != "cpu",
        gradient_checkpointing=settings.gradient_checkpointing,
        use_cpu=device == "cpu" or not torch.cuda.is_available(),
        seed=seed,
        data_seed=seed,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=False,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
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
    out.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    if settings.lora is not None:
        model.save_pretrained(new / "adapter")
        model = model.merge_and_unload()
    model.save_pretrained(new)
    tokenizer.save_pretrained(new)
    if (base / "generation_config.json").is_file():
        shutil.copyfile(base / "generation_config.json", new / "generation_config.json")
    (new / "training_log.json").write_text(json.dumps({"loss": losses}, indent=1) + "\n", encoding="utf-8")
    os.chmod(new, 0o755)
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
