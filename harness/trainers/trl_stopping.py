"""Early stopping: the loss on a held-out share of the records decides when training ends and what is kept.

The share is held out by what hangs together through a source or a prompt, so that neither ever lies on both sides. The
loss is the mean over all its tokens with a loss, whatever the batches and the number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.records import TrainingRecord, content_hash
from harness.tokens import NO_LOSS
from harness.trainers.base import TrainerSettings
from harness.trainers.grouping import components


class Split(NamedTuple):
    """Records to learn from, and records to measure on; none is in both, nor is a source or a prompt."""

    train: list[TrainingRecord]
    dev: list[TrainingRecord]


def split(records: Sequence[TrainingRecord], share: float, seed: int) -> Split:
    """Holds out sources with all that they share prompts with, drawn by the seed, until the share is reached.

    Raises:
        UserError: One side would be empty.
    """
    parts = components([(("source", record.source), ("prompt", record.prompt)) for record in records])
    held: set[int] = set()
    for part in sorted(parts, key=lambda part: content_hash([seed, min(records[place].source for place in part)])):
        if len(held) >= share * len(records):
            break
        held.update(part)
    if not 0 < len(held) < len(records):
        n_sources = len({record.source for record in records})
        raise UserError(
            f"trainer.early_stopping: {len(records)} records of {n_sources} sources cannot be split into two sides "
            "that share no source and no prompt; leave early_stopping out, or lower its share"
        )
    return Split(*([r for place, r in enumerate(records) if (place in held) is side] for side in (False, True)))


def arguments(settings: TrainerSettings) -> dict[str, Any]:
    """What transformers is told, so that it measures, keeps the best checkpoint and loads it at the end."""
    stopping = settings.early_stopping
    if stopping is None:
        return {}
    return {
        "eval_strategy": "steps",
        "eval_steps": stopping.every,
        "save_strategy": "steps",
        "save_steps": stopping.every,
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "restore_callback_states_from_checkpoint": True,
    }


def stopper(settings: TrainerSettings) -> Any:
    """The callback that ends training."""
    from transformers import EarlyStoppingCallback

    assert settings.early_stopping is not None
    return EarlyStoppingCallback(settings.early_stopping.patience)


def evaluate(trainer: Any, *_: Any, **__: Any) -> dict[str, float]:
    """In place of a trainer's own: the mean loss over all tokens of its ``eval_dataset``."""
    import torch

    accelerator, model = trainer.accelerator, trainer.model_wrapped
    n, rank, size = accelerator.num_processes, accelerator.process_index, trainer.args.per_device_train_batch_size
    rows = list(trainer.eval_dataset)
    empty = {**rows[0], "input_ids": rows[0]["input_ids"][:1], "labels": [NO_LOSS]}
    rows += [empty] * (-len(rows) % (n * size))
    sums = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    model.eval()
    for start in range(0, len(rows), n * size):
        batch = trainer.data_collator(rows[start + rank * size : start + (rank + 1) * size])
        batch = trainer._prepare_inputs(batch)
        sums[1] += (batch["labels"][..., 1:] != NO_LOSS).sum()
        with torch.no_grad(), trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(model, batch, num_items_in_batch=torch.tensor(1, device=accelerator.device))
        sums[0] += loss.double() / (n if trainer.args.average_tokens_across_devices else 1)
    model.train()
    trainer._metrics["eval"].clear()
    total = accelerator.reduce(sums, "sum")
    metrics = {"eval_loss": float(total[0] / total[1])}
    trainer.log(metrics)
    trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, metrics)
    return metrics
