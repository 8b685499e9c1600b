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


def supervised(session: Session, records: Sequence[TrainingRecord]) -> Trained:
    """Trains on the records.

    Raises:
        UserError: No record fits, or the loss is no longer a number.
    """
    tokens = token_rows(session.tokenizer, records, session.longest, session.chat)
    if not tokens.rows:
        raise UserError(
            f"{session.base}: no record can be trained on ({len(records)} made, {tokens.n_too_long} longer than "
            f"{session.longest} tokens: max_length {session.settings.max_length}, context {session.context})"
        )
    trainer = sft_trainer(session, tokens)
    log = run(trainer, session)
    losses = curve(log, "loss")
    n_loss_tokens = sum(label != NO_LOSS for row in tokens.rows for label in row["labels"])
    counts = {
        "n_steps": float(len(losses)),
        "n_records": float(len(tokens.rows)),
        "n_dropped_too_long": float(tokens.n_too_long),
        "n_tokens": tokens_read(log),
        "n_loss_tokens": float(n_loss_tokens),
        "n_loss_tokens_seen": n_loss_tokens * session.settings.n_passes(len(tokens.rows), len(losses)),
        "loss_first": losses[0],
        "loss_last": losses[-1],
    }
    return Trained(trainer.model, {"loss": losses}, counts)


def sft_trainer(session: Session, tokens: TokenRows) -> Any:
    """TRL's trainer, ready to run on rows of tokens."""
    from datasets import Dataset
    from transformers import set_seed
    from trl import SFTConfig, SFTTrainer

    settings = session.settings
    set_seed(session.seed)
    model = load_model(session.base, settings)
    config = SFTConfig(
        **arguments(
            session,
            max_steps=settings.n_steps(len(tokens.rows)),
            max_length=None,
            packing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
    )
    return silent(SFTTrainer)(
        model,
        one_device(config),
        train_dataset=Dataset.from_list(tokens.rows),
        processing_class=session.tokenizer,
        peft_config=lora(settings),
    )
