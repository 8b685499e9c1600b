"""Supervised fine-tuning with TRL's SFTTrainer: the loss falls on completions alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.errors import UserError
from harness.records import TrainingRecord
from harness.tokens import NO_LOSS, TokenRows, token_rows
from harness.trainers.trl_common import (
    Session,
    Trained,
    arguments,
    curve,
    load_model,
    lora,
    one_device,
    run,
    silent,
    tokens_read,
)
from harness.trainers.trl_packing import attention, blocks, check_apart
from harness.trainers.trl_processes import n_filled
from harness.trainers.trl_stopping import arguments as stopping_arguments
from harness.trainers.trl_stopping import evaluate, split, stopper


def supervised(session: Session, records: Sequence[TrainingRecord]) -> Trained:
    """Trains on the records, or with early stopping on all but a held-out share.

    Raises:
        UserError: No record fits, or the loss is no longer a number.
    """
    stopping, n_dev, held = session.settings.early_stopping, {}, None
    if stopping is not None:
        parts = split(records, stopping.share, session.seed)
        records, held = parts.train, _rows(session, parts.dev)
        n_dev = {"n_dev_records": float(len(held.rows))}
    tokens = _rows(session, records)
    trainer = sft_trainer(session, tokens, held)
    n_rows = len(trainer.train_dataset)
    log = run(trainer, session)
    losses, dev_losses = curve(log, "loss"), curve(trainer.state.log_history, "eval_loss")
    n_loss_tokens = sum(label != NO_LOSS for row in tokens.rows for label in row["labels"])
    counts = {
        "n_steps": float(len(losses)),
        "n_records": float(len(tokens.rows)),
        "n_dropped_too_long": float(tokens.n_too_long),
        "n_tokens": tokens_read(log) - n_filled(trainer, len(losses)),
        "n_loss_tokens": float(n_loss_tokens),
        "n_loss_tokens_seen": n_loss_tokens * session.settings.n_passes(n_rows, len(losses)),
        "loss_first": losses[0],
        "loss_last": losses[-1],
        **n_dev,
    }
    if dev_losses:
        counts |= {"best_step": float(trainer.state.best_global_step), "dev_loss_best": min(dev_losses)}
    return Trained(trainer.model, {"loss": losses, **({"dev_loss": dev_losses} if dev_losses else {})}, counts)


def _rows(session: Session, records: Sequence[TrainingRecord]) -> TokenRows:
    tokens = token_rows(session.tokenizer, records, session.longest, session.chat)
    if not tokens.rows:
        raise UserError(
            f"{session.base}: no record can be trained on ({len(records)} made, {tokens.n_too_long} longer than "
            f"{session.longest} tokens: max_length {session.settings.max_length}, context {session.context})"
        )
    return tokens


def sft_trainer(session: Session, tokens: TokenRows, held: TokenRows | None = None) -> Any:
    """TRL's trainer, ready to run on rows of tokens; ``held`` are those that early stopping measures on."""
    from datasets import Dataset
    from transformers import set_seed
    from trl import SFTConfig, SFTTrainer

    settings = session.settings
    set_seed(session.seed)
    rows = blocks(tokens.rows, session.longest) if settings.packing else tokens.rows
    options = attention(session.device, settings.dtype) if settings.packing else {}
    config = SFTConfig(  # before the model: from then on it is known how weights are to be loaded
        **arguments(
            session,
            max_steps=settings.n_steps(len(rows), sum(len(row["input_ids"]) for row in rows)),
            max_length=None,
            packing=False,
            padding_free=settings.packing,
            dataset_kwargs={"skip_prepare_dataset": True},
            **stopping_arguments(settings),
        )
    )
    model = load_model(session.base, settings, **options)
    if settings.packing:
        check_apart(model)
    trainer = silent(SFTTrainer, **({"evaluate": evaluate} if held else {}))(
        model,
        one_device(config),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(held.rows) if held else None,
        processing_class=session.tokenizer,
        peft_config=lora(settings),
    )
    if held:
        trainer.add_callback(stopper(settings))
    return trainer
