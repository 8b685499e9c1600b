"""What a training does otherwise as one of several processes: which rows each reads, who writes, what is whole.

The processes of a step read together the rows that one process would read, in the same order, so that the gradient is
the same but for rounding. Accelerate shares full batches out. What an epoch's last batch lacks is filled with rows
without a loss where the loss is a mean over tokens (supervised), else with that batch's own rows again: its mean is the
same where they fill it evenly, and else some of its pairs weigh more than others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from harness.tokens import NO_LOSS


class Processes(NamedTuple):
    """How many train together, and which one this is; ``0`` writes."""

    n: int = 1
    rank: int = 0

    @property
    def writes(self) -> bool:
        """Whether this one writes what they have in common."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.n > 1:
            import torch.distributed

            torch.distributed.barrier()

    def total(self, value: int) -> int:
        """The sum of every process's value."""
        if self.n == 1:
            return value
        import torch.distributed

        values: list[Any] = [None] * self.n
        torch.distributed.all_gather_object(values, value)
        return sum(values)


def these_processes() -> Processes:
    """As the launcher told them in the environment."""
    return Processes(int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0")))


class Order:
    """Positions of one epoch after the other: all rows in the order of one process, then what fills the last batch."""

    def __init__(self, rows: Any, batch_size: int, empty_rows: bool) -> None:
        """``rows`` gives an epoch's order; ``empty_rows`` lie behind the last row and fill the batch."""
        self.rows, self.n_rows, self.empty_rows = rows, len(rows), empty_rows
        self.n_last = self.n_rows % batch_size
        self.n_more = -self.n_rows % batch_size

    def __len__(self) -> int:
        return self.n_rows + self.n_more

    def __iter__(self) -> Iterator[int]:
        order = list(self.rows)
        yield from order
        for place in range(self.n_more):
            yield self.n_rows + place if self.empty_rows else order[self.n_rows - self.n_last + place % self.n_last]

    def set_epoch(self, epoch: int) -> None:
        """The epoch that is read next; it counts on by itself."""
        if hasattr(self.rows, "set_epoch"):
            self.rows.set_epoch(epoch)


def share_out(trainer: Any, batch_size: int, seed: int, step: int) -> None:
    """Makes a trainer read its rows as `Order` has them, beginning after so many steps."""
    from accelerate.data_loader import SeedableRandomSampler
    from datasets import Dataset, concatenate_datasets
    from torch.utils.data import RandomSampler

    rows, supervised = trainer.train_dataset, "labels" in trainer.train_dataset.column_names
    given = trainer._get_train_sampler(rows)  # accelerate makes of a random one what a seed can repeat
    drawn = isinstance(given, RandomSampler)
    one = SeedableRandomSampler(range(len(rows)), data_seed=seed) if drawn else given
    order = Order(one, batch_size, supervised)
    order.set_epoch(step * batch_size // len(order))
    more = [dict(rows[0]) for _ in range(order.n_more)]
    if supervised:
        more = [{**row, "input_ids": row["input_ids"][:1], "labels": [NO_LOSS]} for row in more]
        more = [{**row, "seq_lengths": [1]} if "seq_lengths" in row else row for row in more]
    if more:
        trainer.train_dataset = concatenate_datasets([rows, Dataset.from_list(more, features=rows.features)])
    trainer._get_train_sampler = lambda *_: order


def n_filled(trainer: Any, n_steps: int) -> int:
    """Rows without a loss that so many steps read."""
    order = getattr(trainer, "_get_train_sampler", lambda: None)()
    if not isinstance(order, Order) or not order.empty_rows:
        return 0
    batch = trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps * trainer.args.world_size
    return order.n_more * int(n_steps // (len(order) // batch))


def whole_model(trainer: Any, fresh: Any) -> Any:
    """The trained model with all its weights; meaningful in the process that writes.

    Args:
        trainer: Its training has ended.
        fresh: Gives a model of the same shape, for the weights that lie in shards.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    accelerator = trainer.accelerator
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return trainer.model
    weights = accelerator.get_state_dict(trainer.model_wrapped)
    if not accelerator.is_main_process:
        return trainer.model
    unset_hf_deepspeed_config()  # else it would be built in shards, for which all processes are needed
    model = fresh()
    wrong = model.load_state_dict(weights, strict=False)
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    missing = {name for name in wrong.missing_keys if not any(name.endswith(key) for key in tied)}
    if missing or wrong.unexpected_keys:
        raise RuntimeError(f"gathered weights do not fit: {sorted(missing)[:3]} {sorted(wrong.unexpected_keys)[:3]}")
    return model
