"""Direct preference optimisation with TRL: DPO on pairs (Rafailov 2023), KTO on single answers (Ethayarajh 2024).

Records of kind ``chosen`` and ``rejected`` with the same source and prompt are a pair; for KTO every ``chosen`` and
``response`` record is desirable and every ``rejected`` one is not. The base is the reference that the loss holds on to.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.records import TrainingRecord
from harness.tokens import Pair, pair_rows
from harness.trainers.trl_common import (
    Session,
    Trained,
    arguments,
    as_it_is,
    curve,
    load_model,
    lora,
    one_device,
    run,
    silent,
    tokens_read,
)

_NOT_READ = ("position", "source")
_ANSWERS = ("chosen_ids", "rejected_ids", "completion_ids")


class _Rows(NamedTuple):
    """Tokens to learn from, and what became of the records."""

    rows: list[dict[str, Any]]
    counts: dict[str, float]


def preference_pairs(records: Sequence[TrainingRecord]) -> list[Pair]:
    """The pairs among the records, in order."""
    return [Pair(worse.prompt, better.completion, worse.completion) for better, worse in _couples(records)]


def _couples(records: Sequence[TrainingRecord]) -> list[tuple[TrainingRecord, TrainingRecord]]:
    chosen = {(one.source, one.prompt): one for one in records if one.kind == "chosen"}
    rejected = [one for one in records if one.kind == "rejected" and (one.source, one.prompt) in chosen]
    return [(chosen[one.source, one.prompt], one) for one in rejected]


def fitting_pairs(session: Session, records: Sequence[TrainingRecord]) -> _Rows:
    """The tokens of the pairs that fit, with the ``source`` of each.

    Raises:
        UserError: There is none.
    """
    pairs, couples = preference_pairs(records), _couples(records)
    tokens = pair_rows(session.tokenizer, pairs, session.longest, session.chat)
    if not tokens.rows:
        raise UserError(
            f"{session.base}: no preference pair can be trained on ({len(pairs)} made, {tokens.n_too_long} longer than "
            f"{session.longest} tokens)"
        )
    rows = [{**row, "source": couples[row["position"]][1].source} for row in tokens.rows]
    return _Rows(rows, {"n_pairs": float(len(tokens.rows)), "n_dropped_too_long": float(tokens.n_too_long)})


def dpo(session: Session, records: Sequence[TrainingRecord]) -> Trained:
    """Trains on the pairs; ``settings.beta`` is DPO's."""
    from trl import DPOConfig, DPOTrainer

    found = fitting_pairs(session, records)
    own = {"beta": session.settings.beta, "max_length": None, "max_steps": _n_steps(session, found.rows)}
    return _optimise(session, found, DPOTrainer, DPOConfig, own)


def kto(session: Session, records: Sequence[TrainingRecord]) -> Trained:
    """Trains on single answers; the rarer side is weighted up to equal the other.

    Raises:
        UserError: The answers that fit are all good, all bad, all to one prompt, or fewer than a step takes.
    """
    from trl import KTOConfig, KTOTrainer
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

    rows: list[dict[str, Any]] = []
    pairs = [Pair(one.prompt, one.completion, one.completion) for one in records]
    tokens = pair_rows(session.tokenizer, pairs, session.longest, session.chat)
    for row in tokens.rows:
        desirable = records[row["position"]].kind != "rejected"
        answer = {"prompt_ids": row["prompt_ids"], "completion_ids": row["chosen_ids"], "label": desirable}
        rows.append({"place": len(rows), **answer})
    n_good = sum(row["label"] for row in rows)
    if not 0 < n_good < len(rows):
        raise UserError(f"{session.base}: KTO needs good and bad answers ({n_good} good of {len(rows)})")
    size = session.settings.batch_size
    if len(rows) < size:
        raise UserError(f"{session.base}: {len(rows)} answers are fewer than trainer.batch_size ({size})")
    prompts = [tuple(row["prompt_ids"]) for row in rows]
    if len(set(prompts)) == 1:
        raise UserError(f"{session.base}: KTO estimates its KL from answers to other prompts, and there is one prompt")
    order = Shuffled(prompts, size, session.seed)
    pad = session.tokenizer.pad_token_id
    batches = DataCollatorForUnpairedPreference(session.tokenizer.eos_token_id if pad is None else pad)

    def collate(group: list[dict[str, Any]]) -> Any:
        mismatched = (rows[order.neighbours[row["place"]]]["completion_ids"] for row in group)
        return batches([{**row, "KL_completion_ids": ids} for row, ids in zip(group, mismatched, strict=True)])

    n_bad = len(rows) - n_good
    own = {
        "beta": session.settings.beta,
        "max_length": None,
        "max_steps": _n_steps(session, rows),
        "desirable_weight": max(1.0, n_bad / n_good),
        "undesirable_weight": max(1.0, n_good / n_bad),
        "remove_unused_columns": False,
    }
    counts = {"n_records": float(len(rows)), "n_dropped_too_long": float(tokens.n_too_long)}
    trainer = silent(KTOTrainer, _get_train_sampler=lambda *_: order)
    return _optimise(session, _Rows(rows, counts), trainer, KTOConfig, own, data_collator=collate)


class Shuffled:
    """An order of the rows for each epoch, and in it the neighbours of whose answers KTO estimates the KL.

    Attributes:
        neighbours: Row → a row that answers another prompt, of the epoch that is read.
    """

    def __init__(self, prompts: Sequence[Hashable], size: int, seed: int) -> None:
        """Takes the prompt of each row, the rows of a step, and what decides the orders."""
        self.prompts, self.size, self.seed, self.epoch = prompts, size, seed, 0
        self.neighbours: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[int]:
        order = list(range(len(self.prompts)))
        random.Random(f"{self.seed} {self.epoch}").shuffle(order)
        self.neighbours = neighbours(order, self.prompts, self.size)
        self.set_epoch(self.epoch + 1)
        yield from order

    def set_epoch(self, epoch: int) -> None:
        """The epoch that is read next; it counts on by itself."""
        self.epoch = epoch


def neighbours(order: Sequence[int], prompts: Sequence[Hashable], size: int) -> dict[int, int]:
    """Row → the nearest one before it, around its batch, that answers another prompt.

    Where its batch has no other prompt, the nearest one before the batch, around the whole order.

    Args:
        order: The rows of an epoch; batch after batch is read.
        prompts: Of each row; two at least are different.
        size: Rows of a batch.
    """
    found = {}
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        for place, row in enumerate(batch):
            around = (batch[place - far] for far in range(1, len(batch)))
            before = (order[start - far] for far in range(1, len(order)))
            found[row] = next(other for other in chain(around, before) if prompts[other] != prompts[row])
    return found


def evenly(trainer: type[Any], loss: Callable[..., Any] | None = None) -> dict[str, Any]:
    """Methods by which each row of a step weighs alike, also where its last micro-batch has fewer than the others.

    Args:
        trainer: The class whose own methods they replace; it takes the mean over a step's micro-batches.
        loss: In place of its ``compute_loss``; the mean over the rows of a micro-batch, as that is.
    """
    loss = loss or trainer.compute_loss

    def get_batch_samples(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = trainer.get_batch_samples(self, *args, **kwargs)
        self.mean_size = sum(len(batch["input_ids"]) for batch in found[0]) / max(1, len(found[0]))
        return found

    def compute_loss(
        self: Any, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        weight = len(inputs["input_ids"]) / self.mean_size
        found = loss(self, model, inputs, return_outputs, num_items_in_batch)
        return (found[0] * weight, *found[1:]) if return_outputs else found * weight

    return {"get_batch_samples": get_batch_samples, "compute_loss": compute_loss}


def _n_steps(session: Session, rows: Sequence[dict[str, Any]]) -> int:
    answers = [(len(row["prompt_ids"]), len(row[name])) for row in rows for name in _ANSWERS if name in row]
    return session.settings.n_steps(len(rows), sum(prompt + answer for prompt, answer in answers))


def _optimise(
    session: Session, found: _Rows, trainer: Any, config: Any, own: dict[str, Any], **given: Any
) -> Trained:  # fmt: skip
    from datasets import Dataset
    from transformers import set_seed

    set_seed(session.seed)
    configured = one_device(config(**arguments(session, **own)))  # before the model: then it is known how to load
    made = silent(trainer, _prepare_dataset=as_it_is, **evenly(trainer))(
        model=load_model(session.base, session.settings),
        args=configured,
        train_dataset=Dataset.from_list([{k: v for k, v in row.items() if k not in _NOT_READ} for row in found.rows]),
        processing_class=session.tokenizer,
        peft_config=lora(session.settings),
        **given,
    )
    log = run(made, session)
    names = {"loss": "loss", "margin": "rewards/margins", "accuracy": "rewards/accuracies", "kl": "kl"}
    curves = {name: values for name, logged in names.items() if (values := curve(log, logged))}
    losses = curves["loss"]
    n_loss_tokens = sum(len(row[name]) for row in found.rows for name in _ANSWERS if name in row)
    seen = {
        "n_tokens": tokens_read(log),
        "n_loss_tokens_seen": n_loss_tokens * session.settings.n_passes(len(found.rows), len(losses)),
    }
    counts = {"n_steps": float(len(losses)), **found.counts, **seen, "loss_first": losses[0], "loss_last": losses[-1]}
    return Trained(made.model, curves, counts)
